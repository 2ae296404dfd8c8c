//! The built-in default profile: everything is refused but what is listed here.
//!
//! It is the policy of the well-known container runtimes (the default profile of moby, with which containerd
//! and CRI-O agree in all that matters), written down by purpose. What differs from theirs:
//!
//! - AF_ALG and AF_VSOCK cannot be had by garbage in the upper half of the first argument of socket(2), nor by
//!   socketpair(2), nor through i386's socketcall(2), which fails with ENOSYS: its arguments lie in memory, where
//!   no filter can look. Any 64-bit program can make i386 calls.
//! - x32 calls fail with ENOSYS.
//! - open_tree_attr goes with the mount API; file_getattr and file_setattr fail with ENOSYS so that callers take
//!   the ioctls; rseq_slice_yield is allowed.

use std::borrow::Cow;

use super::arch::Arch;
use super::profile::{Action, ArgCheck, Op, Profile, Rule};

/// System calls that serve one purpose.
pub(super) struct Group {
    /// What they serve, and why they may be had. Rendered into docs/seccomp.md.
    #[cfg_attr(not(test), allow(dead_code, reason = "read by the test that keeps docs/seccomp.md"))]
    pub(super) purpose: &'static str,
    /// Their names.
    pub(super) names: &'static [&'static str],
}

/// System calls that a capability in the bounding set makes useful, and so available.
pub(super) struct Conditional {
    /// The number of the capability (linux/capability.h).
    pub(super) capability: u32,
    /// Its name.
    #[cfg_attr(not(test), allow(dead_code, reason = "read by the test that keeps docs/seccomp.md"))]
    pub(super) capability_name: &'static str,
    /// The calls.
    pub(super) group: Group,
}

