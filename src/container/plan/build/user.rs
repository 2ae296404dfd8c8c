//! What is different in a pod with a user namespace of its own, and the plans of inits that work in one for a moment.
//!
//! Init makes the root filesystem and all mounts, in the listed order, with the privileges of the host, in the copy of
//! the template. Then it joins the user namespace for good and makes a mount namespace that belongs to it: what it has
//! mounted before is locked there, so that not even `CAP_SYS_ADMIN` inside undoes it. Two filesystems it gets from its
//! twin, which has entered before: a proc belongs to a PID namespace which belongs to the user namespace, and terminals
//! belong to users inside. In the end the twin goes on in its place.

use nix::sched::CloneFlags;

use super::{Build, NOSUID_NODEV_NOEXEC};
use crate::container::plan::step::Step;
use crate::container::plan::{PROC_OF_HOST, Plan, Slot, Source};
use crate::error::{Error, Result};
use crate::spec::{
    CgroupNamespace, Device, IdMappings, MessageQueueSpec, Mount, PidMode, Propagation, sysctl_path,
};
use crate::sys::namespace::Kind;

/// The process that enters the user namespace first.
#[derive(Default)]
pub(super) struct Twin {
    /// The index of the step that makes it.
    parts_at: usize,
    /// That of the step by which init takes what the twin makes.
    takes_at: usize,
    /// Whether a proc is among that.
    pub(super) makes_proc: bool,
    /// The steps that make it, and where it goes.
    makes: Vec<Step>,
    slots: Vec<Slot>,
}

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

    /// From here on there are two inits, in a pod with a user namespace: see [`Twin`].
    pub(super) fn part(&mut self) {
        self.twin.parts_at = self.plan.steps.len();
    }

    /// A filesystem that is made inside the user namespace, if there is one. Init waits for all of them before it mounts
    /// the first.
    pub(super) fn inside(&mut self, make: impl FnOnce(&mut Self) -> Slot) -> Slot {
        let slot = make(self);
        if self.pod.ids.is_some() {
            let made = self.plan.steps.pop();
            if self.twin.makes.is_empty() {
                self.twin.takes_at = self.plan.steps.len();
                self.plan.step(Step::Take(Vec::new()));
            }
            self.twin.makes.extend(made);
            self.twin.slots.push(slot);
        }
        slot
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

    /// Says what the twin does, now that it is known what it has to make, and lets it go on from here.
    pub(super) fn enter_user(&mut self) -> Result<()> {
        if self.pod.ids.is_none() {
            return Ok(());
        }
        let Twin { parts_at, takes_at, makes_proc, makes, slots } = std::mem::take(&mut self.twin);
        if !self.container.hooks.create_container.is_empty() {
            self.plan.step(Step::TakeRootBack);
        }
        let user = self.plan.source(Source::Namespace(Kind::User));
        // Locks what is mounted: the namespace that it was mounted in is the host's.
        enter(&mut self.plan, user, CloneFlags::empty());
        let proc = self.private_proc();
        self.plan.step(Step::HandOver { proc });
        if !makes.is_empty() {
            self.plan.steps[takes_at] = Step::Take(slots.clone());
        }
        let inits = self.plan.steps.split_off(parts_at);
        self.plan.step(Step::Twin { steps: 0 });
        if makes_proc && self.pod.ordinary.is_none() {
            show_proc(&mut self.plan);
        }
        self.with_host_privileges()?;
        let own_pid = *self.pod.pid_mode(self.container) == PidMode::Container;
        let mut more = if own_pid { CloneFlags::CLONE_NEWPID } else { CloneFlags::empty() };
        if self.container.cgroup_namespace == CgroupNamespace::Container {
            more |= CloneFlags::CLONE_NEWCGROUP;
        }
        enter(&mut self.plan, user, more);
        self.plan.step(if own_pid { Step::EnterPid } else { Step::Setsid });
        self.plan.steps.extend(makes);
        self.plan.step(Step::Give { slots, steps: inits.len() as u32 });
        let steps = (self.plan.steps.len() - parts_at - 1) as u32;
        self.plan.steps[parts_at] = Step::Twin { steps };
        self.plan.steps.extend(inits);
        self.plan.step(Step::CopyRoot);
        Ok(())
    }
}

/// A proc outside the root filesystem, which goes when init pivots. (The template of an ordinary user's node has one.)
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
pub(super) fn enter(plan: &mut Plan, user: Slot, more: CloneFlags) {
    plan.step(Step::EnterUser { slot: user });
    plan.step(Step::Unshare(CloneFlags::CLONE_NEWNS | more));
}

/// The plan of an init that is born in new namespaces of a new user namespace, or makes them in a given one, and stays
/// until the library has them. Root of an `ordinary` node writes its maps only if it lets itself be seen.
pub(crate) fn holder(given: bool, namespaces: CloneFlags, ordinary: bool) -> Plan {
    let mut plan = Plan::new();
    if ordinary && !given {
        plan.step(Step::Show);
    }
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
