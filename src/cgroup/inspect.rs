//! What the tests of this folder look at and do besides what the library needs.

use std::os::fd::AsFd;

use super::dir::Dir;
use super::group::Cgroup;
use super::tree::Tree;
use super::walk::child_dirs;
use super::{events, remove};
use crate::error::{Context, Result};
use crate::spec::Resources;

impl Cgroup {
    /// Makes a cgroup in this one, for processes that are no container's.
    pub(crate) fn create_child(&self, name: &str, resources: &Resources) -> Result<Cgroup> {
        Cgroup::create(&self.dir, name, resources)
    }

    /// The names of the cgroups in this one. See [`Tree::list`](super::Tree::list).
    pub(crate) fn children(&self) -> Result<Vec<String>> {
        names(&self.dir)
    }

    /// Whether a live process is in it or below it. A zombie is not live; a cgroup that is gone has none.
    pub(crate) fn populated(&self) -> Result<bool> {
        Ok(!remove::is_empty(state(&self.dir)?))
    }
}

impl Tree {
    /// The names of the cgroups below the parent, sorted: the pods, and in a delegated directory
    /// ([`CgroupParent::Path`]) whatever else is there. Names that are not UTF-8 are left out.
    pub(crate) fn list(&self) -> Result<Vec<String>> {
        names(self.dir()?)
    }
}

/// The names of the cgroups in a directory, sorted. Those that are not UTF-8 are left out: no pod and no container
/// has such a name.
fn names(dir: &Dir) -> Result<Vec<String>> {
    let names = child_dirs(dir.as_fd()).step("list cgroup", dir.path().display())?;
    let mut names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// The present state; None when the cgroup is gone.
fn state(dir: &Dir) -> Result<Option<events::State>> {
    match events::open(dir)? {
        Some(file) => events::read(&file, dir),
        None => Ok(None),
    }
}
