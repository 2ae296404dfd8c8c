//! One container: its program, its root filesystem and its isolation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::device::{Device, DeviceRule};
use super::hooks::Hooks;
use super::kubernetes::Requirements;
use super::memory_policy::MemoryPolicy;
use super::mount::{Mount, Propagation};
use super::mount_attributes::IdMap;
use super::mount_namespace::MountNamespace;
use super::pod::{CgroupNamespace, PidMode};
use super::process::{CpuAffinity, IoPriority, Personality, Scheduler, TimeNamespace};
use super::resources::Resources;
use super::security::Security;
use super::stdio::{SharedFd, Stdio, StdioSet};
use super::terminal::ConsoleSize;

/// A container to make with `Pod::create_container`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ContainerSpec {
    /// A DNS label, at most 63 bytes, unique in the pod.
    pub name: String,
    /// The root filesystem.
    pub rootfs: Rootfs,
    /// How mounts travel to and from the root filesystem. `Slave`: what is mounted on the host below a directory that
    /// is the root comes along, if the host shares it. `Shared` and `Unbindable` go for the container's own mount
    /// namespace: nothing that is mounted in a container ever gets to the host's root.
    #[serde(default, skip_serializing_if = "is_private")]
    pub rootfs_propagation: Propagation,
    /// Whether that also goes for what is mounted below the root; on unless said otherwise.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub rootfs_propagation_recursive: bool,
    /// Other owners for the files of the root filesystem. The filesystem has to support that; for an overlay, those of
    /// all its layers and of its upper directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs_idmap: Option<IdMap>,
    /// The program and its arguments, at least one. A program without a slash is looked for in the container's
    /// `PATH`.
    pub args: Vec<String>,
    /// The environment, whole: nothing of the host's is passed on. `PATH` is added when it is missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The working directory: an absolute path in the container, made when it is missing.
    #[serde(default = "ContainerSpec::default_cwd")]
    pub cwd: PathBuf,
    /// The identity of the process.
    #[serde(default)]
    pub user: User,
    /// The file mode creation mask; `0o022` unless said otherwise.
    #[serde(default = "ContainerSpec::default_umask")]
    pub umask: u32,
    /// Resource limits of the process, see setrlimit(2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Mounts in addition to the default ones, in this order. One with the destination of a default mount
    /// replaces it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Whether `/proc`, `/sys`, `/sys/fs/cgroup`, `/dev`, `/dev/pts`, `/dev/shm` and `/dev/mqueue` are mounted
    /// unasked; on unless said otherwise.
    #[serde(default = "yes")]
    pub default_mounts: bool,
    /// Device nodes in addition to the default ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Which devices may be used in addition to null, zero, full, random, urandom, tty, ptmx and terminals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_rules: Vec<DeviceRule>,
    /// Standard input, output and error.
    #[serde(default)]
    pub stdio: StdioSet,
    /// Further open files, which the program finds as descriptors 3, 4 and so on. Like open files as streams they are
    /// not remembered.
    #[serde(skip)]
    pub preserved_fds: Vec<SharedFd>,
    /// Capabilities, seccomp, masked paths.
    #[serde(default)]
    pub security: Security,
    /// Limits of the container's cgroup.
    #[serde(default)]
    pub resources: Resources,
    /// Requests and limits in Kubernetes' terms. A pod that [names](super::PodSpec::kubernetes) its containers has them
    /// for this one, and then they may be left out here; in any other pod they are as in one of this container alone. What
    /// [`resources`](Self::resources) and [`oom_score_adj`](Self::oom_score_adj) say goes on top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Requirements>,
    /// The PID namespace, where it is not what the pod says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<PidMode>,
    /// The cgroup namespace; a new one unless said otherwise.
    #[serde(default, skip_serializing_if = "CgroupNamespace::is_container")]
    pub cgroup_namespace: CgroupNamespace,
    /// The signal that asks the container to end; `SIGTERM` (15) unless said otherwise.
    #[serde(default = "ContainerSpec::default_stop_signal")]
    pub stop_signal: i32,
    /// Programs to run at points of the container's life.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// Whether standard input, output and error are a terminal, which the container's handle gives away the master of. The
    /// three streams must then be left as they are by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// The size of the terminal at first; 0 by 0 unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Whether the container, once it is made, outlives its maker before its start, and every program of the node's
    /// owner may start it. Otherwise only its maker can, and it ends with that. Not for ephemeral pods.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// For whoever selects containers; the library only keeps them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For whoever made the container; the library only keeps them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// How soon the kernel's OOM killer takes the process, -1000 (never) to 1000 (first), see
    /// proc_pid_oom_score_adj(5). The calling program's unless given; lower than that needs CAP_SYS_RESOURCE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// The scheduling policy; the calling program's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// The priority of the process at disks; derived from its nice value unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// The processors that the process may use; the calling program's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_affinity: Option<CpuAffinity>,
    /// The processors that programs may use which are executed in the container and say none themselves; those of
    /// [`cpu_affinity`](Self::cpu_affinity) unless given. It does not concern the container's own process
    /// (`process.execCPUAffinity` of the OCI specification).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
    /// The execution domain; the calling program's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
    /// From which NUMA nodes its memory comes; the calling program's policy unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// The time namespace; the calling program's unless said otherwise.
    #[serde(default, skip_serializing_if = "TimeNamespace::is_host")]
    pub time: TimeNamespace,
    /// The mount namespace; a new one unless said otherwise.
    #[serde(default, skip_serializing_if = "MountNamespace::is_container")]
    pub mount_namespace: MountNamespace,
}

