//! Which kernel parameters belong to a pod, and to which of its namespaces (CVE-2022-0811).

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{NamespaceMode, PodSpec};
use crate::error::{Error, Result};

/// The namespace that a kernel parameter is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SysctlNamespace {
    Network,
    Ipc,
    Uts,
}

/// The parameters of an IPC namespace, see ipc_namespaces(7).
const IPC: [&str; 14] = [
    "kernel.auto_msgmni",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg_next_id",
    "kernel.sem",
    "kernel.sem_next_id",
    "kernel.shm_next_id",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "fs.mqueue.msg_default",
    "fs.mqueue.msg_max",
];

/// The parameter of a UTS namespace that may be set as one. The host name has a field of the specification alone.
const DOMAINNAME: &str = "kernel.domainname";

/// The name with dots between its parts. When the first separator is a slash, slashes separate and dots belong to the
/// parts, as in sysctl(8): `net/ipv4/conf/eth0.5/forwarding` is `net.ipv4.conf.eth0/5.forwarding`.
fn dotted(name: &str) -> Cow<'_, str> {
    match name.find(['.', '/']) {
        Some(first) if name.as_bytes()[first] == b'/' => Cow::Owned(swapped(name)),
        _ => Cow::Borrowed(name),
    }
}

fn swapped(name: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

/// The namespace that owns the parameter of that name, or `None` for one that no pod may set.
///
/// Nothing but letters, digits, `_`, `-` and separators is taken, and what stands for a dot in a part is between two of
/// these: so no name can climb out of its directory or carry a second assignment.
pub(crate) fn sysctl_namespace(name: &str) -> Option<SysctlNamespace> {
    let sane = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let name = dotted(name);
    if name.len() > 255 || !name.split(['.', '/']).all(sane) {
        return None;
    }
    if IPC.contains(&&*name) || name.starts_with("fs.mqueue.") {
        Some(SysctlNamespace::Ipc)
    } else if name.starts_with("net.") {
        Some(SysctlNamespace::Network)
    } else if name == DOMAINNAME {
        Some(SysctlNamespace::Uts)
    } else {
        None
    }
}

/// The path below `/proc/sys` of a parameter that [`sysctl_namespace`] knows.
pub(crate) fn sysctl_path(name: &str) -> String {
    swapped(&dotted(name))
}

impl PodSpec {
    /// Whether a namespace that is given is one of others can only be known when it is open: see `pod/given.rs`.
    pub(super) fn validate_sysctls(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for (name, value) in &self.sysctls {
            let field = format!("sysctls[{name:?}]");
            let mode = match sysctl_namespace(name) {
                Some(SysctlNamespace::Network) => &self.namespaces.network,
                Some(SysctlNamespace::Ipc) => &self.namespaces.ipc,
                Some(SysctlNamespace::Uts) => &self.namespaces.uts,
                None => {
                    return Err(Error::invalid(
                        field,
                        "is not a kernel parameter of a network or IPC namespace, nor kernel.domainname; it would change \
                         the whole machine",
                    ));
                }
            };
            if *mode == NamespaceMode::Host {
                return Err(Error::invalid(
                    field,
                    "belongs to a namespace that is the host's; it would change that of others",
                ));
            }
            if value.is_empty() || value.len() > 4095 || value.contains(['\0', '\n']) {
                return Err(Error::invalid(
                    field,
                    "the value must be 1 to 4095 bytes without NUL and newline",
                ));
            }
            let name = dotted(name);
            if name == DOMAINNAME {
                if value.len() > 64 {
                    return Err(Error::invalid(field, "is longer than 64 bytes"));
                }
                if self.domainname.as_ref().is_some_and(|domainname| domainname != value) {
                    return Err(Error::invalid(field, "differs from domainname"));
                }
            }
            if !seen.insert(name) {
                return Err(Error::invalid(field, "is given twice, with dots and with slashes"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_of_a_pod_are_known() {
        assert_eq!(sysctl_namespace("net.ipv4.tcp_syncookies"), Some(SysctlNamespace::Network));
        assert_eq!(sysctl_namespace("kernel.shmmax"), Some(SysctlNamespace::Ipc));
        assert_eq!(sysctl_namespace("fs.mqueue.queues_max"), Some(SysctlNamespace::Ipc));
        assert_eq!(sysctl_namespace("kernel.domainname"), Some(SysctlNamespace::Uts));
        for (name, path) in [
            ("net.ipv4.conf.eth0.forwarding", "net/ipv4/conf/eth0/forwarding"),
            ("net/ipv4/conf/eth0.5/forwarding", "net/ipv4/conf/eth0.5/forwarding"),
            ("net.ipv4.conf.eth0/5.forwarding", "net/ipv4/conf/eth0.5/forwarding"),
        ] {
            assert_eq!(sysctl_namespace(name), Some(SysctlNamespace::Network), "{name}");
            assert_eq!(sysctl_path(name), path);
        }
        assert_eq!(sysctl_namespace("kernel/shmmax"), Some(SysctlNamespace::Ipc));
        for bad in [
            "",
            "net/ipv4/../../kernel/core_pattern",
            "net/ipv4/..",
            "net/ipv4/.x",
            "net/ipv4/x.",
            "net//ipv4",
            "/net/ipv4/x",
            "net.ipv4.//x",
            "kernel/core_pattern",
            "kernel/shmmax/x",
            "net",
            "net.",
            "net..x",
            "net.ipv4/../../kernel/core_pattern",
            "net.ipv4.a+kernel.core_pattern=x",
            "net.ipv4.a\nkernel.core_pattern",
            "kernel.core_pattern",
            "kernel.shmmax.",
            "kernel.hostname",
            "vm.swappiness",
            "fs.file-max",
        ] {
            assert_eq!(sysctl_namespace(bad), None, "{bad}");
        }
    }
}
