//! From a specification to the steps of init. Pure: nothing is opened, asked or made here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::step::{Create, Step, Target};
use super::{Plan, Slot, Source};
use crate::container::seccomp::{self, Program};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{
    ContainerSpec, Mount, MountKind, NamespaceMode, PidMode, PodSpec, Propagation, Rootfs, SeccompProfile,
    Stdio, Upper,
};
use crate::sys::mount::attr;
use crate::sys::namespace::Kind;

/// Directories of the template mount namespace: where the root filesystem, a writable layer and read-only layers go.
pub(crate) const ROOT: &str = "/root";
pub(crate) const UPPER: &str = "/upper";
pub(crate) const LAYERS: &str = "/layers";

/// Where programs are looked for when the environment has no `PATH`, as in Docker and containerd.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Directories in `PATH`. Init has room for these next to the most arguments and variables that there may be.
const MAX_CANDIDATES: usize = 1024;
/// Bytes of the program's name or path, with the NUL (`PATH_MAX`).
const MAX_PROGRAM: usize = 4096;

/// The device nodes of every container (OCI runtime-spec, "Default Devices").
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The links in `/dev` (OCI runtime-spec, "Dev symbolic links").
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The directories in `/dev` that other filesystems are mounted on.
const DIRECTORIES: [&str; 3] = ["pts", "shm", "mqueue"];

const NOSUID_NODEV_NOEXEC: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;

/// What a plan needs to know of the pod.
pub(crate) struct PodContext<'a> {
    /// Its specification.
    pub(crate) spec: &'a PodSpec,
}

impl PodContext<'_> {
    /// The PID mode of a container of this pod.
    pub(crate) fn pid_mode<'s>(&'s self, container: &'s ContainerSpec) -> &'s PidMode {
        container.pid.as_ref().unwrap_or(&self.spec.namespaces.pid)
    }
}

/// Compiles a valid specification.
///
/// # Errors
/// `InvalidSpec` when the container asks for something that the pod does not have.
pub(crate) fn compile(pod: &PodContext<'_>, container: &ContainerSpec) -> Result<Plan> {
    if *pod.pid_mode(container) == PidMode::Pod && pod.spec.namespaces.pid != PidMode::Pod {
        return Err(Error::invalid("pid", "the pod has no PID namespace of its own"));
    }
    let mut build = Build { plan: Plan::new(), pod, container, fresh: Vec::new() };
    build.namespaces();
    build.rootfs();
    build.mounts()?;
    build.hide();
    build.enter_root();
    build.process()?;
    Ok(build.plan)
}

/// The plan of process 1 of a PID namespace that the pod's containers share: it has nothing and sees nothing.
pub(crate) fn reaper(pod: &PodSpec) -> Plan {
    let mut plan = Plan::new();
    join_pod_namespaces(&mut plan, pod);
    plan.step(Step::UnshareCgroup);
    plan.step(Step::Setsid);
    let proc = plan.slot();
    plan.step(Step::NewFilesystem {
        slot: proc,
        fstype: "proc",
        options: Vec::new(),
        attributes: NOSUID_NODEV_NOEXEC,
    });
    plan.step(Step::SendFd { slot: proc });
    plan.step(Step::SetName("pericarp-init"));
    plan.step(Step::Identity { uid: 0, gid: 0, groups: Vec::new(), bounding: 0, ambient: 0 });
    plan.step(Step::NoNewPrivileges);
    plan.step(Step::Barrier);
    plan.step(Step::Reap);
    plan
}

fn join_pod_namespaces(plan: &mut Plan, pod: &PodSpec) {
    for (kind, mode) in [
        (Kind::Network, &pod.namespaces.network),
        (Kind::Ipc, &pod.namespaces.ipc),
        (Kind::Uts, &pod.namespaces.uts),
    ] {
        if *mode != NamespaceMode::Host {
            let slot = plan.source(Source::Namespace(kind));
            plan.step(Step::Join { slot, kind });
        }
    }
}

