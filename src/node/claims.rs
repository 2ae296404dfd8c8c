//! Which pods of the machine have which ids, whatever nodes they belong to: a directory that all nodes share.
//!
//! ```text
//! POD                        who has some: a file with the node's state directory, the pod's cgroup and the boot
//! auto.KIND.FIRST.SIZE.POD   a range that the pod has for itself; KIND is uid or gid
//! mapped.KIND.FIRST.SIZE.POD a range that other pods may be mapped to as well
//! ```
//!
//! Ranges are symbolic links to the file. The directory is locked while somebody looks or changes something, so that what
//! a program leaves that dies meanwhile is told from what another one is about to do: the file is there before the ranges
//! and after them, and a pod's directory before and after both. A claim is let go by whoever removes the pod. What is left
//! of pods that are gone is found by whoever misses the ids, and by whoever recovers any node.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg};
use nix::sys::stat::{fstat, fstatat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use serde::{Deserialize, Serialize};

use super::home::{GARBAGE, Home, NEW, PODS, lock, names, open_directory, trust};
use super::proc::Proc;
use crate::cgroup::{Cgroup, is_populated};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::pod::state::{self, PodState};
use crate::spec::{IdMapping, IdMappings};

/// Ids of both kinds, as they are named here.
pub(super) const KINDS: [&str; 2] = ["uid", "gid"];

/// The directory, as a node sees it.
#[derive(Debug)]
pub(crate) struct Claims {
    path: PathBuf,
}

/// A pod that asks for ids.
pub(crate) struct Claimant<'a> {
    pub(crate) pod: &'a str,
    pub(crate) home: &'a Home,
    /// The home of the node, which the pod's own may be in.
    pub(crate) node: &'a Home,
    pub(crate) cgroup: Option<&'a Cgroup>,
    pub(crate) proc: &'a Proc,
}

/// The file of a pod.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Owner {
    version: u32,
    boot_id: String,
    /// In which the path below leads there.
    mount_namespace: u64,
    state_dir: PathBuf,
    /// Device and inode number: whoever finds this very directory at the path knows what is in it.
    state_dir_id: (u64, u64),
    /// Where in it the pod's home is: nowhere else, or among the ephemeral ones.
    home: PathBuf,
    cgroup: Option<(PathBuf, u64)>,
}

/// A range that somebody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    alone: bool,
    kind: usize,
    first: u32,
    size: u32,
    pod: String,
}

impl Claim {
    fn name(&self) -> String {
        let Claim { alone, kind, first, size, pod } = self;
        format!("{}.{}.{first}.{size}.{pod}", if *alone { "auto" } else { "mapped" }, KINDS[*kind])
    }

    fn parse(name: &str) -> Option<Self> {
        let mut words = name.splitn(5, '.');
        let alone = match words.next()? {
            "auto" => true,
            "mapped" => false,
            _ => return None,
        };
        let kind = words.next()?;
        let kind = KINDS.iter().position(|known| *known == kind)?;
        let (first, size) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Claim { alone, kind, first, size, pod: words.next()?.to_string() })
    }

    /// Its ids of a kind.
    pub(super) fn ids(&self, kind: usize) -> Option<RangeInclusive<u32>> {
        (self.kind == kind).then(|| range(self.first, self.size))
    }

    fn overlaps(&self, kind: usize, ids: &RangeInclusive<u32>) -> bool {
        self.ids(kind).is_some_and(|own| own.start() <= ids.end() && ids.start() <= own.end())
    }
}

impl Claims {
    pub(super) fn new(path: &Path) -> Result<Self> {
        if !path.is_absolute() {
            return Err(Error::invalid("id_claims", format!("{} is not an absolute path", path.display())));
        }
        Ok(Claims { path: path.to_path_buf() })
    }

