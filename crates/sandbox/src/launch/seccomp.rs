//! The seccomp filter. Three are joined: the list of numbers (allowed, refused with `EPERM`, and
//! everything else `ENOSYS`), then for some of the allowed ones refusals by argument (`EPERM`), then
//! what is answered as if it had been done. A call by another architecture's entry (32-bit on x86-64)
//! kills the process. One takes the kernel a third of the time that three take.
//!
//! Arguments are compared as 32-bit values, as the kernel reads them: comparing 64 bits would let
//! junk in the upper half pass.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::seccomp_set as set;
use super::syscalls::{ALLOWED, ALLOWED_HERE, Call, REFUSED, REFUSED_HERE};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// `clone` flags that make a namespace; `CLONE_NEWTIME` cannot be given to `clone`.
const NEW_NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];
/// Terminal requests that put words into another's mouth or change the line discipline.
const TERMINAL_TRICKS: [u32; 4] = [0x5412, 0x541c, 0x541d, 0x5423];
/// Kinds of socket on the internet families.
const SOCKET_TYPES: [libc::c_int; 2] = [libc::SOCK_STREAM, libc::SOCK_DGRAM];
/// The flags that may come with them; the kernel knows no others.
const SOCKET_FLAGS: [libc::c_int; 4] = [
    0,
    libc::SOCK_CLOEXEC,
    libc::SOCK_NONBLOCK,
    libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
];
/// Personalities with nothing unsafe: none, ask, no address randomization.
const PERSONALITIES: [u32; 3] = [0, u32::MAX, libc::ADDR_NO_RANDOMIZE as u32];

/// This architecture in an OCI profile.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") {
    "SCMP_ARCH_AARCH64"
} else {
    "SCMP_ARCH_X86_64"
};

/// Why a filter could not be installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeccompError {
    #[error("this processor architecture has no filter")]
    Architecture,
    #[error("the filter does not compile: {0}")]
    Compile(seccompiler::BackendError),
    #[error("{0}")]
    Install(seccompiler::Error),
}

static PREPARED: OnceLock<Filter> = OnceLock::new();

/// The filter, ready to be installed.
pub(super) struct Filter(BpfProgram);

impl Filter {
    /// Translates it, if a [`Filter::prepare`] has not.
    pub(super) fn compile() -> Result<&'static Self, SeccompError> {
        Self::prepare()?;
        PREPARED.get().ok_or(SeccompError::Architecture)
    }

    /// Translates it for this process and what it forks.
    pub(super) fn prepare() -> Result<(), SeccompError> {
        if PREPARED.get().is_none() {
            // There is no other thread that might have been first.
            let _ = PREPARED.set(Self(joined()?));
        }
        Ok(())
    }

    /// Installs it on the only thread; everything started later inherits it.
    pub(super) fn install(&self) -> Result<(), SeccompError> {
        seccompiler::apply_filter(&self.0).map_err(SeccompError::Install)
    }
}

fn joined() -> Result<BpfProgram, SeccompError> {
    let (refusals, pretences) = (refusals()?, pretences()?);
    let by_argument: Vec<_> = refusals.keys().chain(pretences.keys()).copied().collect();
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let programs = [
        numbers(&by_argument)?,
        compile(refusals, SeccompAction::Trace(set::NEXT_DATA), refused)?,
        compile(pretences, SeccompAction::Allow, SeccompAction::Errno(0))?,
    ];
    set::in_turn(programs).ok_or(SeccompError::Architecture)
}

/// By number; those of `by_argument` that are allowed are left to the next.
fn numbers(by_argument: &[i64]) -> Result<BpfProgram, SeccompError> {
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    // `clone3` is absent on purpose: its flags lie behind a pointer, and C libraries fall back.
    let allowed = [ALLOWED, ALLOWED_HERE].into_iter().flatten();
    let allowed = allowed.map(|(_, number)| {
        let answer = match by_argument.contains(number) {
            true => set::NEXT,
            false => libc::SECCOMP_RET_ALLOW,
        };
        (*number, answer)
    });
    let refused = [REFUSED, REFUSED_HERE]
        .into_iter()
        .flatten()
        .map(|(_, number)| (*number, refused));
    let absent = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    // A call on both lists is refused.
    let answers = allowed.chain(refused);
    let answers =
        answers.filter_map(|(number, answer)| Some((u32::try_from(number).ok()?, answer)));
    set::program(&answers.collect(), absent).ok_or(SeccompError::Architecture)
}

/// The two lists as an OCI runtime wants them: without the rules on arguments, which the agent
/// stacks on top for itself.
pub(crate) fn profile() -> serde_json::Value {
    let names = |lists: [&[Call]; 2]| -> Vec<&str> {
        let calls = lists.into_iter().flatten();
        calls.map(|(name, _)| &name["SYS_".len()..]).collect()
    };
    serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::ENOSYS,
        "architectures": [ARCHITECTURE],
        "syscalls": [
            { "names": names([ALLOWED, ALLOWED_HERE]), "action": "SCMP_ACT_ALLOW" },
            {
                "names": names([REFUSED, REFUSED_HERE]),
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": libc::EPERM,
            },
        ],
    })
}

