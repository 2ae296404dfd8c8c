//! Profiles made of any bytes, and the program against the evaluator, for `crate::fuzzing`.

#[path = "tests/evaluate.rs"]
mod evaluate;
#[path = "tests/interpret.rs"]
mod interpret;

use std::borrow::Cow;
use std::sync::LazyLock;

use self::evaluate::Evaluator;
use super::arch::Arch;
use super::compile::compile;
use super::profile::{Action, ArgCheck, Flag, Op, Profile, Rule};
use super::syscalls;

/// As in the tests: `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default)]
struct Call {
    number: u32,
    arch_word: u32,
    args: [u64; 6],
}

const ARCHES: [Arch; 5] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];

/// A profile compiles to a program that the kernel takes and that does what the profile says, or to an error.
pub(crate) fn profile(bytes: &[u8]) {
    let mut input = Input(bytes);
    let native = input.one_of(&ARCHES);
    let profile = input.profile();
    let Ok(program) = compile(&profile, native) else { return };
    interpret::verify(&program.instructions);
    assert_eq!(program.to_bytes().len(), program.instructions.len() * 8);
    let evaluator = Evaluator::new(&profile, native);
    let agree = |call: Call| {
        let (word, _) = interpret::run(&program.instructions, &call);
        assert_eq!(word, evaluator.action(&call).word(), "{native:?} {call:x?}\n{profile:?}");
    };
    // What is left of the bytes are calls; and every call that a rule names is made with what it checks for.
    while !input.0.is_empty() {
        agree(input.call(&profile));
    }
    for rule in &profile.rules {
        let mut args = [0; 6];
        for check in &rule.args {
            args[usize::from(check.index)] =
                if check.op == Op::MaskedEq { check.value_two } else { check.value };
        }
        for (abi, name) in ARCHES.iter().flat_map(|abi| rule.names.iter().map(move |name| (*abi, name))) {
            let Some(number) = syscalls::number(abi, name) else { continue };
            agree(Call { number, arch_word: abi.audit_word(), args });
            agree(Call { number, arch_word: abi.audit_word(), args: args.map(|arg| arg.wrapping_add(1)) });
        }
    }
}

/// Bytes to decide by; zeroes when they have run out.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let (head, rest) = self.0.split_at(N.min(self.0.len()));
        taken[..head.len()].copy_from_slice(head);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(u16::from_le_bytes(self.bytes())) % choices.len()]
    }

    fn profile(&mut self) -> Profile {
        const FLAGS: [Flag; 4] = [Flag::Tsync, Flag::Log, Flag::SpecAllow, Flag::WaitKillableRecv];
        Profile {
            default_action: self.action(),
            architectures: (0..self.below(5)).map(|_| self.one_of(&ARCHES)).collect(),
            flags: (0..self.below(3)).map(|_| self.one_of(&FLAGS)).collect(),
            rules: (0..self.below(40)).map(|_| self.rule()).collect(),
        }
    }

    fn action(&mut self) -> Action {
        match self.below(8) {
            0 => Action::Allow,
            1 => Action::KillProcess,
            2 => Action::KillThread,
            3 => Action::Trap,
            4 => Action::Log,
            5 => Action::Notify,
            6 => Action::Errno(u16::from_le_bytes(self.bytes())),
            _ => Action::Trace(u16::from_le_bytes(self.bytes())),
        }
    }

    fn rule(&mut self) -> Rule {
        Rule {
            action: self.action(),
            names: (0..=self.below(12)).map(|_| self.name()).collect(),
            args: (0..self.below(4)).map(|_| self.check()).collect(),
        }
    }

    /// Any name of any ABI; often one of few, so that rules meet.
    fn name(&mut self) -> Cow<'static, str> {
        const FEW: [&str; 4] = ["read", "socket", "clone", "ioctl"];
        static NAMES: LazyLock<[Vec<&'static str>; 3]> = LazyLock::new(|| {
            [Arch::X86_64, Arch::X86, Arch::Aarch64].map(|abi| {
                let mut names: Vec<&'static str> = syscalls::table(abi).keys().copied().collect();
                names.sort_unstable();
                names
            })
        });
        let abi = match self.below(8) {
            few @ 0..4 => return FEW[usize::from(few)].into(),
            4 | 5 => 0,
            6 => 1,
            _ => 2,
        };
        self.one_of(&NAMES[abi]).into()
    }

    /// Often a small number, or one of which a half is all zeroes or ones.
    fn value(&mut self) -> u64 {
        const HALVES: [u64; 5] = [0, 1, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
        match self.below(3) {
            0 => u64::from(self.byte()),
            1 => self.one_of(&HALVES) << 32 | self.one_of(&HALVES),
            _ => u64::from_le_bytes(self.bytes()),
        }
    }

    fn check(&mut self) -> ArgCheck {
        const OPS: [Op; 7] = [Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq];
        // Now and then one that no call has, which is refused.
        let index = if self.below(64) == 63 { 6 } else { self.below(6) };
        ArgCheck { index, op: self.one_of(&OPS), value: self.value(), value_two: self.value() }
    }

    /// A call: of any number, or one that a check of the profile is about, one beside its value.
    fn call(&mut self, profile: &Profile) -> Call {
        let arch_word = if self.below(16) == 15 { 0x8000_0016 } else { self.one_of(&ARCHES).audit_word() };
        let number = match self.below(4) {
            0 => u32::from_le_bytes(self.bytes()),
            1 => 0x4000_0000 | u32::from(u16::from_le_bytes(self.bytes()) % 1024),
            _ => u32::from(u16::from_le_bytes(self.bytes()) % 1024),
        };
        let mut args = [0; 6];
        for arg in &mut args {
            *arg = self.value();
        }
        if !profile.rules.is_empty() {
            let rule = &profile.rules[usize::from(self.byte()) % profile.rules.len()];
            let step = [0, 1, u64::MAX][usize::from(self.below(3))];
            for check in &rule.args {
                args[usize::from(check.index)] = check.value.wrapping_add(step);
            }
        }
        Call { number, arch_word, args }
    }
}
