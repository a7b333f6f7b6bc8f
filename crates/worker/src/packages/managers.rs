//! The package managers: how each is asked to install into a place of its own, and what programs
//! need to find there. Names of packages are arguments, never part of a command line.

use freehold_sandbox::PATH;

use super::Lists;

/// Where they install; the same while installing and afterwards, for names of it end up in files.
const PREFIX: &str = "/opt/packages";
/// Where the system's own package manager keeps what nobody needs afterwards.
const APT: &str = "/workspace/apt";

/// One package manager.
pub(super) struct Manager {
    /// Its name in the API.
    pub name: &'static str,
    /// Whether it writes to the system itself.
    pub system: bool,
    /// What it is asked, one after the other.
    pub commands: Vec<Vec<String>>,
}

/// Those that have something to install, in the order of the contract: by name.
pub(super) fn managers(lists: &Lists) -> Vec<Manager> {
    let manager = |name, commands| Manager {
        name,
        system: false,
        commands,
    };
    let all = [
        Manager {
            name: "apt",
            system: true,
            commands: apt(&lists.apt),
        },
        manager("cargo", cargo(&lists.cargo)),
        manager("gem", gem(&lists.gem)),
        manager("go", go(&lists.go)),
        manager("npm", npm(&lists.npm)),
        manager("pip", pip(&lists.pip)),
    ];
    all.into_iter().filter(|m| !m.commands.is_empty()).collect()
}

/// Variables while installing: caches and scratch files where they are not kept, and no questions.
pub(super) fn build_env() -> Vec<(String, String)> {
    let env = [
        ("CARGO_HOME", "/workspace/cargo"),
        ("CARGO_TARGET_DIR", "/workspace/cargo/target"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("GOCACHE", "/workspace/go/cache"),
        ("GOPATH", "/workspace/go"),
        ("PIP_ROOT_USER_ACTION", "ignore"),
        ("TMPDIR", "/workspace/tmp"),
    ];
    let fixed = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let bin = ("GOBIN".to_owned(), format!("{PREFIX}/go/bin"));
    fixed.into_iter().chain([bin]).collect()
}

/// Directories that must be there before the first command.
pub(super) fn build_dirs() -> Vec<String> {
    let dirs = ["state/lists/partial", "cache/archives/partial", "log"];
    let dirs = dirs.map(|dir| format!("{APT}/{dir}"));
    let own = ["/workspace/tmp".to_owned(), PREFIX.to_owned()];
    dirs.into_iter().chain(own).collect()
}

/// Variables by which programs of a session find what was installed.
pub(super) fn session_env(lists: &Lists) -> Vec<(String, String)> {
    let mut path = String::new();
    let mut env = Vec::new();
    let mut has = |there: bool, dir: &str, variable: Option<(&str, &str)>| {
        if there {
            path.push_str(&format!("{PREFIX}/{dir}/bin:"));
            env.extend(variable.map(|(n, at)| (n.to_owned(), format!("{PREFIX}/{at}"))));
        }
    };
    has(!lists.cargo.is_empty(), "cargo", None);
    has(!lists.gem.is_empty(), "gem", Some(("GEM_PATH", "gem")));
    has(!lists.go.is_empty(), "go", None);
    let modules = Some(("NODE_PATH", "npm/lib/node_modules"));
    has(!lists.npm.is_empty(), "npm", modules);
    has(!lists.pip.is_empty(), "pip", Some(("PYTHONPATH", "pip")));
    if !path.is_empty() {
        env.push(("PATH".to_owned(), format!("{path}{PATH}")));
    }
    env
}

fn command(fixed: &[&str], packages: &[String]) -> Vec<String> {
    let fixed = fixed.iter().map(|word| (*word).to_owned());
    fixed.chain(packages.iter().cloned()).collect()
}

/// One command for all packages, or none.
fn at_once(fixed: &[&str], packages: &[String]) -> Vec<Vec<String>> {
    if packages.is_empty() {
        return Vec::new();
    }
    vec![command(fixed, packages)]
}

fn apt(packages: &[String]) -> Vec<Vec<String>> {
    if packages.is_empty() {
        return Vec::new();
    }
    let options = [
        // Everything inside is one user's, who cannot be left for another.
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Retries=2".to_owned(),
        "Dpkg::Use-Pty=0".to_owned(),
        format!("Dir::State={APT}/state"),
        "Dir::State::status=/var/lib/dpkg/status".to_owned(),
        format!("Dir::Cache={APT}/cache"),
        format!("Dir::Log={APT}/log"),
    ];
    let mut fixed = vec!["apt-get", "--yes", "--no-install-recommends"];
    for option in &options {
        fixed.extend(["-o", option]);
    }
    let update = [&fixed[..], &["update"]].concat();
    let install = [&fixed[..], &["install", "--"]].concat();
    vec![command(&update, &[]), command(&install, packages)]
}

fn cargo(packages: &[String]) -> Vec<Vec<String>> {
    let root = format!("{PREFIX}/cargo");
    at_once(&["cargo", "install", "--root", &root, "--"], packages)
}

fn gem(packages: &[String]) -> Vec<Vec<String>> {
    let (home, bin) = (format!("{PREFIX}/gem"), format!("{PREFIX}/gem/bin"));
    // What follows `--` would be options of a build; no package begins with a hyphen.
    let places = ["--install-dir", &home, "--bindir", &bin];
    let fixed = [&["gem", "install", "--no-document"][..], &places].concat();
    at_once(&fixed, packages)
}

fn go(packages: &[String]) -> Vec<Vec<String>> {
    // Together they would have to be of one module.
    let each = packages.iter().map(std::slice::from_ref);
    each.map(|one| command(&["go", "install", "--"], one))
        .collect()
}

fn npm(packages: &[String]) -> Vec<Vec<String>> {
    let prefix = format!("{PREFIX}/npm");
    let fixed = ["npm", "install", "--global", "--prefix", &prefix];
    let quiet = ["--no-audit", "--no-fund", "--no-update-notifier"];
    let rest = ["--cache", "/workspace/npm", "--"];
    at_once(&[&fixed[..], &quiet, &rest].concat(), packages)
}

fn pip(packages: &[String]) -> Vec<Vec<String>> {
    let target = format!("{PREFIX}/pip");
    let fixed = ["python3", "-m", "pip", "install", "--target", &target];
    let quiet = [
        "--no-input",
        "--no-cache-dir",
        "--disable-pip-version-check",
    ];
    at_once(&[&fixed[..], &quiet, &["--"]].concat(), packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_arguments_and_managers_come_in_order() {
        let hostile = || vec!["x; touch /tmp/y".to_owned(), "$(id)".to_owned()];
        let lists = Lists {
            apt: hostile(),
            cargo: hostile(),
            gem: hostile(),
            go: hostile(),
            npm: hostile(),
            pip: hostile(),
        };
        let all = managers(&lists);
        let names: Vec<_> = all.iter().map(|m| m.name).collect();
        assert_eq!(names, ["apt", "cargo", "gem", "go", "npm", "pip"]);
        for manager in &all {
            let last = manager.commands.last().unwrap();
            assert_eq!(last.last().unwrap(), "$(id)", "{}", manager.name);
            for command in &manager.commands {
                assert!(!["sh", "bash", "env"].contains(&command[0].as_str()));
            }
        }
        assert!(managers(&Lists::default()).is_empty());
        assert!(session_env(&Lists::default()).is_empty());
    }
}
