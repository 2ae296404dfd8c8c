//! The model of a filter, with the semantics of `linux.seccomp` in the OCI runtime specification.

use std::borrow::Cow;

use super::arch::{Arch, CANCELLED};
use super::compile::CompileError;
use super::syscalls;

/// The most arguments a system call has, and so the bound of [`ArgCheck::index`].
const ARGUMENTS: u8 = 6;

/// The largest errno a call can return (`MAX_ERRNO` of linux/err.h). The kernel silently cuts larger ones.
const MAX_ERRNO: u16 = 4095;

/// A whole filter: what happens to every system call of a process.
///
/// For a call, the first of [`rules`](Self::rules) that names it and whose checks all hold decides; if there
/// is none, [`default_action`](Self::default_action) does. Two cases are settled before that:
///
/// - A call of an ABI that is not listed (see [`architectures`](Self::architectures)), which includes x32
///   calls on x86_64, gets [`refused_abi`](Self::refused_abi).
/// - A call with a number above all that this library knows gets [`unknown_call`](Self::unknown_call).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    /// What happens to calls that no rule decides.
    pub(crate) default_action: Action,
    /// ABIs whose calls the rules apply to. The native one is always among them; those that the machine
    /// cannot run are of no effect.
    pub(crate) architectures: Vec<Arch>,
    /// The rules, in the order they are tried.
    pub(crate) rules: Vec<Rule>,
    /// How the filter is to be loaded.
    pub(crate) flags: Vec<Flag>,
}

/// What to do with some system calls, on some arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Names of system calls, as in the kernel's tables. A name that exists on another architecture only
    /// is of no effect; a name that exists nowhere is a [`CompileError::UnknownSyscall`].
    pub(crate) names: Vec<Cow<'static, str>>,
    /// What happens to a call that the rule matches.
    pub(crate) action: Action,
    /// Checks that must all hold for the rule to match; none means every call by these names.
    pub(crate) args: Vec<ArgCheck>,
}

/// A condition on one argument of a call. Arguments are unsigned 64-bit words as they lie in the registers;
/// on 32-bit ABIs both the argument and the values are cut to 32 bits, as the kernel does with the former.
///
/// On 64-bit ABIs the kernel takes arguments of type int from the lower half and ignores the upper one, so a
/// rule that *refuses* such an argument must use [`Op::MaskedEq`] with a mask of 0xffffffff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArgCheck {
    /// Which argument, from 0 to 5.
    pub(crate) index: u8,
    /// The comparison.
    pub(crate) op: Op,
    /// The right-hand side; the mask of [`Op::MaskedEq`].
    pub(crate) value: u64,
    /// The value that the masked argument must equal; unused by other comparisons.
    pub(crate) value_two: u64,
}

/// How an argument is compared (OCI `SCMP_CMP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Not equal.
    Ne,
    /// Less than.
    Lt,
    /// Less than or equal.
    Le,
    /// Equal.
    Eq,
    /// Greater than or equal.
    Ge,
    /// Greater than.
    Gt,
    /// Equal under a mask: `argument & value == value_two & value`.
    MaskedEq,
}

/// What happens to a call (OCI `SCMP_ACT_*`; `SECCOMP_RET_*` of seccomp(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// The call is executed.
    Allow,
    /// The call is not executed and fails with this errno (at most 4095).
    Errno(u16),
    /// The whole process dies by SIGSYS.
    KillProcess,
    /// The calling thread dies by SIGSYS.
    KillThread,
    /// The call is not executed and the thread gets a SIGSYS that it can handle.
    Trap,
    /// The call is executed and logged by the audit subsystem.
    Log,
    /// A tracer (ptrace(2)) is asked, and sees this message; without one the call fails with ENOSYS.
    Trace(u16),
    /// The holder of the filter's listener (seccomp_unotify(2)) is asked.
    Notify,
}

/// How a filter is loaded (OCI `flags`; `SECCOMP_FILTER_FLAG_*` of seccomp(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// All threads of the process take the filter.
    Tsync,
    /// Every action but allow is logged.
    Log,
    /// Speculative store bypass stays as it is.
    SpecAllow,
    /// A notifying thread waits killably once its notification was received (needs [`Action::Notify`]).
    WaitKillableRecv,
}