struct Build<'a> {
    plan: Plan,
    pod: &'a PodContext<'a>,
    container: &'a ContainerSpec,
    /// Directories in filesystems that init makes, for other mounts: the whole path, the slot of the filesystem, and
    /// the path in it.
    fresh: Vec<(String, Slot, &'static str)>,
}

impl Build<'_> {
    fn new_filesystem(
        &mut self,
        fstype: &'static str,
        options: Vec<(&'static str, String)>,
        attributes: u64,
    ) -> Slot {
        let slot = self.plan.slot();
        self.plan.step(Step::NewFilesystem { slot, fstype, options, attributes });
        slot
    }

    fn namespaces(&mut self) {
        join_pod_namespaces(&mut self.plan, self.pod.spec);
        self.plan.step(Step::UnshareCgroup);
        self.plan.step(Step::Setsid);
        // So that directories and nodes get exactly the mode that is asked for.
        self.plan.step(Step::Umask(0));
    }

    fn rootfs(&mut self) {
        match &self.container.rootfs {
            Rootfs::Directory { path, readonly } => {
                let slot = self.plan.source(tree(path, true, Propagation::Private));
                if *readonly {
                    // All of it; the top mount is opened again until the mount points are made.
                    self.plan.step(Step::SetAttributes {
                        slot,
                        recursive: true,
                        set: attr::RDONLY,
                        clear: 0,
                    });
                    self.plan.step(Step::SetAttributes {
                        slot,
                        recursive: false,
                        set: 0,
                        clear: attr::RDONLY,
                    });
                }
                self.plan.step(Step::Attach { slot, path: ROOT.to_string() });
            }
            Rootfs::Overlay { lower, upper, .. } => self.overlay(lower, upper),
        }
        self.plan.step(Step::SetRoot);
    }

    /// Layers are attached in the container's own mount namespace and mounted from there: Linux 6.1 takes no layer
    /// that is not. They vanish with the template when init pivots; the overlay keeps private copies.
    fn overlay(&mut self, lower: &[PathBuf], upper: &Upper) {
        let mut options = String::from("lowerdir=");
        for (index, layer) in lower.iter().enumerate() {
            let slot = self.plan.source(tree(layer, false, Propagation::Private));
            let path = format!("{LAYERS}/{index}");
            options += if index == 0 { "" } else { ":" };
            options += &path;
            self.plan.step(Step::Attach { slot, path });
        }
        let (upperdir, workdir) = match upper {
            Upper::Tmpfs { size } => {
                let mut tmpfs = vec![("mode", "700".to_string())];
                tmpfs.extend(size.map(|size| ("size", size.to_string())));
                let slot = self.new_filesystem("tmpfs", tmpfs, 0);
                self.plan.step(Step::Attach { slot, path: UPPER.to_string() });
                let (upper, work) = (format!("{UPPER}/upper"), format!("{UPPER}/work"));
                self.plan.step(Step::Mkdir { path: upper.clone(), mode: 0o755 });
                self.plan.step(Step::Mkdir { path: work.clone(), mode: 0o700 });
                (upper, work)
            }
            Upper::Directory { upper, work } => {
                // overlayfs wants both below one mount: take the tree at their nearest common directory.
                let common: PathBuf = upper
                    .components()
                    .zip(work.components())
                    .take_while(|(a, b)| a == b)
                    .map(|(a, _)| a)
                    .collect();
                let slot = self.plan.source(tree(&common, true, Propagation::Private));
                self.plan.step(Step::Attach { slot, path: UPPER.to_string() });
                let inside = |path: &Path| {
                    let rest = path.strip_prefix(&common).unwrap_or(path);
                    escape(&format!("{UPPER}/{}", rest.display()))
                };
                (inside(upper), inside(work))
            }
        };
        options += &format!(",upperdir={upperdir},workdir={workdir}");
        self.plan.step(Step::MountOverlay { options });
    }

    fn mounts(&mut self) -> Result<()> {
        let container = self.container;
        let mut rest: Vec<&Mount> = container.mounts.iter().collect();
        if container.default_mounts {
            for default in default_mounts() {
                // A mount of the specification takes the place of the default one with its destination.
                match rest.iter().position(|mount| same_path(&mount.destination, &default.destination)) {
                    Some(at) => {
                        let mount = rest.remove(at);
                        self.mount(mount)?;
                    }
                    None if default.destination == Path::new("/dev") => self.dev(),
                    None => self.mount(&default)?,
                }
            }
        }
        rest.into_iter().try_for_each(|mount| self.mount(mount))?;
        if self.pod.spec.hostname_files {
            for name in ["hostname", "hosts"] {
                let slot = self.plan.source(Source::EtcFile(name));
                self.mount_at(
                    slot,
                    format!("the pod's {name}"),
                    format!("/etc/{name}"),
                    Create::File,
                    Target::Anywhere,
                );
            }
        }
        Ok(())
    }

    fn mount_at(&mut self, slot: Slot, what: String, path: String, create: Create, target: Target) {
        if target == Target::NoSymlinks
            && let Some((_, base, below)) = self.fresh.iter().find(|(place, ..)| *place == path)
        {
            let (base, below) = (*base, below.to_string());
            self.plan.step(Step::MountBelow { slot, what, base, path: below, destination: path });
            return;
        }
        self.plan.step(Step::MountAt { slot, what, path, create, target });
    }

    /// A fresh `/dev` with nothing in it but what every container may have.
    fn dev(&mut self) {
        let options = vec![("mode", "755".to_string()), ("size", "65536k".to_string())];
        let slot = self.new_filesystem("tmpfs", options, attr::NOSUID | attr::NOEXEC);
        self.mount_at(slot, "a tmpfs".to_string(), "/dev".to_string(), Create::Directory, Target::NoSymlinks);
        for (name, major, minor) in DEVICES {
            self.plan.step(Step::MknodAt { slot, name, major, minor });
        }
        for (name, target) in LINKS {
            self.plan.step(Step::SymlinkAt { slot, name, target });
        }
        for name in DIRECTORIES {
            self.plan.step(Step::MkdirAt { slot, name, mode: 0o755 });
            self.fresh.push((format!("/dev/{name}"), slot, name));
        }
    }

    fn mount(&mut self, mount: &Mount) -> Result<()> {
        let path = mount.destination.display().to_string();
        let mut attributes = 0;
        for (on, bit) in [
            (mount.readonly, attr::RDONLY),
            (mount.nosuid, attr::NOSUID),
            (mount.nodev, attr::NODEV),
            (mount.noexec, attr::NOEXEC),
        ] {
            if on {
                attributes |= bit;
            }
        }
        let mut target = Target::NoSymlinks;
        let mut create = Create::Directory;
        let host_ipc = self.pod.spec.namespaces.ipc == NamespaceMode::Host;
        let (slot, what) = match &mount.kind {
            MountKind::Bind { source, recursive } => {
                target = Target::Anywhere;
                create = Create::LikeSource;
                let slot = self.plan.source(Source::Tree {
                    path: source.clone(),
                    recursive: *recursive,
                    attributes,
                    attributes_recursive: mount.readonly_recursive,
                    propagation: mount.propagation,
                });
                (slot, source.display().to_string())
            }
            MountKind::Tmpfs { size, mode } => {
                target = Target::Anywhere;
                let mut options = vec![("mode", format!("{:o}", mode.unwrap_or(0o1777)))];
                options.extend(size.map(|size| ("size", size.to_string())));
                (self.new_filesystem("tmpfs", options, attributes), "a tmpfs".to_string())
            }
            MountKind::Volume { name, sub_path } => {
                target = Target::Anywhere;
                create = Create::LikeSource;
                if !self.pod.spec.volumes.iter().any(|volume| volume.name == *name) {
                    return Err(Error::invalid(
                        format!("mounts[{:?}]", mount.destination.display().to_string()),
                        format!("the pod has no volume {name:?}"),
                    ));
                }
                let source = Source::Volume {
                    name: name.clone(),
                    sub_path: sub_path.clone(),
                    attributes,
                    attributes_recursive: mount.readonly_recursive,
                };
                (self.plan.source(source), format!("volume {name:?}"))
            }
            MountKind::Proc => (self.proc(attributes), "proc".to_string()),
            MountKind::Sysfs => {
                let slot = self.new_filesystem("sysfs", Vec::new(), attributes);
                self.fresh.push((format!("{path}/fs/cgroup"), slot, "fs/cgroup"));
                (slot, "sysfs".to_string())
            }
            MountKind::Cgroup => {
                (self.new_filesystem("cgroup2", Vec::new(), attributes), "cgroup2".to_string())
            }
            MountKind::Devpts => {
                let options = vec![
                    ("ptmxmode", "0666".to_string()),
                    ("mode", "0620".to_string()),
                    ("gid", "5".to_string()),
                ];
                (self.new_filesystem("devpts", options, attributes), "devpts".to_string())
            }
            MountKind::Shm if host_ipc => {
                (self.plan.source(host_tree("/dev/shm", attributes)), "the host's /dev/shm".to_string())
            }
            // The queues of the namespace that init is in, whether or not the host has them mounted anywhere.
            MountKind::Mqueue if host_ipc => {
                (self.new_filesystem("mqueue", Vec::new(), attributes), "the host's queues".to_string())
            }
            MountKind::Shm => (self.plan.source(Source::PodShm { attributes }), "the pod's shm".to_string()),
            MountKind::Mqueue => {
                (self.plan.source(Source::PodMqueue { attributes }), "the pod's mqueue".to_string())
            }
        };
        self.mount_at(slot, what, path, create, target);
        Ok(())
    }

    fn proc(&mut self, attributes: u64) -> Slot {
        match self.pod.pid_mode(self.container) {
            PidMode::Container | PidMode::Host => self.new_filesystem("proc", Vec::new(), attributes),
            // Nothing mounts a proc of a PID namespace from outside it before Linux 6.17: take the one that is there.
            PidMode::Pod => self.plan.source(Source::PodProc { attributes }),
            PidMode::Target(name) => self.plan.source(Source::TargetProc { name: name.clone(), attributes }),
        }
    }

    fn hide(&mut self) {
        let security = &self.container.security;
        for path in &security.masked_paths {
            self.plan.step(Step::Mask { path: path.display().to_string() });
        }
        for path in &security.readonly_paths {
            self.plan.step(Step::Readonly { path: path.display().to_string() });
        }
    }

    fn enter_root(&mut self) {
        let (Rootfs::Directory { readonly, .. } | Rootfs::Overlay { readonly, .. }) = &self.container.rootfs;
        if self.container.cwd != Path::new("/") {
            self.plan.step(Step::MkdirInRoot { path: self.container.cwd.display().to_string() });
        }
        if *readonly {
            self.plan.step(Step::RootReadonly);
        }
    }

    fn process(&mut self) -> Result<()> {
        let container = self.container;
        let security = &container.security;
        let streams = [&container.stdio.stdin, &container.stdio.stdout, &container.stdio.stderr];
        let mut null = None;
        let mut stdio = [Slot(0); 3];
        for (index, stream) in streams.into_iter().enumerate() {
            stdio[index] = if *stream == Stdio::Null {
                *null.get_or_insert_with(|| {
                    let slot = self.plan.slot();
                    self.plan.step(Step::OpenNull { slot });
                    slot
                })
            } else {
                self.plan.source(Source::Stdio(index))
            };
        }
        self.plan.step(Step::Pivot);
        self.plan.step(Step::Stdio(stdio));
        let enters = match self.pod.pid_mode(container) {
            PidMode::Container | PidMode::Host => None,
            PidMode::Pod => Some(Source::Namespace(Kind::Pid)),
            PidMode::Target(name) => Some(Source::TargetPid(name.clone())),
        };
        let enters_pid = enters.is_some();
        if let Some(source) = enters {
            let slot = self.plan.source(source);
            self.plan.step(Step::Join { slot, kind: Kind::Pid });
        }
        for limit in &container.rlimits {
            self.plan.step(Step::Rlimit { resource: limit.resource, soft: limit.soft, hard: limit.hard });
        }
        let filter = filter(container)?.map(Step::Seccomp);
        // Loading a filter takes CAP_SYS_ADMIN or no_new_privs: with the latter it comes last.
        let late = if security.no_new_privileges {
            filter
        } else {
            self.plan.steps.extend(filter);
            None
        };
        self.plan.step(Step::Identity {
            uid: container.user.uid,
            gid: container.user.gid,
            groups: container.user.additional_gids.clone(),
            bounding: security.capabilities.bounding.bits(),
            ambient: security.capabilities.ambient.bits(),
        });
        if security.no_new_privileges {
            self.plan.step(Step::NoNewPrivileges);
        }
        self.plan.step(Step::Umask(container.umask));
        self.plan.step(Step::Chdir { path: container.cwd.display().to_string() });
        if enters_pid {
            self.plan.step(Step::EnterPid);
        }
        self.plan.step(Step::Barrier);
        self.plan.steps.extend(late);
        self.exec()
    }

    fn exec(&mut self) -> Result<()> {
        let container = self.container;
        let path = container.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        let mut env: Vec<String> =
            container.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if !container.env.contains_key("PATH") {
            env.push(format!("PATH={DEFAULT_PATH}"));
        }
        let program = &container.args[0];
        // A candidate is made of both: without bounds a specification of 512 KiB would make gigabytes of them.
        if program.len() >= MAX_PROGRAM {
            return Err(Error::invalid("args[0]", "is longer than 4095 bytes, more than a path can be"));
        }
        let candidates: Vec<String> = if program.contains('/') {
            vec![program.clone()]
        } else {
            // An empty part of PATH means the working directory (environ(7)).
            let in_directory = |directory: &str| match directory {
                "" => program.clone(),
                directory => format!("{}/{program}", directory.trim_end_matches('/')),
            };
            path.split(':').take(MAX_CANDIDATES + 1).map(in_directory).collect()
        };
        if candidates.len() > MAX_CANDIDATES {
            return Err(Error::invalid(
                "env[\"PATH\"]",
                format!("has more than {MAX_CANDIDATES} directories"),
            ));
        }
        self.plan.step(Step::Exec { candidates, args: container.args.clone(), env });
        Ok(())
    }
}

