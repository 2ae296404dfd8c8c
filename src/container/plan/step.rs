//! One step of init, as data and in words. The words are what an error says when the step fails.

use std::fmt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::Slot;
use crate::container::seccomp::Program;
use crate::spec::{
    CapabilityBits, ConsoleSize, Device, MemoryPolicy, Propagation, RlimitResource, Scheduler,
};
use crate::sys::mount::attr;
use crate::sys::namespace::Kind;

/// See `init/wire.rs` for each operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Join {
        slot: Slot,
        kind: Kind,
    },
    /// New namespaces, which belong to the user namespace that init is in.
    Unshare(CloneFlags),
    Setsid,
    Umask(u32),
    NewFilesystem {
        slot: Slot,
        fstype: &'static str,
        options: Vec<(&'static str, String)>,
        attributes: u64,
    },
    /// The same with options of the specification.
    NewFilesystemWith {
        slot: Slot,
        fstype: &'static str,
        options: Vec<(String, String)>,
        flags: Vec<String>,
        attributes: u64,
    },
    CopyUp {
        slot: Slot,
        path: String,
        keep_mode: bool,
    },
    Attach {
        slot: Slot,
        path: String,
    },
    MountOverlay {
        options: String,
    },
    Mkdir {
        path: String,
        mode: u32,
    },
    SetRoot,
    MountAt {
        slot: Slot,
        what: String,
        path: String,
        create: Create,
        target: Target,
    },
    MountBelow {
        slot: Slot,
        what: String,
        base: Slot,
        path: String,
        /// For people.
        destination: String,
    },
    MkdirAt {
        slot: Slot,
        name: &'static str,
        mode: u32,
    },
    MknodAt {
        slot: Slot,
        name: &'static str,
        major: u32,
        minor: u32,
    },
    Device {
        device: Device,
        target: Target,
    },
    /// What had to be writable until now.
    MountReadonly {
        slot: Slot,
        path: String,
    },
    SymlinkAt {
        slot: Slot,
        name: &'static str,
        target: &'static str,
    },
    OpenNull {
        slot: Slot,
    },
    Mask {
        /// The filesystem that it is in, if that is one of the kernel's own; the root otherwise.
        base: Option<Slot>,
        path: String,
        /// For people.
        destination: String,
    },
    Readonly {
        base: Option<Slot>,
        path: String,
        destination: String,
    },
    SetAttributes {
        slot: Slot,
        recursive: bool,
        set: u64,
        clear: u64,
    },
    RootReadonly,
    MkdirInRoot {
        path: String,
    },
    Pivot,
    RootPropagation {
        propagation: Propagation,
        recursive: bool,
    },
    Stdio([Slot; 3]),
    Rlimit {
        resource: RlimitResource,
        soft: u64,
        hard: u64,
    },
    Identity {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
        capabilities: CapabilityBits,
    },
    NoNewPrivileges,
    Seccomp(Arc<Program>),
    Chdir {
        path: String,
    },
    EnterPid,
    SetName(&'static str),
    SendFd {
        slot: Slot,
    },
    Barrier,
    Pause,
    Preserve(Vec<Slot>),
    KeepOpen(u32),
    FindProgram {
        candidates: Vec<String>,
    },
    RunHook {
        stdin: Slot,
        path: String,
        args: Vec<String>,
        env: Vec<String>,
        /// Seconds.
        timeout: Option<u32>,
    },
    BarrierForAll {
        slot: Slot,
    },
    Terminal {
        slot: Slot,
        /// `None` for the one that is at its path.
        devpts: Option<Slot>,
        /// Where a mount of it goes.
        console: Option<Slot>,
        user: u32,
        size: ConsoleSize,
    },
    ControllingTerminal,
    JoinProcess {
        process: Slot,
        /// `CLONE_NEW…`; the library fills it in before the plan is encoded.
        namespaces: u32,
        /// Its root directory, where that is not the root of its mount namespace.
        root: Option<Slot>,
    },
    Exec {
        candidates: Vec<String>,
        args: Vec<String>,
        env: Vec<String>,
    },
    Reap,
    /// Own files as that user and group of the host.
    OwnFiles {
        uid: u32,
        gid: u32,
    },
    EnterUser {
        slot: Slot,
    },
    CopyRoot,
    /// What hooks have moved.
    TakeRootBack,
    MakeQueue {
        name: String,
        mode: u32,
        uid: u32,
        gid: u32,
        messages: u32,
        size: u32,
    },
    SetSysctl {
        proc: Slot,
        path: String,
        name: String,
        value: String,
    },
    WriteProc {
        proc: Slot,
        /// Below the root of proc.
        path: &'static str,
        text: String,
        /// For people.
        what: &'static str,
    },
    Scheduler(Scheduler),
    IoPriority(u32),
    Affinity {
        mask: Vec<u8>,
        /// For people.
        list: String,
    },
    Personality(u32),
    MemoryPolicy {
        /// The nodes, a bit each.
        mask: Vec<u8>,
        policy: MemoryPolicy,
    },
    SessionKeyring,
    UnshareTime,
    JoinTime {
        slot: Slot,
    },
    EnterTime {
        proc: Slot,
    },
    /// How mounts below a new filesystem travel.
    Propagate {
        slot: Slot,
        propagation: Propagation,
        /// For people.
        path: String,
    },
    /// Take the root filesystem along into a mount namespace of others.
    EnterMounts {
        slot: Slot,
    },
    /// Find files as that user of the container, until it becomes that user.
    LookAs {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
    },
    /// In a user namespace that may not change them.
    KeepGroups,
    /// Its files in proc belong to its own user, as whom root of a user namespace writes its maps: those of a hidden
    /// process belong to root of the machine.
    Show,
    /// Make a twin, which does the next steps alone: so many.
    Twin {
        steps: u32,
    },
    /// In the twin: give what is in these slots, and go on in a mount namespace that is given, so many steps later.
    Give {
        slots: Vec<Slot>,
        steps: u32,
    },
    Take(Vec<Slot>),
    /// Give the twin the mount namespace, and end.
    HandOver {
        proc: Slot,
    },
}

/// What to make where a mount goes, when nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Create {
    Directory,
    File,
    /// A directory or a file, as the source in that slot is. The library resolves it before the plan is encoded.
    LikeSource,
    /// A link like the one in that slot, and nothing is mounted. The library finds that out, too.
    Link,
}

