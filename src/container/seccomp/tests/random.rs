//! The compiler against the evaluator, on random profiles.

use std::borrow::Cow;

use proptest::prelude::*;

use super::Call;
use super::compile::{WORDS, prove};
use super::evaluate::Evaluator;
use super::interpret::run;
use crate::container::seccomp::arch::Arch;
use crate::container::seccomp::compile::compile;
use crate::container::seccomp::profile::{Action, ArgCheck, Op, Profile, Rule};
use crate::container::seccomp::syscalls;

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::KillProcess),
        Just(Action::KillThread),
        Just(Action::Trap),
        Just(Action::Log),
        Just(Action::Notify),
        (0..4096u16).prop_map(Action::Errno),
        any::<u16>().prop_map(Action::Trace),
    ]
}

/// A name: often one of few, so that rules meet.
fn name() -> impl Strategy<Value = Cow<'static, str>> {
    let mut names: Vec<&'static str> = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm]
        .into_iter()
        .flat_map(|a| syscalls::table(a).keys().copied())
        .collect();
    names.sort_unstable();
    names.dedup();
    let few = vec!["read", "socket", "clone", "ioctl", "execve"];
    prop_oneof![prop::sample::select(few), prop::sample::select(names)].prop_map(Cow::Borrowed)
}

/// A value: often small, or one where a half is all zeroes or ones.
fn value() -> impl Strategy<Value = u64> {
    let halves = prop::sample::select(vec![0u64, 1, 0x7e02_0000, 0x8000_0000, 0xffff_fffe, 0xffff_ffff]);
    prop_oneof![0..4u64, any::<u64>(), (halves.clone(), halves).prop_map(|(high, low)| high << 32 | low)]
}

fn check() -> impl Strategy<Value = ArgCheck> {
    let op = prop::sample::select(vec![Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq]);
    (0..6u8, op, value(), value()).prop_map(|(index, op, value, value_two)| ArgCheck {
        index,
        op,
        value,
        value_two,
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let names = prop::collection::vec(name(), 1..30);
    let args = prop_oneof![Just(Vec::new()), prop::collection::vec(check(), 1..4)];
    (names, action(), args).prop_map(|(names, action, args)| Rule { names, action, args })
}

fn arch() -> impl Strategy<Value = Arch> {
    prop::sample::select(vec![Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm])
}

fn profile() -> impl Strategy<Value = Profile> {
    let architectures = prop::collection::vec(arch(), 0..5);
    (action(), architectures, prop::collection::vec(rule(), 0..20)).prop_map(
        |(default_action, architectures, rules)| Profile {
            default_action,
            architectures,
            rules,
            flags: Vec::new(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_profiles_compile_to_what_they_say(profile in profile(), native in arch()) {
        prove(&profile, native);
    }

    #[test]
    fn random_calls_get_what_the_profile_says(
        profile in profile(),
        native in arch(),
        calls in prop::collection::vec((0..600u32, 0..WORDS.len(), prop::array::uniform6(value())), 500),
    ) {
        let program = compile(&profile, native).unwrap();
        let evaluator = Evaluator::new(&profile, native);
        for (number, word, args) in calls {
            let call = Call { number, arch_word: WORDS[word], args };
            prop_assert_eq!(run(&program.instructions, &call).0, evaluator.action(&call).word());
        }
    }
}