/// The filter of a container, compiled once per profile and kept.
fn filter(container: &ContainerSpec) -> Result<Option<Arc<Program>>> {
    match container.security.seccomp {
        SeccompProfile::Unconfined => Ok(None),
        SeccompProfile::RuntimeDefault => {
            seccomp::default_program(container.security.capabilities.bounding.bits()).map(Some).map_err(
                |error| {
                    Error::new(ErrorKind::Unsupported, "compile")
                        .on("the default seccomp profile")
                        .because(error.to_string())
                },
            )
        }
    }
}

/// The mounts of every container, in the order in which they are made.
fn default_mounts() -> Vec<Mount> {
    let locked = |kind, path: &str| Mount::of(kind, path).nosuid(true).nodev(true).noexec(true);
    vec![
        locked(MountKind::Proc, "/proc"),
        locked(MountKind::Sysfs, "/sys").readonly(true),
        locked(MountKind::Cgroup, "/sys/fs/cgroup").readonly(true),
        Mount::of(MountKind::Tmpfs { size: None, mode: None }, "/dev"),
        Mount::of(MountKind::Devpts, "/dev/pts").nosuid(true).noexec(true),
        locked(MountKind::Shm, "/dev/shm"),
        locked(MountKind::Mqueue, "/dev/mqueue"),
    ]
}

/// A directory. The slash at its end makes the kernel say so when it is none.
fn tree(path: &Path, recursive: bool, propagation: Propagation) -> Source {
    Source::Tree { path: path.join(""), recursive, attributes: 0, attributes_recursive: false, propagation }
}

fn host_tree(path: &str, attributes: u64) -> Source {
    Source::Tree {
        path: path.into(),
        recursive: false,
        attributes,
        attributes_recursive: false,
        propagation: Propagation::Private,
    }
}

fn same_path(a: &Path, b: &Path) -> bool {
    a.components().eq(b.components())
}

/// overlayfs takes `:` and `,` in its options as separators and `\` as an escape.
fn escape(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}
