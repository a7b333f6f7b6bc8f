//! Other people's tunnels, with a setting as near to ours as they have: on loopback, one server, TLS or
//! what they have instead.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::super::Lab;
use super::way::{Way, free};
use crate::load::program::Program;

/// Where bore's clients find its server; it cannot be changed.
const BORE: u16 = 7835;
/// Between two starts of a program that ends when the connection does, seconds.
const AGAIN: &str = "0.5";

pub(super) fn ways(lab: &Lab, dir: &Path, upstream: SocketAddr) -> Vec<Result<Way>> {
    let Some(tunnels) = &lab.peers.tunnels else {
        return Vec::new();
    };
    vec![
        rathole(tunnels, &dir.join("rathole"), upstream).context("rathole"),
        bore(tunnels, upstream).context("bore"),
        ssh(tunnels, &dir.join("ssh"), upstream).context("ssh -R"),
    ]
}

/// One TCP connection for each of the clients', TLS on each.
fn rathole(tunnels: &Path, dir: &Path, upstream: SocketAddr) -> Result<Way> {
    let program = there(tunnels, "bin/rathole")?;
    std::fs::create_dir_all(dir)?;
    let (entry, control) = (free()?, free()?);
    let d = dir.display();
    let make = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
         -addext subjectAltName=DNS:localhost -keyout {d}/key.pem -out {d}/ca.pem"
    );
    let pack = format!(
        "pkcs12 -export -passout pass:bench -inkey {d}/key.pem -in {d}/ca.pem -out {d}/identity.pfx"
    );
    for line in [make, pack] {
        run("openssl", &line.split_whitespace().collect::<Vec<_>>())?;
    }
    let server = format!(
        "[server]\nbind_addr = \"{control}\"\ndefault_token = \"bench\"\n\
         [server.transport]\ntype = \"tls\"\n\
         [server.transport.tls]\npkcs12 = \"{d}/identity.pfx\"\npkcs12_password = \"bench\"\n\
         [server.services.app]\nbind_addr = \"{entry}\"\n"
    );
    let client = format!(
        "[client]\nremote_addr = \"{control}\"\ndefault_token = \"bench\"\n\
         [client.transport]\ntype = \"tls\"\n\
         [client.transport.tls]\ntrusted_root = \"{d}/ca.pem\"\nhostname = \"localhost\"\n\
         [client.services.app]\nlocal_addr = \"{upstream}\"\n"
    );
    std::fs::write(dir.join("server.toml"), server)?;
    std::fs::write(dir.join("client.toml"), client)?;
    let start = |name: &str| {
        let mut command = Command::new(&program);
        command.arg(dir.join(name));
        Program::start(command)
    };
    Ok(Way {
        id: "rathole",
        name: "rathole, TLS",
        entry,
        edge: Some(start("server.toml")?),
        gateway: Some(start("client.toml")?),
    })
}

/// One TCP connection for each of the clients', nothing encrypted.
fn bore(tunnels: &Path, upstream: SocketAddr) -> Result<Way> {
    let program = there(tunnels, "bin/bore")?;
    if std::net::TcpListener::bind(("127.0.0.1", BORE)).is_err() {
        bail!("port {BORE} is taken");
    }
    let entry = free()?;
    let mut server = Command::new(&program);
    server.args(["server", "--bind-addr", "127.0.0.1", "--secret", "bench"]);
    let port = entry.port().to_string();
    let local = upstream.port().to_string();
    let client = again(
        &program,
        &[
            "local",
            &local,
            "--to",
            "127.0.0.1",
            "--port",
            &port,
            "--secret",
            "bench",
        ],
    );
    Ok(Way {
        id: "bore",
        name: "bore, no encryption",
        entry,
        edge: Some(Program::start(server)?),
        gateway: Some(Program::start(client)?),
    })
}

/// One connection for all.
fn ssh(tunnels: &Path, dir: &Path, upstream: SocketAddr) -> Result<Way> {
    let program = there(tunnels, "sshd/usr/sbin/sshd")?;
    std::fs::create_dir_all(dir)?;
    let (entry, port) = (free()?, free()?.port());
    let d = dir.display();
    for key in ["host", "user"] {
        let file = format!("{d}/{key}");
        run(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-f", &file],
        )?;
    }
    std::fs::copy(dir.join("user.pub"), dir.join("authorized"))?;
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {d}/host\nAuthorizedKeysFile {d}/authorized\n\
         PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\n\
         PasswordAuthentication no\nMaxSessions 1000\n"
    );
    std::fs::write(dir.join("config"), config)?;
    // It is not installed, so it is shown the user and the folder that it asks for, and nobody else is.
    let users = std::fs::read_to_string("/etc/passwd")?;
    let own = "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n";
    std::fs::write(dir.join("passwd"), users + own)?;
    let mut server = Command::new("unshare");
    let script = "mount --bind \"$1\" /etc/passwd && mount -t tmpfs none /run && \
                  mkdir -m 755 /run/sshd && exec \"$2\" -D -f \"$3\"";
    server.args(["--mount", "/bin/sh", "-c", script, "sshd"]);
    server
        .arg(dir.join("passwd"))
        .arg(&program)
        .arg(dir.join("config"));
    let libraries = tunnels.join("sshd/usr/lib/x86_64-linux-gnu");
    server.env("LD_LIBRARY_PATH", libraries);
    let forward = format!("{entry}:{upstream}");
    let (port, key) = (port.to_string(), format!("{d}/user"));
    let client = again(
        Path::new("ssh"),
        &[
            "-N",
            "-F",
            "none",
            "-p",
            &port,
            "-i",
            &key,
            "-R",
            &forward,
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "ExitOnForwardFailure=yes",
            "127.0.0.1",
        ],
    );
    Ok(Way {
        id: "ssh",
        name: "ssh -R",
        entry,
        edge: Some(Program::start(server)?),
        gateway: Some(Program::start(client)?),
    })
}

/// Starts it whenever it has ended.
fn again(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    let script = format!("while :; do \"$@\"; sleep {AGAIN}; done");
    command
        .args(["-c", &script, "again"])
        .arg(program)
        .args(args);
    command
}

fn there(tunnels: &Path, program: &str) -> Result<std::path::PathBuf> {
    let program = tunnels.join(program);
    match program.exists() {
        true => Ok(program),
        false => bail!("it is not installed"),
    }
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
