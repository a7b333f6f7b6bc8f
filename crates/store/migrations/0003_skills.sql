-- Skills: names and numbers here, each version's archive in the blob store.

CREATE TABLE skill (
  id TEXT NOT NULL PRIMARY KEY,
  workspace_id TEXT NOT NULL REFERENCES workspace(id),
  name TEXT NOT NULL, display_name TEXT NOT NULL,
  last_number {I64} NOT NULL,                 -- the highest a version of it ever had
  created_at {I64} NOT NULL, updated_at {I64} NOT NULL) {STRICT};
CREATE INDEX skill_list ON skill(workspace_id, created_at, id);

CREATE TABLE skill_version (
  id TEXT NOT NULL PRIMARY KEY,
  skill_id TEXT NOT NULL REFERENCES skill(id),
  number {I64} NOT NULL,                      -- ascending; the microsecond it was made in, or later
  description TEXT NOT NULL,
  size {I64} NOT NULL, blob TEXT NOT NULL,
  created_at {I64} NOT NULL) {STRICT};
CREATE UNIQUE INDEX skill_version_number ON skill_version(skill_id, number);
CREATE INDEX skill_version_blob ON skill_version(blob);

-- What a session was made with. It keeps this, and the bytes, whatever becomes of the skill.
CREATE TABLE session_skill (
  session_id TEXT NOT NULL REFERENCES session(id), position {I64} NOT NULL,
  skill_id TEXT NOT NULL, version_id TEXT NOT NULL, number {I64} NOT NULL,
  name TEXT NOT NULL, description TEXT NOT NULL,
  size {I64} NOT NULL, blob TEXT NOT NULL,
  created_at {I64} NOT NULL,
  PRIMARY KEY (session_id, position)) {STRICT};
CREATE INDEX session_skill_skill ON session_skill(skill_id, session_id);
CREATE INDEX session_skill_blob ON session_skill(blob);
