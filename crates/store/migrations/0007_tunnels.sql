-- Null: the key opens its workspace. Else the one API it opens instead: `tunnels`.
ALTER TABLE api_key ADD COLUMN scope TEXT;

CREATE TABLE tunnel (
  id TEXT NOT NULL PRIMARY KEY,
  workspace_id TEXT NOT NULL REFERENCES workspace(id),
  display_name TEXT,
  domain TEXT NOT NULL UNIQUE,                -- rows are never deleted, so no domain is used twice
  created_at {I64} NOT NULL, archived_at {I64}) {STRICT};
CREATE INDEX tunnel_list ON tunnel(workspace_id, created_at, id);
CREATE INDEX tunnel_list_open ON tunnel(workspace_id, created_at, id) WHERE archived_at IS NULL;

-- The one value that works. Goes when it is rotated, or its tunnel archived.
CREATE TABLE tunnel_token (
  tunnel_id TEXT NOT NULL PRIMARY KEY REFERENCES tunnel(id),
  id TEXT NOT NULL UNIQUE,
  hash {BLOB} NOT NULL UNIQUE,                -- SHA-256 of the token
  master TEXT NOT NULL,                       -- as in credential_secret
  wrapped {BLOB} NOT NULL,
  sealed {BLOB} NOT NULL) {STRICT};
CREATE INDEX tunnel_token_master ON tunnel_token(master);

CREATE TABLE tunnel_certificate (
  id TEXT NOT NULL PRIMARY KEY,
  tunnel_id TEXT NOT NULL REFERENCES tunnel(id),
  fingerprint TEXT NOT NULL,                  -- SHA-256 of the certificate, lower-case hexadecimal
  der {BLOB} NOT NULL,
  created_at {I64} NOT NULL, expires_at {I64} NOT NULL, archived_at {I64}) {STRICT};
CREATE UNIQUE INDEX tunnel_certificate_once ON tunnel_certificate(tunnel_id, fingerprint)
  WHERE archived_at IS NULL;
CREATE INDEX tunnel_certificate_list ON tunnel_certificate(tunnel_id, created_at, id);
CREATE INDEX tunnel_certificate_list_open ON tunnel_certificate(tunnel_id, created_at, id)
  WHERE archived_at IS NULL;
