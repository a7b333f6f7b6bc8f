//! `freehold gateway doctor`: one thing after another, from the file to the servers behind it.

use std::path::Path;
use std::sync::Arc;

use freehold_base::IdSource;
use freehold_tunnel::gateway::certificate::Certificate;
use freehold_tunnel::gateway::files::too_open;
use freehold_tunnel::gateway::run::read_token;
use freehold_tunnel::gateway::upstream::{self, SystemResolver, UpstreamError, Upstreams};
use freehold_tunnel::gateway::{Config, config};
use freehold_tunnel::transport::connect::{ConnectError, Target, connect};
use freehold_tunnel::transport::trust::Trust;

use super::TOKEN;
use crate::commands::doctor::{Check, Level, show};
use crate::environment;
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Days before its end from which a certificate is worth a warning.
const SOON: i64 = 14;

pub(super) async fn doctor(file: &Path, json: bool) -> Result<Exit, Failure> {
    let mut checks = Vec::new();
    let read = std::fs::read_to_string(file)
        .map_err(|e| e.to_string())
        .and_then(|text| config::parse(&text).map_err(|e| e.to_string()));
    match read {
        Err(why) => checks.push(
            Check::new(
                "configuration",
                Level::Problem,
                format!("{}: {why}", file.display()),
            )
            .remedy("see docs/tunnels.md for the keys"),
        ),
        Ok(config) => {
            checks.push(Check::new(
                "configuration",
                Level::Ok,
                format!("{} can be used", file.display()),
            ));
            checks.extend(
                too_open(Some(file), &config)
                    .into_iter()
                    .map(|why| Check::new("permissions", Level::Warning, why)),
            );
            checks.extend(certificate(&config));
            checks.push(edge(&config).await?);
            checks.extend(routes(&config).await);
        }
    }
    let good = checks.iter().all(|c| c.level != Level::Problem);
    if json {
        terminal::print_json(&serde_json::json!({ "ok": good, "checks": checks }))?;
    } else {
        show(&checks)?;
    }
    Ok(if good { Exit::Ok } else { Exit::Failed })
}

fn certificate(config: &Config) -> Vec<Check> {
    let problem = |why: String, advice: &str| {
        vec![Check::new("certificate", Level::Problem, why).remedy(advice)]
    };
    let (cert, key) = &config.certificate;
    let loaded = match Certificate::load(cert, key) {
        Ok(loaded) => loaded,
        Err(why) => return problem(why, "run `freehold gateway setup renew-cert`"),
    };
    let now = IdSource::system().clock().now();
    if now < loaded.begins_at() {
        return vec![
            Check::new(
                "clock",
                Level::Problem,
                "the certificate is not valid yet".to_owned(),
            )
            .remedy("this host's clock is slow, or the certificate was made on one that is fast"),
        ];
    }
    let days = loaded.days_left(now);
    let renew = "run `freehold gateway setup renew-cert`";
    if days < 0 {
        return problem("it has expired".to_owned(), renew);
    }
    let covers = |name: &str| loaded.covers(name);
    let domain = config.tunnel_domain.as_deref();
    let uncovered = config.routes.keys().find(|name| match domain {
        Some(domain) if !name.contains('.') => !covers(&format!("{name}.{domain}")),
        _ => !covers(name),
    });
    if let Some(name) = uncovered {
        return problem(format!("it has no name for the route {name}"), renew);
    }
    if !loaded.names_issuer() {
        return problem(
            "it has no AuthorityKeyIdentifier, and will not be accepted".to_owned(),
            renew,
        );
    }
    let detail = format!("valid for {days} more days, for all routes");
    vec![match days {
        d if d < SOON => Check::new("certificate", Level::Warning, detail).remedy(renew),
        _ => Check::new("certificate", Level::Ok, detail),
    }]
}

