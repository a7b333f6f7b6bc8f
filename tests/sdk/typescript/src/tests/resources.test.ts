// Resources: typed errors, pagination, files, agents, environments.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic, { toFile } from '@anthropic-ai/sdk';
import { Setup, TOOLSET } from '../harness/setup.js';
import { text, user } from '../harness/watch.js';

const setup = new Setup();
const UNKNOWN = '011CZkZAAAAAAAAAAAAAAAAAA';

test('errors are the SDK\'s typed exceptions', async () => {
  const { anthropic, server } = setup;
  await assert.rejects(anthropic.beta.agents.retrieve(`agent_${UNKNOWN}`), (error: unknown) => {
    assert.ok(error instanceof Anthropic.NotFoundError);
    assert.equal(error.type, 'not_found_error');
    assert.match(String(error.requestID), /^req_/);
    return true;
  });
  await assert.rejects(anthropic.beta.agents.create({ name: '', model: 'rehearsal' }), Anthropic.BadRequestError);
  const stranger = new Anthropic({ apiKey: 'wrong', baseURL: server.url, maxRetries: 0 });
  await assert.rejects(stranger.beta.agents.retrieve(`agent_${UNKNOWN}`), Anthropic.AuthenticationError);
  await assert.rejects(anthropic.beta.sessions.events.send(`sesn_${UNKNOWN}`, { events: [user('x')] }), Anthropic.NotFoundError);
  await assert.rejects(anthropic.beta.sessions.events.stream(`sesn_${UNKNOWN}`), Anthropic.NotFoundError);
});

test('error codes', async () => {
  const environment = await setup.anthropic.beta.environments.create({ name: 'old' });
  await setup.anthropic.beta.environments.archive(environment.id);
  await assert.rejects(setup.anthropic.beta.environments.update(environment.id, { name: 'new' }), (error: unknown) => {
    assert.ok(error instanceof Anthropic.BadRequestError);
    const body = error.error as { error: { details?: { error_code?: string } } };
    assert.equal(body.error.details?.error_code, 'environment_archived');
    return true;
  });
});

test('a stale version is refused at once, not retried', async () => {
  let attempts = 0;
  const anthropic = new Anthropic({
    apiKey: setup.server.key,
    baseURL: setup.server.url,
    fetch: (input, init) => {
      attempts += 1;
      return fetch(input, init);
    },
  });
  const agent = await anthropic.beta.agents.create({ name: 'locked', model: 'rehearsal' });
  await anthropic.beta.agents.update(agent.id, { version: 1, name: 'moved on' });
  attempts = 0;
  await assert.rejects(anthropic.beta.agents.update(agent.id, { version: 1, name: 'late' }), Anthropic.ConflictError);
  assert.equal(attempts, 1);
});

test('sessions page in both directions', async () => {
  const { anthropic } = setup;
  const agent = await anthropic.beta.agents.create({ name: 'many', model: 'rehearsal' });
  const made: string[] = [];
  for (let i = 0; i < 5; i++) {
    made.push((await anthropic.beta.sessions.create({ agent: agent.id, environment_id: setup.environment })).id);
  }
  const walked: string[] = [];
  for await (const session of anthropic.beta.sessions.list({ agent_id: agent.id, limit: 2, order: 'asc' })) walked.push(session.id);
  assert.deepEqual(walked, made);
  const first = await anthropic.beta.sessions.list({ agent_id: agent.id, limit: 2, order: 'asc' });
  const second = await first.getNextPage();
  const back = await anthropic.beta.sessions.list({ agent_id: agent.id, limit: 2, order: 'asc', page: second.prev_page! });
  assert.deepEqual(back.data.map((s) => s.id), made.slice(0, 2));
  assert.equal(back.prev_page, null);
  await assert.rejects(
    async () => anthropic.beta.sessions.list({ agent_id: agent.id, limit: 2, order: 'desc', page: first.next_page! }),
    Anthropic.BadRequestError,
  );
});

test('events page', async () => {
  const session = await setup.session();
  const watch = await setup.watch(session.id);
  await setup.send(session.id, user('say: hello'));
  await watch.idle();
  watch.close();
  const all = (await setup.history(session.id)).map((e) => e.id);
  const paged: string[] = [];
  for await (const event of setup.anthropic.beta.sessions.events.list(session.id, { limit: 2, order: 'desc' })) paged.push(event.id);
  assert.deepEqual(paged.reverse(), all);
  const only: string[] = [];
  for await (const event of setup.anthropic.beta.sessions.events.list(session.id, { types: ['user.message', 'agent.message'] })) only.push(event.type);
  assert.deepEqual(only, ['user.message', 'agent.message']);
});