fn refusals() -> Result<Rules, SeccompError> {
    let mut rules = Rules::new();
    let mut add = |number: i64, conditions: Vec<SeccompCondition>| {
        let rule = SeccompRule::new(conditions).map_err(SeccompError::Compile)?;
        rules.entry(number).or_default().push(rule);
        Ok::<_, SeccompError>(())
    };
    for flag in NEW_NAMESPACES {
        let flag = flag as u32;
        add(libc::SYS_clone, vec![masked(0, flag.into(), flag)?])?;
    }
    for request in TERMINAL_TRICKS {
        add(libc::SYS_ioctl, vec![is(1, request)?])?;
    }
    add(libc::SYS_personality, none_of(0, &PERSONALITIES)?)?;
    // Limits of other processes, the agent's among them; asking is fine.
    let new_limit = is_not_null(2)?;
    add(libc::SYS_prlimit64, vec![is_not(0, 0)?, new_limit])?;
    let [unix, inet, inet6, netlink] = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ]
    .map(|f| f as u32);
    // AF_VSOCK above all: it is not confined by the network namespace.
    add(libc::SYS_socket, none_of(0, &[unix, inet, inet6, netlink])?)?;
    add(libc::SYS_socketpair, vec![is_not(0, unix)?])?;
    let route = libc::NETLINK_ROUTE as u32;
    add(libc::SYS_socket, vec![is(0, netlink)?, is_not(2, route)?])?;
    // On the two that are left. A list of what is refused would be several times as long, and the
    // kernel translates all of it for each sandbox.
    let internet = || Ok::<_, SeccompError>(vec![is_not(0, unix)?, is_not(0, netlink)?]);
    let types = SOCKET_TYPES.map(|kind| SOCKET_FLAGS.map(|flags| (kind | flags) as u32));
    let mut other_type = internet()?;
    other_type.extend(none_of(1, types.as_flattened())?);
    add(libc::SYS_socket, other_type)?;
    let known = [0, libc::IPPROTO_TCP as u32, libc::IPPROTO_UDP as u32];
    let mut other_protocol = internet()?;
    other_protocol.extend(none_of(2, &known)?);
    add(libc::SYS_socket, other_protocol)?;
    Ok(rules)
}

/// The limit on core dumps stays what it is (see [`super::lockdown::CORE`]). Programs that keep secrets
/// set it to 0 and end if they cannot, so they are told they have.
fn pretences() -> Result<Rules, SeccompError> {
    let rule = |conditions| SeccompRule::new(conditions).map_err(SeccompError::Compile);
    let core = libc::RLIMIT_CORE;
    let own = vec![is(0, 0)?, is(1, core)?, is_not_null(2)?];
    let mut rules = Rules::from([(libc::SYS_prlimit64, vec![rule(own)?])]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_setrlimit, vec![rule(vec![is(0, core)?])?]);
    Ok(rules)
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, SeccompError> {
    let arch =
        TargetArch::try_from(std::env::consts::ARCH).map_err(|_| SeccompError::Architecture)?;
    SeccompFilter::new(rules, otherwise, matched, arch)
        .and_then(BpfProgram::try_from)
        .map_err(SeccompError::Compile)
}

fn condition(arg: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, SeccompError> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, op, value).map_err(SeccompError::Compile)
}

fn is(arg: u8, value: u32) -> Result<SeccompCondition, SeccompError> {
    condition(arg, SeccompCmpOp::Eq, value.into())
}

fn is_not(arg: u8, value: u32) -> Result<SeccompCondition, SeccompError> {
    condition(arg, SeccompCmpOp::Ne, value.into())
}

fn is_not_null(arg: u8) -> Result<SeccompCondition, SeccompError> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)
        .map_err(SeccompError::Compile)
}

fn masked(arg: u8, mask: u64, value: u32) -> Result<SeccompCondition, SeccompError> {
    condition(arg, SeccompCmpOp::MaskedEq(mask), value.into())
}

fn none_of(arg: u8, values: &[u32]) -> Result<Vec<SeccompCondition>, SeccompError> {
    values.iter().map(|&v| is_not(arg, v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_fits_the_kernel() {
        let program = joined().unwrap();
        assert!((200..4096).contains(&program.len()), "{}", program.len());
        let open = program.iter().filter(|operation| operation.k == set::NEXT);
        assert_eq!(open.count(), 0, "something is decided by no program");
    }

    #[test]
    fn nothing_is_both_allowed_and_refused() {
        for number in REFUSED.iter().chain(REFUSED_HERE) {
            assert!(
                !ALLOWED.contains(number) && !ALLOWED_HERE.contains(number),
                "{number:?}"
            );
        }
    }
}
