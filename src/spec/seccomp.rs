//! A system call filter of one's own, in the shape of `linux.seccomp` of the OCI runtime specification.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::validate::absolute;
use crate::error::{Error, Result};

/// A system call filter. Its JSON is that of `linux.seccomp` in an OCI `config.json`.
///
/// For a call, these decide in turn: a rule that names it without arguments, the first of them if there are several;
/// the first rule that names it and whose arguments all hold; the default action. So it is with libseccomp, for rules
/// that do not contradict each other. A rule with the default action changes nothing, as in runc.
///
/// A name that no table of this library has is skipped where that cannot let anything through: if the rule is one that
/// lets calls through, or the default action is one that does not. Otherwise it is an error, since a misspelt name would
/// leave a hole. `docs/seccomp.md` has all of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Seccomp {
    /// What happens to calls that no rule is about.
    pub default_action: SeccompAction,
    /// What such a call fails with, if the default action is `Errno` (`EPERM` unless given), or the message to the
    /// tracer, if it is `Trace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// ABIs that the rules are for; the machine's native one always is. Calls of another one are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<SeccompArch>,
    /// How the filter is loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<SeccompFlag>,
    /// The rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<SeccompSyscall>,
    /// The socket of a program that answers notifications: it gets the listener with the OCI container process state.
    /// Without it the listener is taken by `Container::take_seccomp_listener`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<PathBuf>,
    /// What that program is told besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
}

/// A rule: what happens to some calls, on some arguments.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct SeccompSyscall {
    /// Names of calls, as in the kernel's tables. One that only other architectures have is of no effect.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: SeccompAction,
    /// As [`Seccomp::default_errno_ret`], for this action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions on arguments. All must hold; but if two of them are about the same argument, any of all these is
    /// enough, as in runc.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<SeccompArg>,
}

/// A condition on an argument of a call, compared as an unsigned number of 64 bits (of 32 where registers have 32).
///
/// A call takes an argument of type int from the lower half of the register: a rule that refuses some must look at
/// that half only, by `MaskedEq` with the mask 0xffffffff, or it is sidestepped by garbage in the upper half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeccompArg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// What it is compared with; the mask of `MaskedEq`.
    pub value: u64,
    /// For `MaskedEq`, what the masked argument must be.
    #[serde(default)]
    pub value_two: u64,
    /// The comparison.
    pub op: SeccompOp,
}

/// What happens to a call, see seccomp(2). In JSON `"SCMP_ACT_ALLOW"` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SeccompAction {
    /// The thread dies by `SIGSYS`: the older name of [`KillThread`](Self::KillThread).
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    /// The process dies by `SIGSYS`.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// The thread dies by `SIGSYS`.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// The thread gets a `SIGSYS` that it can handle.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// The call fails.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// A tracer is asked; without one the call fails with `ENOSYS`.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// The call is executed.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// The call is executed and logged.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// The holder of the listener is asked, see seccomp_unotify(2).
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// A comparison. In JSON `"SCMP_CMP_EQ"` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SeccompOp {
    /// Not equal.
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    /// Less.
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    /// Less or equal.
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    /// Equal.
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    /// Greater or equal.
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    /// Greater.
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    /// Equal in the bits of the mask: `argument & value == value_two & value`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// How a filter is loaded, see seccomp(2). In JSON `"SECCOMP_FILTER_FLAG_LOG"` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SeccompFlag {
    /// For all threads. (There is one.)
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    Tsync,
    /// Every action but `Allow` is logged.
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    /// Speculative store bypass stays as it is.
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    SpecAllow,
    /// Who waits for the holder of the listener can be interrupted by fatal signals only.
    #[serde(rename = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    WaitKillableRecv,
}

