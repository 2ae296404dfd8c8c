//! From the model to a BPF program.
//!
//! The program first looks up the arch word, then, in the section of that word, the system call's number by a
//! binary search over ranges of numbers that are treated alike, and then the arguments if the number needs it.
//! The kernel walks the program for every number it knows when a filter is loaded (to remember what is always
//! allowed), so a short way to each answer makes loading cheap: a list of comparisons, as libseccomp makes it
//! by default, costs six times as much.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use super::arch::{Arch, CANCELLED};
use super::bpf::{Assembler, IF_EQ, IF_GE, IF_GT, Instruction, MAX_INSTRUCTIONS, Target};
use super::profile::{Action, ArgCheck, Op, Profile, unknown_numbers};
use super::syscalls;

/// Offset of the number in `struct seccomp_data` (linux/seccomp.h).
pub(super) const NUMBER: u32 = 0;
/// Offset of the arch word.
pub(super) const ARCH_WORD: u32 = 4;
/// Offset of the arguments, of 8 bytes each.
pub(super) const ARGUMENTS: u32 = 16;

/// A compiled filter, ready for seccomp(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The instructions, at most 4096.
    pub(crate) instructions: Vec<Instruction>,
    /// The flags to load it with (`SECCOMP_FILTER_FLAG_*`).
    pub(crate) flags: u32,
}

/// Why a profile has no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CompileError {
    /// A rule is about a call that does not exist. It may be newer than this library.
    #[error("seccomp: unknown system call \"{0}\"")]
    UnknownSyscall(String),
    /// A check is about an argument that no call has.
    #[error("seccomp: argument index {0}, but the last argument of a system call is 5")]
    ArgumentIndex(u8),
    /// A call would fail with an errno that none can.
    #[error("seccomp: errno {0}, but the largest is 4095")]
    Errno(u16),
    /// The program is longer than the kernel takes.
    #[error("seccomp: the profile needs {0} instructions, but the kernel takes 4096")]
    TooLong(usize),
    /// The listener could not be handed over.
    #[error("seccomp: a profile that notifies must let {0} through on any arguments")]
    Handover(&'static str),
}

/// Compiles a profile for a machine whose native ABI is `native`.
pub(crate) fn compile(profile: &Profile, native: Arch) -> Result<Program, CompileError> {
    profile.validate()?;
    let mut compiler = Compiler { profile, assembler: Assembler::default() };
    let mut dispatch = compiler.action(profile.refused_abi());
    // The native section and its lookup are laid out last, so they come first and are near each other.
    let sections: Vec<(u32, Target)> =
        sections(profile, native).iter().rev().map(|abis| compiler.section(abis)).collect();
    for (word, section) in sections {
        dispatch = compiler.assembler.branch(IF_EQ, word, section, dispatch);
    }
    compiler.assembler.load(ARCH_WORD, dispatch);
    let instructions = compiler.assembler.finish();
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong(instructions.len()));
    }
    Ok(Program { instructions, flags: profile.load_flags() })
}

impl Program {
    /// Whether loading it gives a listener.
    pub(crate) fn listens(&self) -> bool {
        self.flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32 != 0
    }

    /// The program as the kernel reads it: an array of `struct sock_filter` in this machine's byte order.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let words = self.instructions.iter().flat_map(|instruction| {
            let [c0, c1] = instruction.code.to_ne_bytes();
            let [k0, k1, k2, k3] = instruction.k.to_ne_bytes();
            [c0, c1, instruction.jt, instruction.jf, k0, k1, k2, k3]
        });
        words.collect()
    }
}

/// The enabled ABIs, those that share an arch word together; the native one's first.
fn sections(profile: &Profile, native: Arch) -> Vec<Vec<Arch>> {
    let mut sections: Vec<Vec<Arch>> = Vec::new();
    for arch in profile.enabled(native) {
        match sections.iter_mut().find(|section| section[0].audit_word() == arch.audit_word()) {
            Some(section) => section.push(arch),
            None => sections.push(vec![arch]),
        }
    }
    sections
}

/// What decides a call once its number is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Decision {
    /// Nothing more.
    Always(Action),
    /// Argument checks: the rules with these indices in turn, and if none matches, the action.
    Checked(Vec<usize>, Action),
}

