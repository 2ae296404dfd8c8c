//! Filters of specifications: the program does what the specification says, taken word by word from what the OCI and
//! runc mean by it, and not from the model in between.

use proptest::prelude::*;

use super::Call;
use super::compile::WORDS;
use super::interpret::{run, verify};
use crate::container::seccomp::arch::{Arch, CANCELLED};
use crate::container::seccomp::compile::{CompileError, Program, compile};
use crate::container::seccomp::profile::{Action, Profile, unknown_numbers};
use crate::container::seccomp::{custom_program, syscalls};
use crate::spec::{Seccomp, SeccompAction, SeccompArch, SeccompArg, SeccompOp, SeccompSyscall};

fn program(spec: &Seccomp, native: Arch) -> Program {
    let program = compile(&Profile::custom(spec).unwrap(), native).unwrap();
    verify(&program.instructions);
    program
}

/// The word that seccomp(2) has for an action.
fn word(action: SeccompAction, errno: Option<u32>) -> u32 {
    let errno = errno.unwrap_or(1);
    match action {
        SeccompAction::Kill | SeccompAction::KillThread => 0,
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno => 0x0005_0000 | errno,
        SeccompAction::Notify => 0x7fc0_0000,
        SeccompAction::Trace => 0x7ff0_0000 | errno,
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Allow => 0x7fff_0000,
    }
}

fn holds(arg: &SeccompArg, abi: Arch, call: &Call) -> bool {
    let cut = |value: u64| if matches!(abi, Arch::X86 | Arch::Arm) { value & 0xffff_ffff } else { value };
    let (argument, value) = (cut(call.args[arg.index as usize]), cut(arg.value));
    match arg.op {
        SeccompOp::Ne => argument != value,
        SeccompOp::Lt => argument < value,
        SeccompOp::Le => argument <= value,
        SeccompOp::Eq => argument == value,
        SeccompOp::Ge => argument >= value,
        SeccompOp::Gt => argument > value,
        SeccompOp::MaskedEq => argument & value == cut(arg.value_two) & value,
    }
}

/// Whether a rule with arguments is about a call.
fn matches(rule: &SeccompSyscall, abi: Arch, call: &Call) -> bool {
    let of = |index| rule.args.iter().filter(|arg| arg.index == index).count();
    let mut each = rule.args.iter().map(|arg| holds(arg, abi, call));
    if (0..6).any(|index| of(index) > 1) { each.any(|holds| holds) } else { each.all(|holds| holds) }
}

/// What happens to a call, by the documentation of [`Seccomp`].
fn expected(spec: &Seccomp, native: Arch, call: &Call) -> u32 {
    let default = word(spec.default_action, spec.default_errno_ret);
    let refused = match spec.default_action {
        SeccompAction::Kill | SeccompAction::KillThread => default,
        SeccompAction::KillProcess | SeccompAction::Trap => default,
        _ => 0x0005_0000 | libc::ENOSYS as u32,
    };
    let listed = |arch: Arch| {
        let name = match arch {
            Arch::X86_64 => SeccompArch::X86_64,
            Arch::X86 => SeccompArch::X86,
            Arch::X32 => SeccompArch::X32,
            Arch::Aarch64 => SeccompArch::Aarch64,
            Arch::Arm => SeccompArch::Arm,
        };
        arch == native || arch.runs_on(native) && spec.architectures.contains(&name)
    };
    let all = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];
    let mut of_word = all.into_iter().filter(|&a| listed(a) && a.audit_word() == call.arch_word).peekable();
    if call.number == CANCELLED && of_word.peek().is_some() {
        return default;
    }
    let Some(abi) = of_word.find(|abi| abi.numbers().contains(&call.number)) else { return refused };
    let about = |rule: &&SeccompSyscall| {
        word(rule.action, rule.errno_ret) != default
            && rule.names.iter().any(|name| syscalls::number(abi, name) == Some(call.number))
    };
    let rules: Vec<&SeccompSyscall> = spec.syscalls.iter().filter(about).collect();
    let plain = rules.iter().find(|rule| rule.args.is_empty());
    let rule = plain.or_else(|| rules.iter().find(|rule| matches(rule, abi, call)));
    match rule {
        Some(rule) => word(rule.action, rule.errno_ret),
        None if unknown_numbers(abi).contains(&call.number)
            && spec.default_action == SeccompAction::Errno =>
        {
            refused
        }
        None => default,
    }
}

fn action() -> impl Strategy<Value = (SeccompAction, Option<u32>)> {
    use SeccompAction::*;
    prop_oneof![
        prop::sample::select(vec![Kill, KillProcess, KillThread, Trap, Allow, Log, Errno, Trace])
            .prop_map(|action| (action, None)),
        (prop::sample::select(vec![Errno, Trace]), 0..4096u32).prop_map(|(action, n)| (action, Some(n))),
    ]
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4u64,
        any::<u64>(),
        prop::sample::select(vec![0xffff_ffff, 1 << 32, u64::MAX, 0x7e02_0000, 0x8000_0000])
    ]
}

