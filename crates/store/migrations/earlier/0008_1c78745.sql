CREATE INDEX replica_home ON replica(home, lease_until);
