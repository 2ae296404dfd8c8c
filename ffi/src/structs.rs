//! Structures that callers fill or have filled.

use std::ffi::c_char;

use pericarp::ExitStatus;

use crate::caller::{Structure, first_size};

/// The node is an ordinary user's and needs no privilege: it has a user namespace in which this user is root, and nobody
/// else exists. All of its pods are ephemeral.
pub const PERICARP_NODE_SINGLE_ID: u64 = 1 << 0;
/// The same with more users, whose ids /etc/subuid and /etc/subgid give to this one. The programs newuidmap and newgidmap
/// are run for that.
pub const PERICARP_NODE_SUBORDINATE_IDS: u64 = 1 << 1;

/// How to open a node. All zero but `size` is the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct pericarp_node_options_t {
    /// `sizeof (pericarp_node_options_t)`.
    pub size: usize,
    /// `PERICARP_NODE_…`, or 0.
    pub flags: u64,
    /// Where the node keeps what it must remember; NULL is `/run/pericarp`, for an ordinary user `pericarp` in
    /// `$XDG_RUNTIME_DIR`. Best on a tmpfs. Only its owner, the program's user, may be able to write to it.
    pub state_dir: *const c_char,
    /// A cgroup of this name below the root of the cgroup v2 mount, made when it is missing; NULL is `pericarp`. For an
    /// ordinary user NULL here and below means that there are no cgroups, and so no limits and no freezing.
    pub cgroup_name: *const c_char,
    /// In place of `cgroup_name`: the absolute path of an existing directory in a cgroup v2 mount, for instance a
    /// subtree that systemd delegated. NULL if it is not used.
    pub cgroup_path: *const c_char,
    /// The user whose ranges of /etc/subuid and /etc/subgid pods get ids from that ask for some; NULL is the first of
    /// `pericarp` and `containers` that has some.
    pub subid_user: *const c_char,
    /// Admission of pods by their requests, as a JSON object: `{"reserved": {"cpu": "500m", "memory": "1Gi"}}` keeps so
    /// much for others, `{}` nothing. NULL is no admission.
    pub admission: *const c_char,
    /// In place of `subid_user`: the ranges themselves, as a JSON object: `{"uids": [{"first": 1048576, "size": 6553600}],
    /// "gids": [{"first": 1048576, "size": 6553600}]}`. Whole blocks of 65 536 ids are used that begin at a multiple of
    /// that. NULL if it is not used.
    pub id_ranges: *const c_char,
    /// The directory where all nodes of the machine write down which ids their pods have, so that nobody gets those that a
    /// pod was promised for itself; NULL is `/run/pericarp-ids`. Only root may be able to write to it.
    pub id_claims: *const c_char,
}

/// The pod lives no longer than the program that made it, and no other program can open it.
pub const PERICARP_POD_EPHEMERAL: u64 = 1 << 0;
/// Containers get `/etc/hostname` and `/etc/hosts` that fit the pod.
pub const PERICARP_POD_HOSTNAME_FILES: u64 = 1 << 1;
/// The host's network namespace instead of an own one.
pub const PERICARP_POD_HOST_NETWORK: u64 = 1 << 2;
/// The host's IPC namespace instead of an own one.
pub const PERICARP_POD_HOST_IPC: u64 = 1 << 3;
/// The host's UTS namespace (host name) instead of an own one.
pub const PERICARP_POD_HOST_UTS: u64 = 1 << 4;
/// The host's PID namespace instead of one for each container.
pub const PERICARP_POD_HOST_PID: u64 = 1 << 5;
/// One PID namespace for all containers of the pod (Kubernetes' shareProcessNamespace).
pub const PERICARP_POD_SHARED_PID: u64 = 1 << 6;

