-- What a workspace knows of an MCP server.
CREATE TABLE mcp_server (
  id TEXT NOT NULL PRIMARY KEY,
  workspace_id TEXT NOT NULL REFERENCES workspace(id),
  url TEXT NOT NULL,                          -- normalised
  pinned {I64} NOT NULL,
  confirm TEXT NOT NULL,                      -- JSON: classes of tools whose calls must be confirmed
  created_at {I64} NOT NULL, last_seen_at {I64} NOT NULL) {STRICT};
CREATE UNIQUE INDEX mcp_server_url ON mcp_server(workspace_id, url);
CREATE INDEX mcp_server_list ON mcp_server(workspace_id, created_at, id);

CREATE TABLE mcp_tool (
  server_id TEXT NOT NULL REFERENCES mcp_server(id),
  name TEXT NOT NULL,
  current TEXT,                               -- fingerprint of what the server serves; null: nothing
  approved TEXT,                              -- fingerprint of what an operator approved
  deprecated {I64} NOT NULL,
  class TEXT,                                 -- the operator's, over what the definition claims
  first_seen_at {I64} NOT NULL, last_seen_at {I64} NOT NULL,
  PRIMARY KEY (server_id, name)) {STRICT};

CREATE TABLE mcp_tool_version (
  server_id TEXT NOT NULL, name TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  definition TEXT NOT NULL,
  claimed TEXT NOT NULL,                      -- the class that the definition claims
  refused {I64} NOT NULL,
  first_seen_at {I64} NOT NULL, last_seen_at {I64} NOT NULL,
  PRIMARY KEY (server_id, name, fingerprint),
  FOREIGN KEY (server_id, name) REFERENCES mcp_tool(server_id, name)) {STRICT};

-- Requests to MCP servers, and what operators decided over them. No foreign key to the server: the
-- record outlives it.
CREATE TABLE mcp_audit (
  id TEXT NOT NULL PRIMARY KEY,
  workspace_id TEXT NOT NULL REFERENCES workspace(id),
  at {I64} NOT NULL,
  server TEXT NOT NULL,
  action TEXT NOT NULL,
  tool TEXT,
  outcome TEXT NOT NULL,
  body TEXT NOT NULL) {STRICT};
CREATE INDEX mcp_audit_list ON mcp_audit(workspace_id, at, id);
CREATE INDEX mcp_audit_age ON mcp_audit(at);
