//! What is different in the node of an ordinary user: no device node can be made, ids are those of the node's user
//! namespace, and filesystems keep extended attributes where an ordinary user may.

use super::Build;
use crate::container::plan::Source;
use crate::container::plan::step::{Create, Step, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{Device, DeviceAccess, DeviceKind, IdMappings};
use crate::sys::mount::{AttributeChange, attr};

/// The bit of `CAP_SYS_PTRACE`, see linux/capability.h.
const PTRACE: u64 = 1 << 19;

/// The user namespace of such a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ordinary<'a> {
    /// Its ids, those inside and those of the machine.
    pub(crate) ids: &'a IdMappings,
    /// Whether nobody in it can change groups.
    pub(crate) keeps_groups: bool,
    /// Whether the library works in processes of that namespace that share the memory of the host program.
    pub(crate) workers: bool,
}

impl Build<'_> {
    /// Refuses what takes more than that namespace, and lets init take the identity as that allows.
    pub(super) fn check_ordinary(&mut self) -> Result<()> {
        let Some(ordinary) = self.pod.ordinary else { return Ok(()) };
        let container = self.container;
        if ordinary.keeps_groups && !container.user.additional_gids.is_empty() {
            return Err(Error::invalid(
                "user.additionalGids",
                "cannot be had in a node with a single id: the kernel lets nobody in its user namespace change groups; \
                 leave them out, or use NodeUser::SubordinateIds",
            ));
        }
        let sets = container.security.capabilities.bits(container.user.uid);
        if ordinary.workers
            && (sets.bounding | sets.permitted | sets.effective | sets.inheritable | sets.ambient) & PTRACE
                != 0
        {
            return Err(Error::new(ErrorKind::Unsupported, "give").on("the capability CAP_SYS_PTRACE").because(
                "in the node of an ordinary user it would reach the library's own workers, which have the memory of this \
                 program: leave it out; a process can trace those with its own capabilities without it",
            ));
        }
        container.devices.iter().try_for_each(|device| self.check_rules(device))?;
        if ordinary.keeps_groups {
            self.plan.step(Step::KeepGroups);
        }
        Ok(())
    }

    /// The ids that containers of the pod can have, where these are not those of the machine.
    pub(super) fn ids_inside(&self) -> Option<&IdMappings> {
        self.pod.ids.or(self.pod.ordinary.map(|ordinary| ordinary.ids))
    }

    /// A device of the default `/dev`: the machine's, mounted on a file.
    pub(super) fn bind_device(&mut self, name: &str, major: u32, minor: u32) {
        let path = format!("/dev/{name}");
        let source = Source::HostDevice { path: path.clone().into(), kind: DeviceKind::Char, major, minor };
        let slot = self.plan.source(source);
        self.mount_at(slot, path.clone(), path, Create::File, Target::NoSymlinks);
    }

    /// Refuses a device that would have to be made.
    pub(super) fn check_device(&self, device: &Device) -> Result<()> {
        if self.pod.ordinary.is_none() || device.source.is_some() || device.kind == DeviceKind::Fifo {
            return Ok(());
        }
        let path = device.path.display();
        Err(Error::new(ErrorKind::Unsupported, "make").on(format!("the device node {path}")).because(
            "an ordinary user cannot make device nodes; give its source, the path of such a node on the machine",
        ))
    }

    /// No program guards devices here. What is not bound cannot be opened, since nobody makes nodes and those in files
    /// are `nodev`: rules hold of themselves, but where they deny what is asked for.
    fn check_rules(&self, device: &Device) -> Result<()> {
        let last = |access| {
            let rules = self.container.device_rules.iter();
            rules.rev().find(|rule| rule.access.contains(access) && rule.concerns(device))
        };
        if [DeviceAccess::READ, DeviceAccess::WRITE].into_iter().filter_map(last).all(|rule| rule.allow) {
            return Ok(());
        }
        let path = device.path.display();
        Err(Error::new(ErrorKind::Unsupported, "guard").on(format!("the device {path}")).because(
            "deviceRules deny what devices has, and without the privileges of the machine's root no program for that can \
             be loaded: leave one of the two out",
        ))
    }

    /// Device nodes in the files of a root filesystem are of no use in it.
    pub(super) fn rootfs_change(&self) -> AttributeChange {
        let set_all = if self.pod.ordinary.is_some() { attr::NODEV } else { 0 };
        AttributeChange { set_all, ..AttributeChange::default() }
    }

    /// Options of an overlay besides its directories: `trusted.` attributes are root's of the machine.
    pub(super) fn overlay_options(&self) -> &'static str {
        if self.pod.ordinary.is_some() { ",userxattr" } else { "" }
    }

    /// Whether a layer is copied with the mounts below it: an ordinary user may not look below them.
    pub(super) fn whole_layers(&self) -> bool {
        self.pod.ordinary.is_some()
    }
}
