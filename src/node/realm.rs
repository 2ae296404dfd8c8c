//! Where the work of a node is done: on library threads with the privileges of root, or, for an ordinary user, in
//! workers that have joined a user namespace of the node's own, in which the user is root.
//!
//! That namespace is held by a descriptor, and so by the program: its pods end with it. Root of a user namespace that
//! somebody else has made (podman for an ordinary user, a container) works on library threads as root of the machine
//! does, and its pods outlive the program; but it has of the machine what an ordinary user has.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use super::mapping;
use super::{NodeUser, Proc};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::spawn::{InitImage, make_own_user_namespace};
use crate::spec::{IdMapping, IdMappings, PidMode, PodSpec, UserMode, user};
use crate::sys::namespace::Kind;
use crate::sys::thread;
use crate::sys::worker;

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) enum Realm {
    /// With the privileges of the machine's root.
    Machine,
    /// Within a user namespace, with the privileges of its root.
    Within(Ids),
    /// Without any, in a user namespace of the node's own.
    Own { namespace: OwnedFd, ids: Ids },
}

/// What there is in a user namespace.
#[derive(Debug)]
pub(crate) struct Ids {
    ids: IdMappings,
    /// The kernel lets nobody in the namespace change groups: those of the user stay.
    keeps_groups: bool,
}

impl Realm {
    /// Makes the user namespace, if the node is to have one. `root` is what [`is_root`] says.
    pub(super) fn open(user: NodeUser, root: bool, init: &InitImage, proc: &Proc) -> Result<Self> {
        let (ids, keeps_groups) = match user {
            NodeUser::Root if root => return Ok(Realm::Machine),
            NodeUser::Root => return Realm::within(proc),
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
        let realm = Realm::Own { namespace, ids: Ids { ids, keeps_groups } };
        realm.run(own_mounts).map_err(|error| {
            error.because(
                "a security module may take all privileges in user namespaces of ordinary users away (see \
                 kernel.apparmor_restrict_unprivileged_userns)",
            )
        })?;
        Ok(realm)
    }

    fn within(proc: &Proc) -> Result<Self> {
        // What there is inside, by its numbers inside: nobody here sees others.
        let inside = |file: &str| -> Result<Vec<IdMapping>> {
            let map = proc.read(&format!("thread-self/{file}"))?;
            let mappings = user::parse(&map).ok_or_else(|| Error::new(ErrorKind::System, "read").on(file))?;
            Ok(mappings
                .iter()
                .map(|ids| IdMapping::new(ids.container_id, ids.container_id, ids.size))
                .collect())
        };
        let ids = IdMappings { uid_mappings: inside("uid_map")?, gid_mappings: inside("gid_map")? };
        let keeps_groups = proc.read("thread-self/setgroups")?.trim() == "deny";
        Ok(Realm::Within(Ids { ids, keeps_groups }))
    }

    /// Whether the node has a user namespace of its own, in which others do the work.
    pub(crate) fn is_user(&self) -> bool {
        matches!(self, Realm::Own { .. })
    }

    /// Whether it lacks the privileges of the machine's root: nobody here makes device nodes or loads programs for them,
    /// and a new proc or sysfs takes one of the machine.
    pub(crate) fn is_ordinary(&self) -> bool {
        !matches!(self, Realm::Machine)
    }

    fn inside(&self) -> Option<&Ids> {
        match self {
            Realm::Machine => None,
            Realm::Within(ids) | Realm::Own { ids, .. } => Some(ids),
        }
    }

    /// The ids in the node's user namespace, if it is not that of the machine.
    pub(crate) fn ids(&self) -> Option<&IdMappings> {
        self.inside().map(|inside| &inside.ids)
    }

    /// Whether containers keep the groups of the program.
    pub(crate) fn keeps_groups(&self) -> bool {
        self.inside().is_some_and(|inside| inside.keeps_groups)
    }

    /// Runs `work` where namespaces can be joined, in the mount namespace of the host program.
    pub(crate) fn run<T: Send, W: FnOnce() -> Result<T> + Send>(&self, work: W) -> Result<T> {
        match self {
            Realm::Own { namespace, .. } => worker::run(namespace.as_fd(), work),
            _ => thread::run(work),
        }
    }

    /// The same where also mounts of the machine can be copied: a mount namespace takes that from its own root only.
    pub(crate) fn run_with_mounts<T: Send, W: FnOnce() -> Result<T> + Send>(&self, work: W) -> Result<T> {
        match self {
            Realm::Own { namespace, .. } => {
                worker::run(namespace.as_fd(), || own_mounts().and_then(|()| work()))
            }
            _ => thread::run(work),
        }
    }

    /// The same for work that starts processes which are to be children of the host program.
    pub(crate) fn launch<T: Send, W: FnOnce() -> Result<T> + Send>(&self, work: W) -> Result<T> {
        match self {
            Realm::Own { namespace, .. } => {
                worker::run_for_children(namespace.as_fd(), || own_mounts().and_then(|()| work()))
            }
            _ => thread::run(work),
        }
    }

    /// Calls `prepare` and then `start`, which may start a process that is to be a child of the host program, and runs
    /// `work` as [`run`](Self::run) does meanwhile, where that is possible. Where both fail, the error is that of the former.
    pub(crate) fn launch_beside<T: Send>(
        &self,
        prepare: impl FnOnce() -> Result<()>,
        start: impl FnOnce() -> Result<()> + Send,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        match self {
            // All that needs privileges is for a worker, and its thread stands still.
            Realm::Own { .. } => {
                prepare()?;
                self.launch(|| work().and_then(|done| start().map(|()| done)))
            }
            _ => thread::run_beside(|| prepare().and_then(|()| start()), work),
        }
    }

    /// Refuses what cannot be had without the privileges of the machine's root.
    pub(crate) fn check(&self, spec: &PodSpec) -> Result<()> {
        if !self.is_ordinary() {
            return Ok(());
        }
        let unsupported = |what: &str, why: &str| {
            Err(Error::new(ErrorKind::Unsupported, "make").on(what).because(why.to_string()))
        };
        if self.is_user() && !spec.ephemeral {
            return unsupported(
                "a pod that outlives this program",
                "an ordinary user has no place in the machine's mounts that could keep its namespaces without a \
                 process; say ephemeral, and keep the program running",
            );
        }
        match (self, &spec.namespaces.user) {
            (Realm::Own { .. }, mode) if !mode.is_host() => {
                return unsupported(
                    "a pod with a user namespace of its own",
                    "all pods share the user namespace of the node, an ordinary user's, see NodeOptions::user: leave \
                     namespaces.user out",
                );
            }
            (_, UserMode::Auto { .. }) => {
                return unsupported(
                    "a pod with a user namespace with ids that no other has",
                    "ids are taken for pods by root of the machine alone; say mapped, and give some of those that this \
                     program's user namespace has",
                );
            }
            (Realm::Within(inside), UserMode::Mapped(ids)) => {
                check_mapped("uid", &ids.uid_mappings, &inside.ids.uid_mappings)?;
                check_mapped("gid", &ids.gid_mappings, &inside.ids.gid_mappings)?;
            }
            _ => {}
        }
        if self.is_user() && !spec.net_devices.is_empty() {
            return unsupported(
                "a pod with network devices of the machine",
                "these are root's of the machine; leave netDevices out",
            );
        }
        self.check_pid(&spec.namespaces.pid)
    }

    /// The same for the PID namespace of a pod's containers, or of one.
    pub(crate) fn check_pid(&self, mode: &PidMode) -> Result<()> {
        let refused = |why: &'static str| {
            Err(Error::new(ErrorKind::Unsupported, "share")
                .on("the PID namespace of the machine")
                .because(why))
        };
        match (self, mode) {
            // Workers share the memory of the host program, and a capability in the node's user namespace would be
            // enough to look into them: no container may see one.
            (Realm::Own { .. }, PidMode::Host | PidMode::Path(_)) => refused(
                "containers of an ordinary user never see processes of the machine; leave the PID mode out, or say pod",
            ),
            (Realm::Within(_), PidMode::Host) => refused(
                "the kernel mounts no proc of it in a user namespace; leave the PID mode out, or say pod",
            ),
            _ => Ok(()),
        }
    }
}

