//! The compiler against the evaluator, on chosen profiles.

use std::borrow::Cow;

use super::Call;
use super::evaluate::Evaluator;
use super::interpret::{run, verify};
use crate::container::seccomp::arch::{Arch, X32_BIT};
use crate::container::seccomp::bpf::MAX_INSTRUCTIONS;
use crate::container::seccomp::compile::{CompileError, Program, compile};
use crate::container::seccomp::profile::{Action, ArgCheck, Flag, Op, Profile, Rule};
use crate::container::seccomp::syscalls;

/// The arch words of all ABIs, and one of none.
pub(super) const WORDS: [u32; 5] = [0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0x8000_0016];

/// Every number that can matter: all small ones, x32, private ARM calls, and far ones.
pub(super) fn numbers() -> impl Iterator<Item = u32> {
    let far = [0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff, X32_BIT - 1];
    (0..=1023).chain(X32_BIT..=X32_BIT + 1023).chain(0xe_ffff..=0xf_0007).chain(far)
}

/// Values around those that a check compares with: neighbours, and every one with other upper halves.
pub(super) fn around(check: &ArgCheck) -> Vec<u64> {
    let mut values = vec![0, 1, u64::MAX];
    for value in [check.value, check.value_two, check.value & check.value_two] {
        for near in [value.wrapping_sub(1), value, value.wrapping_add(1), !value] {
            let halves = [near, near ^ 1 << 32, near ^ 1 << 63, near & 0xffff_ffff, near | 0xffff_ffff << 32];
            values.extend(halves);
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// Compiles a profile and proves the program equal to it, call by call. Calls without checked arguments are tried
/// with one set of arguments, others with a grid.
pub(super) fn prove(profile: &Profile, native: Arch) -> Program {
    let program = compile(profile, native).unwrap();
    verify(&program.instructions);
    let evaluator = Evaluator::new(profile, native);
    let agree = |call: Call| {
        let expected = evaluator.action(&call).word();
        let (word, _) = run(&program.instructions, &call);
        assert_eq!(word, expected, "{native:?} {call:x?}: {word:#x}, not {expected:#x}\n{profile:?}");
    };
    for arch_word in WORDS {
        for number in numbers() {
            agree(Call { number, arch_word, args: [0; 6] });
        }
    }
    for abi in profile.enabled(native) {
        let mut checked: Vec<u32> = Vec::new();
        for rule in profile.rules.iter().filter(|rule| !rule.args.is_empty()) {
            checked.extend(rule.names.iter().filter_map(|name| syscalls::number(abi, name)));
        }
        checked.sort_unstable();
        checked.dedup();
        for number in checked {
            let about =
                |rule: &&Rule| rule.names.iter().any(|name| syscalls::number(abi, name) == Some(number));
            let rules: Vec<&Rule> = profile.rules.iter().filter(about).collect();
            for args in grid(&rules) {
                agree(Call { number, arch_word: abi.audit_word(), args });
            }
        }
    }
    program
}

/// Arguments that try every check of some rules: for each rule, each argument at each of its edges while the
/// others hold what the rule asks for, and while they do not.
fn grid(rules: &[&Rule]) -> Vec<[u64; 6]> {
    let edges: Vec<(usize, u64)> = rules
        .iter()
        .flat_map(|rule| rule.args.iter())
        .flat_map(|check| around(check).into_iter().map(|value| (usize::from(check.index), value)))
        .collect();
    let mut grid = vec![[0; 6], [u64::MAX; 6]];
    for rule in rules {
        let mut base = [0; 6];
        for check in &rule.args {
            base[usize::from(check.index)] =
                if check.op == Op::MaskedEq { check.value & check.value_two } else { check.value };
        }
        for &(index, value) in &edges {
            for mut args in [base, [0; 6], [u64::MAX; 6]] {
                args[index] = value;
                grid.push(args);
            }
        }
    }
    grid.sort_unstable();
    grid.dedup();
    grid
}

/// A profile with rules for the native ABI and its 32-bit one.
fn profile(default_action: Action, rules: Vec<Rule>) -> Profile {
    Profile { default_action, architectures: vec![Arch::X86, Arch::Arm], rules, flags: Vec::new() }
}

fn rule(names: &[&'static str], action: Action, args: &[(u8, Op, u64, u64)]) -> Rule {
    let check = |&(index, op, value, value_two)| ArgCheck { index, op, value, value_two };
    Rule {
        names: names.iter().map(|&name| Cow::Borrowed(name)).collect(),
        action,
        args: args.iter().map(check).collect(),
    }
}

const OPS: [Op; 7] = [Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq];
const NATIVES: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

#[test]
fn the_default_profile_compiles_to_what_it_says() {
    for native in NATIVES {
        for capabilities in [0, 1 << 21, 1 << 19 | 1 << 38, u64::MAX] {
            prove(&Profile::default_profile(capabilities), native);
        }
    }
}

#[test]
fn x32_is_a_section_of_its_own_when_asked_for() {
    let mut with_x32 = Profile::default_profile(0);
    with_x32.architectures.push(Arch::X32);
    let program = prove(&with_x32, Arch::X86_64);
    let call = |number| Call { number, arch_word: Arch::X86_64.audit_word(), args: [0; 6] };
    let (execve, getpid) = (X32_BIT | 520, X32_BIT | 39);
    assert_eq!(run(&program.instructions, &call(execve)).0, Action::Allow.word());
    assert_eq!(run(&program.instructions, &call(getpid)).0, Action::Allow.word());
    // 59 is execve on x86_64 only.
    assert_eq!(run(&program.instructions, &call(X32_BIT | 59)).0, Action::Errno(1).word());
    prove(&with_x32, Arch::X32);
}

#[test]
fn an_unlisted_abi_is_never_let_through() {
    for default in [Action::Allow, Action::Log, Action::Trace(1), Action::Notify, Action::Errno(1)] {
        let program =
            compile(&Profile { architectures: vec![], ..profile(default, vec![]) }, Arch::X86_64).unwrap();
        for (number, arch_word) in [(0, 0x4000_0003), (X32_BIT, 0xc000_003e), (X32_BIT | 59, 0xc000_003e)] {
            let (word, _) = run(&program.instructions, &Call { number, arch_word, args: [0; 6] });
            assert_eq!(word, Action::Errno(libc::ENOSYS as u16).word(), "{default:?}");
        }
    }
    for default in [Action::KillProcess, Action::KillThread, Action::Trap] {
        let program =
            compile(&Profile { architectures: vec![], ..profile(default, vec![]) }, Arch::X86_64).unwrap();
        let (word, _) = run(&program.instructions, &Call { number: 0, arch_word: 0x4000_0003, args: [0; 6] });
        assert_eq!(word, default.word());
    }
}

#[test]
fn calls_of_the_future_are_absent_under_an_errno_default() {
    for (default, expected) in [
        (Action::Errno(1), Action::Errno(libc::ENOSYS as u16)),
        (Action::KillProcess, Action::KillProcess),
        (Action::Allow, Action::Allow),
    ] {
        let program = prove(&profile(default, vec![]), Arch::X86_64);
        let call = Call { number: 1000, arch_word: Arch::X86_64.audit_word(), args: [0; 6] };
        assert_eq!(run(&program.instructions, &call).0, expected.word());
    }
}

#[test]
fn every_comparison_on_every_argument() {
    let values = [0, 1, 0x26, 0xffff_ffff, 1 << 32, 0x1_0000_0026, 0xdead_beef_0000_0001, u64::MAX];
    for native in NATIVES {
        for op in OPS {
            for (at, &value) in values.iter().enumerate() {
                let index = (at % 6) as u8;
                let value_two = values[(at + 3) % values.len()];
                let rules =
                    vec![rule(&["read", "socket"], Action::Errno(2), &[(index, op, value, value_two)])];
                prove(&profile(Action::Allow, rules), native);
            }
        }
    }
}

#[test]
fn upper_halves_do_not_count_on_32_bit_abis() {
    // `int 0x80` of a 64-bit program: the filter sees whole registers, the call their lower halves.
    let rules = vec![
        rule(&["socket"], Action::Allow, &[(0, Op::Gt, 40, 0)]),
        rule(&["socket"], Action::Log, &[(0, Op::Eq, u64::MAX << 32 | 2, 0)]),
    ];
    for (native, abi) in [(Arch::X86_64, Arch::X86), (Arch::Aarch64, Arch::Arm)] {
        let program = compile(&profile(Action::Errno(1), rules.clone()), native).unwrap();
        let socket = |abi: Arch, first: u64| {
            let number = syscalls::number(abi, "socket").unwrap();
            let call = Call { number, arch_word: abi.audit_word(), args: [first, 0, 0, 0, 0, 0] };
            run(&program.instructions, &call).0
        };
        let garbage = 0xdead_beef << 32;
        assert_eq!(socket(abi, garbage | 38), Action::Errno(1).word());
        assert_eq!(socket(abi, garbage | 41), Action::Allow.word());
        assert_eq!(socket(abi, 2), Action::Log.word());
        assert_eq!(socket(native, garbage | 38), Action::Allow.word());
        assert_eq!(socket(native, 2), Action::Errno(1).word());
    }
}

#[test]
fn rules_of_one_call_are_tried_in_order() {
    let rules = vec![
        rule(&["ioctl"], Action::Errno(1), &[(1, Op::MaskedEq, 0xffff_ffff, 0x5412), (0, Op::Le, 2, 0)]),
        rule(&["ioctl", "fcntl"], Action::Log, &[(1, Op::Ge, 0x5400, 0), (1, Op::Lt, 0x5500, 0)]),
        rule(&["ioctl"], Action::Allow, &[]),
        rule(&["ioctl"], Action::KillProcess, &[(2, Op::Eq, 7, 0)]),
        rule(&["fcntl"], Action::Trace(9), &[(1, Op::Ne, 0, 0)]),
        rule(&["fcntl"], Action::Notify, &[(2, Op::Gt, 0x1_0000_0000, 0)]),
    ];
    for native in NATIVES {
        let program = prove(&profile(Action::Errno(38), rules.clone()), native);
        assert_eq!(program.flags, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32);
    }
}

#[test]
fn far_targets_are_reached_by_trampolines() {
    // Alternating actions on all calls, and long chains of checks on some: sections of over a thousand words.
    let names: Vec<&'static str> = syscalls::table(Arch::X86_64).keys().copied().collect();
    let mut rules: Vec<Rule> = Vec::new();
    for (at, &name) in names.iter().enumerate() {
        let action = Action::Errno(at as u16);
        if at % 24 == 0 {
            for value in 0..8 {
                rules.push(rule(
                    &[name],
                    action,
                    &[(0, Op::Eq, value << 33 | value, 0), (5, Op::Ne, value, 0)],
                ));
                rules.push(rule(&[name], Action::Trace(value as u16), &[(1, Op::Ge, value << 20, 0)]));
            }
        } else {
            rules.push(rule(&[name], action, &[]));
        }
    }
    let program = prove(&Profile { architectures: vec![], ..profile(Action::Allow, rules) }, Arch::X86_64);
    assert!(program.instructions.len() > 1500, "{}", program.instructions.len());
}

#[test]
fn a_program_that_the_kernel_would_not_take_is_an_error() {
    let rules = (0..2000).map(|value| rule(&["read"], Action::Allow, &[(0, Op::Eq, value, 0)])).collect();
    let error = compile(&profile(Action::Errno(1), rules), Arch::X86_64).unwrap_err();
    assert!(matches!(error, CompileError::TooLong(length) if length > MAX_INSTRUCTIONS), "{error}");
}

#[test]
fn nonsense_is_an_error() {
    let compile = |rules| compile(&profile(Action::Errno(1), rules), Arch::X86_64).unwrap_err();
    let error = compile(vec![rule(&["raed"], Action::Allow, &[])]);
    assert_eq!(error.to_string(), "seccomp: unknown system call \"raed\"");
    assert_eq!(
        compile(vec![rule(&["read"], Action::Allow, &[(6, Op::Eq, 0, 0)])]),
        CompileError::ArgumentIndex(6)
    );
    assert_eq!(compile(vec![rule(&["read"], Action::Errno(4096), &[])]), CompileError::Errno(4096));
}

#[test]
fn names_of_other_architectures_are_of_no_effect() {
    let rules = vec![rule(&["riscv_hwprobe", "s390_sthyi", "set_tls"], Action::Allow, &[])];
    let nothing = compile(&profile(Action::Errno(1), vec![]), Arch::X86_64).unwrap();
    assert_eq!(compile(&profile(Action::Errno(1), rules), Arch::X86_64).unwrap(), nothing);
}

#[test]
fn flags_are_those_of_the_kernel() {
    let flags = |flags: &[Flag], default| {
        compile(&Profile { flags: flags.to_vec(), ..profile(default, vec![]) }, Arch::X86_64).unwrap().flags
    };
    assert_eq!(flags(&[], Action::Allow), 0);
    assert_eq!(flags(&[Flag::Tsync, Flag::Log, Flag::SpecAllow], Action::Allow), 0b111);
    assert_eq!(flags(&[Flag::WaitKillableRecv], Action::Notify), 0b10_1000);
    assert_eq!(flags(&[Flag::Tsync], Action::Notify), 0b1_1001);
}

#[test]
fn bytes_are_the_kernels_layout() {
    let program = compile(&Profile::default_profile(0), Arch::X86_64).unwrap();
    let bytes = program.to_bytes();
    assert_eq!(bytes.len(), 8 * program.instructions.len());
    // LD W ABS 4: the arch word comes first.
    assert_eq!(bytes[..8], [0x20, 0, 0, 0, 4, 0, 0, 0]);
}
