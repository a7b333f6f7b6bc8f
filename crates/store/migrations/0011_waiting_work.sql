-- Self-hosted sessions that waited before there was a queue (until 9953257) would never be handed to a
-- worker. At 87f92d7 they were not even marked as such,
UPDATE session SET self_hosted = 1 WHERE self_hosted = 0 AND id IN (
  SELECT session_id FROM session_body WHERE environment LIKE '{"type":"self_hosted"%');
-- and an item is queued when something becomes needed, which for them was long ago. The condition is that
-- of `work/queue.rs`; the id is random because that of the session is.
INSERT INTO work (id, environment_id, session_id, state, metadata, attempt, available_at, handed_out, created_at)
SELECT 'work_' || substr(s.id, 6), s.environment_id, s.id, 'queued', '{}', 0, s.updated_at, 0, s.updated_at
FROM session s
WHERE s.self_hosted = 1 AND s.archived_at IS NULL AND s.status <> 'terminated'
  AND (s.status <> 'idle' OR s.blocked = 1
    OR EXISTS (SELECT 1 FROM inbox i WHERE i.session_id = s.id))
  AND NOT EXISTS (SELECT 1 FROM work w WHERE w.session_id = s.id AND w.state <> 'stopped');
