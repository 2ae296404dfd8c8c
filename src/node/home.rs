//! Where pods live: a directory of state files and two private mount namespaces.
//!
//! ```text
//! pins        the pins mount namespace, mounted here so that it outlives every program
//! new/ID      a pod that is being made; whoever makes it has it locked
//! pods/ID     a pod
//! garbage/ID  a pod that is being removed
//! names/NAMESPACE/NAME   a symbolic link whose text is the pod's id
//! live/UUID/  the home of one program's ephemeral pods, locked while that program lives
//! ```
//!
//! Directories are locked with flock(2); the whole while it is set up, put in order or removed. A pod goes from phase to phase by rename(2), so that a reader never sees half of one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::proc::Proc;
use super::realm::Realm;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::pod::{pins, state};
use crate::sys;

/// Phases of a pod, as directories.
pub(crate) const NEW: &str = "new";
pub(crate) const PODS: &str = "pods";
pub(crate) const GARBAGE: &str = "garbage";
const NAMES: &str = "names";
pub(crate) const LIVE: &str = "live";

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Home {
    dir: OwnedFd,
    path: PathBuf,
    /// The mount namespace in which everything of the pods is attached.
    pub(crate) pins: OwnedFd,
    /// The mount namespace of which containers' ones are copies.
    pub(crate) template: OwnedFd,
    /// Held while this program lives, in the home of its ephemeral pods.
    alive: Option<Flock<OwnedFd>>,
    realm: Arc<Realm>,
}

