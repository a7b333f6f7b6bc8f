//! A filter by number alone, found by halving: a chain of comparisons as long as the
//! list takes the kernel a millisecond to install, because it tries every number on it.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, sock_filter};

/// Offsets in the kernel's `seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// Stands for an answer that the next program gives; see [`in_turn`].
pub(super) const NEXT: u32 = libc::SECCOMP_RET_TRACE | NEXT_DATA;
/// The part of [`NEXT`] that is free.
pub(super) const NEXT_DATA: u32 = 1;

/// This architecture as the kernel's audit numbers it; `None` for one without a filter.
const HERE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// Answers the numbers in the map as it says (`SECCOMP_RET_*`), and all others with `otherwise`. A
/// call by another architecture's entry kills the process. `None` where the architecture is not
/// known.
pub(super) fn program(answers: &BTreeMap<u32, u32>, otherwise: u32) -> Option<BpfProgram> {
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let mut program = vec![
        load(ARCHITECTURE),
        jump(libc::BPF_JEQ, HERE?, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    program.extend(search(&borders(answers, otherwise), otherwise)?);
    Some(program)
}

/// One program that asks the second what the first answers with [`NEXT`], and so on. `None` if it
/// would be longer than a program can be.
pub(super) fn in_turn(programs: impl IntoIterator<Item = BpfProgram>) -> Option<BpfProgram> {
    let mut all = BpfProgram::new();
    for program in programs {
        let end = all.len();
        for (at, operation) in all.iter_mut().enumerate() {
            if *operation == answer(NEXT) {
                let over = u32::try_from(end - at - 1).ok()?;
                *operation = statement(libc::BPF_JMP | libc::BPF_JA, over);
            }
        }
        all.extend(program);
    }
    Some(all)
}

/// The numbers at which another answer begins, each with that answer; below the first it is
/// `otherwise`.
fn borders(answers: &BTreeMap<u32, u32>, otherwise: u32) -> Vec<(u32, u32)> {
    let mut borders: Vec<(u32, u32)> = Vec::new();
    let mut push = |at, answer| {
        // Of two at the same number the later one counts.
        borders.pop_if(|last| last.0 == at);
        if borders.last().map_or(otherwise, |last| last.1) != answer {
            borders.push((at, answer));
        }
    };
    for (&number, &answer) in answers {
        push(number, answer);
        push(number + 1, otherwise);
    }
    borders
}

/// Decides for numbers around these borders; `below` is the answer below the first one. `None` if a
/// jump is too long.
fn search(borders: &[(u32, u32)], below: u32) -> Option<BpfProgram> {
    let middle = borders.len() / 2;
    let Some(&(border, from_here)) = borders.get(middle) else {
        return Some(vec![answer(below)]);
    };
    let lower = search(&borders[..middle], below)?;
    let upper = search(&borders[middle + 1..], from_here)?;
    let over = u8::try_from(lower.len()).ok()?;
    let mut program = vec![jump(libc::BPF_JGE, border, over, 0)];
    program.extend(lower);
    program.extend(upper);
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
                _ if code == libc::BPF_JMP | libc::BPF_JA => {
                    at += now.k as usize;
                    continue;
                }
                _ if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => value == now.k,
                _ if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => value >= now.k,
                _ => panic!("no such operation: {code}"),
            };
            at += usize::from(if holds { now.jt } else { now.jf });
        }
    }

    const OTHERWISE: u32 = libc::SECCOMP_RET_ERRNO | 38;

    fn maps() -> impl proptest::strategy::Strategy<Value = BTreeMap<u32, u32>> {
        let answers = vec![libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO | 1];
        proptest::collection::btree_map(0..500_u32, proptest::sample::select(answers), 0..100)
    }

    proptest::proptest! {
        #[test]
        fn each_number_gets_its_answer_and_no_other(map in maps()) {
            let program = program(&map, OTHERWISE).unwrap();
            let others = [1 << 30, (1 << 30) + 1, u32::MAX];
            for number in (0..600).chain(others) {
                let expected = map.get(&number).copied().unwrap_or(OTHERWISE);
                assert_eq!(run(&program, HERE.unwrap(), number), expected, "{number}");
            }
            assert_eq!(run(&program, 0x4000_0003, 1), libc::SECCOMP_RET_KILL_PROCESS);
        }

        #[test]
        fn what_one_leaves_open_the_next_decides(
            first in maps(),
            open in proptest::collection::btree_set(0..500_u32, 0..20),
            second in maps(),
        ) {
            let mut asking = first.clone();
            asking.extend(open.iter().map(|number| (*number, NEXT)));
            let parts = [program(&asking, OTHERWISE).unwrap(), program(&second, 0).unwrap()];
            let both = in_turn(parts).unwrap();
            for number in 0..600 {
                let expected = match open.contains(&number) {
                    true => second.get(&number).copied().unwrap_or(0),
                    false => first.get(&number).copied().unwrap_or(OTHERWISE),
                };
                assert_eq!(run(&both, HERE.unwrap(), number), expected, "{number}");
            }
        }
    }
}
