-- Which workers poll, at whatever replica: for the statistics of a queue. Rows live for a minute.
CREATE TABLE poller (
  environment_id TEXT NOT NULL, worker TEXT NOT NULL, at {I64} NOT NULL,
  PRIMARY KEY (environment_id, worker)) {STRICT};
CREATE INDEX poller_at ON poller(at);