async fn edge(config: &Config) -> Result<Check, Failure> {
    let problem = |what: &'static str, why: String, advice: &str| {
        Check::new(what, Level::Problem, why).remedy(advice)
    };
    let Some(edge) = config.edge.clone() else {
        let advice = "set edge.address to what `freehold serve` prints";
        return Ok(problem(
            "edge",
            "edge.address is not set".to_owned(),
            advice,
        ));
    };
    let token = match (&config.token_file, environment::secret(TOKEN)?) {
        (Some(file), _) => read_token(file),
        (None, Some(token)) => Ok(token),
        (None, None) => Err(format!("neither edge.token_file nor {TOKEN} is set")),
    };
    let token = match token {
        Ok(token) => token,
        Err(why) => return Ok(problem("token", why, "run `freehold gateway setup init`")),
    };
    let trust = match (&config.edge_fingerprint, &config.edge_ca) {
        (Some(fingerprint), _) => Ok(Trust::Fingerprint(*fingerprint)),
        (None, Some(file)) => upstream::authorities(file).map(Trust::Authorities),
        (None, None) => Ok(Trust::System),
    };
    let tls = trust.and_then(|trust| trust.client_config().map_err(|e| e.to_string()));
    let tls = match tls {
        Ok(tls) => tls,
        Err(why) => return Ok(problem("edge trust", why, "see edge.ca_file")),
    };
    let target = Target {
        edge: edge.clone(),
        proxy: config.proxy.clone(),
        tls,
        token,
        gateway_id: "doctor".to_owned(),
        index: 0,
    };
    Ok(match connect(&target).await {
        Ok(session) => Check::new(
            "edge",
            Level::Ok,
            format!("{edge} takes the token; domain {}", session.welcome.domain),
        ),
        Err(error) => {
            let (what, advice) = match &error {
                ConnectError::Dns { .. } => ("DNS", "see the name, and this host's resolver"),
                ConnectError::Tcp { .. } => (
                    "TCP",
                    "see that the server runs its edge there, and that a firewall lets this host out",
                ),
                ConnectError::Proxy(_) => {
                    ("proxy", "see edge.proxy, and what the proxy lets through")
                }
                ConnectError::Tls(_) => (
                    "TLS",
                    "see edge.fingerprint or edge.ca_file: it is printed when the server starts; and this host's clock",
                ),
                ConnectError::Token => (
                    "token",
                    "it was rotated, or the tunnel archived: `freehold gateway setup init` fetches it",
                ),
                ConnectError::Later(_) => ("edge", "wait, and look again"),
                ConnectError::Answer(_) => {
                    ("edge", "see that edge.address is the edge, and not the API")
                }
                ConnectError::Slow => (
                    "edge",
                    "something on the way lets connections in and answers nothing",
                ),
            };
            problem(what, error.to_string(), advice)
        }
    })
}

async fn routes(config: &Config) -> Vec<Check> {
    let upstreams = match Upstreams::new(config, Arc::new(SystemResolver)) {
        Ok(upstreams) => upstreams,
        Err(why) => {
            let check = Check::new("upstream.tls", Level::Problem, why);
            return vec![check.remedy("see upstream.tls.ca_file")];
        }
    };
    let mut checks = Vec::new();
    for (name, route) in &config.routes {
        let what = format!("route {name}");
        checks.push(match upstreams.connect(route).await {
            Ok(_) => Check::new(what, Level::Ok, format!("{} answers", route.authority())),
            Err(error) => {
                let advice = match &error {
                    UpstreamError::Dns(_) => "see the name, and this host's resolver",
                    UpstreamError::Address(_) => "add it to upstream.allowed_ips if it is right",
                    UpstreamError::Tcp(_) | UpstreamError::Slow => {
                        "see that the server runs and listens on that address"
                    }
                    UpstreamError::Tls(_) => "see upstream.tls, and the server's certificate",
                };
                let why = format!("{}: {error}", route.authority());
                Check::new(what, Level::Problem, why).remedy(advice)
            }
        });
    }
    checks
}
