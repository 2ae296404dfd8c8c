//! How to open a node.

use std::path::PathBuf;

use nix::unistd::geteuid;

use super::IdRanges;
use crate::cgroup::CgroupParent;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::spec::kubernetes::Admission;

/// With whose privileges a node works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeUser {
    /// Those of the program, which must be root's (`CAP_SYS_ADMIN` and others). Root may be that of a user namespace which
    /// somebody else has made, with a mount namespace of its own (as podman makes them for an ordinary user, or a container
    /// of a pod with a user namespace): then what takes root of the machine is refused, but pods outlive the program, and may be
    /// [mapped](crate::spec::UserMode::Mapped) to ids of that namespace.
    #[default]
    Root,
    /// None: the node has a user namespace in which this user is root, and nobody else exists. Processes in containers
    /// have user and group 0 inside, which is this user outside, and also keep the groups of the program, since the
    /// kernel lets them change none.
    SingleId,
    /// None: the node has a user namespace in which this user is root, and ids from 1 on are those that `/etc/subuid` and
    /// `/etc/subgid` give to it. The programs newuidmap and newgidmap (Debian's package uidmap) are run for that.
    SubordinateIds,
}

/// How to open a [`Node`](crate::Node).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeOptions {
    /// Where the node keeps what it must remember: `/run/pericarp` unless said otherwise. It should be on a tmpfs,
    /// since nothing in it is of use after a reboot. Only its owner, this program's user, may be able to write
    /// to it.
    pub state_dir: PathBuf,
    /// The cgroup below which pods get theirs.
    pub cgroup_parent: CgroupParent,
    /// Where pods with [`UserMode::Auto`](crate::spec::UserMode::Auto) get their ids from.
    pub id_ranges: IdRanges,
    /// Where all nodes of the machine write down which ids their pods have: `/run/pericarp-ids` unless said otherwise. Pods
    /// with [`UserMode::Auto`](crate::spec::UserMode::Auto) share theirs with no pod of any node that has the same
    /// directory here. Only root may be able to write to it. For root of the machine alone.
    pub id_claims: PathBuf,
    /// With whose privileges it works: an ordinary user's node needs none of the machine. All of its pods are ephemeral,
    /// and end with the program.
    pub user: NodeUser,
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
            id_claims: "/run/pericarp-ids".into(),
            user: NodeUser::default(),
            admission: None,
        }
    }
}

impl NodeOptions {
    /// The usual state directory and cgroup.
    pub fn new() -> Self {
        Self::default()
    }

    /// For an ordinary user: the state directory is `pericarp` in `$XDG_RUNTIME_DIR`, and there are no cgroups
    /// ([`CgroupParent::None`]) unless [`cgroup_parent`](Self::cgroup_parent) names a directory that the user may write
    /// to.
    ///
    /// # Errors
    /// `NotFound` when `XDG_RUNTIME_DIR` is not set, `PermissionDenied` when it is not this user's directory.
    pub fn for_user(user: NodeUser) -> Result<Self> {
        let place = std::env::var_os("XDG_RUNTIME_DIR").filter(|place| !place.is_empty()).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "find").on("the directory of this user's node").because(
                "XDG_RUNTIME_DIR is not set: set it to a directory of this user's own (a login makes /run/user/UID), or give a state_dir",
            )
        })?;
        let path = PathBuf::from(place);
        let stat =
            nix::sys::stat::stat(&path).step("look at", format!("XDG_RUNTIME_DIR, {}", path.display()))?;
        if stat.st_uid != geteuid().as_raw() {
            return Err(Error::new(ErrorKind::PermissionDenied, "use")
                .on(format!("XDG_RUNTIME_DIR, {}", path.display()))
                .because(format!(
                    "it belongs to user {}, and this program runs as user {}: set it to a directory of that user, or give a state_dir",
                    stat.st_uid,
                    geteuid()
                )));
        }
        Ok(Self::new().state_dir(path.join("pericarp")).cgroup_parent(CgroupParent::None).user(user))
    }

    /// Sets [`user`](Self::user).
    pub fn user(mut self, user: NodeUser) -> Self {
        self.user = user;
        self
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

    /// Sets [`id_claims`](Self::id_claims).
    pub fn id_claims(mut self, path: impl Into<PathBuf>) -> Self {
        self.id_claims = path.into();
        self
    }

    /// Sets [`admission`](Self::admission).
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = Some(admission);
        self
    }
}
