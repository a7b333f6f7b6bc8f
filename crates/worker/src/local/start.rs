//! How the sandbox of a session comes up, with its files in place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_base::SessionId;
use freehold_sandbox::{Network, Sandbox, SandboxSpec, Share};
use tokio::sync::OwnedSemaphorePermit;

use super::end::close;
use super::follow::Use;
use super::{Place, SandboxUnavailable, SessionSandboxes, sandbox_id};
use crate::packages::{Layer, RETRY_AFTER};
use crate::skills::{self, Skill};
use crate::slot::{Installed, Open, Slot};
use crate::{memory, network, uploads, variables};

/// Longest wait for a sandbox to come up.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(60);

impl SessionSandboxes {
    /// The session's live sandbox with its files in place.
    pub(super) async fn sandbox(
        &self,
        slot: &Slot,
        place: Place<'_>,
        how: Use,
    ) -> Result<Arc<dyn Sandbox>, SandboxUnavailable> {
        let is_open = |open: &Option<Open>| open.as_ref().is_some_and(|o| o.sandbox.alive());
        if !is_open(&slot.state.lock().await.open) {
            self.floor.check()?;
        }
        // First, because it may take long, and what needs no sandbox must not wait for it.
        let layer = self.installed(slot, place).await?;
        self.follow(slot, place, layer.as_ref(), how).await?;
        let mut state = slot.state.lock().await;
        if state.removed {
            return Err(SandboxUnavailable::Removed);
        }
        let spec = self.spec(place, layer.as_ref());
        if state.uploads.as_deref() != Some(place.uploads) {
            uploads::sync(&spec, place.uploads, &*self.source).await?;
            state.uploads = Some(place.uploads.to_vec());
        }
        let missing = place.skills.iter().filter(|s| !state.skills.contains(s));
        let missing: Vec<Skill> = missing.cloned().collect();
        if !missing.is_empty() {
            let settled = self.lay_skills(&spec, place.session, missing).await;
            state.skills.extend(settled);
        }
        if let Some(open) = &mut state.open {
            let lacks = !variables::held(place.variables, &open.env);
            if !open.sandbox.alive() {
                tracing::info!(session = %place.session, "sandbox lost; starting it again");
            } else if lacks && slot.is_alone() {
                // Nobody's call is cut off, and files stay.
                tracing::info!(session = %place.session, "sandbox starts again with new variables");
            } else {
                if open.variables != place.variables {
                    let network = self.network(place, &open.env);
                    open.sandbox.set_network(network).await?;
                    open.variables = place.variables.to_vec();
                }
                return Ok(Arc::clone(&open.sandbox));
            }
            close(place.session, &mut state).await;
        }
        let permit = self.room().await?;
        let sandbox = tokio::time::timeout(START_TIMEOUT, self.provider.create(&spec))
            .await
            .map_err(|_| SandboxUnavailable::Slow)??;
        state.open = Some(opened(place, Arc::clone(&sandbox), permit));
        Ok(sandbox)
    }

    /// The layer with the environment's packages. A session that once has one keeps it for as long as
    /// its slot lives.
    async fn installed(
        &self,
        slot: &Slot,
        place: Place<'_>,
    ) -> Result<Option<Layer>, SandboxUnavailable> {
        let mut installed = slot.packages.lock().await;
        match &*installed {
            Installed::Unknown => {}
            Installed::There(layer) => return Ok(layer.clone()),
            Installed::Failed(when, _) if when.elapsed() >= RETRY_AFTER => {}
            Installed::Failed(_, error) => {
                return Err(SandboxUnavailable::Packages(Arc::clone(error)));
            }
        }
        match self.packages.layer(place.config).await {
            Ok(layer) => {
                *installed = Installed::There(layer.clone());
                Ok(layer)
            }
            Err(error) => {
                *installed = Installed::Failed(Instant::now(), Arc::clone(&error));
                Err(SandboxUnavailable::Packages(error))
            }
        }
    }

    /// Puts skills where the sandbox sees them. One that fails is logged and left out, since the
    /// agent may well do without it. Gives those that need no other attempt at the next call.
    async fn lay_skills(
        &self,
        spec: &SandboxSpec,
        session: &SessionId,
        wanted: Vec<Skill>,
    ) -> Vec<Skill> {
        if let Err(error) = uploads::make_dir(&spec.dir, 0o700).await {
            tracing::warn!(%session, %error, "no room for skills");
            return Vec::new();
        }
        let folder = spec.dir.join(skills::FOLDER);
        let laid = skills::lay(&wanted, &folder, &*self.source).await;
        let settled = wanted.into_iter().zip(laid).filter(|(skill, laid)| {
            let Err(failed) = laid else {
                return true;
            };
            let error = failed as &dyn std::error::Error;
            tracing::warn!(%session, skill = skill.name, error, "skill left out");
            failed.is_final()
        });
        settled.map(|(skill, _)| skill).collect()
    }

    /// The folders that a session's sandbox shows besides its own.
    fn shares(&self, place: Place<'_>) -> Vec<Share> {
        let mounts = place.memory.map_or(&[][..], |memory| memory.mounts);
        let mut shares = vec![uploads::share()];
        if !place.skills.is_empty() {
            shares.push(skills::share(self.options.skills_at));
        }
        shares.extend(memory::shares(mounts));
        shares
    }

    pub(super) fn spec(&self, place: Place<'_>, layer: Option<&Layer>) -> SandboxSpec {
        let variables = variables::env(place.variables);
        let network = self.network(place, &variables);
        let mut env = layer.map(|l| l.env.clone()).unwrap_or_default();
        env.extend(variables);
        SandboxSpec {
            id: sandbox_id(place.session),
            dir: self.dir(place.session),
            limits: self.options.limits,
            network,
            min_isolation: self.options.min_isolation,
            shares: self.shares(place),
            layers: layer.map(|l| l.dir.clone()).into_iter().collect(),
            env,
        }
    }

    /// The network of a sandbox with this environment.
    fn network(&self, place: Place<'_>, env: &[(String, String)]) -> Network {
        Network {
            policy: network::policy(place.config, &self.options.package_hosts),
            injections: variables::injections(place.variables, env),
        }
    }
}

/// A sandbox just made for a place.
pub(super) fn opened(
    place: Place<'_>,
    sandbox: Arc<dyn Sandbox>,
    permit: OwnedSemaphorePermit,
) -> Open {
    Open {
        sandbox,
        env: variables::env(place.variables),
        variables: place.variables.to_vec(),
        _permit: permit,
    }
}
