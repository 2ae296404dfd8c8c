//! From a filter of a specification to the model.

use std::borrow::Cow;

use super::arch::Arch;
use super::compile::CompileError;
use super::profile::{Action, ArgCheck, Flag, Op, Profile, Rule};
use super::syscalls;
use crate::spec::{Seccomp, SeccompAction, SeccompArch, SeccompArg, SeccompFlag, SeccompOp, SeccompSyscall};

/// Calls by which init hands the listener over after the filter was loaded.
const HANDOVER: [&str; 2] = ["read", "write"];

impl Profile {
    /// The model of a filter.
    ///
    /// The model tries rules in their order, and libseccomp, by which OCI specifications are understood, does not: a
    /// rule without arguments decides wherever it stands. So these come first.
    pub(crate) fn custom(spec: &Seccomp) -> Result<Self, CompileError> {
        let default_action = action(spec.default_action, spec.default_errno_ret);
        let mut rules: Vec<Rule> = Vec::new();
        for given in &spec.syscalls {
            let action = action(given.action, given.errno_ret);
            // As in runc. Else a rule that says nothing new could stand in the way of one that does.
            if action == default_action {
                continue;
            }
            let names = known(given, action, default_action)?;
            if names.is_empty() {
                continue;
            }
            for args in alternatives(&given.args) {
                rules.push(Rule { names: names.clone(), action, args });
            }
        }
        rules.sort_by_key(|rule| !rule.args.is_empty());
        let profile = Profile {
            default_action,
            architectures: spec.architectures.iter().filter_map(|&arch| abi(arch)).collect(),
            rules,
            flags: spec.flags.iter().map(|&given| flag(given)).collect(),
        };
        if spec.notifies()
            && let Some(name) = HANDOVER.into_iter().find(|name| !profile.always_passes(name))
        {
            return Err(CompileError::Handover(name));
        }
        Ok(profile)
    }

    /// Whether a call is let through whatever its arguments are.
    fn always_passes(&self, name: &str) -> bool {
        let mut about = self.rules.iter().filter(|rule| rule.names.iter().any(|n| n == name));
        match about.next() {
            Some(rule) => rule.args.is_empty() && passes(rule.action),
            None => passes(self.default_action),
        }
    }
}

/// Whether a call gets to the kernel without anybody being asked.
fn passes(action: Action) -> bool {
    matches!(action, Action::Allow | Action::Log)
}

/// Whether a call can get to the kernel.
fn may_pass(action: Action) -> bool {
    passes(action) || matches!(action, Action::Trace(_) | Action::Notify)
}

/// The names of a rule without those that are not known, where leaving them out opens nothing.
fn known(
    rule: &SeccompSyscall,
    action: Action,
    default: Action,
) -> Result<Vec<Cow<'static, str>>, CompileError> {
    let mut names = Vec::with_capacity(rule.names.len());
    for name in &rule.names {
        if syscalls::is_known(name) {
            names.push(Cow::Owned(name.clone()));
        } else if may_pass(default) && !passes(action) {
            return Err(CompileError::UnknownSyscall(name.clone()));
        }
    }
    Ok(names)
}

/// The checks of a rule: all together, or each alone when an argument is checked twice. This is what runc makes of
/// them, since libseccomp takes one condition for an argument.
fn alternatives(args: &[SeccompArg]) -> Vec<Vec<ArgCheck>> {
    let mut indices: Vec<u32> = args.iter().map(|arg| arg.index).collect();
    indices.sort_unstable();
    let twice = indices.windows(2).any(|pair| pair[0] == pair[1]);
    let checks = args.iter().map(|&arg| check(arg));
    if twice { checks.map(|check| vec![check]).collect() } else { vec![checks.collect()] }
}

fn check(arg: SeccompArg) -> ArgCheck {
    let op = match arg.op {
        SeccompOp::Ne => Op::Ne,
        SeccompOp::Lt => Op::Lt,
        SeccompOp::Le => Op::Le,
        SeccompOp::Eq => Op::Eq,
        SeccompOp::Ge => Op::Ge,
        SeccompOp::Gt => Op::Gt,
        SeccompOp::MaskedEq => Op::MaskedEq,
    };
    // What is no index stays none, and is refused with the rest of the profile.
    let index = u8::try_from(arg.index).unwrap_or(u8::MAX);
    ArgCheck { index, op, value: arg.value, value_two: arg.value_two }
}

fn action(action: SeccompAction, errno: Option<u32>) -> Action {
    // What is too large stays so, and is refused with the rest of the profile.
    let errno = errno.map_or(libc::EPERM as u16, |errno| u16::try_from(errno).unwrap_or(u16::MAX));
    match action {
        SeccompAction::Kill | SeccompAction::KillThread => Action::KillThread,
        SeccompAction::KillProcess => Action::KillProcess,
        SeccompAction::Trap => Action::Trap,
        SeccompAction::Errno => Action::Errno(errno),
        SeccompAction::Trace => Action::Trace(errno),
        SeccompAction::Allow => Action::Allow,
        SeccompAction::Log => Action::Log,
        SeccompAction::Notify => Action::Notify,
    }
}

fn flag(flag: SeccompFlag) -> Flag {
    match flag {
        SeccompFlag::Tsync => Flag::Tsync,
        SeccompFlag::Log => Flag::Log,
        SeccompFlag::SpecAllow => Flag::SpecAllow,
        SeccompFlag::WaitKillableRecv => Flag::WaitKillableRecv,
    }
}

/// The ABI, if a machine that this library runs on can have it.
fn abi(arch: SeccompArch) -> Option<Arch> {
    match arch {
        SeccompArch::X86_64 => Some(Arch::X86_64),
        SeccompArch::X86 => Some(Arch::X86),
        SeccompArch::X32 => Some(Arch::X32),
        SeccompArch::Aarch64 => Some(Arch::Aarch64),
        SeccompArch::Arm => Some(Arch::Arm),
        _ => None,
    }
}
