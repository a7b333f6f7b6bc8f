// Memory stores: the resource, and sessions that mount them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { Setup, TOOLSET } from '../harness/setup.js';

const setup = new Setup();

test('stores, memories and versions', async () => {
  const stores = setup.anthropic.beta.memoryStores;
  const store = await stores.create({ name: 'Notes' });
  assert.deepEqual([store.description, store.metadata, store.archived_at], ['', {}, null]);
  assert.deepEqual(await stores.retrieve(store.id), store);
  assert.equal((await stores.update(store.id, { description: 'd' })).description, 'd');
  const made = await stores.memories.create(store.id, { path: '/a/b', content: 'one' });
  const full = await stores.memories.retrieve(made.id, { memory_store_id: store.id });
  assert.equal(full.content, 'one');
  const precondition = { type: 'content_sha256' as const, content_sha256: made.content_sha256 };
  await stores.memories.update(made.id, { memory_store_id: store.id, content: 'two', precondition });
  await assert.rejects(
    stores.memories.update(made.id, { memory_store_id: store.id, content: 'three', precondition }),
    (error: unknown) => {
      assert.ok(error instanceof Anthropic.ConflictError);
      assert.equal(error.type, 'memory_precondition_failed_error');
      return true;
    },
  );
  await assert.rejects(stores.memories.create(store.id, { path: '/a', content: '' }), (error: unknown) => {
    assert.ok(error instanceof Anthropic.ConflictError);
    assert.equal(error.type, 'memory_path_conflict_error');
    return true;
  });
  const folded: string[] = [];
  for await (const item of stores.memories.list(store.id, { depth: 1 })) folded.push(`${item.type} ${item.path}`);
  assert.deepEqual(folded, ['memory_prefix /a/']);
  const operations: string[] = [];
  for await (const version of stores.memoryVersions.list(store.id, { limit: 1 })) operations.push(version.operation);
  assert.deepEqual(operations, ['modified', 'created']);
  const first = await stores.memoryVersions.retrieve(made.memory_version_id, { memory_store_id: store.id });
  assert.equal(first.content, 'one');
  const redacted = await stores.memoryVersions.redact(first.id, { memory_store_id: store.id });
  assert.equal(redacted.content, null);
  const gone = await stores.memories.delete(made.id, { memory_store_id: store.id });
  assert.equal(gone.type, 'memory_deleted');
  assert.ok((await stores.archive(store.id)).archived_at);
  assert.equal((await stores.delete(store.id)).type, 'memory_store_deleted');
});

test('a session mounts a store', async () => {
  const { anthropic } = setup;
  const store = await anthropic.beta.memoryStores.create({ name: 'Notes' });
  const agent = await anthropic.beta.agents.create({ name: 'm', model: 'rehearsal', tools: [TOOLSET] });
  const session = await anthropic.beta.sessions.create({
    agent: agent.id,
    environment_id: setup.environment,
    resources: [{ type: 'memory_store', memory_store_id: store.id, access: 'read_only' }],
  });
  const [resource] = session.resources;
  assert.ok(resource?.type === 'memory_store');
  assert.deepEqual([resource.mount_path, resource.access], ['/mnt/memory/notes', 'read_only']);
});
