//! The skills of a session, fetched from the server as whoever serves the session may.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use freehold_base::SessionId;
use freehold_client::{Client, Download};
use futures_util::stream;
use serde_json::Value;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::files::FileSource;
use crate::skills::Skill;

/// Finds the skills a session's agent names. One that cannot be found is logged and left out
/// (contract 55 §13).
pub(super) async fn find(client: &Client, session: &Value, id: &SessionId) -> Vec<Skill> {
    let mut found = Vec::new();
    let named = session["agent"]["skills"].as_array().into_iter().flatten();
    for skill in named {
        let text = |key: &str| skill[key].as_str().unwrap_or_default();
        let (skill, version) = (text("skill_id"), text("version"));
        match client.skill_version(skill, version).await {
            Ok(version) => found.push(Skill {
                name: version.name,
                key: format!("{id}/{skill}/{}", version.id),
            }),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(session = %id, skill, version, error, "skill left out");
            }
        }
    }
    found
}

/// Archives of the skills of the sessions that are served here, each asked for with its session's
/// own credential.
#[derive(Default)]
pub struct SkillArchives(Mutex<HashMap<SessionId, Client>>);

impl SkillArchives {
    fn clients(&self) -> MutexGuard<'_, HashMap<SessionId, Client>> {
        // The map is whole between any two statements, so a poisoned lock is still usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the session's skills are asked for by this client.
    pub(super) fn open_for(&self, session: &SessionId, client: &Client) {
        self.clients().insert(session.clone(), client.clone());
    }

    /// The session is served no more.
    pub(super) fn forget(&self, session: &SessionId) {
        self.clients().remove(session);
    }
}

#[async_trait]
impl FileSource for SkillArchives {
    async fn open(&self, key: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        let mut parts = key.splitn(3, '/');
        let mut part = || parts.next().unwrap_or_default();
        let (session, skill, version) = (part(), part(), part());
        let client = session.parse().ok();
        let client = client.and_then(|id: SessionId| self.clients().get(&id).cloned());
        let client = client.ok_or(io::ErrorKind::NotFound)?;
        let content = client.skill_content(skill, version).await;
        Ok(Box::new(reader(content.map_err(io::Error::other)?)))
    }
}

fn reader(download: Download) -> impl AsyncRead + Send + Unpin {
    let chunks = stream::unfold(download, async |mut download| {
        let chunk = download
            .next()
            .await
            .map_err(io::Error::other)
            .transpose()?;
        Some((chunk, download))
    });
    StreamReader::new(Box::pin(chunks))
}
