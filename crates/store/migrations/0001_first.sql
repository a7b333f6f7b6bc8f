-- Columns are 64-bit integers, text and bytes; times are microseconds since the epoch; booleans 0/1;
-- JSON is text. {I64}, {BLOB} and {STRICT} are the engine's words for them.

CREATE TABLE organization (
  id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, created_at {I64} NOT NULL) {STRICT};

CREATE TABLE workspace (
  id TEXT NOT NULL PRIMARY KEY,
  organization_id TEXT NOT NULL REFERENCES organization(id),
  name TEXT NOT NULL, is_default {I64} NOT NULL,
  created_at {I64} NOT NULL, archived_at {I64}) {STRICT};
CREATE UNIQUE INDEX workspace_one_default ON workspace(organization_id) WHERE is_default = 1;

CREATE TABLE api_key (
  id TEXT NOT NULL PRIMARY KEY,
  workspace_id TEXT NOT NULL REFERENCES workspace(id),
  name TEXT NOT NULL, admin {I64} NOT NULL,
  hash {BLOB} NOT NULL UNIQUE,                -- SHA-256 of the key; the key itself is nowhere
  last4 TEXT NOT NULL,
  created_at {I64} NOT NULL, revoked_at {I64}, last_used_at {I64}) {STRICT};
CREATE INDEX api_key_list ON api_key(workspace_id, created_at, id);

CREATE TABLE agent (
  id TEXT NOT NULL PRIMARY KEY,
  workspace_id TEXT NOT NULL REFERENCES workspace(id),
  version {I64} NOT NULL,                     -- the newest
  created_at {I64} NOT NULL, archived_at {I64}) {STRICT};
CREATE INDEX agent_list ON agent(workspace_id, created_at, id);
CREATE INDEX agent_list_open ON agent(workspace_id, created_at, id) WHERE archived_at IS NULL;

CREATE TABLE agent_version (
  agent_id TEXT NOT NULL REFERENCES agent(id), version {I64} NOT NULL,
  created_at {I64} NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (agent_id, version)) {STRICT};

CREATE TABLE environment (
  id TEXT NOT NULL PRIMARY KEY,
  workspace_id TEXT NOT NULL REFERENCES workspace(id),
  name TEXT NOT NULL,
  created_at {I64} NOT NULL, updated_at {I64} NOT NULL, archived_at {I64},
  body TEXT NOT NULL) {STRICT};
CREATE UNIQUE INDEX environment_name ON environment(workspace_id, name) WHERE archived_at IS NULL;
CREATE INDEX environment_list ON environment(workspace_id, created_at, id);
CREATE INDEX environment_list_open ON environment(workspace_id, created_at, id)
  WHERE archived_at IS NULL;

-- One row per live process; the only row heartbeats touch.
CREATE TABLE replica (
  id TEXT NOT NULL PRIMARY KEY, lease_until {I64} NOT NULL) {STRICT};

-- What changes with every append; kept small, because an append rewrites the row.
CREATE TABLE session (
  id TEXT NOT NULL PRIMARY KEY,
  workspace_id TEXT NOT NULL REFERENCES workspace(id),
  thread_id TEXT NOT NULL UNIQUE,
  environment_id TEXT NOT NULL REFERENCES environment(id),
  agent_id TEXT NOT NULL REFERENCES agent(id), agent_version {I64} NOT NULL,
  deployment_id TEXT,
  status TEXT NOT NULL, blocked {I64} NOT NULL,
  head_seq {I64} NOT NULL,                    -- last assigned event seq
  inbox_head {I64} NOT NULL,                  -- last assigned inbox seq
  last_processed_at {I64} NOT NULL,           -- order of processed_at is order of seq
  wake_at {I64},                              -- not null: wants a driver at that time
  lease_owner TEXT, lease_epoch {I64} NOT NULL,
  created_at {I64} NOT NULL, updated_at {I64} NOT NULL, archived_at {I64}, terminated_at {I64},
  summary TEXT) {STRICT};
