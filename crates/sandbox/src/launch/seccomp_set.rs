//! A filter that is a set of system calls, found by halving: a chain of comparisons as long as the
//! list takes the kernel a millisecond to install, because it tries every number on it.

use std::collections::BTreeSet;

use seccompiler::{BpfProgram, sock_filter};

/// Offsets in the kernel's `seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// This architecture as the kernel's audit numbers it; `None` for one without a filter.
const HERE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// Allows the numbers in the set and answers all others with `errno`. A call by another
/// architecture's entry kills the process. `None` where the architecture is not known.
pub(super) fn program(allowed: BTreeSet<u32>, errno: u32) -> Option<BpfProgram> {
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let mut program = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, HERE?, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    program.extend(search(&borders(allowed), false, errno)?);
    Some(program)
}

/// The numbers at which being in the set begins, ends, begins again and so on.
fn borders(set: BTreeSet<u32>) -> Vec<u32> {
    let mut borders = Vec::new();
    for number in set {
        if borders.last() == Some(&number) {
            borders.pop();
        } else {
            borders.push(number);
        }
        borders.push(number + 1);
    }
    borders
}

/// Decides for numbers around these borders; `inside` is what holds below the first one. `None` if a
/// jump is too long.
fn search(borders: &[u32], inside: bool, errno: u32) -> Option<BpfProgram> {
    let middle = borders.len() / 2;
    let Some(&border) = borders.get(middle) else {
        let refused = libc::SECCOMP_RET_ERRNO | errno;
        let allowed = libc::SECCOMP_RET_ALLOW;
        return Some(vec![answer(if inside { allowed } else { refused })]);
    };
    let inside_at = |count: usize| inside ^ (count % 2 == 1);
    let below = search(&borders[..middle], inside, errno)?;
    let above = search(&borders[middle + 1..], inside_at(middle + 1), errno)?;
    let over = u8::try_from(below.len()).ok()?;
    let mut program = vec![jump(libc::BPF_JGE, border, over, 0)];
    program.extend(below);
    program.extend(above);
    Some(program)
}

fn answer(with: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, with)
}

fn statement(code: u32, k: u32) -> sock_filter {
    operation(code, k, 0, 0)
}

fn jump(on: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    operation(libc::BPF_JMP | on | libc::BPF_K, k, jt, jf)
}

fn operation(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    // Codes are below 256.
    let code = code as u16;
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with the program.
    fn run(program: &BpfProgram, architecture: u32, number: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let now = &program[at];
            let code = u32::from(now.code);
            at += 1;
            let holds = match code {
                _ if code == libc::BPF_RET | libc::BPF_K => return now.k,
                _ if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    value = [number, architecture][now.k as usize / 4];
                    continue;
                }
                _ if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => value == now.k,
                _ if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => value >= now.k,
                _ => panic!("no such operation: {code}"),
            };
            at += usize::from(if holds { now.jt } else { now.jf });
        }
    }

    fn sets() -> impl proptest::strategy::Strategy<Value = BTreeSet<u32>> {
        proptest::collection::btree_set(0..500_u32, 0..200)
    }

    proptest::proptest! {
        #[test]
        fn the_set_and_nothing_else_is_allowed(set in sets()) {
            let program = program(set.clone(), 38).unwrap();
            let others = [1 << 30, (1 << 30) + 1, u32::MAX];
            for number in (0..600).chain(others) {
                let expected = match set.contains(&number) {
                    true => libc::SECCOMP_RET_ALLOW,
                    false => libc::SECCOMP_RET_ERRNO | 38,
                };
                assert_eq!(run(&program, HERE.unwrap(), number), expected, "{number}");
            }
            assert_eq!(run(&program, 0x4000_0003, 1), libc::SECCOMP_RET_KILL_PROCESS);
        }
    }
}
