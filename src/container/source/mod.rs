//! Opening what a plan names, each once. What init gets are descriptors: no path of the host is ever resolved in a
//! container.

mod files;

use std::ffi::CStr;
use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat, makedev};

use files::{
    host_device, make_filesystem, open_namespace, open_volume, target_pid, target_proc, with_attributes,
};
pub(crate) use files::{open_stdio_file, set_propagation};

use super::ContainerStatus;
use super::plan::{Create, Plan, Source, Spread};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::node::{Home, Node};
use crate::pod::Pod;
use crate::pod::pins::{self, PodPins};
use crate::pod::state;
use crate::spawn::listen_in;
use crate::spawn::make_user_namespace;
use crate::spec::{IdMap, Propagation, SharedFd};
use crate::sys;
use crate::sys::fd::duplicate;
use crate::sys::mount::{clone_tree, map_ids, set_attributes};
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

fn is_link(file: &OwnedFd) -> nix::Result<bool> {
    Ok(fstat(file)?.st_mode & libc::S_IFMT == libc::S_IFLNK)
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
        let is_link = !follow && is_link(&tree).step("fstat", path.display())?;
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