/// An ABI. In JSON `"SCMP_ARCH_X86_64"` and so on. Those that a machine cannot run are of no effect on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of libseccomp")]
#[non_exhaustive]
pub enum SeccompArch {
    #[serde(rename = "SCMP_ARCH_X86_64")]
    X86_64,
    #[serde(rename = "SCMP_ARCH_X86")]
    X86,
    #[serde(rename = "SCMP_ARCH_X32")]
    X32,
    #[serde(rename = "SCMP_ARCH_AARCH64")]
    Aarch64,
    #[serde(rename = "SCMP_ARCH_ARM")]
    Arm,
    #[serde(rename = "SCMP_ARCH_MIPS")]
    Mips,
    #[serde(rename = "SCMP_ARCH_MIPS64")]
    Mips64,
    #[serde(rename = "SCMP_ARCH_MIPS64N32")]
    Mips64N32,
    #[serde(rename = "SCMP_ARCH_MIPSEL")]
    Mipsel,
    #[serde(rename = "SCMP_ARCH_MIPSEL64")]
    Mipsel64,
    #[serde(rename = "SCMP_ARCH_MIPSEL64N32")]
    Mipsel64N32,
    #[serde(rename = "SCMP_ARCH_PPC")]
    Ppc,
    #[serde(rename = "SCMP_ARCH_PPC64")]
    Ppc64,
    #[serde(rename = "SCMP_ARCH_PPC64LE")]
    Ppc64Le,
    #[serde(rename = "SCMP_ARCH_S390")]
    S390,
    #[serde(rename = "SCMP_ARCH_S390X")]
    S390X,
    #[serde(rename = "SCMP_ARCH_PARISC")]
    Parisc,
    #[serde(rename = "SCMP_ARCH_PARISC64")]
    Parisc64,
    #[serde(rename = "SCMP_ARCH_RISCV64")]
    Riscv64,
    #[serde(rename = "SCMP_ARCH_LOONGARCH64")]
    Loongarch64,
    #[serde(rename = "SCMP_ARCH_M68K")]
    M68k,
    #[serde(rename = "SCMP_ARCH_SH")]
    Sh,
    #[serde(rename = "SCMP_ARCH_SHEB")]
    Sheb,
}

/// The largest errno a call can return (`MAX_ERRNO` of linux/err.h).
const MAX_ERRNO: u32 = 4095;
/// Rules of one filter, names and conditions of one rule. The kernel takes 4096 instructions.
const MAX_RULES: usize = 4096;
const MAX_NAMES: usize = 2048;
const MAX_ARGS: usize = 64;
/// Names times conditions of all rules: a bound on the work of compiling.
const MAX_CONDITIONS: usize = 65536;
/// `sun_path` of unix(7), with its NUL.
const MAX_SOCKET_PATH: usize = 108;
/// Bytes of what a supervisor is told besides.
const MAX_METADATA: usize = 64 << 10;

impl Seccomp {
    /// A filter without rules.
    pub fn new(default_action: SeccompAction) -> Self {
        Seccomp {
            default_action,
            default_errno_ret: None,
            architectures: Vec::new(),
            flags: Vec::new(),
            syscalls: Vec::new(),
            listener_path: None,
            listener_metadata: None,
        }
    }

    /// Sets [`default_errno_ret`](Self::default_errno_ret).
    pub fn default_errno_ret(mut self, errno: u32) -> Self {
        self.default_errno_ret = Some(errno);
        self
    }

    /// Adds an ABI.
    pub fn architecture(mut self, architecture: SeccompArch) -> Self {
        self.architectures.push(architecture);
        self
    }

    /// Adds a flag.
    pub fn flag(mut self, flag: SeccompFlag) -> Self {
        self.flags.push(flag);
        self
    }

    /// Adds a rule.
    pub fn rule(mut self, rule: SeccompSyscall) -> Self {
        self.syscalls.push(rule);
        self
    }

