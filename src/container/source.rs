//! Opening what a plan names, each once. What init gets are descriptors: no path of the host is ever resolved in a
//! container.

use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, fstat, fstatat, makedev};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::ContainerStatus;
use super::plan::{Create, Plan, Source, Spread};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::node::{Home, Node};
use crate::pod::Pod;
use crate::pod::pins::{self, PodPins};
use crate::pod::state;
use crate::spawn::listen_in;
use crate::spawn::make_user_namespace;
use crate::spec::{DeviceKind, IdMap, Propagation, SharedFd, split_data};
use crate::sys;
use crate::sys::fd::{duplicate, open_beneath, resolve};
use crate::sys::mount::{attr, clone_tree, filesystem, map_ids, set_attributes};
use crate::sys::namespace::{self, Kind};
use crate::sys::thread;

/// Opens sources and holds them until init has them.
pub(crate) struct Opener<'a> {
    node: &'a Node,
    /// For sources that are other containers'.
    pod: Option<&'a Pod>,
    open: Vec<(usize, OwnedFd)>,
    /// Slots with a link that is to be made anew, and not with a mount.
    links: Vec<usize>,
    /// User namespaces of the mappings of mounts.
    mappings: Vec<(IdMap, OwnedFd)>,
}

/// What is at a path, also a link.
fn open_itself(path: &CStr) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

/// A path of proc_pid_mountinfo(5), where spaces are written in octal.
fn unescaped(point: &str) -> String {
    point.replace("\\040", " ")
}

impl<'a> Opener<'a> {
    pub(crate) fn new(node: &'a Node, pod: Option<&'a Pod>) -> Self {
        Opener { node, pod, open: Vec::new(), links: Vec::new(), mappings: Vec::new() }
    }

    /// Takes in the files that the program gets at descriptor 3 and above.
    pub(crate) fn preserve(&mut self, plan: &Plan, files: &[SharedFd]) -> Result<()> {
        for (slot, source) in plan.sources.iter().enumerate() {
            if let Source::Preserved(index) = source
                && let Some(file) = files.get(*index)
            {
                let what = format!("the file for descriptor {}", index + 3);
                super::stdio::harmless(&what, file.as_fd())?;
                self.open.push((slot, duplicate(file).step("duplicate", what)?));
            }
        }
        Ok(())
    }

    /// The container that is entered, as its first process.
    pub(crate) fn first_process(&mut self, plan: &Plan, pidfd: &OwnedFd) -> Result<()> {
        if let Some(slot) = plan.sources.iter().position(|source| *source == Source::FirstProcess) {
            self.open.push((slot, duplicate(pidfd).step("duplicate", "a pidfd")?));
        }
        Ok(())
    }

