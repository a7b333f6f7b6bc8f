//! What the inside of a sandbox is told of its spec, and how it reaches out.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::egress::{Authority, Egress, EgressConfig};
use crate::launch::plan::{BUNDLE, Bind, CERTIFICATE, HOME, Keeps, Outward, PATH, PROXY};
use crate::{Network, SandboxError, SandboxSpec};

/// How a sandbox reaches out: what its inside is told of it, and what is served to it.
#[derive(Default)]
pub(crate) struct Way {
    authority: Option<Authority>,
    outward: Option<Outward>,
}

impl Way {
    /// None where the policy allows nothing. There is an authority to trust where secrets are to be
    /// put into connections.
    pub(crate) fn out(spec: &SandboxSpec, config: &EgressConfig) -> Result<Self, SandboxError> {
        if !spec.network.policy.reaches_out() {
            return Ok(Self::default());
        }
        let failed =
            |e| SandboxError::host("making a certificate authority")(std::io::Error::other(e));
        let wanted = !spec.network.injections.is_empty();
        let authority = wanted.then(Authority::new).transpose().map_err(failed)?;
        let outward = Outward {
            redirect: config.redirect,
            authority: authority.as_ref().map(|a| a.certificate().to_owned()),
        };
        Ok(Self {
            authority,
            outward: Some(outward),
        })
    }

    /// Serves the sockets that the inside made.
    pub(crate) fn serve(
        self,
        spec: &SandboxSpec,
        sockets: Vec<OwnedFd>,
        config: &EgressConfig,
    ) -> Result<Option<Egress>, SandboxError> {
        if self.outward.is_none() {
            return Ok(None);
        }
        let (network, config) = (spec.network.clone(), config.clone());
        Egress::serve(&spec.id, sockets, network, config, self.authority)
            .map(Some)
            .map_err(SandboxError::host("serving the egress proxy"))
    }
}

/// The part of a plan that follows from the spec.
pub(crate) fn bind(spec: &SandboxSpec, disk: Option<PathBuf>, way: &Way) -> Bind {
    let mut env = environment(&spec.network);
    env.extend_from_slice(&spec.env);
    Bind {
        dir: spec.dir.clone(),
        limits: spec.limits,
        shares: spec.shares.clone(),
        layers: spec.layers.clone(),
        env,
        disk,
        network: way.outward.clone(),
        keeps: Keeps::Folders,
    }
}

/// What processes inside see; nothing is inherited from the server.
fn environment(network: &Network) -> Vec<(String, String)> {
    let mut env = vec![
        ("PATH", PATH.to_owned()),
        ("HOME", HOME.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TERM", "dumb".to_owned()),
    ];
    if network.policy.reaches_out() {
        let proxy = format!("http://{}:{}", PROXY.0, PROXY.1);
        for name in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
        ] {
            env.push((name, proxy.clone()));
        }
        for name in ["NO_PROXY", "no_proxy"] {
            env.push((name, "localhost,127.0.0.1,::1".to_owned()));
        }
        // Node reads the variables above only when told to.
        env.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
        if !network.injections.is_empty() {
            // Node adds to what it trusts; the others replace it.
            env.push(("NODE_EXTRA_CA_CERTS", CERTIFICATE.to_owned()));
            env.extend(BUNDLE_VARIABLES.map(|name| (name, BUNDLE.to_owned())));
        }
    }
    env.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

/// What programs ask for the certificates they trust.
const BUNDLE_VARIABLES: [&str; 7] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NetworkPolicy;

    #[test]
    fn without_network_no_proxy_is_named() {
        assert!(
            !environment(&NetworkPolicy::None.into())
                .iter()
                .any(|(k, _)| k.to_lowercase().contains("proxy"))
        );
    }
}