/// Calls that every container has.
#[rustfmt::skip] // names by the line, not each on its own
pub(super) const ALWAYS: &[Group] = &[
    Group {
        purpose: "Processes and threads: start, wait, end. clone(2) is apart, as its flags are checked.",
        names: &[
            "execve", "execveat", "exit", "exit_group", "fork", "vfork", "wait4", "waitid", "waitpid",
            "gettid", "getpid", "getppid", "set_tid_address", "set_robust_list", "get_robust_list",
            "set_thread_area", "get_thread_area", "restart_syscall", "rseq", "membarrier", "prctl",
            "process_mrelease", "pidfd_open", "pidfd_send_signal",
        ],
    },
    Group {
        purpose: "Sessions, process groups, credentials and limits: the kernel checks capabilities itself.",
        names: &[
            "getpgid", "getpgrp", "getsid", "setpgid", "setsid", "getuid", "getuid32", "geteuid",
            "geteuid32", "getgid", "getgid32", "getegid", "getegid32", "getresuid", "getresuid32",
            "getresgid", "getresgid32", "getgroups", "getgroups32", "setuid", "setuid32", "setgid",
            "setgid32", "setreuid", "setreuid32", "setregid", "setregid32", "setresuid", "setresuid32",
            "setresgid", "setresgid32", "setfsuid", "setfsuid32", "setfsgid", "setfsgid32", "setgroups",
            "setgroups32", "capget", "capset", "getrlimit", "ugetrlimit", "setrlimit", "prlimit64",
            "getrusage",
        ],
    },
    Group {
        purpose: "Scheduling and priorities, within one's own limits.",
        names: &[
            "sched_yield", "rseq_slice_yield", "sched_getaffinity", "sched_setaffinity", "sched_getattr",
            "sched_setattr", "sched_getparam", "sched_setparam", "sched_getscheduler",
            "sched_setscheduler", "sched_get_priority_max", "sched_get_priority_min",
            "sched_rr_get_interval", "sched_rr_get_interval_time64", "getpriority", "setpriority",
            "ioprio_get", "ioprio_set", "getcpu",
        ],
    },
    Group {
        purpose: "Signals.",
        names: &[
            "kill", "tkill", "tgkill", "pause", "sigaltstack", "sigprocmask", "sigreturn", "rt_sigaction",
            "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
            "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "signalfd", "signalfd4",
        ],
    },
    Group {
        purpose: "Memory of one's own. userfaultfd is not here: it stops the kernel in the middle of a copy.",
        names: &[
            "brk", "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "mincore", "mlock",
            "mlock2", "mlockall", "munlock", "munlockall", "msync", "mseal", "remap_file_pages",
            "map_shadow_stack", "memfd_create", "memfd_secret", "pkey_alloc", "pkey_free",
            "pkey_mprotect",
        ],
    },
    Group {
        purpose: "Futexes.",
        names: &["futex", "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "futex_requeue"],
    },
    Group {
        purpose: "Clocks and timers. Adjusting a clock needs CAP_SYS_TIME, which the kernel checks; reading is free.",
        names: &[
            "time", "times", "gettimeofday", "clock_getres", "clock_getres_time64", "clock_gettime",
            "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "nanosleep", "adjtimex",
            "clock_adjtime", "clock_adjtime64", "alarm", "getitimer", "setitimer", "timer_create",
            "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime",
            "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64",
            "timerfd_settime", "timerfd_settime64",
        ],
    },
    Group {
        purpose: "Files: open, close, read, write and move data.",
        names: &[
            "open", "openat", "openat2", "creat", "close", "close_range", "read", "readv", "pread64",
            "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2", "lseek", "_llseek",
            "truncate", "truncate64", "ftruncate", "ftruncate64", "fallocate", "fadvise64",
            "fadvise64_64", "readahead", "cachestat", "copy_file_range", "sendfile", "sendfile64",
            "splice", "tee", "vmsplice", "sync", "syncfs", "fsync", "fdatasync", "sync_file_range",
            "flock", "fcntl", "fcntl64", "ioctl", "dup", "dup2", "dup3", "pipe", "pipe2",
        ],
    },
    Group {
        purpose: "Files: names, directories and attributes. Devices made by mknod stay unusable without the \
                  device cgroup's leave.",
        names: &[
            "access", "faccessat", "faccessat2", "stat", "stat64", "lstat", "lstat64", "fstat", "fstat64",
            "fstatat64", "newfstatat", "statx", "statfs", "statfs64", "fstatfs", "fstatfs64", "getdents",
            "getdents64", "getcwd", "chdir", "fchdir", "mkdir", "mkdirat", "rmdir", "mknod", "mknodat",
            "link", "linkat", "unlink", "unlinkat", "symlink", "symlinkat", "readlink", "readlinkat",
            "rename", "renameat", "renameat2", "chmod", "fchmod", "fchmodat", "fchmodat2", "chown",
            "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32", "umask", "utime", "utimes",
            "utimensat", "utimensat_time64", "futimesat", "name_to_handle_at",
        ],
    },
    Group {
        purpose: "Files: extended attributes.",
        names: &[
            "getxattr", "getxattrat", "lgetxattr", "fgetxattr", "setxattr", "setxattrat", "lsetxattr",
            "fsetxattr", "listxattr", "listxattrat", "llistxattr", "flistxattr", "removexattr",
            "removexattrat", "lremovexattr", "fremovexattr",
        ],
    },
    Group { purpose: "Mounts: look at them only.", names: &["listmount", "statmount"] },
    Group {
        purpose: "Waiting for files, and notices of changes. Marks need a fanotify group, which is refused.",
        names: &[
            "poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6", "pselect6_time64",
            "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_wait", "epoll_wait_old",
            "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "inotify_init", "inotify_init1",
            "inotify_add_watch", "inotify_rm_watch", "fanotify_mark",
        ],
    },
    Group {
        purpose: "Asynchronous I/O of the old kind. io_uring is not here: its operations pass no filter, and it \
                  was the way of many escapes.",
        names: &[
            "io_setup", "io_destroy", "io_submit", "io_cancel", "io_getevents", "io_pgetevents",
            "io_pgetevents_time64",
        ],
    },
    Group {
        purpose: "Sockets. socket and socketpair are apart, as the family is checked.",
        names: &[
            "bind", "connect", "listen", "accept", "accept4", "getsockname", "getpeername", "getsockopt",
            "setsockopt", "shutdown", "send", "sendto", "sendmsg", "sendmmsg", "recv", "recvfrom",
            "recvmsg", "recvmmsg", "recvmmsg_time64",
        ],
    },
    Group {
        purpose: "System V and POSIX interprocess communication, within the IPC namespace.",
        names: &[
            "ipc", "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop",
            "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget", "mq_open", "mq_unlink",
            "mq_notify", "mq_getsetattr", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend",
            "mq_timedsend_time64",
        ],
    },
    Group {
        purpose: "Sandboxing oneself further.",
        names: &["seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"],
    },
    Group {
        purpose: "Tracing one's own processes. Before Linux 4.8 ptrace was a way around filters; older kernels are \
                  not supported.",
        names: &["ptrace", "process_vm_readv", "process_vm_writev"],
    },
    Group {
        purpose: "The machine: look at it, and draw random numbers.",
        names: &["uname", "sysinfo", "getrandom"],
    },
    Group {
        purpose: "What single architectures need: thread-local storage, segments, user return probes, caches.",
        names: &[
            "arch_prctl", "modify_ldt", "uretprobe", "arm_fadvise64_64", "arm_sync_file_range",
            "sync_file_range2", "breakpoint", "cacheflush", "set_tls",
        ],
    },
];

/// Calls that need a capability in the bounding set. The kernel checks the capability again, in the user
/// namespace that counts; without it in the bounding set, the code behind the call is not reachable at all.
#[rustfmt::skip] // names by the line, not each on its own
pub(super) const WITH_CAPABILITY: &[Conditional] = &[
    Conditional {
        capability: 2,
        capability_name: "CAP_DAC_READ_SEARCH",
        group: Group {
            purpose: "Opening files by handle, which walks past mounts and roots.",
            names: &["open_by_handle_at"],
        },
    },
    Conditional {
        capability: 16,
        capability_name: "CAP_SYS_MODULE",
        group: Group { purpose: "Kernel modules.", names: &["init_module", "finit_module", "delete_module"] },
    },
    Conditional {
        capability: 17,
        capability_name: "CAP_SYS_RAWIO",
        group: Group { purpose: "I/O ports.", names: &["iopl", "ioperm"] },
    },
    Conditional {
        capability: 18,
        capability_name: "CAP_SYS_CHROOT",
        group: Group { purpose: "Changing the root directory.", names: &["chroot"] },
    },
    Conditional {
        capability: 19,
        capability_name: "CAP_SYS_PTRACE",
        group: Group {
            purpose: "Looking into processes of others.",
            names: &["kcmp", "pidfd_getfd", "process_madvise"],
        },
    },
    Conditional {
        capability: 20,
        capability_name: "CAP_SYS_PACCT",
        group: Group { purpose: "Process accounting.", names: &["acct"] },
    },
    Conditional {
        capability: 21,
        capability_name: "CAP_SYS_ADMIN",
        group: Group {
            purpose: "Namespaces, mounts, BPF, quotas, LSM attributes: administration of the machine. clone and \
                      clone3 are then free of checks.",
            names: &[
                "clone", "clone3", "unshare", "setns", "mount", "umount", "umount2", "mount_setattr",
                "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick",
                "bpf", "fanotify_init", "perf_event_open", "quotactl", "quotactl_fd", "lookup_dcookie",
                "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules", "sethostname",
                "setdomainname", "syslog",
            ],
        },
    },
    Conditional {
        capability: 22,
        capability_name: "CAP_SYS_BOOT",
        group: Group { purpose: "Restarting the machine or the PID namespace.", names: &["reboot"] },
    },
    Conditional {
        capability: 23,
        capability_name: "CAP_SYS_NICE",
        group: Group {
            purpose: "Memory policies of NUMA machines.",
            names: &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"],
        },
    },
    Conditional {
        capability: 25,
        capability_name: "CAP_SYS_TIME",
        group: Group {
            purpose: "Setting clocks.",
            names: &["settimeofday", "stime", "clock_settime", "clock_settime64"],
        },
    },
    Conditional {
        capability: 26,
        capability_name: "CAP_SYS_TTY_CONFIG",
        group: Group { purpose: "Hanging up terminals.", names: &["vhangup"] },
    },
    Conditional {
        capability: 34,
        capability_name: "CAP_SYSLOG",
        group: Group { purpose: "The kernel log.", names: &["syslog"] },
    },
    Conditional {
        capability: 38,
        capability_name: "CAP_PERFMON",
        group: Group { purpose: "Performance monitoring.", names: &["perf_event_open"] },
    },
    Conditional {
        capability: 39,
        capability_name: "CAP_BPF",
        group: Group { purpose: "BPF programs.", names: &["bpf"] },
    },
];

/// Calls answered with ENOSYS, as by a kernel without them, so that callers take the older way.
pub(super) const ABSENT: Group = Group {
    purpose: "clone3: its flags lie in memory, where no filter can look, and C libraries go on with clone. \
              file_getattr, file_setattr: ioctls do the same. socketcall (i386): its arguments lie in memory, so \
              it would get around the check of the family.",
    names: &["clone3", "file_getattr", "file_setattr", "socketcall"],
};

/// Flags of clone(2) that make namespaces: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
pub(super) const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Execution domains that personality(2) may set: PER_LINUX and PER_LINUX32, each also with UNAME26, and the
/// value that only asks.
pub(super) const PERSONALITIES: &[u64] = &[0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Address families that are refused, by number (linux/socket.h): what a container has no use for, but an
/// attacker of the kernel has.
pub(super) const REFUSED_FAMILIES: &[(u64, &str)] = &[
    (12, "AF_DECnet"),
    (19, "AF_ECONET"),
    (20, "AF_ATMSVC"),
    (23, "AF_IRDA"),
    (25, "AF_WANPIPE"),
    (34, "AF_ISDN"),
    (37, "AF_CAIF"),
    (38, "AF_ALG"),
    (40, "AF_VSOCK"),
];

/// The first number that is no address family (AF_MAX of Linux 6.18).
pub(super) const FAMILIES_END: u64 = 46;

/// The lower half of an argument: all that the kernel takes of an int.
const INT: u64 = 0xffff_ffff;

/// What a refused call fails with.
const REFUSED: Action = Action::Errno(libc::EPERM as u16);

impl Profile {
    /// The default profile of a container with these capabilities in its bounding set, a bit for each by its
    /// number. Bits that no rule depends on are of no effect.
    pub(crate) fn default_profile(capabilities: u64) -> Self {
        let mut rules: Vec<Rule> = Vec::new();
        let granted = |conditional: &&Conditional| capabilities & (1 << conditional.capability) != 0;
        let conditional = WITH_CAPABILITY.iter().filter(granted).map(|conditional| &conditional.group);
        for group in ALWAYS.iter().chain(conditional) {
            rules.push(rule(group.names, Action::Allow, Vec::new()));
        }
        // Behind the capabilities, as these win.
        rules.push(rule(ABSENT.names, Action::Errno(libc::ENOSYS as u16), Vec::new()));
        rules.push(rule(&["clone"], Action::Allow, vec![masked(CLONE_NAMESPACES, 0)]));
        for &persona in PERSONALITIES {
            rules.push(rule(&["personality"], Action::Allow, vec![masked(INT, persona)]));
        }
        for &(family, _) in REFUSED_FAMILIES {
            rules.push(rule(&["socket", "socketpair"], REFUSED, vec![masked(INT, family)]));
        }
        let family = ArgCheck { index: 0, op: Op::Lt, value: FAMILIES_END, value_two: 0 };
        rules.push(rule(&["socket", "socketpair"], Action::Allow, vec![family]));
        Self {
            default_action: REFUSED,
            architectures: vec![Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm],
            rules,
            flags: Vec::new(),
        }
    }
}

/// The capabilities that the default profile depends on, as a mask.
pub(super) fn relevant_capabilities() -> u64 {
    WITH_CAPABILITY.iter().fold(0, |mask, conditional| mask | 1 << conditional.capability)
}

/// A rule about calls of the table.
fn rule(names: &[&'static str], action: Action, args: Vec<ArgCheck>) -> Rule {
    Rule { names: names.iter().map(|&name| Cow::Borrowed(name)).collect(), action, args }
}

/// A check of the first argument under a mask.
fn masked(mask: u64, value: u64) -> ArgCheck {
    ArgCheck { index: 0, op: Op::MaskedEq, value: mask, value_two: value }
}
