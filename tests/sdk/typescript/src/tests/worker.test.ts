// The SDK's own worker, unmodified, on the queue of a self-hosted environment. Every answer it gets is
// checked against the SDK's types like any other.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import type { EnvironmentWorkerTools } from '@anthropic-ai/sdk/helpers/beta/environments';
import { betaAgentToolset20260401 } from '@anthropic-ai/sdk/tools/agent-toolset/node';
import { client } from '../harness/client.js';
import { Setup, TOOLSET } from '../harness/setup.js';
import { text, user } from '../harness/watch.js';

const setup = new Setup();
const PATIENCE_MS = 60_000;
const ASK = { ...TOOLSET, default_config: { permission_policy: { type: 'always_ask' as const } } };
const LOOKUP = {
  type: 'custom' as const,
  name: 'lookup',
  description: 'Looks a word up.',
  input_schema: { type: 'object' as const, properties: { word: { type: 'string' } }, required: ['word'] },
};
const lookup = betaTool({
  name: 'lookup',
  description: 'Looks a word up.',
  inputSchema: { type: 'object', properties: { word: { type: 'string' } }, required: ['word'] } as const,
  run: ({ word }) => `${word} means 42`,
});

let made = 0;
const running: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of running.splice(0)) await stop();
});

interface Queue {
  environment: string;
  key: string;
  folder: string;
}

/** A self-hosted environment with a key. */
async function queue(): Promise<Queue> {
  const environment = await setup.anthropic.beta.environments.create({ name: `hosted-${made++}`, config: { type: 'self_hosted' } });
  const answer = await fetch(`${setup.server.url}/v1/freehold/environments/${environment.id}/keys`, {
    method: 'POST',
    headers: { authorization: `Bearer ${setup.server.key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'tests' }),
  });
  const { key } = (await answer.json()) as { key: string };
  return { environment: environment.id, key, folder: mkdtempSync(join(tmpdir(), 'freehold-ts-worker-')) };
}

/** Runs a worker until the test is over; gives how it ended. */
function work(q: Queue, tools?: EnvironmentWorkerTools, environmentKey = q.key): Promise<unknown> {
  const stop = new AbortController();
  // The client's own key is of no use: the worker must go by the environment's.
  const own = client(setup.server.url, 'sk-fh-not-a-key');
  const worker = own.beta.environments.work.worker({
    environmentId: q.environment,
    environmentKey,
    workdir: q.folder,
    maxIdleMs: 1_000,
    signal: stop.signal,
    ...(tools ? { tools } : {}),
  });
  const ended = worker.run().then(
    () => undefined,
    (error: unknown) => error,
  );
  running.push(async () => {
    stop.abort();
    await ended;
    rmSync(q.folder, { recursive: true, force: true });
  });
  return ended;
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`waited for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function states(q: Queue): Promise<string[]> {
  const items = [];
  for await (const item of client(setup.server.url, q.key).beta.environments.work.list(q.environment)) items.push(item.state);
  return items.reverse();
}

test('a worker runs bash and comes back for the next turn', async () => {
  const q = await queue();
  const session = await setup.session({ tools: [TOOLSET] }, { environment_id: q.environment });
  void work(q);
  const watch = await setup.watch(session.id);
  await setup.send(session.id, user('tool: bash {"command": "echo $((40 + 2)) > answer; cat answer"}\nsay: done'));
  await watch.until('session.status_idle', (e) => e.stop_reason.type === 'end_turn');
  assert.equal(text(watch.of('user.tool_result')[0]!).trim(), '42');
  assert.equal(readFileSync(join(q.folder, 'answer'), 'utf8'), '42\n');
  await until('the item stops', async () => (await states(q)).join() === 'stopped');
  await setup.send(session.id, user('tool: bash {"command": "cat answer; env"}\nsay: done'));
  await watch.until('session.status_idle', (e) => e.stop_reason.type === 'end_turn');
  const printed = text(watch.of('user.tool_result')[1]!);
  assert.ok(printed.startsWith('42\n') && !printed.includes(q.key));
  watch.close();
});

test('a worker answers custom tools', async () => {
  const q = await queue();
  const session = await setup.session({ tools: [TOOLSET, LOOKUP] }, { environment_id: q.environment });
  void work(q, (context) => [...betaAgentToolset20260401(context), lookup]);
  const watch = await setup.watch(session.id);
  await setup.send(session.id, user('tool: lookup {"word": "life"}\nsay: done'));
  await watch.until('session.status_idle', (e) => e.stop_reason.type === 'end_turn');
  assert.equal(text(watch.of('user.custom_tool_result')[0]!), 'life means 42');
  watch.close();
});

test('a worker waits for permission', async () => {
  const q = await queue();
  const session = await setup.session({ tools: [ASK] }, { environment_id: q.environment });
  void work(q);
  const watch = await setup.watch(session.id);
  for (const result of ['allow', 'deny'] as const) {
    await setup.send(session.id, user(`tool: bash {"command": "touch ${result}"}\nsay: done`));
    const use = await watch.until('agent.tool_use');
    assert.equal(use.evaluated_permission, 'ask');
    await watch.idle();
    await setup.send(session.id, { type: 'user.tool_confirmation', tool_use_id: use.id, result });
    await watch.until('session.status_idle', (e) => e.stop_reason.type === 'end_turn');
    assert.equal(existsSync(join(q.folder, result)), result === 'allow');
  }
  watch.close();
});

test('work items have their types', async () => {
  const q = await queue();
  await setup.session({ tools: [TOOLSET] }, { environment_id: q.environment });
  const { work: all } = setup.anthropic.beta.environments;
  const polled = await client(setup.server.url, q.key).beta.environments.work.poll(q.environment);
  assert.ok(polled?.secret);
  const where = { environment_id: q.environment };
  assert.equal((await all.retrieve(polled.id, where)).state, 'queued');
  assert.deepEqual((await all.update(polled.id, { ...where, metadata: { rack: 'b2' } })).metadata, { rack: 'b2' });
  assert.equal((await all.stats(q.environment)).pending, 1);
  const own = client(setup.server.url, q.key).beta.environments.work;
  assert.equal((await own.ack(polled.id, where)).state, 'starting');
  const beat = await own.heartbeat(polled.id, { ...where, expected_last_heartbeat: 'NO_HEARTBEAT' });
  assert.equal(beat.lease_extended, true);
  await assert.rejects(own.heartbeat(polled.id, { ...where, expected_last_heartbeat: 'something else' }), Anthropic.PreconditionFailedError);
  assert.equal((await own.stop(polled.id, { ...where, force: true })).state, 'stopped');
  await assert.rejects(own.stop(polled.id, where), Anthropic.ConflictError);
});

test('an API key is none for a worker', async () => {
  const q = await queue();
  const error = await work(q, undefined, setup.server.key);
  assert.ok(error instanceof Anthropic.PermissionDeniedError, String(error));
  assert.match(error.message, /not an API key/);
});
