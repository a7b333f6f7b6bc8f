CREATE TABLE vault (
  id TEXT NOT NULL PRIMARY KEY,
  workspace_id TEXT NOT NULL REFERENCES workspace(id),
  created_at {I64} NOT NULL, updated_at {I64} NOT NULL, archived_at {I64},
  body TEXT NOT NULL) {STRICT};
CREATE INDEX vault_list ON vault(workspace_id, created_at, id);
CREATE INDEX vault_list_open ON vault(workspace_id, created_at, id) WHERE archived_at IS NULL;

CREATE TABLE credential (
  id TEXT NOT NULL PRIMARY KEY,
  vault_id TEXT NOT NULL REFERENCES vault(id),
  workspace_id TEXT NOT NULL REFERENCES workspace(id),
  kind TEXT NOT NULL,
  target TEXT NOT NULL,                       -- normalised URL of a server, or name of a variable
  created_at {I64} NOT NULL, updated_at {I64} NOT NULL, archived_at {I64},
  body TEXT NOT NULL) {STRICT};               -- as it is shown: without secrets
CREATE UNIQUE INDEX credential_target ON credential(vault_id, target) WHERE archived_at IS NULL;
CREATE INDEX credential_list ON credential(vault_id, created_at, id);
CREATE INDEX credential_list_open ON credential(vault_id, created_at, id)
  WHERE archived_at IS NULL;

-- Rows go when their credential is archived.
CREATE TABLE credential_secret (
  credential_id TEXT NOT NULL REFERENCES credential(id),
  field TEXT NOT NULL,
  master TEXT NOT NULL,                       -- id of the master key that wraps the data key
  wrapped {BLOB} NOT NULL,                    -- the data key, encrypted under the master key
  sealed {BLOB} NOT NULL,                     -- the secret, encrypted under the data key
  PRIMARY KEY (credential_id, field)) {STRICT};
CREATE INDEX credential_secret_master ON credential_secret(master);