    /// Sets [`listener_path`](Self::listener_path).
    pub fn listener_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.listener_path = Some(path.into());
        self
    }

    /// Sets [`listener_metadata`](Self::listener_metadata).
    pub fn listener_metadata(mut self, metadata: impl Into<String>) -> Self {
        self.listener_metadata = Some(metadata.into());
        self
    }

    /// Whether some call asks the holder of a listener.
    pub(crate) fn notifies(&self) -> bool {
        let actions = self.syscalls.iter().map(|rule| rule.action);
        actions.chain([self.default_action]).any(|action| action == SeccompAction::Notify)
    }

    /// Checks everything but the names of calls.
    pub(super) fn validate(&self) -> Result<()> {
        let field = |name: &str| format!("security.seccomp.{name}");
        errno(&field("defaultErrnoRet"), self.default_action, self.default_errno_ret)?;
        if self.syscalls.len() > MAX_RULES || self.architectures.len() > 64 || self.flags.len() > 64 {
            return Err(Error::invalid(
                field("syscalls"),
                format!("more than {MAX_RULES} rules, or 64 architectures or flags"),
            ));
        }
        let mut conditions = 0;
        for (index, rule) in self.syscalls.iter().enumerate() {
            let field = |name: &str| format!("security.seccomp.syscalls[{index}].{name}");
            errno(&field("errnoRet"), rule.action, rule.errno_ret)?;
            if rule.names.is_empty() || rule.names.len() > MAX_NAMES {
                return Err(Error::invalid(field("names"), format!("must be 1 to {MAX_NAMES}")));
            }
            if rule.args.len() > MAX_ARGS {
                return Err(Error::invalid(field("args"), format!("are more than {MAX_ARGS}")));
            }
            if let Some(arg) = rule.args.iter().find(|arg| arg.index > 5) {
                return Err(Error::invalid(
                    field("args"),
                    format!("index {}, but a system call has arguments 0 to 5", arg.index),
                ));
            }
            conditions += rule.names.len() * rule.args.len().max(1);
        }
        if conditions > MAX_CONDITIONS {
            return Err(Error::invalid(field("syscalls"), "are more than any filter can hold"));
        }
        if self.flags.contains(&SeccompFlag::WaitKillableRecv) && !self.notifies() {
            return Err(Error::invalid(field("flags"), "WAIT_KILLABLE_RECV needs a rule that notifies"));
        }
        if let Some(path) = &self.listener_path {
            absolute(&field("listenerPath"), path)?;
            if path.as_os_str().len() >= MAX_SOCKET_PATH {
                return Err(Error::invalid(field("listenerPath"), "is longer than 107 bytes (unix(7))"));
            }
        }
        match &self.listener_metadata {
            Some(_) if self.listener_path.is_none() => {
                Err(Error::invalid(field("listenerMetadata"), "has nobody to go to without listenerPath"))
            }
            Some(metadata) if metadata.len() > MAX_METADATA => {
                Err(Error::invalid(field("listenerMetadata"), "is longer than 64 KiB"))
            }
            _ => Ok(()),
        }
    }
}

/// Checks that an action takes a number, and this one.
fn errno(field: &str, action: SeccompAction, number: Option<u32>) -> Result<()> {
    let largest = match (action, number) {
        (_, None) => return Ok(()),
        (SeccompAction::Errno, _) => MAX_ERRNO,
        (SeccompAction::Trace, _) => u16::MAX.into(),
        _ => return Err(Error::invalid(field, format!("{action:?} takes no number"))),
    };
    match number {
        Some(number) if number > largest => Err(Error::invalid(
            field,
            format!("{number} is above {largest}, the largest that {action:?} takes"),
        )),
        _ => Ok(()),
    }
}