    /// Its root directory, which its mount namespace may have elsewhere.
    pub(crate) fn first_root(&mut self, plan: &Plan, pid: i32) -> Result<()> {
        let Some(slot) = plan.sources.iter().position(|source| *source == Source::FirstRoot) else {
            return Ok(());
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = openat(&self.node.0.proc, format!("{pid}/root").as_str(), flags, Mode::empty())
            .step("open", format!("the root directory of process {pid}"))?;
        self.open.push((slot, root));
        Ok(())
    }

    /// Makes the socket by which a detached container is started, in its directory of state.
    pub(crate) fn listen(&mut self, plan: &Plan, dir: &OwnedFd) -> Result<()> {
        if let Some(slot) = plan.sources.iter().position(|source| *source == Source::StartSocket) {
            self.open.push((slot, thread::run(|| listen_in(dir, state::START_SOCKET))?));
        }
        Ok(())
    }

    /// The three streams, those that the plan takes.
    pub(crate) fn stdio(&mut self, plan: &Plan, mut stdio: [Option<OwnedFd>; 3]) -> Result<()> {
        for (slot, source) in plan.sources.iter().enumerate() {
            if let Source::Stdio(index) = source {
                let stream = stdio[*index].take();
                let stream = stream.ok_or_else(|| Error::invalid("stdio", "a stream is missing"))?;
                self.open.push((slot, stream));
            }
        }
        Ok(())
    }

    /// Opens what is in the mount namespace of the host program.
    pub(crate) fn open_on_host(&mut self, plan: &Plan) -> Result<()> {
        for (slot, source) in plan.sources.iter().enumerate() {
            let fd = match source {
                Source::Tree { path, copy_link: true, .. } if path.is_symlink() => {
                    self.links.push(slot);
                    let c_path = namespace::c_path(path).step("open", path.display())?;
                    open_itself(&c_path).step("open", path.display())?
                }
                Source::Tree { path, follow, recursive, change, spread, idmap, .. } => {
                    let tree = self.clone_host_tree(path, *follow, *recursive, *spread)?;
                    change.apply(tree.as_fd()).step("set mount attributes of", path.display())?;
                    self.mapped(tree, idmap.as_ref(), path.display())?
                }
                Source::Filesystem { fstype, source, data, attributes, propagation, idmap } => {
                    let mount = make_filesystem(fstype, source.as_deref(), data, *attributes)?;
                    if *propagation != Propagation::Private {
                        set_propagation(&mount, *propagation).step("set the propagation of", fstype)?;
                    }
                    self.mapped(mount, idmap.as_ref(), fstype)?
                }
                Source::HostDevice { path, kind, major, minor } => {
                    host_device(path, *kind, makedev((*major).into(), (*minor).into()))?
                }
                Source::HostCgroups { attributes } => crate::cgroup::copy_of_host(*attributes)?,
                Source::NamespaceAt { kind, path } => {
                    let namespace = open_namespace(*kind, path)?;
                    if *kind == Kind::Cgroup && self.is_own_cgroup_namespace(&namespace)? {
                        return Err(Error::invalid(
                            "cgroupNamespace",
                            format!("{} is the host's: say so by \"host\"", path.display()),
                        ));
                    }
                    namespace
                }
                Source::ProcAt { path, attributes } => {
                    let namespace = open_namespace(Kind::Pid, path)?;
                    with_attributes(super::proc_at::make(self.node, namespace)?, *attributes)?
                }
                Source::TargetPid(name) => self.target(name, target_pid)?,
                // In a user namespace masks are locked, and what is mounted in the target's proc cannot be left out of a
                // copy: make one like it.
                Source::TargetProc { name, attributes } if plan.is_in_user_namespace() => {
                    let namespace = self.target(name, target_pid)?;
                    with_attributes(super::proc_at::make(self.node, namespace)?, *attributes)?
                }
                Source::TargetProc { name, attributes } => {
                    with_attributes(self.target(name, target_proc)?, *attributes)?
                }
                Source::PrivateProc => {
                    sys::fd::duplicate(&self.node.0.proc).step("duplicate", "the private proc")?
                }
                Source::HostMounts => namespace::of_this_thread(&self.node.0.proc, Kind::Mount)
                    .step("open", "the host's mount namespace")?,
                Source::TimeNamespace(path) => {
                    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
                    openat(AT_FDCWD, path, flags, Mode::empty())
                        .step("open the time namespace", path.display())?
                }
                _ => continue,
            };
            self.open.push((slot, fd));
        }
        Ok(())
    }

    /// The file from which hooks in the container read its state, if there are any.
    pub(crate) fn hook_state(&mut self, plan: &Plan, file: Option<&OwnedFd>) -> Result<()> {
        let slot = plan.sources.iter().position(|source| *source == Source::HookState);
        let (Some(slot), Some(file)) = (slot, file) else { return Ok(()) };
        self.open.push((slot, duplicate(file).step("duplicate", "the state for the hooks")?));
        Ok(())
    }

    /// Joins the pins namespace with the calling library thread and opens what the pod keeps there.
    pub(crate) fn open_in_pins(&mut self, plan: &Plan, home: &Home, id: &str) -> Result<()> {
        let pins = PodPins::enter(&home.pins, id)?;
        for (slot, source) in plan.sources.iter().enumerate() {
            let fd = match source {
                Source::Namespace(kind) => pins.namespace(*kind)?,
                Source::PodShm { attributes } => {
                    with_attributes(pins.clone_mount(pins::SHM, false)?, *attributes)?
                }
                Source::PodMqueue { attributes } => {
                    with_attributes(pins.clone_mount(pins::MQUEUE, false)?, *attributes)?
                }
                Source::PodProc { attributes } => {
                    with_attributes(pins.clone_mount(pins::PROC, false)?, *attributes)?
                }
                Source::Volume { name, sub_path, change, propagation, idmap } => {
                    let volume = open_volume(&pins, name, sub_path.as_deref())?;
                    change.apply(volume.as_fd()).step("set attributes of", format!("volume {name:?}"))?;
                    if *propagation != Propagation::Private {
                        set_propagation(&volume, *propagation)
                            .step("set the propagation of", format!("volume {name:?}"))?;
                    }
                    self.mapped(volume, idmap.as_ref(), format!("volume {name:?}"))?
                }
                Source::EtcFile(name) => {
                    let etc = pins.directory(pins::ETC)?;
                    let name = namespace::c_path(Path::new(name)).step("use", name)?;
                    clone_tree(&etc, &name, false).step("clone", "a file of the pod's /etc")?
                }
                _ => continue,
            };
            self.open.push((slot, fd));
        }
        Ok(())
    }

    /// Shows the sources that the plan says with the ids of the pod's user namespace, which is open by now.
    pub(crate) fn map_ids(&self, plan: &Plan) -> Result<()> {
        let user = plan.sources.iter().position(|source| *source == Source::Namespace(Kind::User));
        let find = |slot: usize| self.open.iter().find(|(at, _)| *at == slot).map(|(_, fd)| fd);
        let Some(user) = user.and_then(find) else { return Ok(()) };
        for (slot, source) in plan.sources.iter().enumerate().filter(|(slot, _)| plan.is_mapped(*slot)) {
            let Some(tree) = find(slot).filter(|_| !self.links.contains(&slot)) else { continue };
            map_ids(tree.as_fd(), true, user.as_fd()).map_err(|errno| not_mapped(errno, source))?;
        }
        Ok(())
    }

    /// What to make for the file in that slot. A guess would not do: what init makes for it may stay in a directory of
    /// the host.
    pub(crate) fn like(&self, slot: u32) -> Result<Create> {
        if self.links.contains(&(slot as usize)) {
            return Ok(Create::Link);
        }
        let Some((_, fd)) = self.open.iter().find(|(at, _)| *at == slot as usize) else {
            return Ok(Create::File);
        };
        let stat = fstat(fd).step("fstat", "the source of a mount")?;
        let is_directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        Ok(if is_directory { Create::Directory } else { Create::File })
    }

    /// The descriptors in the order of their slots, for [`Control::plan`](crate::spawn::Control::plan).
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let mut all: Vec<(usize, RawFd)> =
            self.open.iter().map(|(slot, fd)| (*slot, fd.as_raw_fd())).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, fd)| fd).collect()
    }

    fn clone_host_tree(&self, path: &Path, follow: bool, recursive: bool, spread: Spread) -> Result<OwnedFd> {
        let propagation = spread.propagation;
        let c_path = namespace::c_path(path).step("open", path.display())?;
        let cloned = match follow {
            true => clone_tree(AT_FDCWD, &c_path, recursive),
            false => open_itself(&c_path).and_then(|itself| clone_tree(&itself, c"", recursive)),
        };
        let tree = cloned.map_err(|errno| {
            let error = Error::system(errno, "open").on(path.display());
            match errno {
                Errno::ENOENT => error.because("no such file or directory on the host"),
                Errno::EINVAL => {
                    error.because("it cannot be copied: it is unbindable, or in another mount namespace")
                }
                _ => error,
            }
        })?;
        let shares = matches!(propagation, Propagation::Slave | Propagation::Shared);
        // A link itself is on the mount that its directory is on.
        let is_link = !follow && path.is_symlink();
        let looked_at = path.parent().filter(|_| is_link).unwrap_or(path);
        if spread.required && shares && !self.propagates(looked_at, propagation)? {
            return Err(Error::invalid(
                "propagation",
                format!(
                    "{} is not on a shared mount of the host, so that nothing would propagate",
                    path.display()
                ),
            ));
        }
        let top_only = !spread.recursive;
        let may_have_below = top_only && recursive && !is_link;
        if may_have_below && propagation == Propagation::Shared && self.has_mounts_below(path)? {
            return Err(Error::invalid(
                "propagation",
                format!(
                    "something is mounted below {}, and would be shared with the host as well: say so (rshared)",
                    path.display()
                ),
            ));
        }
        let whole = match propagation {
            Propagation::Unbindable if top_only => Propagation::Private,
            other => other,
        };
        set_propagation(&tree, whole)
            .and_then(|()| {
                if whole == propagation {
                    Ok(())
                } else {
                    set_attributes(tree.as_fd(), false, 0, 0, propagation.flag())
                }
            })
            .step("set the propagation of", path.display())?;
        Ok(tree)
    }

    /// A new mount of cgroups from there would change what the host's mount is.
    fn is_own_cgroup_namespace(&self, namespace: &OwnedFd) -> Result<bool> {
        let own = fstatat(&self.node.0.proc, c"thread-self/ns/cgroup", AtFlags::empty());
        let own = own.step("look at", "the cgroup namespace of a library thread")?;
        Ok(fstat(namespace).step("look at", "the given cgroup namespace")?.st_ino == own.st_ino)
    }

    fn has_mounts_below(&self, path: &Path) -> Result<bool> {
        let real = std::fs::canonicalize(path).step("resolve", path.display())?;
        let table = self.node.0.proc.read("thread-self/mountinfo")?;
        Ok(table.lines().any(|line| {
            let point = unescaped(line.split(' ').nth(4).unwrap_or_default());
            Path::new(&point) != real && Path::new(&point).starts_with(&real)
        }))
    }

    /// Maps the ids of what is on a new mount, as in a user namespace that is made for that, once for each mapping.
    fn mapped(&mut self, mount: OwnedFd, idmap: Option<&IdMap>, what: impl Display) -> Result<OwnedFd> {
        let Some(idmap) = idmap else { return Ok(mount) };
        let same = |other: &IdMap| {
            (&other.uid_mappings, &other.gid_mappings) == (&idmap.uid_mappings, &idmap.gid_mappings)
        };
        let at = match self.mappings.iter().position(|(other, _)| same(other)) {
            Some(at) => at,
            None => {
                let (init, proc) = (&self.node.0.init, &self.node.0.proc);
                let namespace = make_user_namespace(
                    init,
                    proc,
                    &idmap.uid_mappings,
                    &idmap.gid_mappings,
                    self.node.0.realm.is_ordinary(),
                )?;
                self.mappings.push((idmap.clone(), namespace));
                self.mappings.len() - 1
            }
        };
        map_ids(mount.as_fd(), idmap.recursive, self.mappings[at].1.as_fd()).map_err(|errno| {
            let error = Error::system(errno, "map the ids of").on(what);
            match errno {
                Errno::EINVAL => error.of_kind(ErrorKind::Unsupported).because(
                    "its filesystem cannot have mapped ids on this kernel (a tmpfs from Linux 6.3 on), or has them already",
                ),
                Errno::EPERM => error.because(
                    "its ids are mapped already, as those of a volume are in a pod with a user namespace; see \
                     unmappedMounts",
                ),
                _ => error,
            }
        })?;
        Ok(mount)
    }

    /// Whether the mount that a path is on is shared, or, which is enough for a slave, gets what is mounted elsewhere:
    /// proc_pid_mountinfo(5).
    fn propagates(&self, path: &Path, propagation: Propagation) -> Result<bool> {
        let real = std::fs::canonicalize(path).step("resolve", path.display())?;
        let table = self.node.0.proc.read("thread-self/mountinfo")?;
        // The last line wins: it covers those before it.
        let line = table
            .lines()
            .filter(|line| real.starts_with(unescaped(line.split(' ').nth(4).unwrap_or_default())))
            .max_by_key(|line| line.split(' ').nth(4).map_or(0, str::len));
        Ok(line.is_some_and(|line| {
            line.split(' ').skip(6).take_while(|field| *field != "-").any(|field| {
                field.starts_with("shared:")
                    || propagation == Propagation::Slave && field.starts_with("master:")
            })
        }))
    }

    fn target(&self, name: &str, open: impl FnOnce(&OwnedFd, i32) -> Result<OwnedFd>) -> Result<OwnedFd> {
        let missing = || {
            Error::new(ErrorKind::NotFound, "find")
                .on(format!("container {name:?}, whose PID namespace is asked for"))
        };
        let pod = self.pod.ok_or_else(missing)?;
        let container = pod.container(name)?;
        if !container.spec().mount_namespace.is_container() {
            // Whose mounts are looked at for its proc would be those of others.
            return Err(Error::invalid(
                "pid.target",
                format!("container {name:?} has no mount namespace of its own"),
            ));
        }
        let pid = container.pid();
        let proc = self.node.0.proc.as_fd().try_clone_to_owned().step("duplicate", "the private proc")?;
        let fd = open(&proc, pid);
        // It was alive after the namespace was opened: the pid was its own. A status that is lost is an end, too.
        if matches!(container.status()?, ContainerStatus::Exited(_)) {
            return Err(Error::new(ErrorKind::WrongState, "join the PID namespace of")
                .on(format!("container {name:?}"))
                .because("it has ended"));
        }
        fd
    }
}

