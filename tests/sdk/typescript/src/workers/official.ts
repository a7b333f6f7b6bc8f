// The official worker, used as its documentation shows, with one custom tool beside the toolset.

import Anthropic from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import { betaAgentToolset20260401 } from '@anthropic-ai/sdk/tools/agent-toolset/node';

const lookup = betaTool({
  name: 'lookup',
  description: 'Looks a city up.',
  inputSchema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } as const,
  run: ({ city }) => `${city}: found by the worker`,
});

// The base URL comes from ANTHROPIC_BASE_URL; there is no API key on a worker's host.
const client = new Anthropic();
const worker = client.beta.environments.work.worker({
  environmentId: process.env['ANTHROPIC_ENVIRONMENT_ID']!,
  environmentKey: process.env['ANTHROPIC_ENVIRONMENT_KEY']!,
  tools: (context) => [...betaAgentToolset20260401(context), lookup],
  workdir: process.env['WORKDIR']!,
  maxIdleMs: 2_000,
  memorySyncIntervalMs: 5_000,
});
await worker.run();
