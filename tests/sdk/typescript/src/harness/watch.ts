// Bounded waits on one event stream.
import type Anthropic from '@anthropic-ai/sdk';

type Event = Anthropic.Beta.Sessions.BetaManagedAgentsStreamSessionEvents;
type Of<K> = Extract<Event, { type: K }>;

const PATIENCE_MS = 60_000;

export class Watch {
  readonly seen: Event[] = [];
  private cursor = 0;
  private ended = false;
  private failure: unknown;
  private wake: () => void = () => {};

  private constructor(private readonly stream: AsyncIterable<Event> & { controller: AbortController }) {
    void this.read();
  }

  /** When this resolves the server has subscribed: nothing sent afterwards can be missed. */
  static async open(anthropic: Anthropic, session: string, deltas: ('agent.message' | 'agent.thinking')[] = []): Promise<Watch> {
    return new Watch(await anthropic.beta.sessions.events.stream(session, deltas.length ? { event_deltas: deltas } : {}));
  }

  private async read(): Promise<void> {
    try {
      for await (const event of this.stream) {
        this.seen.push(event);
        this.wake();
      }
    } catch (error) {
      this.failure = error;
    } finally {
      this.ended = true;
      this.wake();
    }
  }

  /** The next event of this type. */
  async until<K extends Event['type']>(kind: K, fits: (event: Of<K>) => boolean = () => true): Promise<Of<K>> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.wake();
    }, PATIENCE_MS);
    try {
      for (;;) {
        while (this.cursor < this.seen.length) {
          const event = this.seen[this.cursor++]!;
          if (event.type === kind && fits(event as Of<K>)) return event as Of<K>;
        }
        if (this.failure) throw this.failure;
        if (this.ended || late) throw new Error(`${this.ended ? 'stream ended' : 'waited too long'} before ${kind}; saw ${this.types()}`);
        await new Promise<void>((resolve) => (this.wake = resolve));
      }
    } finally {
      clearTimeout(timer);
    }
  }

  idle(): Promise<Of<'session.status_idle'>> {
    return this.until('session.status_idle');
  }

  of<K extends Event['type']>(kind: K): Of<K>[] {
    return this.seen.filter((e): e is Of<K> => e.type === kind);
  }

  types(): string[] {
    return this.seen.map((e) => e.type);
  }

  close(): void {
    this.stream.controller.abort();
  }
}

export function text(event: { content?: { type: string; text?: string }[] | undefined }): string {
  return (event.content ?? []).map((b) => (b.type === 'text' ? b.text : '')).join('');
}

export function user(value: string): Anthropic.Beta.Sessions.BetaManagedAgentsUserMessageEventParams {
  return { type: 'user.message', content: [{ type: 'text', text: value }] };
}