fn arg() -> impl Strategy<Value = SeccompArg> {
    use SeccompOp::*;
    let op = prop::sample::select(vec![Ne, Lt, Le, Eq, Ge, Gt, MaskedEq]);
    (0..6u32, value(), value(), op).prop_map(|(index, value, value_two, op)| SeccompArg {
        index,
        value,
        value_two,
        op,
    })
}

fn spec() -> impl Strategy<Value = Seccomp> {
    let names =
        vec!["read", "socket", "clone", "ioctl", "execve", "openat", "mkdir", "set_tls", "riscv_hwprobe"];
    let rule = (
        prop::collection::vec(prop::sample::select(names), 1..5),
        action(),
        prop_oneof![Just(Vec::new()), prop::collection::vec(arg(), 1..5)],
    )
        .prop_map(|(names, (action, errno), args)| {
            let mut rule = SeccompSyscall::new(names, action);
            (rule.errno_ret, rule.args) = (errno, args);
            rule
        });
    use SeccompArch::*;
    let architectures =
        prop::collection::vec(prop::sample::select(vec![X86_64, X86, X32, Aarch64, Arm, S390X]), 0..5);
    (action(), architectures, prop::collection::vec(rule, 0..12)).prop_map(
        |((action, errno), archs, rules)| {
            let mut spec = Seccomp::new(action);
            (spec.default_errno_ret, spec.architectures, spec.syscalls) = (errno, archs, rules);
            spec
        },
    )
}

/// Numbers of the calls that rules are about, on all ABIs, and others.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![0..520u32, (0..560u32).prop_map(|n| n | 1 << 30), 0xe_ffffu32..0xf_0007, any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Calls of all numbers with arguments of no meaning, and calls that rules are about with arguments at their edges.
    #[test]
    fn filters_do_what_their_specification_says(
        spec in spec(),
        native in prop::sample::select(vec![Arch::X86_64, Arch::Aarch64]),
        calls in prop::collection::vec((number(), 0..WORDS.len(), prop::array::uniform6(value())), 300),
    ) {
        let program = program(&spec, native);
        let agree = |call: Call| {
            prop_assert_eq!(run(&program.instructions, &call).0, expected(&spec, native, &call), "{:x?}", call);
            Ok(())
        };
        for (number, word, args) in calls {
            agree(Call { number, arch_word: WORDS[word], args })?;
        }
        for abi in [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm] {
            for rule in &spec.syscalls {
                let mut args = [0; 6];
                for arg in &rule.args {
                    args[arg.index as usize] = if arg.op == SeccompOp::MaskedEq { arg.value_two } else { arg.value };
                }
                for number in rule.names.iter().filter_map(|name| syscalls::number(abi, name)) {
                    for index in 0..6 {
                        for change in [0, 1, u64::MAX, 1 << 32, 1 << 63] {
                            let mut args = args;
                            args[index] = args[index].wrapping_add(change);
                            agree(Call { number, arch_word: abi.audit_word(), args })?;
                        }
                    }
                }
            }
        }
    }
}

fn native(name: &str, args: [u64; 6]) -> Call {
    let number = syscalls::number(Arch::X86_64, name).unwrap();
    Call { number, arch_word: Arch::X86_64.audit_word(), args }
}

fn answer(spec: &Seccomp, name: &str, first: u64) -> u32 {
    run(&program(spec, Arch::X86_64).instructions, &native(name, [first, 0, 0, 0, 0, 0])).0
}

const ALLOW: u32 = 0x7fff_0000;

fn rule(name: &str, action: SeccompAction) -> SeccompSyscall {
    SeccompSyscall::new([name], action)
}

#[test]
fn a_rule_without_arguments_decides_wherever_it_stands() {
    use SeccompAction::*;
    let conditional = rule("socket", Errno).errno_ret(22).arg(0, SeccompOp::Eq, 16);
    let plain = rule("socket", Allow);
    for rules in [[conditional.clone(), plain.clone()], [plain, conditional]] {
        let [first, second] = rules;
        let spec = Seccomp::new(Errno).rule(first).rule(second);
        assert_eq!(answer(&spec, "socket", 16), ALLOW);
    }
}

#[test]
fn a_rule_with_the_default_action_changes_nothing() {
    use SeccompAction::*;
    let spec =
        Seccomp::new(Errno).rule(rule("socket", Errno)).rule(rule("socket", Allow).arg(0, SeccompOp::Eq, 1));
    assert_eq!(answer(&spec, "socket", 1), ALLOW);
    assert_eq!(answer(&spec, "socket", 2), 0x0005_0001);
    // Another errno is another action.
    let spec = Seccomp::new(Errno).rule(rule("socket", Errno).errno_ret(38)).rule(rule("socket", Allow).arg(
        0,
        SeccompOp::Eq,
        1,
    ));
    assert_eq!(answer(&spec, "socket", 1), 0x0005_0026);
}

