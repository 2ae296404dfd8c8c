//! Which kernel parameters belong to a pod, and to which of its namespaces (CVE-2022-0811).

/// The namespace that a kernel parameter is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SysctlNamespace {
    Network,
    Ipc,
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

/// The namespace that owns the parameter of that dotted name, or `None` for one that no pod may set.
///
/// Host and domain name have fields of their own. Nothing but letters, digits, `_`, `-` and `.` is taken, so that
/// no name can climb out of its directory or carry a second assignment.
pub(crate) fn sysctl_namespace(name: &str) -> Option<SysctlNamespace> {
    let sane = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if name.len() > 255 || !name.split('.').all(sane) {
        return None;
    }
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        Some(SysctlNamespace::Ipc)
    } else if name.starts_with("net.") {
        Some(SysctlNamespace::Network)
    } else {
        None
    }
}

/// The path below `/proc/sys` of a parameter that [`sysctl_namespace`] knows.
pub(crate) fn sysctl_path(name: &str) -> String {
    name.replace('.', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_of_a_pod_are_known() {
        assert_eq!(sysctl_namespace("net.ipv4.tcp_syncookies"), Some(SysctlNamespace::Network));
        assert_eq!(sysctl_namespace("kernel.shmmax"), Some(SysctlNamespace::Ipc));
        assert_eq!(sysctl_namespace("fs.mqueue.queues_max"), Some(SysctlNamespace::Ipc));
        for bad in [
            "",
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