/// A pod to make, as much as most need; `pericarp_node_create_pod_json` can say all.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct pericarp_pod_options_t {
    /// `sizeof (pericarp_pod_options_t)`.
    pub size: usize,
    /// `PERICARP_POD_` flags.
    pub flags: u64,
    /// A DNS subdomain (RFC 1123), at most 253 bytes; unique among the node's pods of the same namespace.
    pub name: *const c_char,
    /// A DNS label, at most 63 bytes; NULL is "default". Kubernetes' word, not the kernel's.
    pub name_space: *const c_char,
    /// The host name; NULL makes it from the name, as Kubernetes does.
    pub hostname: *const c_char,
    /// Bytes of the tmpfs at `/dev/shm`; 0 is 64 MiB.
    pub shm_size: u64,
}

/// The standard streams of a container as open files of the caller's, who keeps them. A terminal is refused.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct pericarp_stdio_t {
    /// `sizeof (pericarp_stdio_t)`.
    pub size: usize,
    /// None are known yet: 0.
    pub flags: u64,
    /// Standard input; -1: as the specification says.
    pub stdin_fd: i32,
    /// Standard output; -1: as the specification says.
    pub stdout_fd: i32,
    /// Standard error; -1: as the specification says.
    pub stderr_fd: i32,
    /// 0.
    pub reserved: u32,
}

/// It has not ended, or nobody can tell any more how.
pub const PERICARP_EXIT_NONE: u32 = 0;
/// By exit(3); `code` is its argument.
pub const PERICARP_EXIT_CODE: u32 = 1;
/// By a signal; `signal` is which.
pub const PERICARP_EXIT_SIGNAL: u32 = 2;

/// How a container ended, see wait(2). The caller sets `size`, the library the rest.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct pericarp_exit_status_t {
    /// `sizeof (pericarp_exit_status_t)`.
    pub size: usize,
    /// One of the `PERICARP_EXIT_` constants.
    pub how: u32,
    /// The exit code, 0 to 255; otherwise 0.
    pub code: i32,
    /// The signal; otherwise 0.
    pub signal: i32,
    /// 1 if the kernel wrote a core dump; otherwise 0.
    pub core_dumped: u32,
}

/// A POSIX shared memory object: shm_open(3) with `O_CREAT | O_EXCL`, then ftruncate(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct pericarp_shm_object_t {
    /// `sizeof (pericarp_shm_object_t)`.
    pub size: usize,
    /// None are known yet: 0.
    pub flags: u64,
    /// The name with or without its leading slash; no other slash; at most 255 bytes.
    pub name: *const c_char,
    /// The size of the object in bytes, more than 0.
    pub bytes: u64,
    /// Permission bits; 0 stands for 0600.
    pub mode: u32,
    /// Owner: a user id of the host, or one of the pod if that has a user namespace.
    pub uid: u32,
    /// Owning group, likewise.
    pub gid: u32,
    /// 0.
    pub reserved: u32,
}

/// A POSIX message queue: mq_open(3) with `O_CREAT | O_EXCL`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct pericarp_mqueue_t {
    /// `sizeof (pericarp_mqueue_t)`.
    pub size: usize,
    /// None are known yet: 0.
    pub flags: u64,
    /// The name with or without its leading slash; no other slash; at most 255 bytes.
    pub name: *const c_char,
    /// The number of messages that it can hold; 0 stands for 10.
    pub max_messages: u32,
    /// Bytes of the longest message; 0 stands for 8192.
    pub message_size: u32,
    /// Permission bits; 0 stands for 0600.
    pub mode: u32,
    /// Owner: a user id of the host, or one of the pod if that has a user namespace.
    pub uid: u32,
    /// Owning group, likewise.
    pub gid: u32,
    /// 0.
    pub reserved: u32,
}

/// A System V shared memory segment: shmget(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct pericarp_sysv_shm_t {
    /// `sizeof (pericarp_sysv_shm_t)`.
    pub size: usize,
    /// None are known yet: 0.
    pub flags: u64,
    /// The size of the segment in bytes, more than 0.
    pub bytes: u64,
    /// The key; 0 (`IPC_PRIVATE`) is refused.
    pub key: i32,
    /// Permission bits; 0 stands for 0600.
    pub mode: u32,
    /// Owner: a user id of the host, or one of the pod if that has a user namespace.
    pub uid: u32,
    /// Owning group, likewise.
    pub gid: u32,
}