    /// Claims ids for a pod alone: those that `choose` finds free. What pods have that are gone is let go where there is
    /// nothing else.
    pub(super) fn take(
        &self,
        who: &Claimant<'_>,
        choose: impl Fn(&[Claim]) -> Result<IdMappings>,
    ) -> Result<IdMappings> {
        let dir = self.make_and_lock()?;
        let (claims, _) = self.read(&dir)?;
        let ids = match choose(&claims) {
            Err(error) if error.kind() == ErrorKind::Exhausted => {
                self.sweep_locked(&dir, who.proc)?;
                choose(&self.read(&dir)?.0)?
            }
            result => result?,
        };
        self.write(&dir, who, true, &ids)?;
        Ok(ids)
    }

    /// Claims ids for a pod together with others that are mapped to them.
    ///
    /// # Errors
    /// `AlreadyExists` when a pod has one of them for itself.
    pub(crate) fn share(&self, who: &Claimant<'_>, ids: &IdMappings) -> Result<()> {
        let dir = self.make_and_lock()?;
        let (claims, _) = self.read(&dir)?;
        for (kind, mappings) in sides(ids) {
            for IdMapping { host_id, size, .. } in mappings {
                let wanted = range(*host_id, *size);
                let other = claims.iter().find(|claim| {
                    claim.alone && claim.overlaps(kind, &wanted) && self.is_live(&dir, &claim.pod, who.proc)
                });
                if let Some(other) = other {
                    return Err(refused(&dir, kind, &wanted, other));
                }
            }
        }
        self.write(&dir, who, false, ids)
    }

    /// The same for a pod that joins somebody's user namespace, whoever has its ids.
    pub(crate) fn join(&self, who: &Claimant<'_>, ids: &IdMappings) -> Result<()> {
        let dir = self.make_and_lock()?;
        self.write(&dir, who, false, ids)
    }

    /// Lets go what a pod has.
    pub(crate) fn release(&self, pod: &str) -> Result<()> {
        let Some(dir) = self.lock()? else { return Ok(()) };
        let (claims, _) = self.read(&dir)?;
        self.release_locked(&dir, &claims, pod)
    }

    /// Lets go what pods have that are gone, of whatever node.
    pub(super) fn sweep(&self, proc: &Proc) -> Result<()> {
        self.lock()?.map_or(Ok(()), |dir| self.sweep_locked(&dir, proc))
    }

