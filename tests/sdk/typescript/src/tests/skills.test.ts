// Skills: uploading, versions, downloading, and an agent that runs a script of one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic, { toFile } from '@anthropic-ai/sdk';
import { Setup, TOOLSET } from '../harness/setup.js';
import { text, user } from '../harness/watch.js';

const setup = new Setup();

const skillMd = (description: string) => `---\nname: greeting\ndescription: ${description}\n---\n# Greeting\n`;

const files = (description = 'Greets people.') =>
  Promise.all([
    toFile(Buffer.from(skillMd(description)), 'greeting/SKILL.md'),
    toFile(Buffer.from('#!/bin/sh\necho "hello $1"\n'), 'greeting/greet.sh'),
  ]);

test('a skill, its versions and its content', async () => {
  const { anthropic } = setup;
  const made = await anthropic.skills.create({ files: await files(), display_name: 'Greeting people' });
  assert.equal(made.display_name, 'Greeting people');
  assert.deepEqual(await anthropic.skills.retrieve(made.id), made);
  const first = await anthropic.skills.versions.retrieve('latest', { skill_id: made.id });
  assert.equal(first.id, made.latest_version_id);
  assert.equal(first.name, 'greeting');
  const second = await anthropic.skills.versions.create(made.id, { files: await files('Greets better.') });
  const walked: string[] = [];
  for await (const version of anthropic.skills.versions.list(made.id, { limit: 1 })) walked.push(version.id);
  assert.deepEqual(walked, [second.id, first.id]);
  const content = await anthropic.beta.skills.versions.download(second.id, { skill_id: made.id });
  const bytes = Buffer.from(await content.arrayBuffer());
  assert.equal(bytes.subarray(0, 4).toString('latin1'), 'PK\x03\x04');
  assert.ok(bytes.includes('greeting/SKILL.md'));
  await anthropic.skills.versions.delete(second.id, { skill_id: made.id });
  assert.equal((await anthropic.skills.retrieve(made.id)).latest_version_id, first.id);
  await anthropic.skills.delete(made.id);
  await assert.rejects(anthropic.skills.retrieve(made.id), Anthropic.NotFoundError);
});

test('an agent runs a script of a skill', async () => {
  const { anthropic } = setup;
  const skill = await anthropic.skills.create({ files: await files() });
  const agent = await anthropic.beta.agents.create({
    name: 'greeter',
    model: 'rehearsal',
    tools: [TOOLSET],
    skills: [{ type: 'custom', skill_id: skill.id }],
  });
  const session = await anthropic.beta.sessions.create({ agent: agent.id, environment_id: setup.environment });
  assert.equal(session.agent.skills[0]?.version, skill.latest_version_id);
  const watch = await setup.watch(session.id);
  await setup.send(session.id, user('bash: /skills/greeting/greet.sh world\nsay: it said {result}'));
  await watch.idle();
  watch.close();
  const last = watch.seen.filter((event) => event.type === 'agent.message').at(-1);
  assert.ok(last);
  assert.match(text(last), /it said hello world/);
});
