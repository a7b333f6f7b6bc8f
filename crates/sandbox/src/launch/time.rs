//! Clocks that begin with the sandbox, so that the host's uptime does not show.

use std::io;

use rustix::process::DumpableBehavior;
use rustix::thread::UnshareFlags;

/// Puts processes forked from now on into a time namespace of their own; whether the kernel has
/// one. Without it the host's uptime shows, and nothing else.
pub(super) fn hide_uptime() -> bool {
    try_hide().is_ok()
}

fn try_hide() -> io::Result<()> {
    // SAFETY: the flag does not affect the file descriptor table.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWTIME) }?;
    let (monotonic, boot) = (
        seconds(libc::CLOCK_MONOTONIC),
        seconds(libc::CLOCK_BOOTTIME),
    );
    // Whoever changed its ids does not own its files in `/proc`, unless it may be dumped. The next
    // change of ids ends that again.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    std::fs::write(
        "/proc/self/timens_offsets",
        format!("monotonic -{monotonic} 0\nboottime -{boot} 0\n"),
    )
}

/// What a clock shows, a second ago: an offset must not take it below zero.
fn seconds(clock: libc::clockid_t) -> i64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to a local.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now.tv_sec.saturating_sub(1).max(0)
}
