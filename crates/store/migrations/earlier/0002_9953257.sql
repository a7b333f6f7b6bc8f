ALTER TABLE work RENAME TO work_earlier;
DROP INDEX work_one_live;
DROP INDEX work_token;
DROP INDEX work_list;
DROP INDEX work_queued;
DROP INDEX work_lease;
DROP INDEX work_stopped;
CREATE TABLE work (
  id TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL REFERENCES environment(id),
  session_id TEXT NOT NULL,
  state TEXT NOT NULL, metadata TEXT NOT NULL,
  attempt {I64} NOT NULL,                     -- items before it that ended without progress
  available_at {I64} NOT NULL,                -- not handed out earlier
  polled_at {I64}, handed_out {I64} NOT NULL, -- when it was handed out last, and how often
  polled_with TEXT,                           -- the environment key it was handed out to last
  token_hash {BLOB},                          -- SHA-256 of the token handed out last
  lease_until {I64},                          -- not null: ends then, unless extended
  beat_before {I64}, beat_by {BLOB},          -- of the latest heartbeat: its expectation, its sender
  created_at {I64} NOT NULL, acknowledged_at {I64}, started_at {I64},
  latest_heartbeat_at {I64}, stop_requested_at {I64}, stopped_at {I64}) {STRICT};
CREATE UNIQUE INDEX work_one_live ON work(session_id) WHERE state <> 'stopped';
CREATE UNIQUE INDEX work_token ON work(token_hash) WHERE token_hash IS NOT NULL;
CREATE INDEX work_list ON work(environment_id, created_at, id);
CREATE INDEX work_queued ON work(environment_id, available_at, id) WHERE state = 'queued';
CREATE INDEX work_lease ON work(lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX work_stopped ON work(stopped_at) WHERE stopped_at IS NOT NULL;
INSERT INTO work (id, environment_id, session_id, state, metadata, attempt, available_at, polled_at, handed_out, token_hash,
  lease_until, beat_before, beat_by, created_at, acknowledged_at, started_at, latest_heartbeat_at,
  stop_requested_at, stopped_at)
SELECT id, environment_id, session_id, state, metadata, attempt, available_at, polled_at, handed_out, token_hash,
  lease_until, beat_before, beat_by, created_at, acknowledged_at, started_at, latest_heartbeat_at,
  stop_requested_at, stopped_at
FROM work_earlier;
DROP TABLE work_earlier;
