//! The library's part of the cgroup tree: one cgroup below which the pods are.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{AccessFlags, faccessat};

use super::controller::{Controller, ControllerSet};
use super::devices::{DeviceGuard, Guards};
use super::dir::Dir;
use super::group::Cgroup;
use super::lack::Controls;
use super::mounts::{open_cgroup2, open_cgroup2_dir};
use super::parent::{CgroupParent, components};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::spec::{DeviceRule, Resources};

/// The cgroup of a node. Dropping it closes its descriptor and does nothing else.
#[derive(Debug)]
pub(crate) struct Tree {
    dir: Option<Arc<Dir>>,
    controllers: ControllerSet,
    /// What the hierarchy has at the top of the tree.
    available: ControllerSet,
    /// Whether the parent was made by this very call of [`Tree::open`].
    made: bool,
    /// Decide which devices containers may use: those without rules of their own first, then what was asked for last.
    guards: Guards,
}

impl Tree {
    /// Finds the cgroup v2 mount, makes the parent if it has a name, and enables for its children every controller
    /// of [`Controller::ALWAYS`] that there is.
    ///
    /// That a controller is missing, or cannot be enabled because the directory has processes of its own, is no error
    /// here: it is one of whatever pod or container has a limit that needs the controller.
    #[cfg(test)]
    pub(super) fn open(parent: &CgroupParent) -> Result<Tree> {
        Self::open_as(parent, true)
    }

    /// The same; who is not `root` of the machine guards no devices.
    pub(crate) fn open_as(parent: &CgroupParent, root: bool) -> Result<Tree> {
        let (top, below) = match parent {
            CgroupParent::Named(name) => {
                let below = components(name)?;
                let (fd, path) = open_cgroup2()?;
                (Dir::top(fd, path), below)
            }
            CgroupParent::Path(path) if path.is_absolute() => {
                (Dir::top(open_cgroup2_dir(path)?, path.clone()), Vec::new())
            }
            CgroupParent::None if root => {
                return Err(Error::invalid(
                    "cgroup_parent",
                    "root cannot do without cgroups, which guard the machine's devices: give a name or a path",
                ));
            }
            CgroupParent::None => {
                let (controllers, available) = Default::default();
                return Ok(Tree {
                    dir: None,
                    controllers,
                    available,
                    made: false,
                    guards: Guards::new(DeviceGuard::none()),
                });
            }
            CgroupParent::Path(path) => {
                return Err(Error::invalid("cgroup parent", format!("the path {path:?} is not absolute")));
            }
        };
        let available = ControllerSet::parse(&top.read("cgroup.controllers")?);
        let mut controls = Controls::available(available.always(), top.path()).enable_in(&top)?;
        let mut dir = Arc::new(top);
        let guard = if root { DeviceGuard::load(&[])? } else { DeviceGuard::none() };
        let mut made = false;
        for name in below {
            let child;
            (child, made) = make_or_open(&dir, name)?;
            dir = Arc::new(child);
            controls = controls.enable_in(&dir)?;
        }
        if !root {
            // Nothing was made where everything is there already, and root's: pods could not be made below it.
            faccessat(&*dir, ".", AccessFlags::W_OK, AtFlags::AT_EACCESS)
                .step("make cgroups in", dir.path().display())?;
        }
        let controllers = controls.enabled();
        dir.set_subtree(Arc::new(controls));
        Ok(Tree { dir: Some(dir), controllers, available, made, guards: Guards::new(guard) })
    }

    /// The parent.
    ///
    /// # Errors
    /// `Unsupported` when the node was opened without one.
    pub(super) fn dir(&self) -> Result<&Arc<Dir>> {
        self.dir.as_ref().ok_or_else(|| no_cgroups("make a cgroup of"))
    }

    /// The directory, opened with `O_PATH`.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.dir.as_ref().map(|dir| dir.as_fd())
    }

    /// Whether pods have cgroups.
    pub(crate) fn exists(&self) -> bool {
        self.dir.is_some()
    }

    /// Refuses limits where nothing could keep them.
    pub(crate) fn check(&self, resources: &Resources) -> Result<()> {
        if self.exists() || *resources == Resources::default() {
            return Ok(());
        }
        Err(no_cgroups("limit"))
    }

    /// Makes the cgroup of a pod: applies the limits and enables all controllers for its containers. An error of kind
    /// `AlreadyExists` when there is one of that name.
    pub(crate) fn create_pod(&self, name: &str, resources: &Resources) -> Result<Cgroup> {
        Cgroup::create(self.dir()?, name, resources)?.with_controllers()
    }

    /// Opens the cgroup of a pod; None when there is none.
    pub(crate) fn open_pod(&self, name: &str) -> Result<Option<Cgroup>> {
        self.dir.as_ref().map_or(Ok(None), |dir| Cgroup::open(dir, name))
    }

    /// Removes the parent, and those above it that were made with it and have nothing else in them. A directory that
    /// was given stays.
    pub(crate) fn remove(&self) -> Result<()> {
        let Some(mut dir) = self.dir.as_ref() else { return Ok(()) };
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

    /// Where the parent is, for messages; empty when there is none.
    pub(crate) fn path(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new(""), |dir| dir.path())
    }

    /// Where the hierarchy is mounted that the parent is in: the topmost of the directories above it that is still in one.
    /// Empty when there is no parent.
    pub(crate) fn mount_point(&self) -> PathBuf {
        let is_in_one =
            |path: &&Path| statfs(*path).is_ok_and(|of| of.filesystem_type() == CGROUP2_SUPER_MAGIC);
        self.path().ancestors().take_while(is_in_one).last().map(Path::to_path_buf).unwrap_or_default()
    }

    /// Decides which devices a container with these rules may use.
    pub(crate) fn device_guard(&self, rules: &[DeviceRule]) -> Result<Arc<DeviceGuard>> {
        self.guards.get(rules)
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

/// What takes a cgroup cannot be had without one.
pub(crate) fn no_cgroups(step: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, step).on("a pod or container of a node without cgroups").because(
        "the node was opened with CgroupParent::None: give NodeOptions::cgroup_parent the path of a cgroup that this \
         user may write to, such as one that systemd delegates (systemd-run --user --scope -p Delegate=yes)",
    )
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