    /// Removes the directory when nobody has anything.
    pub(super) fn remove(&self, proc: &Proc) -> Result<()> {
        let Some(dir) = self.lock()? else { return Ok(()) };
        self.sweep_locked(&dir, proc)?;
        match unlinkat(AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno).step("remove", self.path.display()),
        }
    }

    fn make_and_lock(&self) -> Result<Flock<OwnedFd>> {
        loop {
            let mut private = std::fs::DirBuilder::new();
            private.recursive(true).mode(0o700).create(&self.path).step("make", self.path.display()).map_err(
                |error| error.because("a pod with ids of its own is noted there; NodeOptions::id_claims may name another directory"),
            )?;
            if let Some(dir) = self.lock()? {
                return Ok(dir);
            }
        }
    }

    /// `None` when the directory is not there, or has been removed before it was locked.
    fn lock(&self) -> Result<Option<Flock<OwnedFd>>> {
        let dir = match open_directory(AT_FDCWD, &self.path) {
            Err(Errno::ENOENT) => return Ok(None),
            result => result.step("open", self.path.display())?,
        };
        trust(&dir, &self.path)?;
        let dir = lock(dir, FlockArg::LockExclusive).step("lock", self.path.display())?;
        let links = fstat(&*dir).step("fstat", self.path.display())?.st_nlink;
        Ok((links > 0).then_some(dir))
    }

    /// All claims, and the pods that have some or were about to.
    fn read(&self, dir: &OwnedFd) -> Result<(Vec<Claim>, BTreeSet<String>)> {
        let entries = open_directory(dir, ".").and_then(names).step("read", self.path.display())?;
        let (mut claims, mut pods) = (Vec::new(), BTreeSet::new());
        for name in entries {
            match Claim::parse(&name) {
                Some(claim) => {
                    pods.insert(claim.pod.clone());
                    claims.push(claim);
                }
                None => drop(pods.insert(name)),
            }
        }
        Ok((claims, pods))
    }

    fn write(&self, dir: &OwnedFd, who: &Claimant<'_>, alone: bool, ids: &IdMappings) -> Result<()> {
        let node = who.node.path();
        let state_dir = std::fs::canonicalize(node).step("find", node.display())?;
        let stat = fstat(who.node).step("fstat", node.display())?;
        let home = who.home.path().strip_prefix(node).unwrap_or(Path::new("")).to_path_buf();
        let cgroup = who.cgroup.map(|cgroup| Ok((cgroup.path().to_path_buf(), cgroup.id()?))).transpose()?;
        let owner = Owner {
            version: PodState::version(),
            boot_id: who.proc.boot_id().to_string(),
            mount_namespace: mount_namespace(who.proc)?,
            state_dir,
            state_dir_id: (stat.st_dev, stat.st_ino),
            home,
            cgroup,
        };
        state::write(dir, who.pod, &owner).map_err(|error| error.within("claim ids for the pod"))?;
        for (kind, mappings) in sides(ids) {
            for IdMapping { host_id, size, .. } in mappings {
                let pod = who.pod.to_string();
                let name = Claim { alone, kind, first: *host_id, size: *size, pod }.name();
                symlinkat(who.pod, dir, name.as_str())
                    .step("claim ids by", self.path.join(&name).display())?;
            }
        }
        Ok(())
    }

    fn release_locked(&self, dir: &OwnedFd, claims: &[Claim], pod: &str) -> Result<()> {
        let of_pod = claims.iter().filter(|claim| claim.pod == pod).map(Claim::name);
        // The last is what is left of a file that was not written to its end.
        for name in of_pod.chain([pod.to_string(), format!(".{pod}.new")]) {
            match unlinkat(dir, name.as_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno).step("remove", self.path.join(name).display()),
            }
        }
        Ok(())
    }

    fn sweep_locked(&self, dir: &OwnedFd, proc: &Proc) -> Result<()> {
        let (claims, pods) = self.read(dir)?;
        pods.iter()
            .filter(|pod| !self.is_live(dir, pod, proc))
            .try_for_each(|pod| self.release_locked(dir, &claims, pod))
    }

    /// Whether a pod may still be there, or processes that have its ids. What cannot be judged from here is.
    fn is_live(&self, dir: &OwnedFd, pod: &str, proc: &Proc) -> bool {
        match state::read::<Owner>(dir, pod) {
            Ok(Some(owner)) => owner.boot_id == proc.boot_id() && owner.may_have(pod, proc),
            // Of ranges without a file nobody is said to have them. (So is a file that was half written, by its name.)
            Ok(None) => false,
            // A later version of the library wrote it.
            Err(_) => !pod.starts_with('.'),
        }
    }
}

fn refused(dir: &OwnedFd, kind: usize, wanted: &RangeInclusive<u32>, other: &Claim) -> Error {
    let node = match state::read::<Owner>(dir, &other.pod) {
        Ok(Some(owner)) => format!("node {}", owner.state_dir.display()),
        _ => "another node".to_string(),
    };
    let word = KINDS[kind];
    let words =
        |ids: &RangeInclusive<u32>| format!("{word}s {} to {} of the machine", ids.start(), ids.end());
    Error::new(ErrorKind::AlreadyExists, "map").on(words(wanted)).because(format!(
        "pod {} of {node} has {} for itself: its specification says auto; map others, or remove that pod",
        other.pod,
        words(&range(other.first, other.size))
    ))
}

/// So many ids, of which there is at least one.
fn range(first: u32, size: u32) -> RangeInclusive<u32> {
    first..=first.saturating_add(size.saturating_sub(1))
}

