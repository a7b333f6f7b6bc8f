# The official Python worker, as its documentation shows it.
import asyncio
import os

from anthropic import AsyncAnthropic


async def main() -> None:
    # The base URL comes from ANTHROPIC_BASE_URL.
    client = AsyncAnthropic(api_key="none-needed")
    worker = client.beta.environments.work.worker(
        environment_id=os.environ["ANTHROPIC_ENVIRONMENT_ID"],
        environment_key=os.environ["ANTHROPIC_ENVIRONMENT_KEY"],
        workdir=os.environ["WORKDIR"],
        max_idle=float(os.environ["MAX_IDLE_MS"]) / 1000,
    )
    await worker.run()


asyncio.run(main())
