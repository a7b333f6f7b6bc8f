// The SDK's client with a `fetch` that checks every response against the SDK's own types.
import { readFileSync } from 'node:fs';
import Anthropic from '@anthropic-ai/sdk';
import { problems, type Shapes } from '../shapes/shape.js';

const shapes = JSON.parse(readFileSync(new URL('../shapes/shapes.json', import.meta.url), 'utf8')) as Shapes;

// Method and path to the name of a root in shapes/roots.ts.
const ROUTES: [RegExp, string][] = [
  [/^(GET|POST) \/v1\/agents\/[^/]+\/versions$/, 'agents'],
  [/^GET \/v1\/agents$/, 'agents'],
  [/^(GET|POST) \/v1\/agents(\/[^/]+)?(\/archive)?$/, 'agent'],
  [/^GET \/v1\/environments$/, 'environments'],
  [/^DELETE \/v1\/environments\/[^/]+$/, 'environmentDeleted'],
  [/^(GET|POST) \/v1\/environments(\/[^/]+)?(\/archive)?$/, 'environment'],
  [/^GET \/v1\/environments\/[^/]+\/work$/, 'works'],
  [/^GET \/v1\/environments\/[^/]+\/work\/poll$/, 'polled'],
  [/^GET \/v1\/environments\/[^/]+\/work\/stats$/, 'workStats'],
  [/^POST \/v1\/environments\/[^/]+\/work\/[^/]+\/heartbeat$/, 'heartbeat'],
  [/^(GET|POST) \/v1\/environments\/[^/]+\/work\/[^/]+(\/(ack|stop))?$/, 'work'],
  [/^GET \/v1\/sessions$/, 'sessions'],
  [/^DELETE \/v1\/sessions\/[^/]+$/, 'sessionDeleted'],
  [/^POST \/v1\/sessions\/[^/]+\/events$/, 'sent'],
  [/^GET \/v1\/sessions\/[^/]+(\/threads\/[^/]+)?\/events$/, 'events'],
  [/^GET \/v1\/sessions\/[^/]+\/events\/stream$/, 'streamed'],
  [/^GET \/v1\/sessions\/[^/]+\/threads\/[^/]+\/stream$/, 'streamed'],
  [/^GET \/v1\/sessions\/[^/]+\/threads$/, 'threads'],
  [/^GET \/v1\/sessions\/[^/]+\/threads\/[^/]+$/, 'thread'],
  [/^GET \/v1\/sessions\/[^/]+\/resources$/, 'resources'],
  [/^DELETE \/v1\/sessions\/[^/]+\/resources\/[^/]+$/, 'resourceDeleted'],
  [/^(GET|POST) \/v1\/sessions\/[^/]+\/resources(\/[^/]+)?$/, 'resource'],
  [/^(GET|POST) \/v1\/sessions(\/[^/]+)?(\/archive)?$/, 'session'],
  [/^GET \/v1\/files$/, 'files'],
  [/^DELETE \/v1\/files\/[^/]+$/, 'fileDeleted'],
  [/^(GET|POST) \/v1\/files(\/[^/]+)?$/, 'file'],
  [/^GET \/v1\/skills$/, 'skills'],
  [/^DELETE \/v1\/skills\/[^/]+$/, 'skillDeleted'],
  [/^(GET|POST) \/v1\/skills(\/[^/]+)?$/, 'skill'],
  [/^GET \/v1\/skills\/[^/]+\/versions$/, 'skillVersions'],
  [/^DELETE \/v1\/skills\/[^/]+\/versions\/[^/]+$/, 'skillVersionDeleted'],
  [/^(GET|POST) \/v1\/skills\/[^/]+\/versions(\/[^/]+)?$/, 'skillVersion'],
  [/^GET \/v1\/memory_stores$/, 'memoryStores'],
  [/^DELETE \/v1\/memory_stores\/[^/]+$/, 'memoryStoreDeleted'],
  [/^(GET|POST) \/v1\/memory_stores(\/[^/]+)?(\/archive)?$/, 'memoryStore'],
  [/^GET \/v1\/memory_stores\/[^/]+\/memories$/, 'memories'],
  [/^DELETE \/v1\/memory_stores\/[^/]+\/memories\/[^/]+$/, 'memoryDeleted'],
  [/^(GET|POST) \/v1\/memory_stores\/[^/]+\/memories(\/[^/]+)?$/, 'memory'],
  [/^GET \/v1\/memory_stores\/[^/]+\/memory_versions$/, 'memoryVersions'],
  [/^(GET|POST) \/v1\/memory_stores\/[^/]+\/memory_versions\/[^/]+(\/redact)?$/, 'memoryVersion'],
  [/^GET \/v1\/vaults$/, 'vaults'],
  [/^DELETE \/v1\/vaults\/[^/]+$/, 'vaultDeleted'],
  [/^(GET|POST) \/v1\/vaults(\/[^/]+)?(\/archive)?$/, 'vault'],
  [/^GET \/v1\/vaults\/[^/]+\/credentials$/, 'credentials'],
  [/^DELETE \/v1\/vaults\/[^/]+\/credentials\/[^/]+$/, 'credentialDeleted'],
  [/^(GET|POST) \/v1\/vaults\/[^/]+\/credentials(\/[^/]+)?(\/archive)?$/, 'credential'],
  [/^GET \/v1\/models$/, 'models'],
  [/^GET \/v1\/models\/[^/]+$/, 'model'],
];
// Not described by a root: raw bytes, and the Messages gateway, whose bodies are the provider's.
const UNCHECKED = [/^GET \/v1\/(files|skills)\/.+\/content$/, /^POST \/v1\/messages/];

