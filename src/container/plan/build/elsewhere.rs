//! Containers whose process is in a mount namespace of others.
//!
//! Everything is made in the copy of the template, as ever. Then init takes a copy of the root with all that is mounted
//! in it, which is attached nowhere, joins the namespace and makes the copy its root. When the program executes and the
//! copy's descriptor closes, the kernel lets go of the mounts, but they stay together for as long as somebody has his
//! root in them. So the namespace gets nothing of them, and nothing has to be cleaned up when the container ends.

use super::{Build, PodContext};
use crate::container::plan::step::Step;
use crate::container::plan::{Slot, Source};
use crate::error::{Error, Result};
use crate::spec::{ContainerSpec, MountNamespace, Propagation};
use crate::sys::namespace::Kind;

/// What cannot be had in a mount namespace of others.
pub(super) fn check(pod: &PodContext<'_>, container: &ContainerSpec) -> Result<()> {
    let unbindable = |propagation: Propagation| propagation == Propagation::Unbindable;
    let why = if pod.ids.is_some() {
        "it does not belong to the pod's user namespace, which has no rights in it"
    } else if container.terminal {
        "the terminal at /dev/console could not be mounted there"
    } else if unbindable(container.rootfs_propagation)
        || container.mounts.iter().any(|mount| unbindable(mount.propagation))
    {
        "nothing that is unbindable can get there"
    } else {
        return Ok(());
    };
    Err(Error::invalid("mountNamespace", format!("{why}; give the container one of its own")))
}

impl Build<'_> {
    /// Makes the root filesystem the root.
    pub(super) fn enter_mounts(&mut self) {
        let slot = match &self.container.mount_namespace {
            MountNamespace::Container => return self.plan.step(Step::Pivot),
            MountNamespace::Host => self.plan.source(Source::HostMounts),
            MountNamespace::Path(path) => {
                self.plan.source(Source::NamespaceAt { kind: Kind::Mount, path: path.clone() })
            }
        };
        self.plan.step(Step::EnterMounts { slot });
    }

    /// The root of the container that is entered, where joining its mount namespace does not lead there.
    pub(super) fn root_of_first(&mut self) -> Option<Slot> {
        let elsewhere = !self.container.mount_namespace.is_container();
        elsewhere.then(|| self.plan.source(Source::FirstRoot))
    }
}
