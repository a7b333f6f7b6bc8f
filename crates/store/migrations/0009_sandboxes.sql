-- Where the files of a session's sandbox stand, for replicas that have none of them, or old ones.
CREATE TABLE session_sandbox (
  session_id TEXT NOT NULL PRIMARY KEY REFERENCES session(id),
  generation {I64} NOT NULL,                  -- one more each time another directory takes them up
  changes {I64} NOT NULL,                     -- how often calls began to change them
  saved {I64} NOT NULL,                       -- as many of these are in the snapshot
  blob TEXT, bytes {I64}, saved_at {I64}) {STRICT}; -- the snapshot, once there is one
CREATE INDEX session_sandbox_blob ON session_sandbox(blob);
