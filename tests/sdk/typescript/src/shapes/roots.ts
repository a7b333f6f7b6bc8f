// What each endpoint answers with, in the SDK's own types. `generate.ts` turns these into shapes that
// responses are checked against at run time: TypeScript's types are gone by then. Where the plain and
// the beta namespace share a path, the answer is that of the beta namespace, which has more fields.
import type Anthropic from '@anthropic-ai/sdk';

type Page<T> = { data: T[]; next_page: string | null };
type PathConflict = Anthropic.Beta.MemoryStores.BetaManagedAgentsMemoryPathConflictErrorObject;
type IdPage<T> = { data: T[]; has_more: boolean; first_id: string | null; last_id: string | null };

export interface Roots {
  agent: Anthropic.Beta.BetaManagedAgentsAgent;
  agents: Page<Anthropic.Beta.BetaManagedAgentsAgent>;
  environment: Anthropic.Beta.BetaEnvironment;
  environments: Page<Anthropic.Beta.BetaEnvironment>;
  environmentDeleted: Anthropic.Beta.BetaEnvironmentDeleteResponse;
  work: Anthropic.Beta.Environments.BetaSelfHostedWork;
  works: Page<Anthropic.Beta.Environments.BetaSelfHostedWork>;
  polled: Anthropic.Beta.Environments.BetaSelfHostedWork | null;
  heartbeat: Anthropic.Beta.Environments.BetaSelfHostedWorkHeartbeatResponse;
  workStats: Anthropic.Beta.Environments.BetaSelfHostedWorkQueueStats;
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
  skill: Anthropic.Beta.BetaSkill;
  skills: Page<Anthropic.Beta.BetaSkill>;
  skillDeleted: Anthropic.Beta.BetaDeletedSkill;
  skillVersion: Anthropic.Beta.Skills.BetaSkillVersion;
  skillVersions: Page<Anthropic.Beta.Skills.BetaSkillVersion>;
  skillVersionDeleted: Anthropic.Beta.Skills.BetaDeletedSkillVersion;
  memoryStore: Anthropic.Beta.BetaManagedAgentsMemoryStore;
  memoryStores: Page<Anthropic.Beta.BetaManagedAgentsMemoryStore>;
  memoryStoreDeleted: Anthropic.Beta.BetaManagedAgentsDeletedMemoryStore;
  memory: Anthropic.Beta.MemoryStores.BetaManagedAgentsMemory;
  memories: Page<Anthropic.Beta.MemoryStores.BetaManagedAgentsMemoryListItem>;
  memoryDeleted: Anthropic.Beta.MemoryStores.BetaManagedAgentsDeletedMemory;
  memoryVersion: Anthropic.Beta.MemoryStores.BetaManagedAgentsMemoryVersion;
  memoryVersions: Page<Anthropic.Beta.MemoryStores.BetaManagedAgentsMemoryVersion>;
  vault: Anthropic.Beta.BetaManagedAgentsVault;
  vaults: Page<Anthropic.Beta.BetaManagedAgentsVault>;
  vaultDeleted: Anthropic.Beta.BetaManagedAgentsDeletedVault;
  credential: Anthropic.Beta.Vaults.BetaManagedAgentsCredential;
  credentials: Page<Anthropic.Beta.Vaults.BetaManagedAgentsCredential>;
  credentialDeleted: Anthropic.Beta.Vaults.BetaManagedAgentsDeletedCredential;
  model: Anthropic.Beta.BetaModelInfo;
  models: IdPage<Anthropic.Beta.BetaModelInfo>;
  error: {
    type: 'error';
    error: { type: Anthropic.ErrorType; message: string; details?: object } & Pick<PathConflict, 'conflicting_memory_id' | 'conflicting_path'>;
    request_id: string;
  };
}

