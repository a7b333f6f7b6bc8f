// What each endpoint answers with, in the SDK's own types. `generate.ts` turns these into shapes that
// responses are checked against at run time: TypeScript's types are gone by then. Where the plain and
// the beta namespace share a path, the answer is that of the beta namespace, which has more fields.
import type Anthropic from '@anthropic-ai/sdk';

type Page<T> = { data: T[]; next_page: string | null };
type IdPage<T> = { data: T[]; has_more: boolean; first_id: string | null; last_id: string | null };

export interface Roots {
  agent: Anthropic.Beta.BetaManagedAgentsAgent;
  agents: Page<Anthropic.Beta.BetaManagedAgentsAgent>;
  environment: Anthropic.Beta.BetaEnvironment;
  environments: Page<Anthropic.Beta.BetaEnvironment>;
  environmentDeleted: Anthropic.Beta.BetaEnvironmentDeleteResponse;
  session: Anthropic.Beta.BetaManagedAgentsSession;
  sessions: Page<Anthropic.Beta.BetaManagedAgentsSession> & { prev_page: string | null };
  sessionDeleted: Anthropic.Beta.BetaManagedAgentsDeletedSession;
  sent: Anthropic.Beta.Sessions.BetaManagedAgentsSendSessionEvents;
  events: Page<Anthropic.Beta.Sessions.BetaManagedAgentsSessionEvent>;
  streamed: Anthropic.Beta.Sessions.BetaManagedAgentsStreamSessionEvents;
  thread: Anthropic.Beta.Sessions.BetaManagedAgentsSessionThread;
  threads: Page<Anthropic.Beta.Sessions.BetaManagedAgentsSessionThread>;
  resource: Anthropic.Beta.Sessions.BetaManagedAgentsSessionResource;
  resources: Page<Anthropic.Beta.Sessions.BetaManagedAgentsSessionResource>;
  resourceDeleted: Anthropic.Beta.Sessions.BetaManagedAgentsDeleteSessionResource;
  file: Anthropic.Beta.BetaFileMetadata;
  files: Page<Anthropic.Beta.BetaFileMetadata>;
  fileDeleted: Anthropic.Beta.BetaDeletedFile;
  vault: Anthropic.Beta.BetaManagedAgentsVault;
  vaults: Page<Anthropic.Beta.BetaManagedAgentsVault>;
  vaultDeleted: Anthropic.Beta.BetaManagedAgentsDeletedVault;
  credential: Anthropic.Beta.Vaults.BetaManagedAgentsCredential;
  credentials: Page<Anthropic.Beta.Vaults.BetaManagedAgentsCredential>;
  credentialDeleted: Anthropic.Beta.Vaults.BetaManagedAgentsDeletedCredential;
  model: Anthropic.Beta.BetaModelInfo;
  models: IdPage<Anthropic.Beta.BetaModelInfo>;
  error: { type: 'error'; error: { type: Anthropic.ErrorType; message: string; details?: object }; request_id: string };
}