impl ContainerSpec {
    fn default_cwd() -> PathBuf {
        PathBuf::from("/")
    }

    fn default_umask() -> u32 {
        0o022
    }

    fn default_stop_signal() -> i32 {
        libc::SIGTERM
    }

    /// A container of that name, with the program still to be given by [`args`](Self::args).
    pub fn new(name: impl Into<String>, rootfs: Rootfs) -> Self {
        ContainerSpec {
            name: name.into(),
            rootfs,
            rootfs_propagation: Propagation::Private,
            rootfs_propagation_recursive: true,
            rootfs_idmap: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: Self::default_cwd(),
            user: User::default(),
            umask: Self::default_umask(),
            rlimits: Vec::new(),
            mounts: Vec::new(),
            default_mounts: true,
            devices: Vec::new(),
            device_rules: Vec::new(),
            stdio: StdioSet::default(),
            preserved_fds: Vec::new(),
            security: Security::default(),
            resources: Resources::default(),
            requirements: None,
            pid: None,
            cgroup_namespace: CgroupNamespace::default(),
            stop_signal: Self::default_stop_signal(),
            hooks: Hooks::default(),
            terminal: false,
            console_size: None,
            detached: false,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            oom_score_adj: None,
            scheduler: None,
            io_priority: None,
            cpu_affinity: None,
            exec_cpu_affinity: None,
            personality: None,
            memory_policy: None,
            time: TimeNamespace::Host,
            mount_namespace: MountNamespace::default(),
        }
    }