CREATE INDEX session_wake ON session(wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX session_list ON session(workspace_id, created_at, id);
CREATE INDEX session_list_open ON session(workspace_id, created_at, id) WHERE archived_at IS NULL;
CREATE INDEX session_list_agent ON session(workspace_id, agent_id, created_at, id);
CREATE INDEX session_list_deployment ON session(workspace_id, deployment_id, created_at, id)
  WHERE deployment_id IS NOT NULL;
CREATE INDEX session_environment ON session(environment_id);
CREATE INDEX session_agent ON session(agent_id);

-- What seldom changes and may be large.
CREATE TABLE session_body (
  session_id TEXT NOT NULL PRIMARY KEY REFERENCES session(id),
  title TEXT, metadata TEXT NOT NULL, budget TEXT, vault_ids TEXT NOT NULL,
  environment TEXT NOT NULL, agent TEXT NOT NULL) {STRICT};

-- Accepted, not yet processed. A row is deleted in the transaction that appends its event.
-- No foreign key here and on event: both are written only after the session's row was updated in
-- the same transaction, and event rows outlive it while a deletion is under way.
CREATE TABLE inbox (
  session_id TEXT NOT NULL, seq {I64} NOT NULL, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
  ref_id TEXT, accepted_at {I64} NOT NULL, octets {I64} NOT NULL, payload TEXT NOT NULL,
  PRIMARY KEY (session_id, seq)) {STRICT};

-- Append-only: no UPDATE, no DELETE but the session's deletion.
CREATE TABLE event (
  session_id TEXT NOT NULL, seq {I64} NOT NULL, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
  ref_id TEXT,                                -- the event this one answers or refers to
  epoch {I64} NOT NULL,                       -- writer's lease epoch, 0 = external
  processed_at {I64} NOT NULL, payload TEXT NOT NULL,
  detail TEXT,                                -- server-private, never on the wire
  PRIMARY KEY (session_id, seq)) {STRICT};
CREATE INDEX event_kind ON event(session_id, kind, seq);
CREATE INDEX event_ref ON event(session_id, ref_id, seq) WHERE ref_id IS NOT NULL;
CREATE UNIQUE INDEX event_one_result ON event(session_id, ref_id)
  WHERE kind IN ('agent.tool_result','user.tool_result','user.custom_tool_result','agent.mcp_tool_result');

-- Sessions whose row is gone and whose events are still being deleted.
CREATE TABLE session_deletion (
  session_id TEXT NOT NULL PRIMARY KEY, requested_at {I64} NOT NULL) {STRICT};

CREATE TABLE file (
  id TEXT NOT NULL PRIMARY KEY,
  workspace_id TEXT NOT NULL REFERENCES workspace(id),
  filename TEXT NOT NULL, mime_type TEXT NOT NULL, size {I64} NOT NULL,
  blob TEXT NOT NULL,                         -- key of its bytes; several files may share one
  downloadable {I64} NOT NULL,
  scope_session TEXT REFERENCES session(id),
  output_path TEXT, source_mtime {I64},       -- where in the session's outputs it came from
  created_at {I64} NOT NULL, expires_at {I64}) {STRICT};
CREATE INDEX file_list ON file(workspace_id, created_at, id);
CREATE INDEX file_scope ON file(scope_session, created_at, id) WHERE scope_session IS NOT NULL;
CREATE UNIQUE INDEX file_output ON file(scope_session, output_path) WHERE output_path IS NOT NULL;
CREATE INDEX file_blob ON file(blob);

CREATE TABLE session_resource (
  id TEXT NOT NULL PRIMARY KEY,
  session_id TEXT NOT NULL REFERENCES session(id),
  position {I64} NOT NULL,                    -- order of attachment
  kind TEXT NOT NULL,
  mount_path TEXT, file_id TEXT,              -- of kind file
  memory_store_id TEXT,                       -- of kind memory_store
  body TEXT NOT NULL,
  created_at {I64} NOT NULL, updated_at {I64} NOT NULL) {STRICT};
CREATE UNIQUE INDEX session_resource_list ON session_resource(session_id, position);
CREATE INDEX session_resource_memory ON session_resource(memory_store_id, session_id)
  WHERE memory_store_id IS NOT NULL;
