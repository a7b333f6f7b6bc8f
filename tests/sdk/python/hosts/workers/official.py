"""The official worker, used as its documentation shows, with one custom tool beside the toolset."""

import anyio

from anthropic import AsyncAnthropic, beta_async_tool
from anthropic.lib.tools.agent_toolset import AgentToolContext, beta_agent_toolset_20260401
import os


@beta_async_tool
async def lookup(city: str) -> str:
    """Looks a city up.

    Args:
        city: Its name.
    """
    return f"{city}: found by the worker"


def tools(context: AgentToolContext) -> list:
    return [*beta_agent_toolset_20260401(context), lookup]


async def main() -> None:
    # The base URL comes from ANTHROPIC_BASE_URL; there is no API key on a worker's host.
    client = AsyncAnthropic()
    worker = client.beta.environments.work.worker(
        environment_id=os.environ["ANTHROPIC_ENVIRONMENT_ID"],
        environment_key=os.environ["ANTHROPIC_ENVIRONMENT_KEY"],
        tools=tools,
        workdir=os.environ["WORKDIR"],
        max_idle=2,
        memory_sync_interval=5,
    )
    await worker.run()


anyio.run(main)
