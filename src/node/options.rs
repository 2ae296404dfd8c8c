//! How to open a node.

use std::path::PathBuf;

use super::IdRanges;
use crate::cgroup::CgroupParent;
use crate::spec::kubernetes::Admission;

/// How to open a [`Node`](crate::Node).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeOptions {
    /// Where the node keeps what it must remember: `/run/pericarp` unless said otherwise. It should be on a tmpfs,
    /// since nothing in it is of use after a reboot. Only root may be able to write to it.
    pub state_dir: PathBuf,
    /// The cgroup below which pods get theirs.
    pub cgroup_parent: CgroupParent,
    /// Where pods with [`UserMode::Auto`](crate::spec::UserMode::Auto) get their ids from.
    pub id_ranges: IdRanges,
    /// Whether requests of pods have to fit what is left; none are refused unless given. It holds for pods that are made
    /// through this handle; those that others have made count.
    pub admission: Option<Admission>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        NodeOptions {
            state_dir: "/run/pericarp".into(),
            cgroup_parent: CgroupParent::default(),
            id_ranges: IdRanges::default(),
            admission: None,
        }
    }
}

impl NodeOptions {
    /// The usual state directory and cgroup.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`state_dir`](Self::state_dir).
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = path.into();
        self
    }

    /// Sets [`cgroup_parent`](Self::cgroup_parent).
    pub fn cgroup_parent(mut self, parent: CgroupParent) -> Self {
        self.cgroup_parent = parent;
        self
    }

    /// Sets [`id_ranges`](Self::id_ranges).
    pub fn id_ranges(mut self, ranges: IdRanges) -> Self {
        self.id_ranges = ranges;
        self
    }

    /// Sets [`admission`](Self::admission).
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = Some(admission);
        self
    }
}
