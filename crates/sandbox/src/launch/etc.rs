//! The inside's `/etc` when the system directories are the host's: a few files made up, and those
//! of the host's that installed programs need and that say nothing about the host.

use std::fs;
use std::path::{Path, PathBuf};

use super::plan::HOME;
use super::tree::{Tree, What};

/// Lent as they are where the host has them.
const LENT: [&str; 17] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates.conf",
    "debian_version",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "magic",
    "mime.types",
    "os-release",
    "pki/tls/certs",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
];
/// Names beginning like this are lent too: configuration that packages install.
const LENT_PREFIXES: [&str; 4] = ["python3", "perl", "java-", "ImageMagick-"];

/// Host paths below `/etc` to lend.
pub(super) fn lent() -> Vec<PathBuf> {
    let etc = Path::new("/etc");
    let mut paths: Vec<PathBuf> = LENT.iter().map(|name| etc.join(name)).collect();
    // Without a readable /etc there is nothing more to lend.
    for entry in fs::read_dir(etc).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let known = |prefix: &str| name.to_str().is_some_and(|n| n.starts_with(prefix));
        if LENT_PREFIXES.iter().any(|p| known(p)) {
            paths.push(entry.path());
        }
    }
    paths
}

/// Lent besides where packages are to be installed, but for what may hold a credential.
const LENT_TO_INSTALLERS: [&str; 15] = [
    "/etc/adduser.conf",
    "/etc/apt/keyrings",
    "/etc/apt/preferences",
    "/etc/apt/preferences.d",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/apt/trusted.gpg",
    "/etc/apt/trusted.gpg.d",
    "/etc/debconf.conf",
    "/etc/deluser.conf",
    "/etc/dpkg",
    "/etc/login.defs",
    "/etc/shells",
    "/etc/skel",
    DPKG,
];

/// What the system's package manager knows of what is installed.
pub(super) const DPKG: &str = "/var/lib/dpkg";

/// Host paths to lend to a sandbox for installing packages.
pub(super) fn lent_to_installers() -> impl Iterator<Item = PathBuf> {
    LENT_TO_INSTALLERS.into_iter().map(PathBuf::from)
}

/// Ids below this are the system's, by custom.
const FIRST_USER: u32 = 1000;

/// Adds the host's system users and groups, by name and id: packages refer to them.
pub(super) fn add_system_users(trees: &mut [Tree]) {
    for tree in trees {
        let What::Text(text) = &mut tree.what else {
            continue;
        };
        if !["etc/passwd", "etc/group"]
            .iter()
            .any(|f| tree.at == Path::new(f))
        {
            continue;
        }
        let host = fs::read_to_string(Path::new("/").join(&tree.at)).unwrap_or_default();
        for line in host.lines() {
            let mut fields = line.split(':');
            let (name, id) = (fields.next().unwrap_or_default(), fields.nth(1));
            let of_system = id
                .and_then(|id| id.parse::<u32>().ok())
                .is_some_and(|id| id < FIRST_USER);
            if of_system
                && !text
                    .lines()
                    .any(|known| known.split(':').next() == Some(name))
            {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
}

/// Files that would betray the host, or that must be right for the inside.
pub(super) fn made_up(user: u32) -> Vec<Tree> {
    let text = |name: &str, text: String| Tree {
        at: Path::new("etc").join(name),
        what: What::Text(text),
    };
    vec![
        text(
            "passwd",
            format!(
                "root:x:0:0:root:/:/usr/sbin/nologin\n\
                 agent:x:{user}:{user}:agent:{HOME}:/bin/bash\n\
                 nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
            ),
        ),
        text(
            "group",
            format!("root:x:0:\ntty:x:5:\nagent:x:{user}:\nnogroup:x:65534:\n"),
        ),
        text("hostname", "sandbox\n".to_owned()),
        text(
            "hosts",
            "127.0.0.1 localhost sandbox\n::1 localhost\n".to_owned(),
        ),
        // Answered by the server, where the network reaches out; by nobody where it does not.
        text(
            "resolv.conf",
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n".to_owned(),
        ),
        text(
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"
                .to_owned(),
        ),
        Tree {
            at: "etc/localtime".into(),
            what: What::Link("/usr/share/zoneinfo/Etc/UTC".into()),
        },
        Tree {
            at: "etc/mtab".into(),
            what: What::Link("/proc/self/mounts".into()),
        },
    ]
}