    /// Sets the program and its arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Sets [`cwd`](Self::cwd).
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = cwd.into();
        self
    }

    /// Sets user and group id.
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user.uid = uid;
        self.user.gid = gid;
        self
    }

    /// Sets the supplementary groups.
    pub fn additional_gids(mut self, gids: impl IntoIterator<Item = u32>) -> Self {
        self.user.additional_gids = gids.into_iter().collect();
        self
    }

    /// Sets [`umask`](Self::umask).
    pub fn umask(mut self, umask: u32) -> Self {
        self.umask = umask;
        self
    }

    /// Adds a resource limit.
    pub fn rlimit(mut self, resource: RlimitResource, soft: u64, hard: u64) -> Self {
        self.rlimits.push(Rlimit { resource, soft, hard });
        self
    }

    /// Adds a mount.
    pub fn mount(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Sets [`default_mounts`](Self::default_mounts).
    pub fn default_mounts(mut self, on: bool) -> Self {
        self.default_mounts = on;
        self
    }

    /// Sets [`rootfs_propagation`](Self::rootfs_propagation).
    pub fn rootfs_propagation(mut self, propagation: Propagation) -> Self {
        self.rootfs_propagation = propagation;
        self
    }

    /// Sets [`rootfs_idmap`](Self::rootfs_idmap).
    pub fn rootfs_idmap(mut self, idmap: IdMap) -> Self {
        self.rootfs_idmap = Some(idmap);
        self
    }

    /// Adds a device node. It is usable only if a [rule](Self::device_rule) allows that.
    pub fn device(mut self, device: Device) -> Self {
        self.devices.push(device);
        self
    }

    /// Adds a rule for the use of devices.
    pub fn device_rule(mut self, rule: DeviceRule) -> Self {
        self.device_rules.push(rule);
        self
    }

    /// Sets standard input.
    pub fn stdin(mut self, stdio: Stdio) -> Self {
        self.stdio.stdin = stdio;
        self
    }

    /// Sets standard output.
    pub fn stdout(mut self, stdio: Stdio) -> Self {
        self.stdio.stdout = stdio;
        self
    }

    /// Sets standard error.
    pub fn stderr(mut self, stdio: Stdio) -> Self {
        self.stdio.stderr = stdio;
        self
    }

    /// Sets [`security`](Self::security).
    pub fn security(mut self, security: Security) -> Self {
        self.security = security;
        self
    }

    /// Sets [`resources`](Self::resources).
    pub fn resources(mut self, resources: Resources) -> Self {
        self.resources = resources;
        self
    }

    /// Sets [`requirements`](Self::requirements).
    pub fn requirements(mut self, requirements: Requirements) -> Self {
        self.requirements = Some(requirements);
        self
    }

    /// Sets [`pid`](Self::pid).
    pub fn pid(mut self, mode: PidMode) -> Self {
        self.pid = Some(mode);
        self
    }

    /// Sets the cgroup namespace.
    pub fn cgroup_namespace(mut self, mode: CgroupNamespace) -> Self {
        self.cgroup_namespace = mode;
        self
    }

    /// Sets [`stop_signal`](Self::stop_signal).
    pub fn stop_signal(mut self, signal: i32) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Sets [`hooks`](Self::hooks).
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// Adds an open file that the program gets as its next descriptor, from 3 on.
    pub fn preserve_fd(mut self, fd: impl Into<SharedFd>) -> Self {
        self.preserved_fds.push(fd.into());
        self
    }

    /// Sets [`terminal`](Self::terminal).
    pub fn terminal(mut self, on: bool) -> Self {
        self.terminal = on;
        self
    }

    /// Sets [`console_size`](Self::console_size).
    pub fn console_size(mut self, width: u16, height: u16) -> Self {
        self.console_size = Some(ConsoleSize { width, height });
        self
    }

    /// Sets [`detached`](Self::detached).
    pub fn detached(mut self, on: bool) -> Self {
        self.detached = on;
        self
    }

    /// Adds a label.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Adds an annotation.
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }
}

fn is_yes(on: &bool) -> bool {
    *on
}

fn is_private(propagation: &Propagation) -> bool {
    *propagation == Propagation::Private
}

fn yes() -> bool {
    true
}

/// The root filesystem of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Rootfs {
    /// A directory of the host, with what is mounted below it. Missing mount points are made in it.
    #[serde(rename_all = "camelCase")]
    Directory {
        /// Its absolute path.
        path: PathBuf,
        /// Whether the container sees it read-only.
        #[serde(default)]
        readonly: bool,
    },
    /// An overlay of directories, see the kernel's overlayfs documentation.
    #[serde(rename_all = "camelCase")]
    Overlay {
        /// Read-only layers, the topmost first; at most 64. What is mounted below them is not seen.
        lower: Vec<PathBuf>,
        /// Where changes go.
        #[serde(default)]
        upper: Upper,
        /// Whether the container sees the whole read-only.
        #[serde(default)]
        readonly: bool,
    },
}

impl Rootfs {
    /// A directory, writable.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Rootfs::Directory { path: path.into(), readonly: false }
    }

    /// An overlay of these layers, topmost first, whose changes are thrown away with the container.
    pub fn overlay<P: Into<PathBuf>>(lower: impl IntoIterator<Item = P>) -> Self {
        Rootfs::Overlay {
            lower: lower.into_iter().map(Into::into).collect(),
            upper: Upper::default(),
            readonly: false,
        }
    }

    /// The directory, unless it is an overlay.
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            Rootfs::Directory { path, .. } => Some(path),
            Rootfs::Overlay { .. } => None,
        }
    }

    /// The same root filesystem, read-only for the container.
    pub fn readonly(mut self) -> Self {
        match &mut self {
            Rootfs::Directory { readonly, .. } | Rootfs::Overlay { readonly, .. } => *readonly = true,
        }
        self
    }
}

/// Where the changes of an overlay go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Upper {
    /// A tmpfs that ends with the container.
    #[serde(rename_all = "camelCase")]
    Tmpfs {
        /// Bytes; half of the machine's memory when `None` (the kernel's default).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// A directory that stays, and an empty one on the same filesystem for overlayfs' own use.
    #[serde(rename_all = "camelCase")]
    Directory {
        /// Where changes go.
        upper: PathBuf,
        /// overlayfs' work directory.
        work: PathBuf,
    },
}