impl Home {
    /// Opens the home of the pods that outlast programs, and makes it when it is missing.
    pub(super) fn open(path: &Path, proc: &Proc, realm: &Arc<Realm>) -> Result<Self> {
        if !path.is_absolute() {
            return Err(Error::invalid("state_dir", format!("{} is not an absolute path", path.display())));
        }
        // With a mode of its own: under umask 0 it would come out as a directory that is not to be trusted.
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700).create(path).step("make", path.display())?;
        let dir = open_directory(nix::fcntl::AT_FDCWD, path).step("open", path.display())?;
        trust(&dir, path)?;
        for name in [NEW, PODS, GARBAGE, NAMES, LIVE] {
            make_directory(&dir, name).step("make", format!("{}/{name}", path.display()))?;
        }
        let _setup = lock(reopen(&dir).step("open", path.display())?, FlockArg::LockExclusive)
            .step("lock", path.display())?;
        let (pins, template) = match realm.is_user() {
            true => pins::make(path, proc, realm)?,
            false => pins::open_or_make(&dir, path, proc, realm)?,
        };
        Ok(Home { dir, path: path.to_path_buf(), pins, template, alive: None, realm: Arc::clone(realm) })
    }

    /// Makes the home of this program's ephemeral pods: its mount namespaces are held by descriptors alone.
    pub(super) fn make_ephemeral(&self, proc: &Proc) -> Result<Self> {
        let name = uuid::Uuid::new_v4().to_string();
        let path = self.path.join(LIVE).join(&name);
        let live = open_directory(&self.dir, LIVE).step("open", self.path.join(LIVE).display())?;
        // Whoever recovers takes this lock first: what it cannot lock is alive.
        let _setup = self.lock(FlockArg::LockExclusive).step("lock", self.path.display())?;
        make_directory(&live, name.as_str()).step("make", path.display())?;
        let dir = open_directory(&live, name.as_str()).step("open", path.display())?;
        let alive = lock(reopen(&dir).step("open", path.display())?, FlockArg::LockExclusiveNonblock)
            .step("lock", path.display())?;
        for name in [NEW, PODS, GARBAGE, NAMES] {
            make_directory(&dir, name).step("make", format!("{}/{name}", path.display()))?;
        }
        let (pins, template) = match self.realm.is_user() {
            // Those of an ordinary user's node are this program's alone.
            true => {
                let copy = |fd: &OwnedFd| sys::fd::duplicate(fd).step("duplicate", "a namespace of the node");
                (copy(&self.pins)?, copy(&self.template)?)
            }
            false => pins::make(&path, proc, &self.realm)?,
        };
        Ok(Home { dir, path, pins, template, alive: Some(alive), realm: Arc::clone(&self.realm) })
    }

    /// Removes the home, in which no pod may be.
    pub(super) fn remove(&self) -> Result<()> {
        let _setup = self.lock(FlockArg::LockExclusive).step("lock", self.path.display())?;
        for phase in [NEW, PODS, GARBAGE] {
            if let Some(id) = self.entries(phase)?.first() {
                return Err(in_use(format!("pod {id} is in it; remove that first, or recover the node")));
            }
        }
        for program in self.entries(LIVE)? {
            let dir = self.phase(&format!("{LIVE}/{program}"))?;
            for phase in [NEW, PODS, GARBAGE] {
                let pods = open_directory(&dir, phase).and_then(names).unwrap_or_default();
                if let Some(id) = pods.first() {
                    return Err(in_use(format!("ephemeral pod {id} of a program is in it")));
                }
            }
            self.remove_dir(LIVE, &program)?;
        }
        if !self.realm.is_user() {
            pins::unpin(&self.dir, &self.path)?;
        }
        std::fs::remove_dir_all(&self.path).step("remove", self.path.display())
    }

    /// Locks the home as a whole.
    pub(super) fn lock(&self, how: FlockArg) -> sys::Result<Flock<OwnedFd>> {
        lock(reopen(&self.dir)?, how)
    }

    /// The state directory, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a phase.
    pub(crate) fn phase(&self, phase: &str) -> Result<OwnedFd> {
        open_directory(&self.dir, phase).step("open", self.path.join(phase).display())
    }

    /// The directory of a pod in a phase.
    pub(crate) fn pod_dir(&self, phase: &str, id: &str) -> Result<OwnedFd> {
        open_directory(&self.dir, Path::new(phase).join(id).as_path()).map_err(|errno| match errno {
            Errno::ENOENT => {
                Error::new(ErrorKind::NotFound, "open").on(format!("pod {id}")).because("it is gone")
            }
            other => Error::system(other, "open").on(self.path.join(phase).join(id).display()),
        })
    }

    /// Moves a pod from one phase to another.
    pub(crate) fn move_pod(&self, id: &str, from: &str, to: &str) -> Result<()> {
        let (old, new) = (Path::new(from).join(id), Path::new(to).join(id));
        nix::fcntl::renameat(&self.dir, &old, &self.dir, &new).map_err(|errno| match errno {
            Errno::ENOENT => {
                Error::new(ErrorKind::NotFound, "move").on(format!("pod {id}")).because("it is gone")
            }
            other => Error::system(other, "rename").on(format!("{} to {}", old.display(), new.display())),
        })
    }

    /// The ids of all whole pods.
    pub(crate) fn pod_ids(&self) -> Result<Vec<String>> {
        self.entries(PODS)
    }

    /// The names in a directory of this home.
    pub(crate) fn entries(&self, phase: &str) -> Result<Vec<String>> {
        names(self.phase(phase)?).step("read", self.path.join(phase).display())
    }

    /// The id of the pod of that id, name or `namespace/name`.
    pub(crate) fn find(&self, id_or_name: &str) -> Result<Option<String>> {
        if uuid::Uuid::try_parse(id_or_name).is_ok() {
            let exists = nix::sys::stat::fstatat(
                &self.dir,
                Path::new(PODS).join(id_or_name).as_path(),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )
            .is_ok();
            // A pod may also be named like an id.
            if exists {
                return Ok(Some(id_or_name.to_string()));
            }
        }
        let (namespace, name) = id_or_name.split_once('/').unwrap_or(("default", id_or_name));
        if !crate::spec::is_dns_label(namespace) || !crate::spec::is_dns_subdomain(name) {
            return Ok(None);
        }
        self.name_owner(namespace, name)
    }

    /// The id of the pod that a name belongs to.
    pub(crate) fn name_owner(&self, namespace: &str, name: &str) -> Result<Option<String>> {
        let path = Path::new(NAMES).join(namespace).join(name);
        match readlinkat(&self.dir, &path) {
            Ok(id) => Ok(Some(id.to_string_lossy().into_owned())),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno).step("read", self.path.join(path).display()),
        }
    }

    /// Takes a name for a pod: at most one pod has it.
    pub(crate) fn take_name(&self, namespace: &str, name: &str, id: &str) -> Result<()> {
        let parent = Path::new(NAMES).join(namespace);
        let path = parent.join(name);
        loop {
            match symlinkat(id, &self.dir, &path) {
                Ok(()) => return Ok(()),
                Err(Errno::ENOENT) => {
                    make_directory(&self.dir, &parent).step("make", self.path.join(&parent).display())?;
                }
                Err(Errno::EEXIST) => {
                    return Err(Error::new(ErrorKind::AlreadyExists, "take").on(format!("the name {namespace}/{name}")).because(
                        "a pod has it; remove that pod first, or recover the node if its program has died",
                    ));
                }
                Err(errno) => return Err(errno).step("write", self.path.join(&path).display()),
            }
        }
    }

    /// Gives a name back, if it still belongs to that pod.
    pub(crate) fn release_name(&self, namespace: &str, name: &str, id: &str) -> Result<()> {
        if self.name_owner(namespace, name)?.as_deref() != Some(id) {
            return Ok(());
        }
        let path = Path::new(NAMES).join(namespace).join(name);
        match unlinkat(&self.dir, &path, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno).step("remove", self.path.join(path).display()),
        }
    }

    /// All names with their owners, as (namespace, name, id).
    pub(crate) fn all_names(&self) -> Result<Vec<(String, String, String)>> {
        let mut all = Vec::new();
        for namespace in self.entries(NAMES)? {
            for name in self.entries(&format!("{NAMES}/{namespace}"))? {
                if let Some(id) = self.name_owner(&namespace, &name)? {
                    all.push((namespace.clone(), name, id));
                }
            }
        }
        Ok(all)
    }

    /// Removes a pod's directory of a phase, with all that is in it.
    pub(crate) fn remove_dir(&self, phase: &str, id: &str) -> Result<()> {
        let parent = self.phase(phase)?;
        // Empty as a rule: its containers have been removed one by one, or are gone with their directories' content.
        let _ = unlinkat(&parent, &Path::new(id).join(state::CONTAINERS), UnlinkatFlags::RemoveDir);
        remove_known(&parent, id, &[state::STATE]).step("remove", self.path.join(phase).join(id).display())
    }
}