/// Where a mount may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Wherever the path leads within the root, but not into a proc.
    Anywhere,
    /// The very path: what looks like the kernel's own files must be where it seems to be.
    NoSymlinks,
}

/// Where a proc of the host is seen for a moment: the kernel makes a new one only where a whole one is seen.
pub(crate) const PROC: &str = "/proc";

/// Namespaces by the names of their files in proc(5).
struct Namespaces(CloneFlags);

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [Kind::Mount, Kind::Pid, Kind::Network, Kind::Ipc, Kind::Uts, Kind::Cgroup];
        let words: Vec<&str> =
            kinds.iter().filter(|kind| self.0.contains(kind.flag())).map(|kind| kind.file()).collect();
        f.write_str(&words.join(", "))
    }
}

/// Mount attributes in the words of mount(8).
pub(super) struct Attributes(pub(super) u64);

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let atime = match self.0 & attr::ATIME {
            attr::ATIME => ", atime",
            attr::NOATIME => ", noatime",
            attr::STRICTATIME => ", strictatime",
            _ => "",
        };
        f.write_str(atime)?;
        for (bit, word) in [
            (attr::RDONLY, "ro"),
            (attr::NOSUID, "nosuid"),
            (attr::NODEV, "nodev"),
            (attr::NOEXEC, "noexec"),
            (attr::NODIRATIME, "nodiratime"),
            (attr::NOSYMFOLLOW, "nosymfollow"),
        ] {
            if self.0 & bit != 0 {
                write!(f, ", {word}")?;
            }
        }
        Ok(())
    }
}

/// What the kernel says by EINVAL, as it does of other options.
const NO_CONTEXT: Option<&str> =
    Some("the SELinux policy has no such context, if the other options are right");

