// One server process on a port and a data directory of its own, or what passes for one.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync, createWriteStream } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { once } from 'node:events';

const PATIENCE_MS = 60_000;

export class Server {
  readonly key = 'sk-fh-typescript-tests';
  private constructor(
    readonly url: string,
    private readonly process: ChildProcess,
    private readonly folder: string,
    private readonly log: string,
  ) {}

  /** Starts one and waits until it listens. */
  static async start(): Promise<Server> {
    const binary = process.env['FREEHOLD_BIN'];
    if (!binary) throw new Error('FREEHOLD_BIN must name the server binary; `cargo xtask test --only ts` sets it');
    // Several replicas (`tests/sdk/python/harness/as_one.py`), if the suite is to run on them.
    const replicas = process.env['FREEHOLD_TEST_REPLICAS'] ? process.env['FREEHOLD_TEST_PYTHON'] : undefined;
    const [program, ...before] = replicas ? [replicas, '-m', 'harness.as_one'] : [binary];
    const folder = mkdtempSync(join(tmpdir(), 'freehold-ts-'));
    const config = join(folder, 'freehold.toml');
    writeFileSync(config, '[rehearsal]\ndelay_ms = 0\n[mcp]\nallow = ["127.0.0.0/8"]\n');
    const args = [...before, 'serve', '--config', config, '--listen', '127.0.0.1:0', '--data-dir', join(folder, 'data'), '--log-format', 'json'];
    const passed = replicas ? process.env : { PATH: process.env['PATH'], HOME: process.env['HOME'] };
    const child = spawn(program!, args, {
      env: { ...passed, FREEHOLD_BOOTSTRAP_KEY: 'sk-fh-typescript-tests' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const log = join(folder, 'server.log');
    const file = createWriteStream(log);
    const url = await new Promise<string>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('the server did not say where it listens')), PATIENCE_MS);
      createInterface({ input: child.stderr! }).on('line', (line) => {
        file.write(`${line}\n`);
        const found = /listening on (http:\/\/[0-9.:]+)/.exec(line);
        if (found) {
          clearTimeout(late);
          resolve(found[1]!);
        }
      });
      child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
    });
    return new Server(url, child, folder, log);
  }

  /** Ends it; fails if it panicked, logged an error or ended badly. */
  async stop(): Promise<void> {
    const ended = once(this.process, 'exit');
    this.process.kill('SIGTERM');
    const [code] = await ended;
    const log = readFileSync(this.log, 'utf8');
    const complaints = log.split('\n').filter((l) => l.includes('panicked') || l.includes('"level":"ERROR"'));
    if (code !== 0 || complaints.length) throw new Error(`the server ended with ${code}\n${complaints.join('\n')}`);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
