//! Classic BPF: instructions, and an assembler that lays a program out from its end to its start.
//!
//! Jumps of classic BPF go forwards only, and conditional ones reach 255 instructions. Made from the end, every
//! jump knows how far its target is when it is made, so one pass suffices: a target out of reach gets a
//! trampoline (an unconditional jump, or a copy of the return) right behind the jump.

use std::collections::HashMap;

/// The most instructions the kernel takes (`BPF_MAXINSNS` of linux/bpf_common.h).
pub(super) const MAX_INSTRUCTIONS: usize = 4096;

/// Loads a word of `struct seccomp_data` into the accumulator.
pub(super) const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
/// Ands the accumulator with a constant.
pub(super) const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
/// Jumps always.
pub(super) const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
/// Branches on the accumulator being equal to a constant.
pub(super) const IF_EQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
/// Branches on the accumulator being greater than a constant, unsigned.
pub(super) const IF_GT: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
/// Branches on the accumulator being greater than or equal to a constant, unsigned.
pub(super) const IF_GE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
/// Ends the program with a constant.
pub(super) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// One instruction, with the layout of the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    /// The operation.
    pub(crate) code: u16,
    /// Instructions to skip if the condition holds.
    pub(crate) jt: u8,
    /// Instructions to skip if it does not.
    pub(crate) jf: u8,
    /// The operand.
    pub(crate) k: u32,
}

/// Where control goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To an instruction that was already laid out.
    At(Label),
    /// Out of the program, with this word.
    Return(u32),
}

/// An instruction of the program, by its place from the program's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program in the making.
#[derive(Default)]
pub(super) struct Assembler {
    /// The instructions, last first.
    reversed: Vec<Instruction>,
    /// The foremost return of each word.
    returns: HashMap<u32, Label>,
}

impl Assembler {
    /// Puts a branch in front: to `yes` if the accumulator compares with `k` as `code` says, else to `no`.
    pub(super) fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        // The preparation of `no` may put one more instruction between `yes` and the branch.
        let yes = self.within_reach(yes, 1);
        let no = self.within_reach(no, 0);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        debug_assert!(jt <= usize::from(u8::MAX) && jf <= usize::from(u8::MAX));
        self.push(Instruction { code, jt: jt as u8, jf: jf as u8, k })
    }

    /// Puts a load of the word at `offset` of `struct seccomp_data` in front of `then`.
    pub(super) fn load(&mut self, offset: u32, then: Target) -> Target {
        self.fall_into(then);
        self.push(Instruction { code: LOAD, jt: 0, jf: 0, k: offset })
    }

    /// Puts an and with `mask` in front of `then`.
    pub(super) fn and(&mut self, mask: u32, then: Target) -> Target {
        self.fall_into(then);
        self.push(Instruction { code: AND, jt: 0, jf: 0, k: mask })
    }

    /// The program, which starts at the instruction that was put in front last.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    /// Makes `target` the foremost instruction, so that the next one put in front runs into it.
    fn fall_into(&mut self, target: Target) {
        match target {
            Target::At(label) if self.distance(label) == 0 => {}
            Target::At(label) => {
                self.jump(label);
            }
            Target::Return(word) => {
                self.finish_with(word);
            }
        }
    }

    /// A label for `target` that a branch can reach after at most `room` more instructions.
    fn within_reach(&mut self, target: Target, room: usize) -> Label {
        let label = match target {
            Target::At(label) => Some(label),
            Target::Return(word) => self.returns.get(&word).copied(),
        };
        match (label, target) {
            (Some(label), _) if self.distance(label) + room <= usize::from(u8::MAX) => label,
            (_, Target::At(label)) => self.jump(label),
            (_, Target::Return(word)) => self.finish_with(word),
        }
    }

    /// Puts a jump in front.
    fn jump(&mut self, to: Label) -> Label {
        let k = self.distance(to) as u32;
        self.push(Instruction { code: JUMP, jt: 0, jf: 0, k });
        self.foremost()
    }

    /// Puts a return in front.
    fn finish_with(&mut self, word: u32) -> Label {
        self.push(Instruction { code: RETURN, jt: 0, jf: 0, k: word });
        self.returns.insert(word, self.foremost());
        self.foremost()
    }

    /// Instructions between the next one to be put in front and `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - 1 - label.0
    }

    /// The instruction put in front last.
    fn foremost(&self) -> Label {
        Label(self.reversed.len() - 1)
    }

    /// Puts an instruction in front.
    fn push(&mut self, instruction: Instruction) -> Target {
        self.reversed.push(instruction);
        Target::At(self.foremost())
    }
}
