// The Messages API with an MCP server, streamed and not.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { McpServer } from '../harness/mcp.js';
import { Setup } from '../harness/setup.js';

const setup = new Setup();

test('mcp servers', async () => {
  const mcp = await McpServer.start();
  try {
    const { messages } = setup.anthropic.beta;
    const asked = {
      model: 'rehearsal',
      max_tokens: 500,
      betas: ['mcp-client-2025-11-20'],
      messages: [{ role: 'user' as const, content: 'tool: demo_add {"a": 2, "b": 3}\nsay: it is {result}' }],
      mcp_servers: [{ type: 'url' as const, name: 'demo', url: mcp.url }],
      tools: [{ type: 'mcp_toolset' as const, mcp_server_name: 'demo' }],
    };
    const whole = await messages.create(asked);
    const streamed = await messages.stream(asked).finalMessage();
    for (const message of [whole, streamed]) {
      const use = message.content.find((b) => b.type === 'mcp_tool_use');
      const result = message.content.find((b) => b.type === 'mcp_tool_result');
      assert.ok(use && result);
      assert.deepEqual([use.server_name, use.name, use.input], ['demo', 'add', { a: 2, b: 3 }]);
      assert.deepEqual([result.tool_use_id, result.is_error], [use.id, false]);
      assert.deepEqual(result.content, [{ type: 'text', text: '5' }]);
      assert.deepEqual(message.content.at(-1), { ...message.content.at(-1), type: 'text', text: 'it is 5' });
      assert.equal(message.stop_reason, 'end_turn');
    }
  } finally {
    mcp.stop();
  }
});
