//! What is different in a pod with a user namespace of its own, and the plans of inits that work in one for a moment.
//!
//! Init makes the root filesystem and nearly all mounts with the privileges of the host, in the copy of the
//! template. Then it joins the user namespace for good and makes a mount namespace that belongs to it: what it has
//! mounted before is locked there, so that not even `CAP_SYS_ADMIN` inside undoes it. Only proc and devpts come after
//! that: a proc belongs to a PID namespace which belongs to the user namespace, and terminals belong to users inside.

use nix::sched::CloneFlags;

use super::{Build, NOSUID_NODEV_NOEXEC};
use crate::container::plan::step::Step;
use crate::container::plan::{PROC_OF_HOST, Plan, Slot, Source};
use crate::error::{Error, Result};
use crate::spec::{IdMappings, MessageQueueSpec, Mount, MountKind, PidMode, sysctl_path};
use crate::sys::namespace::Kind;

/// A hard limit from which on init can work with it.
const COMFORT: u64 = 8192;

impl Build<'_> {
    /// Ids of the container must be ids of the pod.
    pub(super) fn check_ids(&self) -> Result<()> {
        let Some(ids) = self.pod.ids else { return Ok(()) };
        let user = &self.container.user;
        let unmapped = |field: &str, id: u32| {
            Error::invalid(field, format!("id {id} has no id on the host in the pod's user namespace"))
        };
        if ids.host_uid(user.uid).is_none() {
            return Err(unmapped("user.uid", user.uid));
        }
        for (field, gid) in std::iter::once(("user.gid", &user.gid))
            .chain(user.additional_gids.iter().map(|gid| ("user.additionalGids", gid)))
        {
            if ids.host_gid(*gid).is_none() {
                return Err(unmapped(field, *gid));
            }
        }
        Ok(())
    }

    /// Whether a group id is one of the pod's.
    pub(super) fn has_gid(&self, gid: u32) -> bool {
        self.pod.ids.is_none_or(|ids| ids.host_gid(gid).is_some())
    }

    /// A tree of the host, with the pod's ids unless it is to have its own.
    pub(super) fn host_tree(&mut self, source: Source) -> Slot {
        let slot = self.plan.source(source);
        if self.pod.ids.is_some() && !self.pod.spec.unmapped_mounts {
            self.plan.mapped.push(slot);
        }
        slot
    }

    pub(super) fn own_files(&mut self) {
        let root = |ids: &IdMappings| Some((ids.host_uid(0)?, ids.host_gid(0)?));
        if let Some((uid, gid)) = self.pod.ids.and_then(root) {
            self.plan.step(Step::OwnFiles { uid, gid });
        }
    }

    /// Whether a mount is to wait until init is in the user namespace, and then remembers it. A proc of the host's
    /// processes is made before: only the host's privileges are enough for that.
    pub(super) fn is_late(&mut self, mount: &Mount) -> Result<bool> {
        if self.pod.ids.is_none() {
            return Ok(false);
        }
        if let Some(late) = self.late.iter().find(|late| mount.destination.starts_with(&late.destination)) {
            return Err(Error::invalid(
                format!("mounts[{:?}]", mount.destination.display().to_string()),
                format!(
                    "is below {}, which is mounted last in a pod with a user namespace",
                    late.destination.display()
                ),
            ));
        }
        let late = match mount.kind {
            MountKind::Proc => *self.pod.pid_mode(self.container) != PidMode::Host,
            // What is in it belongs to root inside, and the group of terminals is one inside.
            MountKind::Devpts => true,
            _ => false,
        };
        if late {
            let path = mount.destination.display().to_string();
            match self.fresh.iter().position(|(place, ..)| *place == path) {
                // What was mounted before cannot be mounted below any more by its descriptor.
                Some(at) => drop(self.fresh.remove(at)),
                None => self.plan.step(Step::MkdirInRoot { path }),
            }
            self.late.push(mount.clone());
        }
        Ok(late)
    }

    pub(super) fn enter_user(&mut self) -> Result<()> {
        if self.pod.ids.is_none() {
            return Ok(());
        }
        let own_pid = *self.pod.pid_mode(self.container) == PidMode::Container;
        if own_pid && !self.late.is_empty() {
            show_proc(&mut self.plan);
        }
        // To raise a limit takes a privilege of the host; what is exact comes later, and is lower.
        for limit in self.container.rlimits.iter().filter(|limit| limit.hard >= COMFORT) {
            self.plan.step(Step::Rlimit { resource: limit.resource, soft: limit.hard, hard: limit.hard });
        }
        enter(&mut self.plan, if own_pid { CloneFlags::CLONE_NEWPID } else { CloneFlags::empty() });
        self.plan.step(Step::CopyRoot);
        if own_pid {
            self.plan.step(Step::EnterPid);
        }
        for mount in std::mem::take(&mut self.late) {
            self.mount_now(&mount)?;
        }
        self.hide(true);
        Ok(())
    }
}