impl Owner {
    fn may_have(&self, pod: &str, proc: &Proc) -> bool {
        let here = || mount_namespace(proc).is_ok_and(|here| here == self.mount_namespace);
        match open_directory(AT_FDCWD, &self.state_dir) {
            Ok(dir) => match fstat(&dir) {
                Ok(stat) if (stat.st_dev, stat.st_ino) == self.state_dir_id => {
                    if self.is_in(&dir, pod).unwrap_or(true) {
                        return true;
                    }
                }
                Ok(_) if here() => {}
                _ => return true,
            },
            // Elsewhere the path may lead to it.
            Err(Errno::ENOENT | Errno::ENOTDIR) if here() => {}
            Err(_) => return true,
        }
        self.has_processes()
    }

    /// Whether the pod is in its node's state directory, and is whole or somebody is at work on it.
    fn is_in(&self, node: &OwnedFd, pod: &str) -> std::result::Result<bool, Errno> {
        let is_locked = |dir| match lock(dir, FlockArg::LockSharedNonblock) {
            Err(Errno::EAGAIN) => Ok(true),
            result => result.map(|_| false),
        };
        let there = |path: &Path| match open_directory(node, path) {
            Err(Errno::ENOENT) => Ok(None),
            result => result.map(Some),
        };
        if !self.home.as_os_str().is_empty() {
            // Ephemeral pods end with their program.
            let Some(home) = there(&self.home)? else { return Ok(false) };
            if !is_locked(home)? {
                return Ok(false);
            }
        }
        // In the order in which it goes through them: one that is not seen because it went on is seen there.
        for phase in [NEW, PODS, GARBAGE] {
            if let Some(dir) = there(&self.home.join(phase).join(pod))?
                && (phase == PODS || is_locked(dir)?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether processes of the pod go on without anything else of it.
    fn has_processes(&self) -> bool {
        let Some((path, id)) = &self.cgroup else { return false };
        std::fs::metadata(path).is_ok_and(|found| found.ino() == *id) && is_populated(path)
    }
}

/// By kinds.
fn sides(ids: &IdMappings) -> [(usize, &[IdMapping]); 2] {
    [(0, &ids.uid_mappings), (1, &ids.gid_mappings)]
}

fn mount_namespace(proc: &Proc) -> Result<u64> {
    let stat = fstatat(proc, "thread-self/ns/mnt", AtFlags::empty())
        .step("look at", "this program's mount namespace")?;
    Ok(stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_claims_are_read_and_written() {
        let claim = |alone, kind, first, size| Claim { alone, kind, first, size, pod: "a-b".into() };
        for (claim, name) in [
            (claim(true, 0, 65536, 131_072), "auto.uid.65536.131072.a-b"),
            (claim(false, 1, 0, u32::MAX), "mapped.gid.0.4294967295.a-b"),
        ] {
            assert_eq!(claim.name(), name);
            assert_eq!(Claim::parse(name), Some(claim));
        }
        for none in ["a-b", ".a-b.new", "auto.pid.1.2.a", "auto.uid.x.2.a", "auto.uid.1.2", "other.uid.1.2.a"]
        {
            assert_eq!(Claim::parse(none), None, "{none}");
        }
    }

    #[test]
    fn ranges_overlap_by_kind() {
        let claim = Claim { alone: true, kind: 0, first: 100, size: 10, pod: String::new() };
        for (kind, first, size, expected) in [
            (0, 100, 10, true),
            (1, 100, 10, false),
            (0, 109, 1, true),
            (0, 110, 1, false),
            (0, 99, 1, false),
            (0, 99, 2, true),
            (0, 0, u32::MAX, true),
            (0, u32::MAX - 1, 1, false),
        ] {
            assert_eq!(claim.overlaps(kind, &range(first, size)), expected, "{kind} {first} {size}");
        }
    }
}
