// Vaults and credentials: secrets go in and never come out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { Setup } from '../harness/setup.js';

const setup = new Setup();
const SECRET = 's3cret-value';

test('vaults', async () => {
  const { vaults } = setup.anthropic.beta;
  const vault = await vaults.create({ display_name: 'Dana', metadata: { uid: '77' } });
  assert.equal(vault.type, 'vault');
  assert.deepEqual(await vaults.retrieve(vault.id), vault);
  const changed = await vaults.update(vault.id, { metadata: { uid: null, a: 'b' } });
  assert.deepEqual([changed.display_name, changed.metadata], ['Dana', { a: 'b' }]);
  assert.notEqual((await vaults.archive(vault.id)).archived_at, null);
  const listed: string[] = [];
  for await (const one of vaults.list({ limit: 1, include_archived: true })) listed.push(one.id);
  assert.ok(listed.includes(vault.id));
  assert.deepEqual(await vaults.delete(vault.id), { id: vault.id, type: 'vault_deleted' });
  await assert.rejects(vaults.retrieve(vault.id), Anthropic.NotFoundError);
});

test('credentials', async () => {
  const { vaults, sessions, agents } = setup.anthropic.beta;
  const vault = await vaults.create({ display_name: 'Eve' });
  const made = [
    await vaults.credentials.create(vault.id, {
      auth: { type: 'static_bearer', mcp_server_url: 'https://mcp.example.com/', token: SECRET },
    }),
    await vaults.credentials.create(vault.id, {
      auth: {
        type: 'environment_variable',
        secret_name: 'ACME_KEY',
        secret_value: SECRET,
        networking: { type: 'limited', allowed_hosts: ['api.acme.test'] },
        injection_location: { header: true },
      },
    }),
    await vaults.credentials.create(vault.id, {
      auth: {
        type: 'mcp_oauth',
        mcp_server_url: 'https://mcp2.example.com/',
        access_token: SECRET,
        refresh: {
          token_endpoint: 'https://id.example.com/token',
          client_id: 'abc',
          refresh_token: SECRET,
          token_endpoint_auth: { type: 'none' },
        },
      },
    }),
  ];
  const env = made[1]!.auth;
  assert.ok(env.type === 'environment_variable');
  assert.deepEqual(env.injection_location, { header: true, body: false });
  const listed = [];
  for await (const one of vaults.credentials.list(vault.id, { limit: 2 })) listed.push(one);
  assert.deepEqual(listed, [...made].reverse());
  assert.ok(!JSON.stringify(listed).includes(SECRET));
  const rotated = await vaults.credentials.update(made[0]!.id, {
    vault_id: vault.id,
    auth: { type: 'static_bearer', token: 'another' },
  });
  assert.ok(rotated.updated_at > made[0]!.updated_at);
  await assert.rejects(
    vaults.credentials.create(vault.id, {
      auth: { type: 'static_bearer', mcp_server_url: 'https://MCP.example.com', token: SECRET },
    }),
    Anthropic.ConflictError,
  );
  const agent = await agents.create({ name: 'keyed', model: 'rehearsal' });
  const session = await sessions.create({
    agent: agent.id, environment_id: setup.environment, vault_ids: [vault.id],
  });
  assert.deepEqual(session.vault_ids, [vault.id]);
  assert.notEqual((await vaults.credentials.archive(made[0]!.id, { vault_id: vault.id })).archived_at, null);
  assert.deepEqual(await vaults.credentials.delete(made[0]!.id, { vault_id: vault.id }), {
    id: made[0]!.id, type: 'vault_credential_deleted',
  });
});
