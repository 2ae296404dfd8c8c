//! The meaning of a profile, taken word by word from the model: slow and plain.

use std::collections::HashSet;

use super::Call;
use crate::container::seccomp::arch::{Arch, CANCELLED};
use crate::container::seccomp::profile::{Action, ArgCheck, Op, Profile, unknown_numbers};
use crate::container::seccomp::syscalls;

/// A profile on a machine.
pub(super) struct Evaluator<'a> {
    profile: &'a Profile,
    /// For each enabled ABI the numbers of each rule.
    abis: Vec<(Arch, Vec<HashSet<u32>>)>,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(profile: &'a Profile, native: Arch) -> Self {
        let numbers = |abi: Arch| {
            let of_rule = profile.rules.iter().map(move |rule| {
                rule.names.iter().filter_map(|name| syscalls::number(abi, name)).collect::<HashSet<u32>>()
            });
            (abi, of_rule.collect())
        };
        Self { profile, abis: profile.enabled(native).into_iter().map(numbers).collect() }
    }

    /// What happens to a call.
    pub(super) fn action(&self, call: &Call) -> Action {
        let mut of_word = self.abis.iter().filter(|(abi, _)| abi.audit_word() == call.arch_word).peekable();
        if call.number == CANCELLED && of_word.peek().is_some() {
            return self.profile.default_action;
        }
        let Some((abi, numbers)) = of_word.find(|(abi, _)| abi.numbers().contains(&call.number)) else {
            return self.profile.refused_abi();
        };
        for (rule, numbers) in self.profile.rules.iter().zip(numbers) {
            if numbers.contains(&call.number) && rule.args.iter().all(|check| holds(check, *abi, call)) {
                return rule.action;
            }
        }
        if unknown_numbers(*abi).contains(&call.number) {
            self.profile.unknown_call()
        } else {
            self.profile.default_action
        }
    }
}

/// Whether a check holds for a call.
fn holds(check: &ArgCheck, abi: Arch, call: &Call) -> bool {
    let cut = |value: u64| if abi.has_32bit_arguments() { u64::from(value as u32) } else { value };
    let argument = cut(call.args[usize::from(check.index)]);
    let (value, value_two) = (cut(check.value), cut(check.value_two));
    match check.op {
        Op::Ne => argument != value,
        Op::Lt => argument < value,
        Op::Le => argument <= value,
        Op::Eq => argument == value,
        Op::Ge => argument >= value,
        Op::Gt => argument > value,
        Op::MaskedEq => argument & value == value_two & value,
    }
}
