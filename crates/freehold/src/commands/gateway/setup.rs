//! `freehold gateway setup` (contract 60 §7).

use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_base::{IdSource, Timestamp};
use freehold_client::Client;
use freehold_tunnel::gateway::certificate::Certificate;
use freehold_tunnel::gateway::{config, setup};
use serde_json::{Value, json};

use crate::cli::SetupCommand;
use crate::commands::connect::{client, id, text};
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Beside the files of the contract: the last `--token-version`.
const TOKEN_VERSION: &str = "token-version";

pub(super) async fn setup(command: SetupCommand) -> Result<Exit, Failure> {
    match command {
        SetupCommand::Init {
            tunnel_id,
            output,
            cert_duration,
            token_version,
            connection,
        } => {
            let dir = place(&output)?;
            let long = duration("--cert-duration", &cert_duration)?;
            init(&client(&connection)?, &dir, tunnel_id, long, token_version).await
        }
        SetupCommand::RenewCert {
            output,
            cert_duration,
            renew_before,
        } => {
            let dir = place(&output)?;
            let long = duration("--cert-duration", &cert_duration)?;
            renew(&dir, long, duration("--renew-before", &renew_before)?)
        }
    }
}

fn place(output: &str) -> Result<PathBuf, Failure> {
    match output.split_once(':') {
        Some(("dir", path)) if !path.is_empty() => Ok(PathBuf::from(path)),
        Some(("k8s-secret", _)) => Err(Failure::usage(
            "--output k8s-secret:… is not in this version",
        )
        .hint("write to dir:/path and make the secret of the files")),
        _ => Err(Failure::usage("--output must be dir:/path")),
    }
}

fn duration(flag: &str, text: &str) -> Result<Duration, Failure> {
    let wrong = || Failure::usage(format!("{flag} must be like 2160h or 90d, not '{text}'"));
    config::duration(text).ok_or_else(wrong)
}

fn now() -> Timestamp {
    IdSource::system().clock().now()
}

async fn init(
    client: &Client,
    dir: &Path,
    wanted: Option<String>,
    long: Duration,
    version: Option<String>,
) -> Result<Exit, Failure> {
    make_dir(dir)?;
    let had = read(dir, setup::TUNNEL_ID);
    let tunnel: Value = match wanted.as_ref().or(had.as_ref()) {
        Some(tunnel) => client.get(&["v1", "tunnels", tunnel], &[]).await?,
        None => {
            let body = json!({ "display_name": "freehold gateway" });
            client.post(&["v1", "tunnels"], &body).await?
        }
    };
    let tunnel_id = id(&tunnel)?;
    if !text(&tunnel, "/archived_at").is_empty() {
        return Err(Failure::failed(format!(
            "the tunnel {tunnel_id} is archived"
        )));
    }
    let domain = text(&tunnel, "/domain").to_owned();
    let same = had.as_deref() == Some(tunnel_id.as_str());
    if !same {
        // Before the id is written: a run that is cut short must not take it for this tunnel's.
        setup::forget_authority(dir).map_err(|e| unusable(dir, &e))?;
    }
    // Before anything is made, so that a run that is cut short finds its tunnel again.
    write(dir, setup::TUNNEL_ID, &tunnel_id)?;
    write(dir, setup::TUNNEL_DOMAIN, &domain)?;
    let pem = match setup::authority(dir).map_err(|e| unusable(dir, &e))? {
        Some(pem) => pem,
        None => setup::new_authority(dir, &tunnel_id, now()).map_err(|e| unusable(dir, &e))?,
    };
    let registered = register(client, &tunnel_id, &pem).await?;
    if !setup::certificate_fits(dir, &domain) {
        setup::new_certificate(dir, &domain, now(), long).map_err(|e| unusable(dir, &e))?;
    }
    let rotate = same && version.is_some() && read(dir, TOKEN_VERSION) != version;
    let action = if rotate {
        "rotate_token"
    } else {
        "reveal_token"
    };
    let body = if rotate {
        json!({ "reason": "gateway setup" })
    } else {
        json!({})
    };
    let token: Value = client
        .post(&["v1", "tunnels", &tunnel_id, action], &body)
        .await?;
    write(dir, setup::TUNNEL_TOKEN, text(&token, "/tunnel_token"))?;
    if let Some(version) = &version {
        write(dir, TOKEN_VERSION, version)?;
    }
    let was = if registered {
        "registered"
    } else {
        "is registered already"
    };
    terminal::print(&format!(
        "tunnel {tunnel_id}\ndomain {domain}\nthe authority in {0}/{1} {was}\n\
         certificate, key and token are in {0}{2}",
        dir.display(),
        setup::CA_CERT,
        if rotate {
            "; the token was rotated"
        } else {
            ""
        },
    ))?;
    Ok(Exit::Ok)
}

/// Registers the authority unless it is; whether it was done now.
async fn register(client: &Client, tunnel: &str, pem: &str) -> Result<bool, Failure> {
    let path = ["v1", "tunnels", tunnel, "certificates"];
    let known: Value = client.get(&path, &[("limit", "100")]).await?;
    let found = freehold_tunnel::certificate::authority::check(pem.as_bytes(), now())
        .map_err(|e| Failure::failed(format!("the authority: {e}")))?;
    let known = known["data"].as_array().is_some_and(|all| {
        all.iter()
            .any(|c| text(c, "/fingerprint") == found.fingerprint)
    });
    if !known {
        let body = json!({ "ca_certificate_pem": pem });
        let _: Value = client.post(&path, &body).await?;
    }
    Ok(!known)
}

fn renew(dir: &Path, long: Duration, before: Duration) -> Result<Exit, Failure> {
    let domain = read(dir, setup::TUNNEL_DOMAIN).ok_or_else(|| {
        Failure::new(
            Exit::NotFound,
            format!("there is no {} in {}", setup::TUNNEL_DOMAIN, dir.display()),
        )
        .hint("run `freehold gateway setup init` first")
    })?;
    let now = now();
    let current = Certificate::load(&dir.join(setup::CERT), &dir.join(setup::KEY));
    let keep = !before.is_zero() && setup::certificate_fits(dir, &domain);
    if let (Ok(current), true) = (current, keep) {
        let left = current.expires_at().as_millis() - now.as_millis();
        let enough = i64::try_from(before.as_millis()).unwrap_or(i64::MAX);
        if left > enough {
            terminal::print("the certificate is valid for long enough; nothing was changed")?;
            return Ok(Exit::Ok);
        }
    }
    setup::new_certificate(dir, &domain, now, long).map_err(|e| unusable(dir, &e))?;
    terminal::print(&format!(
        "a new certificate for *.{domain} is in {}",
        dir.display()
    ))?;
    Ok(Exit::Ok)
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let mut made = std::fs::DirBuilder::new();
    let made = made.recursive(true).mode(0o700).create(dir);
    made.map_err(|e| unusable(dir, &e))
}

fn read(dir: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(dir.join(name)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), Failure> {
    freehold_base::file::write_private(&dir.join(name), text).map_err(|e| unusable(dir, &e))
}

fn unusable(dir: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", dir.display()))
}
