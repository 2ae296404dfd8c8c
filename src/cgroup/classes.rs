//! The cgroups of QoS classes, which follow from the pods in them.
//!
//! What a pod adds is an extended attribute of its cgroup, and that this library has made the cgroup of a class is one of
//! that. Both go with their cgroups, whoever removes these, and every program sees them, whatever nodes it has. So the
//! limits are computed from what is there, under a lock of the cgroup that they are for: whoever comes last has seen all.
//! Cgroups that somebody else has made, such as a kubelet, are that one's to keep.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::sys::stat::Mode;

use super::dir::Dir;
use super::group::Cgroup;
use super::settings::{Setting, settings};
use crate::error::{Context, Error, Result};
use crate::spec::kubernetes::{QosClass, Share, class_resources};
use crate::sys::xattr;

/// Of a cgroup of a class: its class. The Guaranteed pods are at the top, next to the cgroups of the others.
const CLASS: &CStr = c"user.pericarp.class";
/// Of the cgroup of a pod: what it adds.
const SHARE: &CStr = c"user.pericarp.share";

const CLASSES: [QosClass; 3] = [QosClass::BestEffort, QosClass::Burstable, QosClass::Guaranteed];

/// What classes the cgroups above that of a pod stand for, from the one just above it, by the names of the kubelet's
/// drivers: `X/burstable/podUID` or `X.slice/X-burstable.slice/X-burstable-podUID.slice`.
pub(super) fn above(path: &[&str], pod: &str, class: QosClass) -> Vec<QosClass> {
    let name = match class {
        QosClass::Guaranteed => None,
        QosClass::Burstable => Some("burstable"),
        QosClass::BestEffort => Some("besteffort"),
    };
    let (plain, sliced) = match name {
        None => (pod.starts_with("pod"), pod.contains("-pod") && pod.ends_with(".slice")),
        Some(name) => (
            pod.starts_with("pod") && path.last() == Some(&name),
            pod.contains(&format!("-{name}-pod"))
                && path.last().is_some_and(|last| last.ends_with(&format!("-{name}.slice"))),
        ),
    };
    let top = path.len().checked_sub(1 + usize::from(name.is_some()));
    let fits = top.is_some_and(|top| plain || sliced && path[top].ends_with(".slice"));
    match (fits, name) {
        (false, _) => Vec::new(),
        (true, None) => vec![QosClass::Guaranteed],
        (true, Some(_)) => vec![class, QosClass::Guaranteed],
    }
}

/// Says of a cgroup that was just made that it is a class's.
pub(super) fn mark(dir: &Dir, class: QosClass) -> Result<()> {
    xattr::set(open(dir)?, CLASS, class.to_string().as_bytes())
        .step("set user.pericarp.class of", dir.path().display())
}

fn class_of(dir: &OwnedFd) -> nix::Result<Option<QosClass>> {
    let text = xattr::get::<32>(dir, CLASS)?;
    Ok(text.and_then(|text| CLASSES.into_iter().find(|class| class.to_string().as_bytes() == text)))
}

fn share_of(dir: &OwnedFd) -> nix::Result<Option<Share>> {
    let text = xattr::get::<96>(dir, SHARE)?;
    Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
}

/// Opened anew: descriptors of cgroups are good for no attributes and no locks.
fn open(dir: &Dir) -> Result<OwnedFd> {
    reopen(dir, ".").step("open", dir.path().display())
}

