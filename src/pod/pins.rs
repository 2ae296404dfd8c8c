//! The two private mount namespaces of a node.
//!
//! - **pins** holds what keeps pods alive without a process: a directory a pod, with its namespaces (nsfs mounts), its
//!   shared memory, its queues and its volumes attached. It is never copied as a whole: copying a mount namespace
//!   costs time for every mount in it. One nsfs mount in the host's table keeps it alive.
//! - **template** is a read-only tmpfs with the few directories that init needs, and nothing else mounted. The mount
//!   namespaces of containers are copies of it, so that starting one costs the same however many pods there are.
//!
//! Threads that work in them have left the host's mount namespace: whatever they need of it is opened before.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, SFlag, fchmodat, makedev, mknod};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{UnlinkatFlags, fchdir, mkdir, unlinkat};

use crate::container::plan::{HOST, LAYERS, PROC_OF_HOST, ROOT, UPPER};
use crate::error::{Context, Error, Result};
use crate::init::wire;
use crate::node::{Proc, Realm};
use crate::sys::namespace::{self, Kind};
use crate::sys::{mount as fs, thread};

use super::borrowed::{self, Borrowed};

/// The file in the state directory that the pins namespace is mounted on.
const PINS: &str = "pins";
/// A directory of the state directory, for hosts on which that file cannot be a mount point itself.
const PINS_DIR: &str = "pins.d";
/// The file in the pins namespace that the template namespace is mounted on.
const TEMPLATE: &std::ffi::CStr = c"/template";
/// The directory in the pins namespace with a directory for each pod.
pub(crate) const PODS: &str = "/pods";
/// `NSFS_MAGIC` of linux/magic.h.
const NSFS: FsType = FsType(0x6e73_6673);
/// Read-only layers that a root filesystem can have; as many directories are ready for them.
pub(crate) const MAX_LAYERS: usize = 64;

/// The namespaces that are pinned below the state directory `dir`; makes and pins what is not there. The caller holds
/// the lock of the state directory.
pub(crate) fn open_or_make(
    dir: &OwnedFd,
    path: &Path,
    proc: &Proc,
    realm: &Realm,
) -> Result<(OwnedFd, OwnedFd)> {
    let mut found = None;
    for place in [PINS.to_string(), format!("{PINS_DIR}/{PINS}")] {
        found = open_pinned(dir.as_fd(), &place).step("open", path.join(&place).display())?;
        if found.is_some() {
            break;
        }
    }
    let pins = match found {
        Some(pins) => pins,
        None => in_order(|| {
            let pins = make_pins(path, proc, realm.is_ordinary())?;
            Ok(pin_on_host(dir, path, &pins)?.then_some(pins))
        })?,
    };
    let template = open_or_make_template(&pins, path, proc, realm.is_ordinary())?;
    Ok((pins, template))
}

/// Makes the two namespaces. They live while the descriptor of pins is open.
pub(crate) fn make(path: &Path, proc: &Proc, realm: &Realm) -> Result<(OwnedFd, OwnedFd)> {
    let make = || {
        let pins = make_pins(path, proc, realm.is_ordinary())?;
        let template = open_or_make_template(&pins, path, proc, realm.is_ordinary())?;
        Ok((pins, template))
    };
    if realm.is_user() { realm.run(make) } else { make() }
}

/// A mount namespace can only be mounted in one with a smaller number, so that no circle comes about (`ELOOP`). Linux
/// takes the numbers from a stock of 4096 a processor: one that was made later on another processor may have the
/// smaller number. Tries until the order is right, on each processor in turn.
fn in_order<T: Send>(attempt: impl Fn() -> Result<Option<T>> + Sync) -> Result<T> {
    const STOCK: usize = 4096;
    for number in 0..=2 * STOCK {
        let made = thread::run(|| {
            if number > 0 {
                move_to_processor(number).step("choose", "a processor for a library thread")?;
            }
            attempt()
        })?;
        if let Some(made) = made {
            return Ok(made);
        }
    }
    Err(Error::system(Errno::ELOOP, "mount")
        .on("a mount namespace")
        .because("no new one is younger than the host's"))
}