/// All numbers under one arch word, by ranges: where each starts, and its decision. It ends where the next
/// starts; the first starts at 0.
struct Ranges(BTreeMap<u32, Decision>);

impl Ranges {
    /// One range of all numbers.
    fn new(decision: Decision) -> Self {
        Self(BTreeMap::from([(0, decision)]))
    }

    /// Gives some numbers another decision.
    fn set(&mut self, numbers: RangeInclusive<u32>, decision: Decision) {
        let (start, end) = numbers.into_inner();
        if let Some(next) = end.checked_add(1)
            && let Some((_, old)) = self.0.range(..=next).next_back()
        {
            let old = old.clone();
            self.0.entry(next).or_insert(old);
        }
        while let Some((&within, _)) = self.0.range(start..=end).next() {
            self.0.remove(&within);
        }
        self.0.insert(start, decision);
    }

    /// The ranges in order, neighbours with equal decisions joined.
    fn joined(self) -> Vec<(u32, Decision)> {
        let mut joined: Vec<(u32, Decision)> = self.0.into_iter().collect();
        joined.dedup_by(|later, earlier| later.1 == earlier.1);
        joined
    }
}

/// A compilation under way.
struct Compiler<'a> {
    /// What is compiled.
    profile: &'a Profile,
    /// What came of it so far.
    assembler: Assembler,
}

