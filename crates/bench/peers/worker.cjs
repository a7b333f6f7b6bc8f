// The official TypeScript worker, as its documentation shows it.
const { createRequire } = require('node:module');

const own = createRequire(process.env.PACKAGES + '/package.json');
const { Anthropic } = own('@anthropic-ai/sdk');

// The base URL comes from ANTHROPIC_BASE_URL.
const client = new Anthropic({ apiKey: 'none-needed' });
client.beta.environments.work
  .worker({
    environmentId: process.env.ANTHROPIC_ENVIRONMENT_ID,
    environmentKey: process.env.ANTHROPIC_ENVIRONMENT_KEY,
    workdir: process.env.WORKDIR,
    maxIdleMs: Number(process.env.MAX_IDLE_MS),
  })
  .run();