/// Why a tree of mounts cannot have the ids of a user namespace.
pub(crate) fn not_mapped(errno: Errno, what: impl Display) -> Error {
    let error = Error::system(errno, "give the pod's ids to").on(what);
    match errno {
        Errno::EINVAL => error.of_kind(ErrorKind::Unsupported).because(
            "its filesystem, or one that is mounted below it, has no idmapped mounts (tmpfs has them since Linux 6.3, \
             overlay has none); use another one, or unmappedMounts",
        ),
        Errno::EPERM => error.because(
            "it is idmapped already, or its filesystem was mounted outside the user namespace that this program is root \
             in; use unmappedMounts, or something else",
        ),
        _ => error,
    }
}

fn open_namespace(kind: Kind, path: &Path) -> Result<OwnedFd> {
    openat(AT_FDCWD, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .step(format!("open the {} namespace at", kind.word()), path.display())
}

/// A mount of a device node of the host. What is at the path is checked on the very file that gets mounted
/// (CVE-2025-31133).
fn host_device(path: &Path, kind: DeviceKind, number: u64) -> Result<OwnedFd> {
    let c_path = namespace::c_path(path).step("open", path.display())?;
    let node = clone_tree(AT_FDCWD, &c_path, false).step("open", path.display())?;
    let stat = fstat(&node).step("fstat", path.display())?;
    if stat.st_mode & libc::S_IFMT != kind.file_type() || stat.st_rdev != number {
        return Err(Error::invalid("devices", format!("{} is not that device", path.display())));
    }
    set_attributes(node.as_fd(), false, attr::NOSUID | attr::NOEXEC, 0, libc::MS_PRIVATE)
        .step("set mount attributes of", path.display())?;
    Ok(node)
}

fn target_pid(proc: &OwnedFd, pid: i32) -> Result<OwnedFd> {
    namespace::of_process(proc, pid, Kind::Pid).step("open", "the PID namespace of the target")
}

/// A copy of the proc that a process of another container sees. What is there is up to that container, so that it is
/// checked to be the root of a proc.
fn target_proc(proc: &OwnedFd, pid: i32) -> Result<OwnedFd> {
    const PROC_ROOT_INODE: u64 = 1;
    let mounts =
        namespace::of_process(proc, pid, Kind::Mount).step("open", "the mount namespace of the target")?;
    thread::run(|| {
        setns(&mounts, CloneFlags::CLONE_NEWNS).step("join", "the mount namespace of the target")?;
        let tree = clone_tree(AT_FDCWD, c"/proc", false).step("clone", "the proc of the target")?;
        let is_proc = fstatfs(&tree).is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC)
            && fstat(&tree).is_ok_and(|stat| stat.st_ino == PROC_ROOT_INODE);
        if is_proc {
            Ok(tree)
        } else {
            Err(Error::new(ErrorKind::WrongState, "clone")
                .on("the proc of the target")
                .because("it has none at /proc"))
        }
    })
}

