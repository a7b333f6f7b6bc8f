//! Records of requests: each is made, however its request ends.

use freehold_base::{Secret, Timestamp};

use crate::audit::{AuditOutcome, AuditRecord};
use crate::failure::Failure;
use crate::mask;
use crate::options::Options;
use crate::rpc::Reply;
use crate::scope::{Answered, Scope};

/// Makes a record, also of a request that its caller gives up.
pub(crate) struct Recording {
    options: Options,
    started: tokio::time::Instant,
    record: AuditRecord,
    bearer: Option<Secret<String>>,
}

impl Recording {
    pub(crate) fn start(scope: &Scope<'_>, method: &str, bytes: usize) -> Self {
        let started_at: Timestamp = scope.options.ids.clock().now();
        let (tool, arguments_sha256) = match &scope.tool {
            Some((name, hash)) if method == "tools/call" => {
                (Some((*name).to_owned()), Some(hash.clone()))
            }
            _ => (None, None),
        };
        Self {
            options: scope.options.clone(),
            started: tokio::time::Instant::now(),
            bearer: scope.endpoint.bearer.clone(),
            record: AuditRecord {
                request_id: scope.request_id.clone(),
                workspace: scope.endpoint.workspace.clone(),
                owner: scope.endpoint.owner.clone(),
                server_url: scope.endpoint.url.clone(),
                method: method.to_owned(),
                tool,
                request_bytes: bytes as u64,
                response_bytes: 0,
                started_at,
                millis: 0,
                outcome: AuditOutcome::Cancelled,
                arguments_sha256,
                credential_echoed: false,
            },
        }
    }

    pub(crate) fn end(&mut self, answered: &Result<Answered, Failure>, received: u64) {
        self.record.response_bytes = received;
        let text = match answered {
            Ok(Answered { reply, .. }) => match reply {
                Reply::Result(result) => {
                    let failed = self.record.tool.is_some() && says_error(result.get());
                    self.record.outcome = match failed {
                        true => AuditOutcome::ToolError,
                        false => AuditOutcome::Ok,
                    };
                    result.get()
                }
                Reply::Error(error) => {
                    self.record.outcome = AuditOutcome::Refused;
                    &error.message
                }
            },
            Err(failure) => {
                self.record.outcome = match failure.is_authentication() {
                    true => AuditOutcome::Unauthenticated,
                    false => AuditOutcome::Failed,
                };
                failure.body()
            }
        };
        let bearer = self.bearer.as_ref().map(|b| b.expose().as_str());
        self.record.credential_echoed = mask::json_holds(text, bearer);
    }
}

fn says_error(result: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Flag {
        #[serde(rename = "isError", default)]
        is_error: bool,
    }
    serde_json::from_str::<Flag>(result).is_ok_and(|flag| flag.is_error)
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.record.millis = self.started.elapsed().as_millis() as u64;
        self.options.audit.record(self.record.clone());
    }
}
