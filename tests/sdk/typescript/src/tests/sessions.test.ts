// The main job: quickstart, streaming, custom tools, confirmation, interrupting, reconnecting.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { accumulateManagedAgentsEvent } from '@anthropic-ai/sdk/lib/sessions/accumulate';
import { Setup, TOOLSET } from '../harness/setup.js';
import { text, user } from '../harness/watch.js';

const setup = new Setup();
const ASK = { ...TOOLSET, default_config: { permission_policy: { type: 'always_ask' as const } } };
const WEATHER = {
  type: 'custom' as const,
  name: 'get_weather',
  description: 'The weather of a city.',
  input_schema: { type: 'object' as const, properties: { city: { type: 'string' } }, required: ['city'] },
};

test('quickstart', async () => {
  const anthropic = new Anthropic({ apiKey: setup.server.key, baseURL: setup.server.url });
  const agent = await anthropic.beta.agents.create({ name: 'Coder', model: 'rehearsal', tools: [{ type: 'agent_toolset_20260401' }] });
  const environment = await anthropic.beta.environments.create({ name: 'quickstart', config: { type: 'cloud', networking: { type: 'unrestricted' } } });
  const session = await anthropic.beta.sessions.create({ agent: agent.id, environment_id: environment.id, title: 'Quickstart' });
  const stream = await anthropic.beta.sessions.events.stream(session.id);
  await anthropic.beta.sessions.events.send(session.id, {
    events: [{ type: 'user.message', content: [{ type: 'text', text: 'bash: echo $((6 * 7))\nsay: It printed {result}' }] }],
  });
  let answer = '';
  for await (const event of stream) {
    if (event.type === 'agent.message') answer = text(event);
    if (event.type === 'session.status_idle') {
      assert.equal(event.stop_reason.type, 'end_turn');
      break;
    }
  }
  assert.match(answer, /42/);
});

test('deltas add up to the message', async () => {
  const session = await setup.session();
  const watch = await setup.watch(session.id, ['agent.message', 'agent.thinking']);
  await setup.send(session.id, user('think: privately\nsay: one two three four five six seven eight nine ten'));
  await watch.idle();
  let snapshot: ReturnType<typeof accumulateManagedAgentsEvent>;
  for (const event of watch.seen) {
    const before = snapshot;
    snapshot = accumulateManagedAgentsEvent(snapshot, event);
    if (event.type === 'agent.message') {
      assert.equal(before?.id, event.id);
      assert.ok(text(before!).length > 0 && text(event).startsWith(text(before!)));
    }
  }
  assert.ok(watch.of('event_delta').length >= 2);
  const thought = watch.of('event_start').find((e) => e.event.type === 'agent.thinking');
  assert.equal(thought?.event.id, watch.of('agent.thinking')[0]?.id);
  watch.close();
});

test('a custom tool', async () => {
  const session = await setup.session({ tools: [WEATHER] });
  const watch = await setup.watch(session.id);
  await setup.send(session.id, user('tool: get_weather {"city":"Oslo"}\nsay: It says {result}'));
  const use = await watch.until('agent.custom_tool_use');
  assert.deepEqual(use.input, { city: 'Oslo' });
  const idle = await watch.idle();
  assert.deepEqual(idle.stop_reason, { type: 'requires_action', event_ids: [use.id] });
  await setup.send(session.id, {
    type: 'user.custom_tool_result',
    custom_tool_use_id: use.id,
    content: [{ type: 'text', text: '-5 C' }],
  });
  assert.equal((await watch.idle()).stop_reason.type, 'end_turn');
  assert.match(text(watch.of('agent.message').at(-1)!), /-5 C/);
  watch.close();
});

test('confirmation: allowed', async () => {
  const session = await setup.session({ tools: [ASK] });
  const watch = await setup.watch(session.id);
  await setup.send(session.id, user('bash: echo confirmed\nsay: done'));
  const use = await watch.until('agent.tool_use');
  assert.equal(use.evaluated_permission, 'ask');
  await watch.idle();
  assert.equal(watch.of('agent.tool_result').length, 0);
  await setup.send(session.id, { type: 'user.tool_confirmation', tool_use_id: use.id, result: 'allow' });
  const result = await watch.until('agent.tool_result');
  assert.match(text(result as { content?: { type: string; text?: string }[] }), /confirmed/);
  assert.equal((await watch.idle()).stop_reason.type, 'end_turn');
  watch.close();
});

test('confirmation: denied with a message', async () => {
  const session = await setup.session({ tools: [ASK] });
  const watch = await setup.watch(session.id);
  await setup.send(session.id, user('bash: touch /workspace/never\nsay: I was told {result}'));
  const use = await watch.until('agent.tool_use');
  await watch.idle();
  await setup.send(session.id, { type: 'user.tool_confirmation', tool_use_id: use.id, result: 'deny', deny_message: 'Not on a Tuesday.' });
  assert.equal((await watch.idle()).stop_reason.type, 'end_turn');
  assert.match(text(watch.of('agent.message').at(-1)!), /Not on a Tuesday\./);
  watch.close();
});

test('interrupt and redirect', async () => {
  const session = await setup.session({ tools: [TOOLSET] });
  const watch = await setup.watch(session.id);
  await setup.send(session.id, user('bash: sleep 600\nsay: never said'));
  await watch.until('agent.tool_use');
  await setup.send(session.id, { type: 'user.interrupt' }, user('say: redirected'));
  await watch.until('agent.message', (e) => /redirected/.test(text(e)));
  assert.equal((await watch.idle()).stop_reason.type, 'end_turn');
  const history = await setup.history(session.id);
  assert.ok(!history.some((e) => e.type === 'agent.message' && /never said/.test(text(e))));
  assert.equal(history.filter((e) => e.type === 'agent.tool_result').length, 1);
  watch.close();
});

test('interrupt while waiting for a person', async () => {
  const session = await setup.session({ tools: [ASK] });
  const watch = await setup.watch(session.id);
  await setup.send(session.id, user('bash: echo never'));
  await watch.idle();
  await setup.send(session.id, { type: 'user.interrupt' });
  assert.equal((await watch.idle()).stop_reason.type, 'end_turn');
  const closed = (await setup.history(session.id)).find((e) => e.type === 'agent.tool_result');
  assert.equal(text(closed as { content?: { type: string; text?: string }[] }), 'Tool execution was interrupted before completion. Please retry.');
  watch.close();
});

test('reconnecting leaves no gap', async () => {
  const session = await setup.session({ tools: [TOOLSET] });
  const first = await setup.watch(session.id);
  await setup.send(session.id, user('bash: echo one\nbash: echo two\nbash: echo three\nsay: all done'));
  await first.until('agent.tool_result');
  first.close();
  const again = await setup.watch(session.id);
  const known = new Map((await setup.history(session.id)).map((e) => [e.id, e.type]));
  if (![...known.values()].includes('session.status_idle')) await again.idle();
  for (const event of again.seen) if ('id' in event && !known.has(event.id)) known.set(event.id, event.type as never);
  assert.deepEqual([...known.keys()], (await setup.history(session.id)).map((e) => e.id));
  again.close();
});

test('deleting a session ends its stream', async () => {
  const session = await setup.session();
  const watch = await setup.watch(session.id);
  await setup.anthropic.beta.sessions.delete(session.id);
  await watch.until('session.deleted');
  await assert.rejects(watch.until('session.status_idle'), /stream ended/);
});
