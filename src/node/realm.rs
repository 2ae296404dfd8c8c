//! Where the work of a node is done: on library threads with the privileges of root, or, for an ordinary user, in
//! workers that have joined a user namespace of the node's own, in which the user is root.
//!
//! That namespace is held by a descriptor, and so by the program: its pods end with it.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use super::mapping;
use super::{NodeUser, Proc};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::spawn::{InitImage, make_own_user_namespace};
use crate::spec::{IdMappings, PidMode, PodSpec};
use crate::sys::{thread, worker};

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Realm {
    /// `None` with the privileges of root.
    user: Option<User>,
}

#[derive(Debug)]
struct User {
    namespace: OwnedFd,
    ids: IdMappings,
    /// The kernel lets nobody in the namespace change groups: those of the user stay.
    keeps_groups: bool,
}

impl Realm {
    /// Makes the user namespace, if the node is to have one.
    pub(super) fn open(user: NodeUser, init: &InitImage, proc: &Proc) -> Result<Self> {
        let (ids, keeps_groups) = match user {
            NodeUser::Root => return Ok(Realm::default()),
            NodeUser::SingleId => {
                let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
                let mut ids = IdMappings::contiguous(uid, 1);
                ids.gid_mappings[0].host_id = gid;
                (ids, true)
            }
            NodeUser::SubordinateIds => (mapping::subordinate()?, false),
        };
        let map = |pid: i32| match keeps_groups {
            true => mapping::write(proc, pid, &ids),
            false => mapping::by_programs(proc, pid, &ids),
        };
        let namespace = make_own_user_namespace(init, proc, map)
            .map_err(|error| error.within("make the user namespace of an ordinary user's node"))?;
        let realm = Realm { user: Some(User { namespace, ids, keeps_groups }) };
        realm.run(own_mounts).map_err(|error| {
            error.because(
                "a security module may take all privileges in user namespaces of ordinary users away (see \
                 kernel.apparmor_restrict_unprivileged_userns)",
            )
        })?;
        Ok(realm)
    }

    /// Whether the node is an ordinary user's.
    pub(crate) fn is_user(&self) -> bool {
        self.user.is_some()
    }

    /// The ids in the node's user namespace, if it has one.
    pub(crate) fn ids(&self) -> Option<&IdMappings> {
        self.user.as_ref().map(|user| &user.ids)
    }

    /// Whether containers keep the groups of the program.
    pub(crate) fn keeps_groups(&self) -> bool {
        self.user.as_ref().is_some_and(|user| user.keeps_groups)
    }

    /// Runs `work` where namespaces can be joined, in the mount namespace of the host program.
    pub(crate) fn run<T: Send, W: FnOnce() -> Result<T> + Send>(&self, work: W) -> Result<T> {
        match &self.user {
            None => thread::run(work),
            Some(user) => worker::run(user.namespace.as_fd(), work),
        }
    }

    /// The same where also mounts of the machine can be copied: a mount namespace takes that from its own root only.
    pub(crate) fn run_with_mounts<T: Send, W: FnOnce() -> Result<T> + Send>(&self, work: W) -> Result<T> {
        match &self.user {
            None => thread::run(work),
            Some(user) => worker::run(user.namespace.as_fd(), || own_mounts().and_then(|()| work())),
        }
    }

    /// The same for work that starts processes which are to be children of the host program.
    pub(crate) fn launch<T: Send, W: FnOnce() -> Result<T> + Send>(&self, work: W) -> Result<T> {
        match &self.user {
            None => thread::run(work),
            Some(user) => {
                worker::run_for_children(user.namespace.as_fd(), || own_mounts().and_then(|()| work()))
            }
        }
    }

    /// Refuses what an ordinary user cannot have.
    pub(crate) fn check(&self, spec: &PodSpec) -> Result<()> {
        if !self.is_user() {
            return Ok(());
        }
        let unsupported = |what: &str, why: &str| {
            Err(Error::new(ErrorKind::Unsupported, "make").on(what).because(why.to_string()))
        };
        if !spec.ephemeral {
            return unsupported(
                "a pod that outlives this program",
                "an ordinary user has no place in the machine's mounts that could keep its namespaces without a \
                 process; say ephemeral, and keep the program running",
            );
        }
        if !spec.namespaces.user.is_host() {
            return unsupported(
                "a pod with a user namespace of its own",
                "the node of an ordinary user has one for all of its pods, see NodeOptions::user: leave \
                 namespaces.user out",
            );
        }
        if !spec.net_devices.is_empty() {
            return unsupported(
                "a pod with network devices of the machine",
                "these are root's of the machine; leave netDevices out",
            );
        }
        self.check_pid(&spec.namespaces.pid)
    }

    /// The same for the PID namespace of a pod's containers, or of one.
    pub(crate) fn check_pid(&self, mode: &PidMode) -> Result<()> {
        match mode {
            PidMode::Host | PidMode::Path(_) if self.is_user() => {
                // Workers share the memory of the host program, and a capability in the node's user namespace would be
                // enough to look into them: no container may see one.
                Err(Error::new(ErrorKind::Unsupported, "share").on("the PID namespace of the machine").because(
                    "containers of an ordinary user never see processes of the machine; leave the PID mode out, or \
                     say pod",
                ))
            }
            _ => Ok(()),
        }
    }
}

fn own_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).step("copy", "the mounts of the machine")
}
