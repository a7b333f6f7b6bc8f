//! Mapping ids of the new user namespace.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::process::{Pid, WaitOptions};

use super::init::fork;
use super::plan::USER;

/// A process outside the new namespace that writes the maps: only there does the launcher still
/// hold the privilege to map a range.
pub(super) struct Mapper {
    pid: Pid,
    go: io::PipeWriter,
}

impl Mapper {
    /// Forks the helper; call before `unshare`.
    pub(super) fn start(first: u32, count: u32) -> io::Result<Self> {
        let (mut wait, go) = io::pipe()?;
        let target = rustix::process::getpid();
        match fork()? {
            Some(pid) => Ok(Self { pid, go }),
            None => {
                drop(go);
                let mut byte = [0];
                let told = wait.read_exact(&mut byte);
                let map = format!("0 {first} {count}");
                let proc = format!("/proc/{}", target.as_raw_nonzero());
                let proc = Path::new(&proc);
                let wrote = told
                    .and_then(|()| fs::write(proc.join("gid_map"), &map))
                    .and_then(|()| fs::write(proc.join("uid_map"), &map));
                let code = wrote
                    .err()
                    .map_or(0, |e| e.raw_os_error().unwrap_or(255) & 0xff);
                std::process::exit(code)
            }
        }
    }

    /// Has the maps written; call after `unshare`.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.go.write_all(&[1])?;
        drop(self.go);
        let status = rustix::process::waitpid(Some(self.pid), WaitOptions::empty())?;
        match status.and_then(|(_, status)| status.exit_status()) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Err(io::Error::other("the helper that maps ids died")),
        }
    }
}

/// Maps the one id an ordinary user may map; call after `unshare`.
pub(super) fn single(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{USER} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{USER} {gid} 1"))
}