fn with_attributes(mount: OwnedFd, attributes: u64) -> Result<OwnedFd> {
    if attributes != 0 {
        set_attributes(mount.as_fd(), false, attributes, 0, 0)
            .step("set attributes of", "a mount of the pod")?;
    }
    Ok(mount)
}

/// A volume, or what a path below its root leads to: containers may have put symbolic links there, which must not
/// lead out (CVE-2017-1002101, CVE-2021-25741).
fn open_volume(pins: &PodPins, name: &str, sub_path: Option<&Path>) -> Result<OwnedFd> {
    let volume = pins::volume(name);
    let Some(path) = sub_path else {
        return pins.clone_mount(&volume, true);
    };
    let root = pins.directory(&volume)?;
    let c_path = namespace::c_path(path).step("use", path.display())?;
    let rules = resolve::BENEATH | resolve::NO_MAGICLINKS;
    let found = open_beneath(&root, &c_path, libc::O_PATH, 0, rules).map_err(|errno| {
        let error = Error::system(errno, "open").on(format!("{} in volume {name:?}", path.display()));
        match errno {
            Errno::EXDEV => error.of_kind(ErrorKind::PermissionDenied).because("it leads out of the volume"),
            _ => error,
        }
    })?;
    clone_tree(&found, c"", true).step("clone", format!("{} in volume {name:?}", path.display()))
}

