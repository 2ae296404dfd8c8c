//! The library's part of the cgroup tree: one cgroup below which the pods are.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;

use super::controller::{Controller, ControllerSet};
use super::devices::DeviceGuard;
use super::dir::Dir;
use super::group::Cgroup;
use super::lack::Controls;
use super::mounts::{open_cgroup2, open_cgroup2_dir};
use super::parent::{CgroupParent, components};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::Resources;

/// The cgroup of a node. Dropping it closes its descriptor and does nothing else.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(super) dir: Arc<Dir>,
    controllers: ControllerSet,
    /// What the hierarchy has at the top of the tree.
    available: ControllerSet,
    /// Whether the parent was made by this very call of [`Tree::open`].
    made: bool,
    /// Decides which devices containers without rules of their own may use.
    guard: DeviceGuard,
}

impl Tree {
    /// Finds the cgroup v2 mount, makes the parent if it has a name, and enables for its children every controller
    /// of [`Controller::ALWAYS`] that there is.
    ///
    /// That a controller is missing, or cannot be enabled because the directory has processes of its own, is no error
    /// here: it is one of whatever pod or container has a limit that needs the controller.
    pub(crate) fn open(parent: &CgroupParent) -> Result<Tree> {
        let (top, below) = match parent {
            CgroupParent::Named(name) => {
                let below = components(name)?;
                let (fd, path) = open_cgroup2()?;
                (Dir::top(fd, path), below)
            }
            CgroupParent::Path(path) if path.is_absolute() => {
                (Dir::top(open_cgroup2_dir(path)?, path.clone()), Vec::new())
            }
            CgroupParent::Path(path) => {
                return Err(Error::invalid("cgroup parent", format!("the path {path:?} is not absolute")));
            }
        };
        let available = ControllerSet::parse(&top.read("cgroup.controllers")?);
        let mut controls = Controls::available(available.always(), top.path()).enable_in(&top)?;
        let mut dir = Arc::new(top);
        let guard = DeviceGuard::load(&[])?;
        let mut made = false;
        for name in below {
            let child;
            (child, made) = make_or_open(&dir, name)?;
            dir = Arc::new(child);
            controls = controls.enable_in(&dir)?;
        }
        let controllers = controls.enabled();
        dir.set_subtree(Arc::new(controls));
        Ok(Tree { dir, controllers, available, made, guard })
    }

    /// Makes the cgroup of a pod: applies the limits and enables all controllers for its containers. An error of kind
    /// `AlreadyExists` when there is one of that name.
    pub(crate) fn create_pod(&self, name: &str, resources: &Resources) -> Result<Cgroup> {
        Cgroup::create(&self.dir, name, resources)?.with_controllers()
    }

    /// Opens the cgroup of a pod; None when there is none.
    pub(crate) fn open_pod(&self, name: &str) -> Result<Option<Cgroup>> {
        Cgroup::open(&self.dir, name)
    }

    /// Removes the parent, and those above it that were made with it and have nothing else in them. A directory that
    /// was given stays.
    pub(crate) fn remove(&self) -> Result<()> {
        let mut dir = &self.dir;
        while let Some(parent) = dir.parent() {
            match dir.unlink() {
                Ok(()) => dir = parent,
                // Others have cgroups or processes there.
                Err(Errno::EBUSY | Errno::ENOTEMPTY) => break,
                Err(errno) => return Err(Error::system(errno, "remove cgroup").on(dir.path().display())),
            }
        }
        Ok(())
    }

    /// Takes back what [`Tree::open`] has made, for a node that cannot be opened after all.
    pub(crate) fn undo(&self) {
        if self.made {
            // The error that led here is the one to report.
            let _ = self.remove();
        }
    }

    /// Where the parent is, for messages.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Decides which devices containers without rules of their own may use.
    pub(crate) fn device_guard(&self) -> &DeviceGuard {
        &self.guard
    }

    /// The controllers that limits can ask for besides those that pods and containers have.
    pub(crate) fn optional(&self) -> Vec<&'static str> {
        let mut rest = self.available;
        Controller::ALWAYS.into_iter().for_each(|controller| rest.remove(controller));
        rest.iter().map(Controller::name).collect()
    }

    /// The controllers that pods and containers have.
    pub(crate) fn controllers(&self) -> ControllerSet {
        self.controllers
    }
}

impl AsFd for Tree {
    /// The directory, opened with `O_PATH`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// One step of `mkdir -p`, and whether the directory is new. Somebody may remove what was there just before; that is
/// tried again a few times.
pub(super) fn make_or_open(dir: &Arc<Dir>, name: &str) -> Result<(Dir, bool)> {
    let mut tries = 0;
    loop {
        if let Some(child) = dir.open_child(name)? {
            return Ok((child, false));
        }
        tries += 1;
        match dir.make_child(name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < 8 => {}
            result => return result.map(|child| (child, true)),
        }
    }
}