impl SeccompSyscall {
    /// A rule for all calls by these names.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>, action: SeccompAction) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        SeccompSyscall { names, action, errno_ret: None, args: Vec::new() }
    }

    /// Sets [`errno_ret`](Self::errno_ret).
    pub fn errno_ret(mut self, errno: u32) -> Self {
        self.errno_ret = Some(errno);
        self
    }

    /// Adds a condition with one value.
    pub fn arg(self, index: u32, op: SeccompOp, value: u64) -> Self {
        self.condition(SeccompArg { index, value, value_two: 0, op })
    }

    /// Adds the condition that an argument, cut to the bits of a mask, is that value.
    pub fn masked_arg(self, index: u32, mask: u64, value: u64) -> Self {
        self.condition(SeccompArg { index, value: mask, value_two: value, op: SeccompOp::MaskedEq })
    }

    fn condition(mut self, arg: SeccompArg) -> Self {
        self.args.push(arg);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_that_of_the_oci() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X32"],"flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"},{"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38}],"listenerPath":"/run/agent","listenerMetadata":"x"}"#;
        let profile: Seccomp = serde_json::from_str(json).unwrap();
        profile.validate().unwrap();
        let made = Seccomp::new(SeccompAction::Errno)
            .default_errno_ret(38)
            .architecture(SeccompArch::X86_64)
            .architecture(SeccompArch::X32)
            .flag(SeccompFlag::Log)
            .rule(SeccompSyscall::new(["clone"], SeccompAction::Allow).masked_arg(0, 0x7e02_0000, 0))
            .rule(SeccompSyscall::new(["mkdir"], SeccompAction::Notify))
            .rule(SeccompSyscall::new(["clone3"], SeccompAction::Errno).errno_ret(38))
            .listener_path("/run/agent")
            .listener_metadata("x");
        assert_eq!(profile, made);
        assert_eq!(serde_json::to_string(&profile).unwrap(), json);
        // valueTwo may be missing, as OCI documents often leave it out.
        let arg: SeccompArg = serde_json::from_str(r#"{"index":1,"value":2,"op":"SCMP_CMP_GE"}"#).unwrap();
        assert_eq!(arg, SeccompArg { index: 1, value: 2, value_two: 0, op: SeccompOp::Ge });
        for (wrong, word) in [
            (r#"{"defaultAction":"SCMP_ACT_PERMIT"}"#, "SCMP_ACT_PERMIT"),
            (r#"{"defaultAction":"SCMP_ACT_LOG","architecture":[]}"#, "architecture"),
            (r#"{"defaultAction":"SCMP_ACT_LOG","architectures":["SCMP_ARCH_X64"]}"#, "SCMP_ARCH_X64"),
        ] {
            let error = serde_json::from_str::<Seccomp>(wrong).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_can_be_known_to_be_wrong_is_named() {
        let new = || Seccomp::new(SeccompAction::Allow);
        let rule = |action| SeccompSyscall::new(["read"], action);
        let many = |count| (0..count).map(|_| "read").collect::<Vec<_>>();
        for (wrong, field) in [
            (new().default_errno_ret(1), "defaultErrnoRet"),
            (new().rule(rule(SeccompAction::Kill).errno_ret(1)), "syscalls[0].errnoRet"),
            (new().rule(rule(SeccompAction::Errno).errno_ret(4096)), "syscalls[0].errnoRet"),
            (new().rule(rule(SeccompAction::Trace).errno_ret(65536)), "syscalls[0].errnoRet"),
            (new().rule(SeccompSyscall::new(many(0), SeccompAction::Log)), "syscalls[0].names"),
            (new().rule(SeccompSyscall::new(many(2049), SeccompAction::Log)), "syscalls[0].names"),
            (new().rule(rule(SeccompAction::Log).arg(6, SeccompOp::Eq, 0)), "syscalls[0].args"),
            (new().flag(SeccompFlag::WaitKillableRecv), "flags"),
            (new().listener_path("agent"), "listenerPath"),
            (new().listener_path(format!("/{}", "x".repeat(107))), "listenerPath"),
            (new().listener_metadata("x"), "listenerMetadata"),
        ] {
            let error = wrong.validate().unwrap_err();
            assert_eq!(error.subject(), Some(format!("security.seccomp.{field}").as_str()), "{error}");
        }
        let mut large = new();
        for _ in 0..40 {
            large = large.rule(SeccompSyscall::new(many(2048), SeccompAction::Log));
        }
        assert!(large.validate().is_err());
    }
}