#[test]
fn conditions_on_one_argument_are_alternatives_and_on_several_are_not() {
    use SeccompAction::*;
    use SeccompOp::*;
    let twice = Seccomp::new(Errno).rule(rule("socket", Allow).arg(0, Eq, 1).arg(0, Eq, 2).arg(1, Eq, 7));
    assert_eq!([1, 2, 3].map(|first| answer(&twice, "socket", first)), [ALLOW, ALLOW, 0x0005_0001]);
    let call = native("socket", [9, 7, 0, 0, 0, 0]);
    assert_eq!(run(&program(&twice, Arch::X86_64).instructions, &call).0, ALLOW);
    let both = Seccomp::new(Errno).rule(rule("socket", Allow).arg(0, Eq, 1).arg(1, Eq, 7));
    let socket = |args| run(&program(&both, Arch::X86_64).instructions, &native("socket", args)).0;
    assert_eq!(socket([1, 7, 0, 0, 0, 0]), ALLOW);
    assert_eq!(socket([1, 8, 0, 0, 0, 0]), 0x0005_0001);
    assert_eq!(socket([2, 7, 0, 0, 0, 0]), 0x0005_0001);
}

/// Leaving out a name may make a filter stricter, never weaker.
#[test]
fn an_unknown_name_never_opens_a_hole() {
    use SeccompAction::*;
    for (default, action, skipped) in [
        (Errno, Allow, true),
        (KillProcess, Errno, true),
        (Errno, Notify, true),
        (Allow, Log, true),
        (Allow, Errno, false),
        (Allow, KillProcess, false),
        (Log, Trap, false),
        (Allow, Notify, false),
        (Notify, Errno, false),
        (Trace, Kill, false),
    ] {
        let spec = Seccomp::new(default)
            .rule(rule("raed", action))
            .rule(SeccompSyscall::new(["read", "write"], Allow));
        match Profile::custom(&spec) {
            Ok(_) => assert!(skipped, "{default:?} {action:?}"),
            Err(error) => {
                assert!(!skipped, "{default:?} {action:?}");
                assert_eq!(error, CompileError::UnknownSyscall("raed".into()));
            }
        }
    }
}

/// Init says which number the listener has, and hears when it was taken, under the filter.
#[test]
fn a_filter_that_notifies_lets_the_listener_be_handed_over() {
    use SeccompAction::*;
    let notify = || Seccomp::new(Allow).rule(rule("mkdir", Notify));
    assert!(program(&notify(), Arch::X86_64).listens());
    assert!(!program(&Seccomp::new(Allow), Arch::X86_64).listens());
    for (spec, name) in [
        (notify().rule(rule("write", Notify)), "write"),
        (notify().rule(rule("read", Errno).arg(2, SeccompOp::Eq, 12)), "read"),
        (Seccomp::new(Notify).rule(rule("read", Allow)), "write"),
        (Seccomp::new(Errno).rule(rule("mkdir", Notify)), "read"),
    ] {
        assert_eq!(Profile::custom(&spec).unwrap_err(), CompileError::Handover(name));
    }
    let rest = rule("read", Errno).arg(2, SeccompOp::Eq, 12);
    assert!(Profile::custom(&notify().rule(rest).rule(rule("read", Allow))).is_err());
    let spec = Seccomp::new(Notify).rule(SeccompSyscall::new(["read", "write"], Log));
    assert!(Profile::custom(&spec).is_ok());
}

#[test]
fn a_filter_is_compiled_once() {
    let spec = Seccomp::new(SeccompAction::Errno).rule(rule("read", SeccompAction::Allow));
    let (first, second) = (custom_program(&spec).unwrap(), custom_program(&spec.clone()).unwrap());
    assert!(std::sync::Arc::ptr_eq(&first, &second));
    let other = custom_program(&spec.rule(rule("write", SeccompAction::Allow))).unwrap();
    assert_ne!(first, other);
}

#[test]
fn numbers_that_no_call_can_return_are_refused_without_validation_too() {
    let wrong = rule("read", SeccompAction::Errno).errno_ret(1 << 20);
    let error = custom_program(&Seccomp::new(SeccompAction::Allow).rule(wrong)).unwrap_err();
    assert_eq!(error, CompileError::Errno(u16::MAX));
    let wrong = rule("read", SeccompAction::Log).arg(262, SeccompOp::Eq, 0);
    let error = custom_program(&Seccomp::new(SeccompAction::Allow).rule(wrong)).unwrap_err();
    assert_eq!(error, CompileError::ArgumentIndex(255));
    assert_eq!(Action::Errno(u16::MAX).word(), 0x0005_ffff);
}
