//! Cgroups of pods at a path that the specification gives, instead of below the node's own cgroup.

use std::path::PathBuf;
use std::sync::Arc;

use super::dir::Dir;
use super::group::Cgroup;
use super::lack::Controls;
use super::parent::components;
use super::tree::{Tree, make_or_open};
use super::{ControllerSet, classes};
use crate::error::{Error, Result};
use crate::spec::Resources;
use crate::spec::kubernetes::Share;

impl Tree {
    /// The top of the hierarchy that this program works in.
    fn top(&self) -> Result<&Arc<Dir>> {
        let mut dir = self.dir()?;
        while let Some(parent) = dir.parent() {
            dir = parent;
        }
        Ok(dir)
    }

    /// Where a cgroup of that path is, for messages and for other programs.
    pub(crate) fn path_of(&self, path: &str) -> PathBuf {
        self.top().map_or_else(|_| PathBuf::new(), |top| top.path().join(path.trim_start_matches('/')))
    }

    /// As [`Tree::create_pod`], at a path below the top of the hierarchy. What is missing on the way is made, and stays;
    /// with a share, which a pod has that is in a class of Kubernetes, what is made for that class is kept as it has to be.
    pub(crate) fn create_pod_at(
        &self,
        path: &str,
        resources: &Resources,
        share: Option<&Share>,
    ) -> Result<Cgroup> {
        let (above, name) = split(path)?;
        let mut dir = Arc::clone(self.top()?);
        let available = ControllerSet::parse(&dir.read("cgroup.controllers")?);
        let mut controls = Controls::available(available.always(), dir.path()).enable_in(&dir)?;
        let classes = share.map_or_else(Vec::new, |share| classes::above(&above, name, share.class));
        for (i, component) in above.iter().enumerate() {
            let (child, made) = make_or_open(&dir, component)?;
            dir = Arc::new(child);
            // The last of them is that of the top, and of the cgroups the first.
            if made && above.len() - i <= classes.len() {
                classes::mark(&dir, classes[above.len() - i - 1])?;
            }
            controls = controls.enable_in(&dir)?;
        }
        dir.set_subtree(Arc::new(controls));
        let cgroup = Cgroup::create(&dir, name, resources)?.with_controllers()?;
        cgroup.or_undo(|cgroup| share.map_or(Ok(()), |share| cgroup.set_share(share)))
    }

    /// Opens the cgroup at a path below the top of the hierarchy; `None` when there is none.
    pub(crate) fn open_pod_at(&self, path: &str) -> Result<Option<Cgroup>> {
        let (above, name) = split(path)?;
        if !self.exists() {
            return Ok(None);
        }
        let mut dir = Arc::clone(self.top()?);
        for component in above {
            match dir.open_child(component)? {
                Some(child) => dir = Arc::new(child),
                None => return Ok(None),
            }
        }
        Cgroup::open(&dir, name)
    }
}

/// Refuses what is no path of a cgroup: it has to be below the top.
pub(crate) fn check_path(path: &str) -> Result<()> {
    split(path).map(drop)
}

fn split(path: &str) -> Result<(Vec<&str>, &str)> {
    let mut all = components(path.strip_prefix('/').unwrap_or(path))?;
    let name = all.pop().ok_or_else(|| Error::invalid("cgroup", "is empty"))?;
    Ok((all, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_top() {
        assert_eq!(split("/a/b/c").unwrap(), (vec!["a", "b"], "c"));
        assert_eq!(split("c").unwrap(), (vec![], "c"));
        for bad in ["", "/", "/a/../b", "a//b", "/a/", "//a", "a/cgroup.procs"] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }
}