/// Gives all mounts of a detached tree their propagation. A tree that is left shared could not be pivoted into.
pub(crate) fn set_propagation(tree: &OwnedFd, propagation: Propagation) -> crate::sys::Result<()> {
    set_attributes(tree.as_fd(), true, 0, 0, propagation.flag())
}

/// A new filesystem, mounted nowhere yet. A path among its options, or as its source, is the host's.
fn make_filesystem(fstype: &str, source: Option<&Path>, data: &[String], attributes: u64) -> Result<OwnedFd> {
    let text = |text: &str| CString::new(text).map_err(|_| Error::invalid("mounts", "has a NUL byte"));
    let (pairs, flags) = split_data(data);
    let mut options = Vec::new();
    if !pairs.iter().any(|(key, _)| key == "source") {
        // What mount(8) and df(1) show as the device.
        options.push((text("source")?, Some(text(&source.map_or(fstype.into(), Path::to_string_lossy))?)));
    }
    for (key, value) in &pairs {
        options.push((text(key)?, Some(text(value)?)));
    }
    for flag in &flags {
        options.push((text(flag)?, None));
    }
    // A filesystem that is read-only as a whole does not write to its device, either: it may be one that cannot be
    // written.
    if attributes & attr::RDONLY != 0 {
        options.push((text("ro")?, None));
    }
    let options: Vec<_> = options.iter().map(|(key, value)| (key.as_c_str(), value.as_deref())).collect();
    filesystem(&text(fstype)?, &options, attributes).map_err(|errno| {
        let on = source.map_or(String::new(), |source| format!(" on {}", source.display()));
        let error = Error::system(errno, "make").on(format!("a {fstype}{on}"));
        match errno {
            Errno::ENODEV => error.because("this kernel has no such filesystem, or its module is not loaded"),
            Errno::EINVAL => {
                error.because("an option is unknown to it, or there is no such filesystem on its source")
            }
            Errno::ENOTBLK => error.because("its source is no block device"),
            _ => error,
        }
    })
}

/// Opens a file of the host for a standard stream.
pub(crate) fn open_stdio_file(path: &Path, input: bool) -> Result<OwnedFd> {
    let flags = if input { OFlag::O_RDONLY } else { OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND };
    let mode = Mode::from_bits_retain(0o640);
    openat(AT_FDCWD, path, flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, mode).step("open", path.display())
}
