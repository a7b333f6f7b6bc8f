//! Which control group hierarchies are mounted, and where this process stands in each.

use std::path::PathBuf;

/// A hierarchy with the server's own group in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// The server's own group.
    pub dir: PathBuf,
    pub version2: bool,
    /// Version 1 only: those wanted that it carries.
    pub controllers: Vec<&'static str>,
}

/// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`; of version 1 only what has one of `wanted`.
pub(super) fn hierarchies(
    mountinfo: &str,
    cgroup: &str,
    wanted: &[&'static str],
) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let mut before = before.split(' ').skip(3);
        let (Some(root), Some(point)) = (before.next(), before.next()) else {
            continue;
        };
        let mut after = after.split(' ');
        let kind = after.next().unwrap_or_default();
        let options = after.nth(1).unwrap_or_default();
        let version2 = match kind {
            "cgroup" => false,
            "cgroup2" => true,
            _ => continue,
        };
        let controllers: Vec<_> = wanted
            .iter()
            .copied()
            .filter(|c| !version2 && options.split(',').any(|o| o == *c))
            .collect();
        if !version2 && controllers.is_empty() {
            continue;
        }
        let Some(own) = own_path(cgroup, version2, &controllers) else {
            continue;
        };
        // The mount may show a part of the hierarchy only, for example inside a container; a path
        // outside that part cannot be reached, and the mount's own root is the best there is.
        let below = own.strip_prefix(root.trim_end_matches('/')).unwrap_or("");
        let dir = PathBuf::from(point).join(below.trim_start_matches('/'));
        let hierarchy = Hierarchy {
            dir,
            version2,
            controllers,
        };
        let known =
            |h: &Hierarchy| h.version2 == version2 && h.controllers == hierarchy.controllers;
        if !found.iter().any(known) {
            found.push(hierarchy);
        }
    }
    found
}

/// This process's path in a hierarchy: lines are `id:controllers:path`, version 2 being `0::path`.
fn own_path<'a>(cgroup: &'a str, version2: bool, controllers: &[&str]) -> Option<&'a str> {
    cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (id, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let this = if version2 {
            id == "0" && names.is_empty()
        } else {
            names.split(',').any(|n| controllers.contains(&n))
        };
        this.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::super::CONTROLLERS;
    use super::*;

    fn found(mountinfo: &str, cgroup: &str) -> Vec<Hierarchy> {
        hierarchies(mountinfo, cgroup, &CONTROLLERS)
    }

    fn one(dir: &str, version2: bool, controllers: &[&'static str]) -> Hierarchy {
        Hierarchy {
            dir: dir.into(),
            version2,
            controllers: controllers.to_vec(),
        }
    }

    #[test]
    fn mixed_versions_are_told_apart() {
        let mountinfo = "\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
35 30 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let cgroup = "8:pids:/\n4:memory:/jobs/a\n1:cpu:/\n0::/\n";
        assert_eq!(
            hierarchies(mountinfo, cgroup, &CONTROLLERS),
            [
                one("/sys/fs/cgroup/cpu", false, &["cpu"]),
                one("/sys/fs/cgroup/memory/jobs/a", false, &["memory"]),
                one("/sys/fs/cgroup/pids", false, &["pids"]),
                one("/sys/fs/cgroup/unified", true, &[]),
            ]
        );
    }

    #[test]
    fn version_2_and_containers() {
        let mount =
            |root: &str| format!("29 23 0:26 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw");
        let own = "0::/system.slice/freehold.service\n";
        let systemd = [one(
            "/sys/fs/cgroup/system.slice/freehold.service",
            true,
            &[],
        )];
        assert_eq!(found(&mount("/"), own), systemd);
        let bind = [one("/sys/fs/cgroup", true, &[])];
        assert_eq!(found(&mount("/docker/ab"), "0::/docker/ab\n"), bind);
        assert_eq!(found(&mount("/"), "0::/\n"), bind);
        assert!(found("", "0::/\n").is_empty());
        assert!(found("junk\n1 2 - cgroup2", "").is_empty());
    }
}