impl Profile {
    /// What a call of an ABI gets that is not listed: the default action if that kills or traps, and else
    /// ENOSYS, which is what a kernel without the ABI answers. Never anything that lets the call through: a
    /// list of refusals would else be sidestepped by making the call in another ABI.
    pub(super) fn refused_abi(&self) -> Action {
        match self.default_action {
            kill @ (Action::KillProcess | Action::KillThread | Action::Trap) => kill,
            _ => Action::Errno(libc::ENOSYS as u16),
        }
    }

    /// What a call gets whose number is above all that this library knows of an ABI, if not the default:
    /// where the default is an errno, ENOSYS, so that programs made for a newer kernel take the way they
    /// have for older ones. (A C library that meets EPERM takes it for the answer.)
    pub(super) fn unknown_call(&self) -> Action {
        match self.default_action {
            Action::Errno(_) => Action::Errno(libc::ENOSYS as u16),
            other => other,
        }
    }

    /// The ABIs that the rules apply to on a machine, the native one first.
    pub(super) fn enabled(&self, native: Arch) -> Vec<Arch> {
        let mut enabled = vec![native];
        for &arch in &self.architectures {
            if arch.runs_on(native) && !enabled.contains(&arch) {
                enabled.push(arch);
            }
        }
        enabled
    }

    /// Checks what the types cannot.
    pub(super) fn validate(&self) -> Result<(), CompileError> {
        self.default_action.validate()?;
        for rule in &self.rules {
            rule.action.validate()?;
            if let Some(name) = rule.names.iter().find(|name| !syscalls::is_known(name)) {
                return Err(CompileError::UnknownSyscall(name.to_string()));
            }
            if let Some(check) = rule.args.iter().find(|check| check.index >= ARGUMENTS) {
                return Err(CompileError::ArgumentIndex(check.index));
            }
        }
        Ok(())
    }

    /// The flags that seccomp(2) takes. A listener is asked for if any rule notifies.
    pub(super) fn load_flags(&self) -> u32 {
        let mut flags = self.flags.iter().fold(0, |flags, flag| flags | flag.bit());
        let actions = self.rules.iter().map(|rule| rule.action);
        if actions.chain([self.default_action]).any(|action| action == Action::Notify) {
            flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
            if self.flags.contains(&Flag::Tsync) {
                // Both return something: the listener wins, and a failure of the other is ESRCH.
                flags |= libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32;
            }
        }
        flags
    }
}

impl Action {
    /// The word that a filter returns for this action.
    pub(super) const fn word(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
            Self::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
            Self::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Self::Trap => libc::SECCOMP_RET_TRAP,
            Self::Log => libc::SECCOMP_RET_LOG,
            Self::Trace(message) => libc::SECCOMP_RET_TRACE | message as u32,
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
        }
    }

    /// Refuses an errno that no call can return.
    const fn validate(self) -> Result<(), CompileError> {
        match self {
            Self::Errno(errno) if errno > MAX_ERRNO => Err(CompileError::Errno(errno)),
            _ => Ok(()),
        }
    }
}

impl Flag {
    /// The bit of seccomp(2).
    const fn bit(self) -> u32 {
        let bit = match self {
            Self::Tsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
            Self::Log => libc::SECCOMP_FILTER_FLAG_LOG,
            Self::SpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            Self::WaitKillableRecv => libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
        };
        bit as u32
    }
}

/// The range of numbers of an ABI that are newer than all this library knows.
pub(super) fn unknown_numbers(arch: Arch) -> std::ops::RangeInclusive<u32> {
    let end = match arch {
        // Above are the private calls of the 32-bit ARM kernel.
        Arch::Arm => syscalls::ARM_PRIVATE - 1,
        _ => *arch.numbers().end(),
    };
    debug_assert!(end < CANCELLED);
    syscalls::last(arch) + 1..=end
}