impl Default for Upper {
    fn default() -> Self {
        Upper::Tmpfs { size: None }
    }
}

/// The identity of a process. Names are for the caller to resolve: the library takes numbers only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct User {
    /// User id; 4294967295 (-1) is refused.
    pub uid: u32,
    /// Group id; 4294967295 (-1) is refused.
    pub gid: u32,
    /// Supplementary groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// A resource limit, see setrlimit(2). [`Rlimit::INFINITY`] means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rlimit {
    /// What is limited.
    #[serde(rename = "type")]
    pub resource: RlimitResource,
    /// The limit that acts.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

impl Rlimit {
    /// No limit (`RLIM_INFINITY`).
    pub const INFINITY: u64 = u64::MAX;
}

/// What a resource limit limits. In JSON the name of setrlimit(2), `"RLIMIT_NOFILE"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are those of setrlimit(2)")]
pub enum RlimitResource {
    #[serde(rename = "RLIMIT_AS")]
    As = libc::RLIMIT_AS,
    #[serde(rename = "RLIMIT_CORE")]
    Core = libc::RLIMIT_CORE,
    #[serde(rename = "RLIMIT_CPU")]
    Cpu = libc::RLIMIT_CPU,
    #[serde(rename = "RLIMIT_DATA")]
    Data = libc::RLIMIT_DATA,
    #[serde(rename = "RLIMIT_FSIZE")]
    Fsize = libc::RLIMIT_FSIZE,
    #[serde(rename = "RLIMIT_LOCKS")]
    Locks = libc::RLIMIT_LOCKS,
    #[serde(rename = "RLIMIT_MEMLOCK")]
    Memlock = libc::RLIMIT_MEMLOCK,
    #[serde(rename = "RLIMIT_MSGQUEUE")]
    Msgqueue = libc::RLIMIT_MSGQUEUE,
    #[serde(rename = "RLIMIT_NICE")]
    Nice = libc::RLIMIT_NICE,
    #[serde(rename = "RLIMIT_NOFILE")]
    Nofile = libc::RLIMIT_NOFILE,
    #[serde(rename = "RLIMIT_NPROC")]
    Nproc = libc::RLIMIT_NPROC,
    #[serde(rename = "RLIMIT_RSS")]
    Rss = libc::RLIMIT_RSS,
    #[serde(rename = "RLIMIT_RTPRIO")]
    Rtprio = libc::RLIMIT_RTPRIO,
    #[serde(rename = "RLIMIT_RTTIME")]
    Rttime = libc::RLIMIT_RTTIME,
    #[serde(rename = "RLIMIT_SIGPENDING")]
    Sigpending = libc::RLIMIT_SIGPENDING,
    #[serde(rename = "RLIMIT_STACK")]
    Stack = libc::RLIMIT_STACK,
}

impl RlimitResource {
    /// The name in setrlimit(2).
    pub fn name(self) -> &'static str {
        use RlimitResource::*;
        match self {
            As => "RLIMIT_AS",
            Core => "RLIMIT_CORE",
            Cpu => "RLIMIT_CPU",
            Data => "RLIMIT_DATA",
            Fsize => "RLIMIT_FSIZE",
            Locks => "RLIMIT_LOCKS",
            Memlock => "RLIMIT_MEMLOCK",
            Msgqueue => "RLIMIT_MSGQUEUE",
            Nice => "RLIMIT_NICE",
            Nofile => "RLIMIT_NOFILE",
            Nproc => "RLIMIT_NPROC",
            Rss => "RLIMIT_RSS",
            Rtprio => "RLIMIT_RTPRIO",
            Rttime => "RLIMIT_RTTIME",
            Sigpending => "RLIMIT_SIGPENDING",
            Stack => "RLIMIT_STACK",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_of_root_filesystems_are_named() {
        for (json, key) in [
            (r#"{"directory":{"path":"/","read_only":true}}"#, "read_only"),
            (r#"{"overlay":{"lower":["/"],"uper":{"tmpfs":{}}}}"#, "uper"),
            (r#"{"overlay":{"lower":["/"],"upper":{"tmpfs":{"sise":1}}}}"#, "sise"),
        ] {
            let error = serde_json::from_str::<Rootfs>(json).unwrap_err().to_string();
            assert!(error.contains(&format!("unknown field `{key}`")), "{json}: {error}");
        }
    }
}