impl Step {
    /// Why it usually fails that way, and what to do.
    pub(super) fn hint(&self, errno: Errno) -> Option<&'static str> {
        match (self, errno) {
            (Step::WriteProc { path: "self/oom_score_adj", .. }, Errno::EACCES) => {
                Some("less than the calling program has needs CAP_SYS_RESOURCE")
            }
            (Step::WriteProc { path: "self/attr/apparmor/exec", .. }, Errno::ENOENT) => {
                Some("no such profile is loaded")
            }
            (Step::WriteProc { path: "self/attr/exec", .. }, Errno::EINVAL) => {
                Some("the policy has no such label")
            }
            (Step::NewFilesystem { options, .. }, Errno::EINVAL)
                if options.iter().any(|(key, _)| *key == "context") =>
            {
                NO_CONTEXT
            }
            (Step::MountOverlay { options }, Errno::EINVAL) if options.contains(",context=") => NO_CONTEXT,
            (Step::WriteProc { path: "self/timens_offsets", .. }, Errno::ERANGE) => {
                Some("a clock would be before 0 or after 146 years")
            }
            (Step::NewFilesystem { fstype: "proc", .. }, Errno::EPERM) => Some(
                "in a user namespace the kernel mounts one only where a whole one is seen: something covers parts of \
                 /proc on this machine",
            ),
            (Step::NewFilesystem { fstype: "sysfs", .. }, Errno::EPERM) => Some(
                "in a user namespace it takes a network namespace of the pod's own, and a machine where nothing covers \
                 parts of /sys",
            ),
            (Step::MountAt { create: Create::Link, .. }, Errno::EEXIST) => {
                Some("something is there, and not a link with the same content")
            }
            (Step::SessionKeyring, Errno::EDQUOT) => Some(
                "the user's quota of keys is used up, see kernel.keys.maxkeys and, for root, kernel.keys.root_maxkeys",
            ),
            (Step::SessionKeyring, Errno::EPERM | Errno::EACCES) => Some(
                "a system call filter that this program is under may forbid keyctl(2); inheritSessionKeyring does without",
            ),
            (Step::WriteProc { path: "self/attr/keycreate", .. }, Errno::EINVAL) => {
                Some("the policy has no such label")
            }
            (Step::UnshareTime, Errno::EINVAL) => Some("this kernel has no time namespaces (CONFIG_TIME_NS)"),
            (Step::Twin { .. } | Step::EnterPid, Errno::EAGAIN) => Some(
                "a limit of processes is reached; while a container is made in a user namespace it has three",
            ),
            (Step::JoinTime { .. }, Errno::EINVAL) => Some("the file is no time namespace"),
            (Step::Affinity { .. }, Errno::EINVAL) => {
                Some("none of them is there and in the cpuset of the container's cgroup")
            }
            (Step::MemoryPolicy { .. }, Errno::EINVAL) => Some(
                "none of the nodes is there and in the cpuset of the container's cgroup, or this kernel does not know the \
                 mode or the flag",
            ),
            (Step::Attach { .. }, Errno::ELOOP) => Some(
                "the state directory of a node is below it, whose pins the kernel lets into no other mount namespace: use an \
                 overlay, or another directory",
            ),
            (Step::MemoryPolicy { .. }, Errno::ENOSYS) => Some("this kernel has no NUMA (CONFIG_NUMA)"),
            (Step::Scheduler(_), Errno::EPERM) => Some(
                "it needs CAP_SYS_NICE, and real time a share for the cgroup where the kernel divides that",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Join { kind, .. } => write!(f, "join the {} namespace", kind.word()),
            Step::Unshare(CloneFlags::CLONE_NEWCGROUP) => write!(f, "make a cgroup namespace"),
            Step::Unshare(flags) => {
                write!(f, "make namespaces of the user namespace ({})", Namespaces(*flags))
            }
            Step::Setsid => write!(f, "make a session"),
            Step::Umask(mask) => write!(f, "set the umask to {mask:03o}"),
            Step::NewFilesystem { fstype, options, attributes, .. } => {
                write!(f, "make a {fstype}")?;
                for (key, value) in options {
                    write!(f, ", {key}={value}")?;
                }
                write!(f, "{}", Attributes(*attributes))
            }
            Step::Attach { path, .. } if path == PROC => {
                write!(f, "show a proc of the host outside the root filesystem")
            }
            Step::NewFilesystemWith { fstype, options, flags, attributes, .. } => {
                write!(f, "make a {fstype}")?;
                options.iter().try_for_each(|(key, value)| write!(f, ", {key}={value}"))?;
                flags.iter().try_for_each(|flag| write!(f, ", {flag}"))?;
                write!(f, "{}", Attributes(*attributes))
            }
            Step::CopyUp { path, .. } => write!(f, "copy what is in {path} into it"),
            Step::Attach { path, .. } => write!(f, "put a layer at {path}"),
            Step::MountOverlay { options } => write!(f, "mount the overlay ({options})"),
            Step::Mkdir { path, .. } => write!(f, "make the directory {path} for the overlay"),
            Step::SetRoot => write!(f, "open the root filesystem"),
            Step::MountAt { what, path, create: Create::Link, .. } => {
                write!(f, "make the link {path} like {what}")
            }
            Step::MountAt { what, path, .. } => write!(f, "mount {what} on {path}"),
            Step::MountBelow { what, destination, .. } => write!(f, "mount {what} on {destination}"),
            Step::MkdirAt { name, mode, .. } => write!(f, "make the directory /dev/{name}, mode {mode:03o}"),
            Step::MknodAt { name, major, minor, .. } => {
                write!(f, "make the device node /dev/{name}, {major}:{minor}")
            }
            Step::Device { device, .. } => {
                let Device { path, kind, major, minor, mode, uid, gid, .. } = device;
                write!(
                    f,
                    "make the {} {}, {major}:{minor}, mode {mode:03o}, of {uid}:{gid}",
                    kind.word(),
                    path.display()
                )
            }
            Step::MountReadonly { path, .. } => write!(f, "make the mount on {path} read-only"),
            Step::SymlinkAt { name, target, .. } => write!(f, "make the link /dev/{name} to {target}"),
            Step::OpenNull { .. } => write!(f, "open the null device"),
            Step::Mask { destination, .. } => write!(f, "mask {destination}"),
            Step::Readonly { destination, .. } => write!(f, "make {destination} read-only"),
            Step::SetAttributes { set, clear, recursive, .. } => {
                write!(f, "change mount attributes of the root filesystem")?;
                if *recursive {
                    write!(f, " and of what is mounted below it")?;
                }
                write!(f, " (set{}; clear{})", Attributes(*set), Attributes(*clear))
            }
            Step::RootReadonly => write!(f, "make the root filesystem read-only"),
            Step::MkdirInRoot { path } => write!(f, "make the directory {path}"),
            Step::Pivot => write!(f, "pivot into the root filesystem"),
            Step::RootPropagation { propagation, recursive } => {
                let below = if *recursive { " and what is mounted below it" } else { "" };
                write!(f, "make the root filesystem{below} {}", format!("{propagation:?}").to_lowercase())
            }
            Step::Stdio(_) => write!(f, "set standard input, output and error"),
            Step::Rlimit { resource, soft, hard } => {
                write!(f, "set {} to {soft}:{hard}", resource.name())
            }
            Step::Identity { uid, gid, groups, capabilities } => {
                let CapabilityBits { bounding, permitted, effective, inheritable, ambient } = capabilities;
                write!(f, "become user {uid}, group {gid}, groups {groups:?}, ")?;
                write!(f, "capabilities {bounding:#x}, ambient {ambient:#x}")?;
                let usual = if *uid == 0 { bounding } else { ambient };
                if (permitted, effective, inheritable) != (usual, usual, ambient) {
                    write!(f, ", permitted {permitted:#x}, effective {effective:#x}")?;
                    write!(f, ", inheritable {inheritable:#x}")?;
                }
                Ok(())
            }
            Step::NoNewPrivileges => write!(f, "give up new privileges"),
            Step::Seccomp(program) => {
                write!(f, "load the system call filter")?;
                if program.listens() {
                    write!(f, " and hand its listener over")?;
                }
                write!(f, " ({} instructions)", program.instructions.len())
            }
            Step::Chdir { path } => write!(f, "change the working directory to {path}"),
            Step::EnterPid => write!(f, "enter the PID namespace"),
            Step::SetName(name) => write!(f, "take the name {name}"),
            Step::SendFd { .. } => write!(f, "send the proc of the PID namespace"),
            Step::Barrier => write!(f, "wait for the start"),
            Step::Preserve(slots) => write!(f, "put {} files at descriptor 3 and above", slots.len()),
            Step::KeepOpen(count) => write!(f, "hand {count} descriptors down"),
            Step::FindProgram { candidates } => {
                write!(f, "find the program {:?}", candidates.last().map_or("", String::as_str))
            }
            Step::Pause => write!(f, "wait for the hooks of the creation"),
            Step::RunHook { path, .. } => write!(f, "run the startContainer hook {path}"),
            Step::Terminal { user, size: ConsoleSize { width, height }, .. } => {
                write!(f, "make a terminal for user {user}, {width}x{height} characters")
            }
            Step::ControllingTerminal => write!(f, "make the terminal that of the session"),
            Step::JoinProcess { .. } => write!(f, "join the namespaces of the container"),
            Step::BarrierForAll { .. } => write!(f, "wait for the start, by any program of the node's owner"),
            Step::Exec { args, .. } => write!(f, "execute {:?}", args.first().map_or("", String::as_str)),
            Step::Reap => write!(f, "reap as process 1 of the PID namespace"),
            Step::OwnFiles { uid, gid } => write!(f, "own files as user {uid} and group {gid} of the host"),
            Step::EnterUser { .. } => write!(f, "join the user namespace, as its root"),
            Step::CopyRoot => write!(f, "copy the root filesystem's mounts"),
            Step::TakeRootBack => write!(f, "take the root filesystem back from the hooks"),
            Step::MakeQueue { name, .. } => write!(f, "make the message queue {name:?}"),
            Step::SetSysctl { name, value, .. } => write!(f, "write {value:?} to sysctl {name}"),
            Step::WriteProc { what, text, .. } => {
                write!(f, "set {what} to {}", text.trim_end().replace('\n', ", "))
            }
            Step::Scheduler(scheduler) => {
                write!(f, "take the scheduling policy {:?}", scheduler.policy)?;
                for (word, value) in [
                    ("nice", i128::from(scheduler.nice)),
                    ("priority", scheduler.priority.into()),
                    ("runtime", scheduler.runtime.into()),
                    ("deadline", scheduler.deadline.into()),
                    ("period", scheduler.period.into()),
                ] {
                    if value != 0 {
                        write!(f, ", {word} {value}")?;
                    }
                }
                for flag in &scheduler.flags {
                    write!(f, ", {flag:?}")?;
                }
                Ok(())
            }
            Step::IoPriority(number) => {
                write!(f, "take the I/O priority {} of class {}", number & 0x1fff, number >> 13)
            }
            Step::Affinity { list, .. } => write!(f, "stay on the processors {list}"),
            Step::Personality(number) => write!(f, "take the execution domain {number}"),
            Step::MemoryPolicy { policy, .. } => {
                write!(f, "take memory by the policy {:?}", policy.mode)?;
                if !policy.nodes.is_empty() {
                    write!(f, " from the nodes {}", policy.nodes)?;
                }
                policy.flags.iter().try_for_each(|flag| write!(f, ", {flag:?}"))
            }
            Step::SessionKeyring => write!(f, "make a session keyring"),
            Step::UnshareTime => write!(f, "make a time namespace"),
            Step::JoinTime { .. } => write!(f, "join the time namespace"),
            Step::EnterTime { .. } => write!(f, "enter the time namespace"),
            Step::Propagate { propagation, path, .. } => {
                write!(f, "make the mount for {path} {}", format!("{propagation:?}").to_lowercase())
            }
            Step::EnterMounts { .. } => {
                write!(f, "join the mount namespace, with the root filesystem as the root")
            }
            Step::LookAs { uid, gid, groups } => {
                write!(f, "look at files as user {uid}, group {gid}, groups {groups:?}")
            }
            Step::KeepGroups => write!(f, "keep the groups"),
            Step::Show => write!(f, "let itself be seen"),
            Step::Twin { steps } => {
                write!(f, "make a twin, which does the next {steps} steps and init does not")
            }
            Step::Give { steps, .. } => {
                write!(
                    f,
                    "give init the filesystems, and go on {steps} steps later, in the mount namespace that it made"
                )
            }
            Step::Take(_) => write!(f, "take the filesystems that the twin has made"),
            Step::HandOver { .. } => write!(f, "give the twin the mount namespace, and end"),
        }
    }
}