/// A System V semaphore set: semget(2) and `SETALL` of semctl(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct pericarp_sysv_sem_t {
    /// `sizeof (pericarp_sysv_sem_t)`.
    pub size: usize,
    /// None are known yet: 0.
    pub flags: u64,
    /// The initial value of each semaphore, 0 to 32767.
    pub values: *const u16,
    /// How many semaphores there are.
    pub count: usize,
    /// The key; 0 (`IPC_PRIVATE`) is refused.
    pub key: i32,
    /// Permission bits; 0 stands for 0600.
    pub mode: u32,
    /// Owner: a user id of the host, or one of the pod if that has a user namespace.
    pub uid: u32,
    /// Owning group, likewise.
    pub gid: u32,
}

/// A System V message queue: msgget(2).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct pericarp_sysv_msg_t {
    /// `sizeof (pericarp_sysv_msg_t)`.
    pub size: usize,
    /// None are known yet: 0.
    pub flags: u64,
    /// The capacity in bytes; 0 stands for the kernel's default.
    pub max_bytes: u64,
    /// The key; 0 (`IPC_PRIVATE`) is refused.
    pub key: i32,
    /// Permission bits; 0 stands for 0600.
    pub mode: u32,
    /// Owner: a user id of the host, or one of the pod if that has a user namespace.
    pub uid: u32,
    /// Owning group, likewise.
    pub gid: u32,
}

/// Says where the last field of a structure's first release ends, and checks that there is no padding.
macro_rules! sized {
    ($($type:ident: $($kind:ty),*; $last:ident: $last_kind:ty;)*) => {$(
        const _: () = assert!(size_of::<$type>() == 0 $(+ size_of::<$kind>())* + size_of::<$last_kind>());
        // SAFETY: it is made of integers and pointers, begins with a `usize`, and was just checked for padding.
        unsafe impl Structure for $type {
            const FIRST: usize = first_size!($type, $last: $last_kind);
        }
    )*};
}

type Text = *const c_char;

sized! {
    pericarp_node_options_t: usize, u64, Text, Text, Text, Text, Text, Text; id_claims: Text;
    pericarp_pod_options_t: usize, u64, Text, Text, Text; shm_size: u64;
    pericarp_stdio_t: usize, u64, i32, i32, i32; reserved: u32;
    pericarp_exit_status_t: usize, u32, i32, i32; core_dumped: u32;
    pericarp_shm_object_t: usize, u64, Text, u64, u32, u32, u32; reserved: u32;
    pericarp_mqueue_t: usize, u64, Text, u32, u32, u32, u32, u32; reserved: u32;
    pericarp_sysv_shm_t: usize, u64, u64, i32, u32, u32; gid: u32;
    pericarp_sysv_sem_t: usize, u64, *const u16, usize, i32, u32, u32; gid: u32;
    pericarp_sysv_msg_t: usize, u64, u64, i32, u32, u32; gid: u32;
}

impl From<Option<ExitStatus>> for pericarp_exit_status_t {
    fn from(status: Option<ExitStatus>) -> Self {
        let none = pericarp_exit_status_t {
            size: size_of::<pericarp_exit_status_t>(),
            how: PERICARP_EXIT_NONE,
            code: 0,
            signal: 0,
            core_dumped: 0,
        };
        match status {
            None => none,
            Some(ExitStatus::Exited(code)) => {
                pericarp_exit_status_t { how: PERICARP_EXIT_CODE, code, ..none }
            }
            Some(ExitStatus::Signaled { signal, core_dumped }) => pericarp_exit_status_t {
                how: PERICARP_EXIT_SIGNAL,
                signal,
                core_dumped: core_dumped.into(),
                ..none
            },
        }
    }
}