/// Moves the calling library thread to the `number`th of the processors that it may run on, counted round.
fn move_to_processor(number: usize) -> nix::Result<()> {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    let this = nix::unistd::Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let processors: Vec<usize> =
        (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu) == Ok(true)).collect();
    let mut one = CpuSet::new();
    one.set(processors[number % processors.len()])?;
    sched_setaffinity(this, &one)
}

fn make_pins(path: &Path, proc: &Proc, ordinary: bool) -> Result<OwnedFd> {
    // A thread of its own, which inherits the processor of the one that asks.
    thread::run(|| {
        let machines = if ordinary { Some(borrowed::open_proc()?) } else { None };
        new_namespace(path)?;
        mkdir(PODS, Mode::S_IRWXU).step("make", "the pins namespace's pods directory")?;
        machines.map_or(Ok(()), |proc| borrowed::attach_proc(&proc)).step("attach", "a proc in pins")?;
        namespace::of_this_thread(proc, Kind::Mount).step("open", "the pins namespace")
    })
}

fn open_or_make_template(pins: &OwnedFd, path: &Path, proc: &Proc, ordinary: bool) -> Result<OwnedFd> {
    let found = thread::run(|| {
        setns(pins, CloneFlags::CLONE_NEWNS).step("join", "the pins namespace")?;
        open_pinned(AT_FDCWD.as_fd(), "/template").step("open", "the template namespace")
    })?;
    if let Some(template) = found {
        return Ok(template);
    }
    in_order(|| {
        let template = thread::run(|| {
            let borrowed = if ordinary { Some(Borrowed::open()?) } else { None };
            new_namespace(path)?;
            furnish_template(borrowed.as_ref()).step("furnish", "the template namespace")?;
            namespace::of_this_thread(proc, Kind::Mount).step("open", "the template namespace")
        })?;
        setns(pins, CloneFlags::CLONE_NEWNS).step("join", "the pins namespace")?;
        create_file(AT_FDCWD, TEMPLATE).step("make", "the template's pin")?;
        match pin(&template, AT_FDCWD, TEMPLATE) {
            Ok(()) => Ok(Some(template)),
            Err(Errno::ELOOP) => Ok(None),
            Err(errno) => Err(errno).step("pin", "the template namespace"),
        }
    })
}

/// On a thread of its own: a mount namespace whose root is a new tmpfs and that holds nothing else.
fn new_namespace(state_dir: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).step("make", "a mount namespace")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .step("make private", "the mounts of a copy")?;
    let tmpfs = fs::new_filesystem(c"tmpfs", &[(c"mode", c"700")], 0).step("make", "a tmpfs")?;
    // Any directory will do as a place for the moment between here and the pivot.
    let place = namespace::c_path(state_dir).step("use", state_dir.display())?;
    fs::attach(tmpfs.as_fd(), AT_FDCWD, &place).step("attach a tmpfs to", state_dir.display())?;
    fchdir(&tmpfs).step("enter", "a tmpfs")?;
    fs::pivot_to_cwd().step("pivot into", "a tmpfs")
}

fn furnish_template(borrowed: Option<&Borrowed>) -> nix::Result<()> {
    let all = Mode::from_bits_retain(0o755);
    let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
    for directory in [ROOT, UPPER, LAYERS, "/dev", PROC_OF_HOST] {
        mkdir(directory, all)?;
        // The umask of the host program is not ours to change: give modes again.
        fchmodat(AT_FDCWD, directory, all, follow)?;
    }
    // Root of another user namespace is not root here, and must get through.
    fchmodat(AT_FDCWD, "/", all, follow)?;
    for layer in 0..MAX_LAYERS {
        mkdir(format!("{LAYERS}/{layer}").as_str(), all)?;
    }
    mkdir(HOST, Mode::S_IRWXU)?;
    mkdir(wire::TEMPLATE_EMPTY, all)?;
    fchmodat(AT_FDCWD, wire::TEMPLATE_EMPTY, all, follow)?;
    let everybody = Mode::from_bits_retain(0o666);
    match borrowed {
        None => {
            mknod(wire::TEMPLATE_NULL, SFlag::S_IFCHR, everybody, makedev(1, 3))?;
            fchmodat(AT_FDCWD, wire::TEMPLATE_NULL, everybody, follow)?;
        }
        Some(borrowed) => borrowed.attach()?,
    }
    // All containers start from this one filesystem: none can ever write to it.
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)
}