impl Drop for Home {
    /// Takes the empty directories of this program's ephemeral pods away. What is not empty stays for whoever recovers
    /// the node: nothing is ended by dropping a handle.
    fn drop(&mut self) {
        if self.alive.is_none() {
            return;
        }
        for namespace in self.entries(NAMES).unwrap_or_default() {
            let _ = unlinkat(&self.dir, &Path::new(NAMES).join(namespace), UnlinkatFlags::RemoveDir);
        }
        let emptied = [NEW, PODS, GARBAGE, NAMES]
            .iter()
            .all(|phase| unlinkat(&self.dir, *phase, UnlinkatFlags::RemoveDir).is_ok());
        if emptied {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

impl AsFd for Home {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Refuses a directory that somebody else can write to.
pub(super) fn trust(dir: &OwnedFd, path: &Path) -> Result<()> {
    let stat = fstat(dir).step("fstat", path.display())?;
    if stat.st_uid == nix::unistd::geteuid().as_raw() && stat.st_mode & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::CorruptState, "trust").on(path.display()).because(format!(
        "it belongs to user {} with mode {:03o}; only its owner, this program's user, may be able to write to it",
        stat.st_uid,
        stat.st_mode & 0o777
    )))
}

fn in_use(why: String) -> Error {
    Error::new(ErrorKind::WrongState, "remove").on("the state directory").because(why)
}

/// Opens a directory that is no symbolic link.
pub(crate) fn open_directory<P: ?Sized + nix::NixPath>(dir: impl AsFd, path: &P) -> sys::Result<OwnedFd> {
    openat(
        dir,
        path,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// A directory for root alone, which may be there already.
pub(crate) fn make_directory<P: ?Sized + nix::NixPath>(dir: impl AsFd, path: &P) -> sys::Result<()> {
    match mkdirat(dir, path, Mode::S_IRWXU) {
        Err(Errno::EEXIST) => Ok(()),
        result => result,
    }
}

/// Opens a directory once more: a lock belongs to one opening of it.
fn reopen(dir: impl AsFd) -> sys::Result<OwnedFd> {
    open_directory(dir, ".")
}

/// Locks an open directory (flock(2)): the lock belongs to this opening of it and goes with it, however the program
/// ends.
pub(crate) fn lock(mut dir: OwnedFd, how: FlockArg) -> sys::Result<Flock<OwnedFd>> {
    loop {
        match Flock::lock(dir, how) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EINTR)) => dir = again,
            Err((_, errno)) => return Err(errno),
        }
    }
}

/// The names in a directory, without `.` and `..`.
pub(crate) fn names(dir: OwnedFd) -> sys::Result<Vec<String>> {
    let mut dir = nix::dir::Dir::from_fd(dir)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a directory that usually holds these files and nothing else: fewer calls than looking.
pub(crate) fn remove_known(parent: &OwnedFd, name: &str, files: &[&str]) -> sys::Result<()> {
    for file in files {
        let path = Path::new(name).join(file);
        match unlinkat(parent, &path, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(_) => return remove_tree(parent, name),
        }
    }
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(_) => remove_tree(parent, name),
    }
}

/// Removes what a name in a directory means, and all below it. Only the library writes to these directories; links
/// are removed, never followed.
pub(crate) fn remove_tree(parent: &OwnedFd, name: &str) -> sys::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    let dir = match open_directory(parent, name) {
        Err(Errno::ENOENT) => return Ok(()),
        result => result?,
    };
    for child in
        names(dir.try_clone().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?)?
    {
        remove_tree(&dir, &child)?;
    }
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    }
}