/** Violations found since the last look; `checkNothingWrong` reports them. */
const violations: string[] = [];
let checked = 0;

/** To be called after each test: fails it for every response that did not fit its type. */
export function checkNothingWrong(): void {
  const found = violations.splice(0);
  if (found.length) throw new Error(`responses that do not fit the SDK's types:\n${found.join('\n')}`);
  if (checked === 0) throw new Error('no response was checked');
}

export function client(url: string, apiKey: string): Anthropic {
  return new Anthropic({ apiKey, baseURL: url, maxRetries: 0, timeout: 60_000, fetch: checkedFetch });
}

async function checkedFetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
  const response = await fetch(input, init);
  const url = new URL(input instanceof Request ? input.url : input);
  // The SDK fetches `data:,` to find out which `FormData` is in use.
  if (url.protocol !== 'http:') return response;
  const call = `${(init?.method ?? 'GET').toUpperCase()} ${url.pathname}`;
  if (!response.headers.get('request-id')?.startsWith('req_')) violations.push(`${call}: no request-id`);
  if (!response.ok) {
    verify(call, 'error', await response.clone().json());
    return response;
  }
  if (response.status !== 200) violations.push(`${call}: success is 200, not ${response.status}`);
  if (UNCHECKED.some((route) => route.test(call))) return response;
  const root = ROUTES.find(([route]) => route.test(call))?.[1];
  if (!root) violations.push(`${call}: nobody said what this answers with`);
  else if (root === 'streamed') return watchStream(call, response);
  else verify(call, root, await response.clone().json());
  return response;
}

function verify(call: string, root: string, body: unknown): void {
  checked += 1;
  const found = problems(shapes, shapes.roots[root]!, body);
  if (found.length) violations.push(`${call} (${root}): ${found.join('; ')}\n  ${JSON.stringify(body).slice(0, 2000)}`);
}

/** Hands the stream on unchanged and reads along. */
function watchStream(call: string, response: Response): Response {
  const decoder = new TextDecoder();
  let pending = '';
  const along = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, out) {
      out.enqueue(chunk);
      pending += decoder.decode(chunk, { stream: true });
      const frames = pending.split('\n\n');
      pending = frames.pop() ?? '';
      for (const frame of frames) {
        const lines = frame.split('\n');
        const name = lines.find((l) => l.startsWith('event:'))?.slice(6).trim();
        const data = lines.filter((l) => l.startsWith('data:')).map((l) => l.slice(5)).join('\n');
        if (name === undefined && data) violations.push(`${call}: frame without a name, which SDKs drop: ${frame}`);
        if (!data || name === 'ping' || name === 'error') continue;
        verify(call, 'streamed', JSON.parse(data));
      }
    },
  });
  return new Response(response.body!.pipeThrough(along), response);
}
