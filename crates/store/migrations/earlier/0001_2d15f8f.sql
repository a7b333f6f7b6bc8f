DROP INDEX event_ref;
CREATE INDEX event_ref ON event(session_id, ref_id, seq) WHERE ref_id IS NOT NULL;
