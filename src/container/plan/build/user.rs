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
use crate::spec::{
    CgroupNamespace, Device, IdMappings, MessageQueueSpec, Mount, MountKind, PidMode, Propagation,
    sysctl_path,
};
use crate::sys::namespace::Kind;

/// A hard limit from which on init can work with it.
const COMFORT: u64 = 8192;

impl Build<'_> {
    /// Ids of the process must be ids of the pod.
    pub(super) fn check_ids(&self) -> Result<()> {
        let user = &self.container.user;
        self.host_uid("user.uid", user.uid)?;
        self.host_gid("user.gid", user.gid)?;
        user.additional_gids.iter().try_for_each(|gid| self.host_gid("user.additionalGids", *gid).map(drop))
    }

    /// What a user id of the specification is on the host.
    fn host_uid(&self, field: &str, uid: u32) -> Result<u32> {
        self.ids_inside().map_or(Some(uid), |ids| ids.host_uid(uid)).ok_or_else(|| unmapped(field, uid))
    }

    /// What a group id of the specification is on the host.
    fn host_gid(&self, field: &str, gid: u32) -> Result<u32> {
        self.ids_inside().map_or(Some(gid), |ids| ids.host_gid(gid)).ok_or_else(|| unmapped(field, gid))
    }

    /// A device node as init makes it, with the host's ids.
    pub(super) fn device_of_host(&self, device: &Device) -> Result<Device> {
        let mut device = device.clone();
        if self.pod.ids.is_none() {
            return Ok(device);
        }
        let field = |id: &str| format!("devices[{:?}].{id}", device.path.display().to_string());
        let (uid, gid) = (field("uid"), field("gid"));
        device.uid = self.host_uid(&uid, device.uid)?;
        device.gid = self.host_gid(&gid, device.gid)?;
        Ok(device)
    }

    /// The options of a tmpfs as the host's side takes them: its owner's ids are those inside.
    pub(super) fn options_of_host(&self, mount: &Mount) -> Result<Vec<String>> {
        let field = || format!("mounts[{:?}].data", mount.destination.display().to_string());
        let number = |id: &str| {
            id.parse()
                .map_err(|_| Error::invalid(field(), format!("{id:?} is no id in the pod's user namespace")))
        };
        mount
            .data
            .iter()
            .map(|option| match (self.pod.ids, option.split_once('=')) {
                (Some(_), Some(("uid", id))) => Ok(format!("uid={}", self.host_uid(&field(), number(id)?)?)),
                (Some(_), Some(("gid", id))) => Ok(format!("gid={}", self.host_gid(&field(), number(id)?)?)),
                _ => Ok(option.clone()),
            })
            .collect()
    }

    /// What cannot be had of a mount where the pod has a user namespace.
    pub(super) fn check_propagation(&self, mount: &Mount) -> Result<()> {
        let why = match mount.propagation {
            _ if self.pod.ids.is_none() => return Ok(()),
            Propagation::Private | Propagation::Slave => return Ok(()),
            // The kernel makes slaves of the copies in a mount namespace of lesser privilege.
            Propagation::Shared => "nothing that is mounted in a user namespace propagates out of it",
            // An unbindable mount is not in the copy of the root, and a locked one must be.
            Propagation::Unbindable => "an unbindable mount cannot get into a user namespace",
        };
        let field = format!("mounts[{:?}].propagation", mount.destination.display().to_string());
        Err(Error::invalid(field, format!("{why}; leave it out, or give the pod no user namespace")))
    }

    /// Whether a group id is one of the pod's.
    pub(super) fn has_gid(&self, gid: u32) -> bool {
        self.ids_inside().is_none_or(|ids| ids.host_gid(gid).is_some())
    }

    /// Files of the host, with the pod's ids unless they are to keep their own, or get others.
    pub(super) fn host_tree(&mut self, source: Source) -> Slot {
        let has_own =
            matches!(source, Source::Tree { idmap: Some(_), .. } | Source::Filesystem { idmap: Some(_), .. });
        let slot = self.plan.source(source);
        if self.pod.ids.is_some() && !self.pod.spec.unmapped_mounts && !has_own {
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

    /// What takes privileges of the host, before they are gone, where they go with the host's user namespace. Returns
    /// whether that is so.
    pub(super) fn with_host_privileges(&mut self) -> Result<bool> {
        if self.pod.ids.is_none() {
            return Ok(false);
        }
        // To raise a limit; what is exact comes later, and is lower.
        for limit in self.container.rlimits.iter().filter(|limit| limit.hard >= COMFORT) {
            self.plan.step(Step::Rlimit { resource: limit.resource, soft: limit.hard, hard: limit.hard });
        }
        // The pod's own PID namespace would let in its root, too; one that is given may be the host's.
        self.join_pid();
        self.privileged_attributes()?;
        Ok(true)
    }

    pub(super) fn enter_user(&mut self) -> Result<()> {
        if self.pod.ids.is_none() {
            return Ok(());
        }
        let own_pid = *self.pod.pid_mode(self.container) == PidMode::Container;
        if !self.container.hooks.create_container.is_empty() {
            self.plan.step(Step::TakeRootBack);
        }
        if own_pid && !self.late.is_empty() {
            show_proc(&mut self.plan);
        }
        self.with_host_privileges()?;
        let mut more = if own_pid { CloneFlags::CLONE_NEWPID } else { CloneFlags::empty() };
        if self.container.cgroup_namespace == CgroupNamespace::Container {
            more |= CloneFlags::CLONE_NEWCGROUP;
        }
        enter(&mut self.plan, more);
        self.plan.step(Step::CopyRoot);
        // Those are in the mount namespace that was copied, where nothing can be mounted any more.
        self.kernels.clear();
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

fn unmapped(field: &str, id: u32) -> Error {
    Error::invalid(field, format!("id {id} has no id on the host in the pod's user namespace"))
}

/// Leaves the user namespace of the host, with a mount namespace and others that belong to the pod's.
pub(super) fn enter(plan: &mut Plan, more: CloneFlags) {
    let slot = plan.source(Source::Namespace(Kind::User));
    plan.step(Step::EnterUser { slot });
    plan.step(Step::Unshare(CloneFlags::CLONE_NEWNS | more));
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
    let proc = plan.source(Source::PrivateProc);
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