impl Compiler<'_> {
    /// The end of the program with an action.
    fn action(&self, action: Action) -> Target {
        Target::Return(action.word())
    }

    /// Lays out the section of the ABIs that share an arch word; gives the word and the section's start.
    fn section(&mut self, abis: &[Arch]) -> (u32, Target) {
        let mut checks: HashMap<Decision, Target> = HashMap::new();
        let mut search: Vec<(u32, Target)> = Vec::new();
        for (start, decision) in self.ranges(abis).joined() {
            let target = match &decision {
                Decision::Always(action) => self.action(*action),
                Decision::Checked(rules, fallback) => match checks.get(&decision) {
                    Some(&target) => target,
                    None => self.rules(rules, *fallback, abis[0]),
                },
            };
            checks.insert(decision, target);
            search.push((start, target));
        }
        let search = self.search(&search);
        (abis[0].audit_word(), self.assembler.load(NUMBER, search))
    }

    /// What happens to each number in a section.
    fn ranges(&self, abis: &[Arch]) -> Ranges {
        let default = Decision::Always(self.profile.default_action);
        let mut ranges = Ranges::new(Decision::Always(self.profile.refused_abi()));
        ranges.set(CANCELLED..=CANCELLED, default.clone());
        for &abi in abis {
            ranges.set(abi.numbers(), default.clone());
            ranges.set(unknown_numbers(abi), Decision::Always(self.profile.unknown_call()));
            for (number, rules) in self.rules_by_number(abi) {
                ranges.set(number..=number, self.decision(&rules));
            }
        }
        ranges
    }

    /// The indices of the rules about each call of an ABI, in order.
    fn rules_by_number(&self, abi: Arch) -> BTreeMap<u32, Vec<usize>> {
        let mut by_number: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, rule) in self.profile.rules.iter().enumerate() {
            for number in rule.names.iter().filter_map(|name| syscalls::number(abi, name)) {
                by_number.entry(number).or_default().push(index);
            }
        }
        by_number
    }

    /// What some rules come to, without those that change nothing.
    fn decision(&self, rules: &[usize]) -> Decision {
        let rule = |index: &usize| &self.profile.rules[*index];
        let certain = rules.iter().position(|index| rule(index).args.is_empty());
        let fallback = certain.map_or(self.profile.default_action, |at| rule(&rules[at]).action);
        let mut checked = rules[..certain.unwrap_or(rules.len())].to_vec();
        while checked.last().is_some_and(|index| rule(index).action == fallback) {
            checked.pop();
        }
        if checked.is_empty() { Decision::Always(fallback) } else { Decision::Checked(checked, fallback) }
    }

    /// Lays out a binary search for the number, which is in the accumulator.
    fn search(&mut self, ranges: &[(u32, Target)]) -> Target {
        if let [(_, target)] = ranges {
            return *target;
        }
        let (lower, upper) = ranges.split_at(ranges.len() / 2);
        let at = upper[0].0;
        // The lower half is laid out last, so that the branch falls into it.
        let upper = self.search(upper);
        let lower = self.search(lower);
        self.assembler.branch(IF_GE, at, upper, lower)
    }

    /// Lays out rules with checks, tried in turn.
    fn rules(&mut self, rules: &[usize], fallback: Action, abi: Arch) -> Target {
        rules.iter().rev().fold(self.action(fallback), |no, &index| {
            let rule = &self.profile.rules[index];
            rule.args
                .iter()
                .rev()
                .fold(self.action(rule.action), |yes, check| self.check(*check, abi, yes, no))
        })
    }

    /// Lays out one check.
    fn check(&mut self, check: ArgCheck, abi: Arch, yes: Target, no: Target) -> Target {
        // 32-bit ABIs have lower halves only, so the upper half of the value falls away with the argument's.
        let value = Halves::of(check.value);
        let halves = Halves::at(check.index, abi);
        match check.op {
            Op::Eq => self.equal(halves, Halves::ONES, value, yes, no),
            Op::Ne => self.equal(halves, Halves::ONES, value, no, yes),
            Op::MaskedEq => self.equal(halves, value, Halves::of(check.value & check.value_two), yes, no),
            Op::Gt => self.above(IF_GT, halves, value, yes, no),
            Op::Ge => self.above(IF_GE, halves, value, yes, no),
            Op::Lt => self.above(IF_GE, halves, value, no, yes),
            Op::Le => self.above(IF_GT, halves, value, no, yes),
        }
    }

    /// Lays out `argument & mask == value`, for a value within the mask.
    fn equal(&mut self, at: Offsets, mask: Halves, value: Halves, yes: Target, no: Target) -> Target {
        let low = self.equal_half(at.low, mask.low, value.low, yes, no);
        match at.high {
            Some(high) => self.equal_half(high, mask.high, value.high, low, no),
            None => low,
        }
    }

    /// Lays out the same for one half.
    fn equal_half(&mut self, at: u32, mask: u32, value: u32, yes: Target, no: Target) -> Target {
        match mask {
            0 => yes,
            u32::MAX => {
                let branch = self.assembler.branch(IF_EQ, value, yes, no);
                self.assembler.load(at, branch)
            }
            _ => {
                let branch = self.assembler.branch(IF_EQ, value, yes, no);
                let and = self.assembler.and(mask, branch);
                self.assembler.load(at, and)
            }
        }
    }

    /// Lays out `argument > value` or `argument >= value`, as `code` says.
    fn above(&mut self, code: u16, at: Offsets, value: Halves, yes: Target, no: Target) -> Target {
        let branch = self.assembler.branch(code, value.low, yes, no);
        let low = self.assembler.load(at.low, branch);
        let Some(high) = at.high else { return low };
        let tie = self.assembler.branch(IF_EQ, value.high, low, no);
        let branch = self.assembler.branch(IF_GT, value.high, yes, tie);
        self.assembler.load(high, branch)
    }
}

/// A 64-bit value as the 32-bit words that BPF computes with.
#[derive(Clone, Copy)]
struct Halves {
    high: u32,
    low: u32,
}

/// Where in `struct seccomp_data` the halves of an argument lie. There is no upper one on 32-bit ABIs.
#[derive(Clone, Copy)]
struct Offsets {
    high: Option<u32>,
    low: u32,
}

impl Halves {
    /// The mask that keeps everything.
    const ONES: Self = Self { high: u32::MAX, low: u32::MAX };

    /// The halves of a value.
    const fn of(value: u64) -> Self {
        Self { high: (value >> 32) as u32, low: value as u32 }
    }

    /// The places of an argument's halves, lower one first as on all little-endian machines.
    const fn at(index: u8, abi: Arch) -> Offsets {
        let low = ARGUMENTS + 8 * index as u32;
        Offsets { high: if abi.has_32bit_arguments() { None } else { Some(low + 4) }, low }
    }
}
