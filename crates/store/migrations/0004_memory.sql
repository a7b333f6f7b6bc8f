-- Memory stores (contract 74). Content is bytes, because it may hold U+0000; it stands in the
-- versions only, the memory names the one it is at.

CREATE TABLE memory_store (
  id TEXT NOT NULL PRIMARY KEY,
  workspace_id TEXT NOT NULL REFERENCES workspace(id),
  created_at {I64} NOT NULL, updated_at {I64} NOT NULL, archived_at {I64},
  body TEXT NOT NULL) {STRICT};
CREATE INDEX memory_store_list ON memory_store(workspace_id, created_at, id);
CREATE INDEX memory_store_list_open ON memory_store(workspace_id, created_at, id)
  WHERE archived_at IS NULL;

-- Paths are compared byte by byte.
CREATE TABLE memory (
  id TEXT NOT NULL PRIMARY KEY,
  store_id TEXT NOT NULL REFERENCES memory_store(id),
  path TEXT NOT NULL,
  version_id TEXT NOT NULL,
  sha256 TEXT NOT NULL, size {I64} NOT NULL,  -- of that version's content
  created_at {I64} NOT NULL, updated_at {I64} NOT NULL) {STRICT};
CREATE UNIQUE INDEX memory_path ON memory(store_id, path);

CREATE TABLE memory_version (
  id TEXT NOT NULL PRIMARY KEY,
  store_id TEXT NOT NULL REFERENCES memory_store(id),
  memory_id TEXT NOT NULL,                    -- outlives the memory
  operation TEXT NOT NULL,
  created_at {I64} NOT NULL,
  actor TEXT, actor_id TEXT,                  -- wire type and id of whoever wrote it
  redacted_at {I64}, redactor TEXT, redactor_id TEXT,
  path TEXT, sha256 TEXT, size {I64},
  content {BLOB}) {STRICT};
CREATE INDEX memory_version_list ON memory_version(store_id, created_at, id);
CREATE INDEX memory_version_memory ON memory_version(memory_id, created_at, id);
CREATE INDEX memory_version_actor ON memory_version(store_id, actor, actor_id, created_at, id);
