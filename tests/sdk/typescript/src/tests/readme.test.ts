// The README's TypeScript example, as it stands there: it has to compile and to run.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import ts from 'typescript';
import { Server } from '../harness/server.js';

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const SOURCE = here('../../src/tests/readme-example.ts');
const BUILT = here('./readme-example.mjs');
let server: Server;
before(async () => {
  server = await Server.start();
});
after(async () => {
  rmSync(SOURCE, { force: true });
  rmSync(BUILT, { force: true });
  await server.stop();
});

test('the README example runs', () => {
  const readme = readFileSync(here('../../../../../README.md'), 'utf8');
  const examples = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map((m) => m[1]!);
  assert.equal(examples.length, 1);
  const example = examples[0]!.replace('http://127.0.0.1:8787', server.url).replace("apiKey: '…'", `apiKey: '${server.key}'`);
  assert.ok(example.includes(server.url) && example.includes(server.key));

  writeFileSync(SOURCE, example);
  const program = ts.createProgram([SOURCE], {
    strict: true,
    noEmit: true,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    skipLibCheck: true,
    types: ['node'],
  });
  const wrong = ts.getPreEmitDiagnostics(program).map((d) => ts.flattenDiagnosticMessageText(d.messageText, '\n'));
  assert.deepEqual(wrong, []);

  const options = { module: ts.ModuleKind.ES2022, target: ts.ScriptTarget.ES2022 };
  writeFileSync(BUILT, ts.transpileModule(example, { compilerOptions: options }).outputText);
  const ran = spawnSync(process.execPath, [BUILT], { encoding: 'utf8', timeout: 60_000 });
  assert.equal(ran.status, 0, ran.stderr);
  const printed = ran.stdout.trim().split('\n');
  assert.ok(printed.includes('agent.tool_result'));
  assert.equal(printed.at(-1), 'session.status_idle');
});
