//! Landlock, best effort: a second opinion on what may be written, and the fence between tools and
//! the agent. What the kernel really enforced is reported, not assumed.

use std::os::fd::OwnedFd;

use ::landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};

use super::Kept;

/// The newest interface asked for; older kernels give what they have.
const WANTED: ABI = ABI::V6;

/// Confines this process and all it will start; what came of it, in words.
pub(super) fn confine(writable: &[&str], kept: &Kept) -> String {
    match try_confine(writable, kept) {
        Ok(RulesetStatus::FullyEnforced) => "fully enforced".to_owned(),
        Ok(RulesetStatus::PartiallyEnforced) => "partially enforced (older kernel)".to_owned(),
        Ok(RulesetStatus::NotEnforced) => "not enforced (kernel without Landlock)".to_owned(),
        Err(e) => format!("not enforced ({e})"),
    }
}

fn try_confine(
    writable: &[&str],
    kept: &Kept,
) -> Result<RulesetStatus, Box<dyn std::error::Error>> {
    let all = AccessFs::from_all(WANTED);
    let read = AccessFs::from_read(WANTED) | AccessFs::Refer;
    let no_devices: BitFlags<AccessFs> = AccessFs::MakeChar | AccessFs::MakeBlock;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let process = AccessFs::WriteFile | AccessFs::Truncate;
    let mut ruleset = Ruleset::default()
        .handle_access(all)?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/")?, read))?
        .add_rule(PathBeneath::new(PathFd::new("/dev")?, device | read))?
        .add_rule(PathBeneath::new(PathFd::new("/proc")?, process | read))?
        .add_rule(PathBeneath::new(
            PathFd::new("/dev/shm")?,
            all & !no_devices,
        ))?;
    for path in writable {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(path)?, all & !no_devices))?;
    }
    // Reached by the agent only, by descriptor; whiteouts are character devices.
    for (_, folder) in kept {
        ruleset = ruleset.add_rule(PathBeneath::new(folder, all & !AccessFs::MakeBlock))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

/// Puts the calling thread, and all it starts from now on, into a domain of its own from which the
/// process's other threads cannot be signalled: what there is where [`crate::agent::Fence`] does not
/// hold. Whether the kernel enforces it.
pub(crate) fn protect_agent(kept: &[(String, OwnedFd)]) -> bool {
    fence(kept).is_ok_and(|status| status == RulesetStatus::FullyEnforced)
}

fn fence(kept: &[(String, OwnedFd)]) -> Result<RulesetStatus, Box<dyn std::error::Error>> {
    // A domain that does not speak of `Refer` refuses it, and with it links and renames from one
    // directory to another; the kept folders lie below no `/`.
    let mut fence = Ruleset::default()
        .handle_access(AccessFs::Refer)?
        .scope(Scope::Signal)?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::Refer))?;
    for (_, folder) in kept {
        fence = fence.add_rule(PathBeneath::new(folder, AccessFs::Refer))?;
    }
    Ok(fence.restrict_self()?.ruleset)
}