test('files: in, through the sandbox, and out', async () => {
  const { anthropic } = setup;
  const upload = await anthropic.files.upload({ file: await toFile(Buffer.from('city,temp\nOslo,-5\n'), 'data.csv', { type: 'text/csv' }) });
  assert.equal(upload.filename, 'data.csv');
  const session = await setup.session({ tools: [TOOLSET] }, { resources: [{ type: 'file', file_id: upload.id, mount_path: '/data.csv' }] });
  const watch = await setup.watch(session.id);
  await setup.send(session.id, user('bash: tr a-z A-Z < /mnt/session/uploads/data.csv > /mnt/session/outputs/upper.csv\nsay: done'));
  await watch.idle();
  assert.ok(watch.of('agent.tool_result').every((e) => !e.is_error));
  watch.close();
  let output: Anthropic.Beta.BetaFileMetadata | undefined;
  const end = Date.now() + 60_000;
  const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));
  while (!output && Date.now() < end) {
    const files = await anthropic.beta.files.list({ scope_id: session.id });
    output = files.data.find((f) => f.filename === 'upper.csv');
    if (!output) await pause();
  }
  assert.ok(output?.downloadable);
  assert.equal(output.scope?.id, session.id);
  assert.equal(await (await anthropic.files.download(output.id)).text(), 'CITY,TEMP\nOSLO,-5\n');
  await assert.rejects(async () => anthropic.files.download(upload.id), Anthropic.BadRequestError);
  assert.equal((await anthropic.files.delete(upload.id)).type, 'file_deleted');
  await assert.rejects(anthropic.files.retrieveMetadata(upload.id), Anthropic.NotFoundError);
});

test('resources of a session', async () => {
  const { anthropic } = setup;
  const upload = await anthropic.files.upload({ file: await toFile(Buffer.from('x'), 'x.txt', { type: 'text/plain' }) });
  const session = await setup.session();
  const added = await anthropic.beta.sessions.resources.add(session.id, { type: 'file', file_id: upload.id });
  assert.notEqual(added.file_id, upload.id);
  const listed = await anthropic.beta.sessions.resources.list(session.id);
  assert.equal(listed.data.length, 1);
  await anthropic.beta.sessions.resources.retrieve(added.id, { session_id: session.id });
  await anthropic.beta.sessions.resources.delete(added.id, { session_id: session.id });
});

test('agents and their versions', async () => {
  const { anthropic } = setup;
  const agent = await anthropic.beta.agents.create({ name: 'a', model: 'rehearsal', tools: [TOOLSET] });
  const updated = await anthropic.beta.agents.update(agent.id, { version: 1, system: 'new' });
  assert.equal(updated.version, 2);
  const versions: number[] = [];
  for await (const version of anthropic.beta.agents.versions.list(agent.id, { limit: 1 })) versions.push(version.version);
  assert.deepEqual(versions.sort(), [1, 2]);
  assert.equal((await anthropic.beta.agents.retrieve(agent.id, { version: 1 })).system, null);
  assert.ok((await anthropic.beta.agents.archive(agent.id)).archived_at);
});

test('environments', async () => {
  const { anthropic } = setup;
  const environment = await anthropic.beta.environments.create({
    name: 'limited',
    config: { type: 'cloud', networking: { type: 'limited', allowed_hosts: ['example.com'] } },
  });
  assert.equal((await anthropic.beta.environments.retrieve(environment.id)).name, 'limited');
  assert.ok((await anthropic.beta.environments.list({ limit: 1 })).data.length);
  assert.equal((await anthropic.beta.environments.delete(environment.id)).type, 'environment_deleted');
});

test('threads', async () => {
  const session = await setup.session();
  const threads = await setup.anthropic.beta.sessions.threads.list(session.id);
  assert.equal(threads.data.length, 1);
  const thread = await setup.anthropic.beta.sessions.threads.retrieve(threads.data[0]!.id, { session_id: session.id });
  assert.equal(thread.parent_thread_id, null);
});

test('models and messages', async () => {
  const { anthropic } = setup;
  const ids: string[] = [];
  for await (const model of anthropic.models.list()) ids.push(model.id);
  assert.ok(ids.includes('rehearsal'));
  assert.match((await anthropic.models.retrieve('rehearsal')).display_name, /not a language model/);
  const message = await anthropic.messages.create({ model: 'rehearsal', max_tokens: 100, messages: [{ role: 'user', content: 'say: hello' }] });
  assert.match(text(message as { content: { type: string; text?: string }[] }), /hello/);
  const streamed = anthropic.messages.stream({ model: 'rehearsal', max_tokens: 100, messages: [{ role: 'user', content: 'say: in pieces' }] });
  assert.match(await streamed.finalText(), /in pieces/);
  const counted = await anthropic.messages.countTokens({ model: 'rehearsal', messages: [{ role: 'user', content: 'x'.repeat(400) }] });
  assert.ok(counted.input_tokens >= 100);
});
