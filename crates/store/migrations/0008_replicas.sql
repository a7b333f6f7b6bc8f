-- Where a session's sandbox is: the data directory of the replica that drives it. Others leave it
-- alone while a replica lives there. Null: nowhere, or there is but one.
ALTER TABLE session ADD COLUMN home TEXT;
ALTER TABLE replica ADD COLUMN home TEXT;
CREATE INDEX replica_home ON replica(home, lease_until);
