// A small MCP server with one tool, `add`: streamable HTTP without sessions.
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';

const ADD = {
  name: 'add',
  description: 'Adds two numbers.',
  inputSchema: { type: 'object', properties: { a: { type: 'number' }, b: { type: 'number' } } },
};

function answer(method: string, params: any): unknown {
  switch (method) {
    case 'initialize':
      return { protocolVersion: '2025-06-18', capabilities: { tools: {} }, serverInfo: { name: 'tests', version: '1' } };
    case 'tools/list':
      return { tools: [ADD] };
    case 'tools/call':
      return { content: [{ type: 'text', text: String(params.arguments.a + params.arguments.b) }] };
    default:
      return undefined;
  }
}

export class McpServer {
  private constructor(
    readonly url: string,
    private readonly server: Server,
  ) {}

  static async start(): Promise<McpServer> {
    const server = createServer(async (request, response) => {
      const pieces: Buffer[] = [];
      for await (const piece of request) pieces.push(piece as Buffer);
      if (request.method !== 'POST') return void response.writeHead(405).end();
      const { id, method, params } = JSON.parse(Buffer.concat(pieces).toString());
      if (id === undefined) return void response.writeHead(202).end();
      const result = answer(method, params);
      const said = result ? { result } : { error: { code: -32601, message: 'no such method' } };
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ jsonrpc: '2.0', id, ...said }));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new McpServer(`http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`, server);
  }

  stop(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}