/// A proc outside the root filesystem, which goes when init pivots.
pub(super) fn show_proc(plan: &mut Plan) {
    let slot = plan.slot();
    plan.step(Step::NewFilesystem {
        slot,
        fstype: "proc",
        options: Vec::new(),
        attributes: NOSUID_NODEV_NOEXEC,
    });
    plan.step(Step::Attach { slot, path: PROC_OF_HOST.to_string() });
}

/// Leaves the user namespace of the host, with a mount and a cgroup namespace that belong to the pod's.
pub(super) fn enter(plan: &mut Plan, more: CloneFlags) {
    let slot = plan.source(Source::Namespace(Kind::User));
    plan.step(Step::EnterUser { slot });
    plan.step(Step::Unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP | more));
}

/// The plan of an init that is born in new namespaces of a new user namespace, or makes them in a given one, and stays
/// until the library has them.
pub(crate) fn holder(given: bool, namespaces: CloneFlags) -> Plan {
    let mut plan = Plan::new();
    if given {
        let slot = plan.source(Source::GivenUser);
        plan.step(Step::EnterUser { slot });
        if !namespaces.is_empty() {
            plan.step(Step::Unshare(namespaces));
        }
    }
    plan.step(Step::Barrier);
    plan
}

/// The plan of an init that makes a message queue in the pod's IPC namespace: a process of the host has no id there
/// that the queue's filesystem knows.
pub(crate) fn queue(queue: &MessageQueueSpec) -> Plan {
    let mut plan = in_ipc_and_user();
    plan.step(Step::MakeQueue {
        name: queue.name.trim_start_matches('/').to_string(),
        mode: queue.mode,
        uid: queue.uid,
        gid: queue.gid,
        messages: queue.max_messages,
        size: queue.message_size,
    });
    plan.step(Step::Barrier);
    plan
}

/// The plan of an init that sets kernel parameters which belong to the root of the user namespace.
pub(crate) fn sysctls(network: bool, ipc: bool, parameters: &[(&str, &str)]) -> Plan {
    let mut plan = Plan::new();
    for kind in [(Kind::Network, network), (Kind::Ipc, ipc)].into_iter().filter_map(|(k, on)| on.then_some(k))
    {
        let slot = plan.source(Source::Namespace(kind));
        plan.step(Step::Join { slot, kind });
    }
    let slot = plan.source(Source::Namespace(Kind::User));
    let proc = plan.source(Source::Proc);
    plan.step(Step::EnterUser { slot });
    for (name, value) in parameters {
        let path = format!("sys/{}", sysctl_path(name));
        plan.step(Step::SetSysctl { proc, path, name: name.to_string(), value: value.to_string() });
    }
    plan.step(Step::Barrier);
    plan
}

fn in_ipc_and_user() -> Plan {
    let mut plan = Plan::new();
    let slot = plan.source(Source::Namespace(Kind::Ipc));
    plan.step(Step::Join { slot, kind: Kind::Ipc });
    let slot = plan.source(Source::Namespace(Kind::User));
    plan.step(Step::EnterUser { slot });
    plan
}