fn reopen(dir: impl std::os::fd::AsFd, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

impl Cgroup {
    /// Says what the pod with this cgroup adds to those of its class, and gives these what they have to have then.
    pub(crate) fn set_share(&self, share: &Share) -> Result<()> {
        let classes = self.classes()?;
        if classes.is_empty() {
            return Ok(());
        }
        let text = serde_json::to_vec(share).unwrap_or_default();
        xattr::set(open(&self.dir)?, SHARE, &text)
            .step("set user.pericarp.share of", self.path().display())?;
        classes.iter().try_for_each(Class::refresh)
    }

    /// The cgroups above that this library keeps for classes. To be asked for before the pod's own is removed, so that
    /// they can be refreshed then.
    pub(crate) fn classes(&self) -> Result<Vec<Class>> {
        let mut found = Vec::new();
        let mut above = self.dir.parent();
        // A pod is at most two below the top.
        for _ in 0..2 {
            let Some(dir) = above else { break };
            let opened = open(dir)?;
            let class = class_of(&opened).step("look at", dir.path().display())?;
            found.extend(class.map(|class| Class { dir: Arc::clone(dir), class }));
            above = dir.parent();
        }
        Ok(found)
    }
}

/// A cgroup that this library keeps for a class.
pub(crate) struct Class {
    dir: Arc<Dir>,
    class: QosClass,
}

impl Class {
    /// Gives it what follows from the pods that are in it now.
    pub(crate) fn refresh(&self) -> Result<()> {
        let mut opened = open(&self.dir)?;
        let context = |error: Error| error.within(format!("count the pods in {}", self.dir.path().display()));
        // Read and written by one at a time.
        let locked = loop {
            match Flock::lock(opened, FlockArg::LockExclusive) {
                Ok(lock) => break lock,
                Err((again, Errno::EINTR)) => opened = again,
                Err((_, errno)) => return Err(errno).step("lock", self.dir.path().display()),
            }
        };
        let mut shares = Vec::new();
        collect(&locked, true, &mut shares).step("read", self.dir.path().display()).map_err(context)?;
        let cgroup = Cgroup { dir: Arc::clone(&self.dir) };
        for setting in settings(&class_resources(self.class, shares)) {
            if self.differs(&setting)? {
                cgroup.write_settings(&[setting])?;
            }
        }
        Ok(())
    }

    /// A file that is missing says zero: without its controller nothing is protected.
    fn differs(&self, setting: &Setting) -> Result<bool> {
        let now = match self.dir.open_file(&setting.file) {
            Err(Errno::ENOENT) => return Ok(setting.value != "0"),
            file => file.and_then(|file| std::io::read_to_string(file).map_err(|_| Errno::EIO)),
        };
        Ok(now.step("read", self.dir.path().join(&*setting.file).display())?.trim() != setting.value)
    }
}

/// What the pods in a cgroup add, and, of the top, those in the cgroups of classes below it.
fn collect(dir: &OwnedFd, below: bool, shares: &mut Vec<Share>) -> nix::Result<()> {
    let mut entries = nix::dir::Dir::from_fd(reopen(dir, ".")?)?;
    for entry in entries.iter() {
        let entry = entry?;
        let is_directory = entry.file_type() == Some(nix::dir::Type::Directory);
        let Some(name) =
            entry.file_name().to_str().ok().filter(|name| is_directory && !name.starts_with('.'))
        else {
            continue;
        };
        let child = match reopen(dir, name) {
            // Removed since.
            Err(Errno::ENOENT | Errno::ENODEV) => continue,
            child => child?,
        };
        match share_of(&child)? {
            Some(share) => shares.push(share),
            None if below => match collect(&child, false, shares) {
                Err(Errno::ENOENT | Errno::ENODEV) => {}
                result => result?,
            },
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_known_by_the_names_of_the_drivers() {
        use QosClass::*;
        for (path, class, classes) in [
            ("kubepods/podx", Guaranteed, vec![Guaranteed]),
            ("kubepods/burstable/podx", Burstable, vec![Burstable, Guaranteed]),
            ("a/b/besteffort/podx", BestEffort, vec![BestEffort, Guaranteed]),
            ("k.slice/k-podx.slice", Guaranteed, vec![Guaranteed]),
            ("k.slice/k-burstable.slice/k-burstable-podx.slice", Burstable, vec![Burstable, Guaranteed]),
            ("k/k-burstable.slice/k-burstable-podx.slice", Burstable, vec![]),
            ("kubepods/besteffort/podx", Burstable, vec![]),
            ("burstable/podx", Burstable, vec![]),
            ("podx", Guaranteed, vec![]),
            ("kubepods/x", Guaranteed, vec![]),
        ] {
            let mut all: Vec<&str> = path.split('/').collect();
            let pod = all.pop().unwrap();
            assert_eq!(above(&all, pod, class), classes, "{path}");
        }
        for driver in
            [crate::spec::kubernetes::CgroupDriver::Cgroupfs, crate::spec::kubernetes::CgroupDriver::Systemd]
        {
            for class in CLASSES {
                let path = driver.pod(class, "1-2");
                let mut all: Vec<&str> = path.split('/').skip(1).collect();
                let pod = all.pop().unwrap();
                assert_eq!(above(&all, pod, class).first(), Some(&class), "{path}");
            }
        }
    }
}