/// Mounts the pins namespace in the host's mount table: the one line that a node takes there. `false` when it must be
/// a younger one, see [`in_order`].
fn pin_on_host(dir: &OwnedFd, path: &Path, pins: &OwnedFd) -> Result<bool> {
    create_file(dir, c"pins").step("make", path.join(PINS).display())?;
    match pin(pins, dir, c"pins") {
        Ok(()) => return Ok(true),
        Err(Errno::ELOOP) => return Ok(false),
        // The state directory is on a shared mount with copies in other mount namespaces (services of systemd with
        // namespaces of their own, for instance), and the kernel spreads no mount namespace to copies: make a mount
        // that is not shared, and use that.
        Err(Errno::EINVAL) => {}
        Err(errno) => {
            let error = Error::system(errno, "pin")
                .on(format!("the pins namespace on {}", path.join(PINS).display()));
            return Err(match errno {
                Errno::EPERM => error.because(
                    "root of a user namespace needs a mount namespace of its own, too (unshare --user --mount)",
                ),
                _ => error,
            });
        }
    }
    let place = path.join(PINS_DIR);
    std::fs::create_dir_all(&place).step("make", place.display())?;
    let none = None::<&str>;
    mount(Some(&place), &place, none, MsFlags::MS_BIND, none).step("bind", place.display())?;
    let pinned = mount(none, &place, none, MsFlags::MS_PRIVATE, none)
        .step("make private", place.display())
        .and_then(|()| {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let inside = openat(AT_FDCWD, &place, flags, Mode::empty()).step("open", place.display())?;
            create_file(&inside, c"pins").step("make", place.join(PINS).display())?;
            match pin(pins, &inside, c"pins") {
                Ok(()) => Ok(true),
                Err(Errno::ELOOP) => Ok(false),
                Err(errno) => {
                    Err(errno).step("pin", format!("the pins namespace on {}", place.join(PINS).display()))
                }
            }
        });
    if !matches!(pinned, Ok(true)) {
        let _ = umount2(&place, MntFlags::MNT_DETACH);
    }
    pinned
}

/// Takes the pins namespace out of the host's mount table. The caller holds the lock of the state directory.
pub(crate) fn unpin(dir: &OwnedFd, path: &Path) -> Result<()> {
    for place in [PINS, &format!("{PINS_DIR}/{PINS}")] {
        if open_pinned(dir.as_fd(), place).step("open", path.join(place).display())?.is_some() {
            umount2(&path.join(place), MntFlags::MNT_DETACH).step("unmount", path.join(place).display())?;
        }
    }
    // Only bound to itself where the pin needed that.
    match umount2(&path.join(PINS_DIR), MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno).step("unmount", path.join(PINS_DIR).display()),
    }
}

fn open_pinned(dir: BorrowedFd<'_>, place: &str) -> nix::Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(dir, place, flags, Mode::empty()) {
        // The file without the mount: made, but the program died before it could mount.
        Ok(file) if fstatfs(&file)?.filesystem_type() == NSFS => Ok(Some(file)),
        Ok(_) | Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn create_file(dir: impl AsFd, path: &std::ffi::CStr) -> nix::Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, path, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(drop)
}

/// Mounts a namespace on a file, so that it lives on.
fn pin(namespace: &OwnedFd, dir: impl AsFd, path: &std::ffi::CStr) -> nix::Result<()> {
    let detached = fs::clone_tree(namespace, c"", false)?;
    fs::attach(detached.as_fd(), dir, path)
}

/// The part of the pins namespace that belongs to one pod. Only for a thread that has joined pins.
pub(crate) struct PodPins {
    path: String,
}

/// Names below a pod's directory in the pins namespace.
pub(crate) const SHM: &str = "shm";
pub(crate) const MQUEUE: &str = "mqueue";
pub(crate) const PROC: &str = "proc";
pub(crate) const ETC: &str = "etc";

/// The name of a volume below a pod's directory. Nothing else there begins so.
pub(crate) fn volume(name: &str) -> String {
    format!("volume-{name}")
}

