//! An interpreter of the BPF that the compiler makes, as strict as the kernel's verifier.

use super::Call;
use crate::container::seccomp::bpf::{
    AND, IF_EQ, IF_GE, IF_GT, Instruction, JUMP, LOAD, MAX_INSTRUCTIONS, RETURN,
};
use crate::container::seccomp::compile::{ARCH_WORD, ARGUMENTS, NUMBER};

/// Runs a program on a call: the word it returns, and how many instructions it took.
pub(super) fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut at, mut accumulator, mut steps) = (0usize, 0u32, 0usize);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        steps += 1;
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            LOAD => accumulator = word(call, k),
            AND => accumulator &= k,
            JUMP => at += k as usize,
            IF_EQ => branch(accumulator == k),
            IF_GT => branch(accumulator > k),
            IF_GE => branch(accumulator >= k),
            RETURN => return (k, steps),
            other => panic!("instruction {:#x} at {}", other, at - 1),
        }
    }
}

/// Checks what the kernel checks before it takes a program (`bpf_check_classic`, `seccomp_check_filter`).
pub(super) fn verify(program: &[Instruction]) {
    assert!(!program.is_empty() && program.len() <= MAX_INSTRUCTIONS, "length {}", program.len());
    let inside =
        |at: usize, skip: usize| assert!(at + 1 + skip < program.len(), "jump out of the program at {at}");
    for (at, &Instruction { code, jt, jf, k }) in program.iter().enumerate() {
        match code {
            LOAD => assert!(k < 64 && k.is_multiple_of(4), "load of offset {k} at {at}"),
            JUMP => inside(at, k as usize),
            IF_EQ | IF_GT | IF_GE => {
                inside(at, usize::from(jt));
                inside(at, usize::from(jf));
            }
            AND | RETURN => {}
            other => panic!("instruction {other:#x} at {at}"),
        }
    }
    assert_eq!(program.last().map(|last| last.code), Some(RETURN), "the program runs out of its end");
}

/// A word of `struct seccomp_data` on a little-endian machine.
fn word(call: &Call, offset: u32) -> u32 {
    match offset {
        NUMBER => call.number,
        ARCH_WORD => call.arch_word,
        ARGUMENTS.. => {
            let argument = call.args[((offset - ARGUMENTS) / 8) as usize];
            if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
        }
        other => panic!("load of offset {other}"),
    }
}
