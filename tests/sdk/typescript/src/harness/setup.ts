// What every test file begins with: a server, a client, and a check after each test.
import { after, afterEach, before } from 'node:test';
import type Anthropic from '@anthropic-ai/sdk';
import { checkNothingWrong, client } from './client.js';
import { Server } from './server.js';
import { Watch } from './watch.js';

type AgentFields = Partial<Anthropic.Beta.AgentCreateParams>;
type SessionFields = Partial<Anthropic.Beta.SessionCreateParams>;

export const TOOLSET = { type: 'agent_toolset_20260401' } as const;

export class Setup {
  server!: Server;
  anthropic!: Anthropic;
  environment!: string;

  constructor() {
    before(async () => {
      this.server = await Server.start();
      this.anthropic = client(this.server.url, this.server.key);
      this.environment = (await this.anthropic.beta.environments.create({ name: 'tests', config: { type: 'cloud' } })).id;
    });
    afterEach(checkNothingWrong);
    after(() => this.server.stop());
  }

  async session(agent: AgentFields = {}, session: SessionFields = {}): Promise<Anthropic.Beta.BetaManagedAgentsSession> {
    const made = await this.anthropic.beta.agents.create({ name: 'tester', model: 'rehearsal', ...agent });
    return this.anthropic.beta.sessions.create({ agent: made.id, environment_id: this.environment, ...session });
  }

  watch(session: string, deltas: ('agent.message' | 'agent.thinking')[] = []): Promise<Watch> {
    return Watch.open(this.anthropic, session, deltas);
  }

  async send(session: string, ...events: Anthropic.Beta.Sessions.BetaManagedAgentsEventParams[]): Promise<void> {
    await this.anthropic.beta.sessions.events.send(session, { events });
  }

  async history(session: string): Promise<Anthropic.Beta.Sessions.BetaManagedAgentsSessionEvent[]> {
    const events = [];
    for await (const event of this.anthropic.beta.sessions.events.list(session)) events.push(event);
    return events;
  }
}