impl PodPins {
    /// Joins the pins namespace with the calling library thread.
    pub(crate) fn enter(pins: &OwnedFd, id: &str) -> Result<Self> {
        setns(pins, CloneFlags::CLONE_NEWNS).step("join", "the pins namespace")?;
        Ok(PodPins { path: format!("{PODS}/{id}") })
    }

    /// Makes the pod's directory.
    pub(crate) fn create(&self) -> Result<()> {
        mkdir(self.path.as_str(), Mode::S_IRWXU).step("make", format!("pins {}", self.path))
    }

    fn entry(&self, name: &str) -> CString {
        CString::new(format!("{}/{name}", self.path)).expect("ids and names have no NUL")
    }

    /// Keeps a namespace.
    pub(crate) fn pin_namespace(&self, kind: Kind, namespace: &OwnedFd) -> Result<()> {
        let mount =
            fs::clone_tree(namespace, c"", false).step("mount", format!("the {} namespace", kind.word()))?;
        self.attach_namespace(kind, &mount)
    }

    /// Keeps a namespace, given as a detached mount of it.
    pub(crate) fn attach_namespace(&self, kind: Kind, mount: &OwnedFd) -> Result<()> {
        let path = self.entry(kind.file());
        create_file(AT_FDCWD, &path)
            .and_then(|()| fs::attach(mount.as_fd(), AT_FDCWD, &path))
            .step("pin", format!("the {} namespace", kind.word()))
    }

    /// Keeps a mount.
    pub(crate) fn attach(&self, name: &str, mount: &OwnedFd) -> Result<()> {
        let path = self.entry(name);
        mkdir(path.as_c_str(), Mode::S_IRWXU)
            .and_then(|()| fs::attach(mount.as_fd(), AT_FDCWD, &path))
            .step("attach", format!("the pod's {name}"))
    }

    /// Opens a namespace that the pod keeps.
    pub(crate) fn namespace(&self, kind: Kind) -> Result<OwnedFd> {
        openat(
            AT_FDCWD,
            self.entry(kind.file()).as_c_str(),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .step("open", format!("the pod's {} namespace", kind.word()))
    }

    /// A detached copy of a mount that the pod keeps.
    pub(crate) fn clone_mount(&self, name: &str, recursive: bool) -> Result<OwnedFd> {
        fs::clone_tree(AT_FDCWD, &self.entry(name), recursive).step("clone", format!("the pod's {name}"))
    }

    /// Opens the root directory of a mount that the pod keeps.
    pub(crate) fn directory(&self, name: &str) -> Result<OwnedFd> {
        openat(
            AT_FDCWD,
            self.entry(name).as_c_str(),
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .step("open", format!("the pod's {name}"))
    }

    /// Lets go of all that the pod keeps; what is not there is fine.
    pub(crate) fn remove(&self) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = match openat(AT_FDCWD, self.path.as_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(()),
            result => result.step("open", format!("pins {}", self.path))?,
        };
        let entries = crate::node::names(dir).step("read", format!("pins {}", self.path))?;
        for name in entries {
            let path = self.entry(&name);
            match umount2(path.as_c_str(), MntFlags::MNT_DETACH) {
                // Not mounted (yet): the program that made it died in between.
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(errno) => return Err(errno).step("let go of", format!("the pod's {name}")),
            }
            let is_directory =
                nix::sys::stat::fstatat(AT_FDCWD, path.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR);
            let how = if is_directory { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
            unlinkat(AT_FDCWD, path.as_c_str(), how).step("remove", format!("pins {}/{name}", self.path))?;
        }
        unlinkat(AT_FDCWD, self.path.as_str(), UnlinkatFlags::RemoveDir)
            .step("remove", format!("pins {}", self.path))
    }
}

/// The ids of all pods that have something in the pins namespace.
pub(crate) fn pinned_pods(pins: &OwnedFd) -> Result<Vec<String>> {
    thread::run(|| {
        setns(pins, CloneFlags::CLONE_NEWNS).step("join", "the pins namespace")?;
        let dir =
            openat(AT_FDCWD, PODS, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                .step("open", "the pins namespace's pods directory")?;
        crate::node::names(dir).step("read", "the pins namespace's pods directory")
    })
}
