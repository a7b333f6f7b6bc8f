//! Mapping ids of the new user namespace.

use std::fs;
use std::io;

use rustix::process::Pid;

use super::plan::USER;

/// Maps a range into the namespace of `inside`, with the privilege of the launcher outside it.
pub(super) fn range(inside: Pid, first: u32, count: u32) -> io::Result<()> {
    let map = format!("0 {first} {count}");
    let proc = format!("/proc/{}", inside.as_raw_nonzero());
    fs::write(format!("{proc}/gid_map"), &map)?;
    fs::write(format!("{proc}/uid_map"), &map)
}

/// Maps the one id an ordinary user may map; in the new namespace.
pub(super) fn single(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{USER} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{USER} {gid} 1"))
}