/// Ids of a pod must be ids of the user namespace that the program is in. The kernel takes each range out of one of those
/// that it has, and says no more than EPERM of others.
fn check_mapped(word: &str, mappings: &[IdMapping], inside: &[IdMapping]) -> Result<()> {
    let last = |first: u32, size: u32| u64::from(first) + u64::from(size) - 1;
    let is_in = |ids: &IdMapping, all: &IdMapping| {
        ids.host_id >= all.container_id && last(ids.host_id, ids.size) <= last(all.container_id, all.size)
    };
    let Some(wrong) = mappings.iter().find(|ids| !inside.iter().any(|all| is_in(ids, all))) else {
        return Ok(());
    };
    let has: Vec<String> = inside
        .iter()
        .map(|ids| format!("{} to {}", ids.container_id, last(ids.container_id, ids.size)))
        .collect();
    Err(Error::invalid(
        format!("namespaces.user.{word}Mappings"),
        format!(
            "{word}s {} to {} are not in one of the ranges of the user namespace that this program is in, which has {}",
            wrong.host_id,
            last(wrong.host_id, wrong.size),
            has.join(", ")
        ),
    ))
}

/// Whether a node of that user works as root of the machine: the program is in the machine's own user namespace.
pub(super) fn is_root(user: NodeUser) -> Result<bool> {
    if user != NodeUser::Root {
        return Ok(false);
    }
    let stat =
        nix::sys::stat::stat("/proc/thread-self/ns/user").step("look at", "this program's user namespace")?;
    Ok(stat.st_ino == Kind::User.machines())
}

fn own_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).step("copy", "the mounts of the machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_pod_are_each_in_a_range_of_the_programs() {
        let inside = [IdMapping::new(0, 0, 1), IdMapping::new(1, 1, 65536)];
        let check = |ids: &[(u32, u32, u32)]| {
            let ids: Vec<_> =
                ids.iter().map(|&(inside, out, size)| IdMapping::new(inside, out, size)).collect();
            check_mapped("uid", &ids, &inside).map_err(|error| error.to_string())
        };
        // What podman gives for keep-id.
        assert_eq!(check(&[(0, 1, 1000), (1000, 0, 1), (1001, 1001, 64536)]), Ok(()));
        for wrong in [&[(0, 0, 2)][..], &[(0, 65536, 2)], &[(0, 1, 5), (5, 70_000, 1)]] {
            let text = check(wrong).unwrap_err();
            assert!(text.contains("0 to 0, 1 to 65536"), "{text}");
        }
    }
}
