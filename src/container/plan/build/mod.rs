//! From a specification to the steps of init. Pure: nothing is opened, asked or made here.

mod exec;
mod mounts;
mod process;
mod rootfs;
mod terminal;

use std::path::Path;

pub(crate) use exec::compile_exec;

use super::step::Step;
use super::{Plan, Slot, Source};
use crate::error::{Error, Result};
use crate::spec::{ContainerSpec, NamespaceMode, PidMode, PodSpec, Propagation};
use crate::sys::mount::attr;
use crate::sys::namespace::Kind;

/// Directories of the template mount namespace: where the root filesystem, a writable layer and read-only layers go.
pub(crate) const ROOT: &str = "/root";
pub(crate) const UPPER: &str = "/upper";
pub(crate) const LAYERS: &str = "/layers";

const NOSUID_NODEV_NOEXEC: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;

/// What a plan needs to know of the pod.
pub(crate) struct PodContext<'a> {
    /// Its specification.
    pub(crate) spec: &'a PodSpec,
}

impl PodContext<'_> {
    /// The PID mode of a container of this pod.
    pub(crate) fn pid_mode<'s>(&'s self, container: &'s ContainerSpec) -> &'s PidMode {
        container.pid.as_ref().unwrap_or(&self.spec.namespaces.pid)
    }
}

/// Compiles a valid specification.
///
/// # Errors
/// `InvalidSpec` when the container asks for something that the pod does not have.
pub(crate) fn compile(pod: &PodContext<'_>, container: &ContainerSpec) -> Result<Plan> {
    if *pod.pid_mode(container) == PidMode::Pod && pod.spec.namespaces.pid != PidMode::Pod {
        return Err(Error::invalid("pid", "the pod has no PID namespace of its own"));
    }
    if container.detached && pod.spec.ephemeral {
        return Err(Error::invalid(
            "detached",
            "the pod is ephemeral: it ends with the program that made it",
        ));
    }
    let mut build = Build { plan: Plan::new(), pod, container, fresh: Vec::new(), inside: None };
    build.namespaces();
    build.rootfs();
    build.mounts()?;
    build.hide();
    build.enter_root();
    build.process()?;
    Ok(build.plan)
}

/// The plan of process 1 of a PID namespace that the pod's containers share: it has nothing and sees nothing.
pub(crate) fn reaper(pod: &PodSpec) -> Plan {
    let mut plan = Plan::new();
    join_pod_namespaces(&mut plan, pod);
    plan.step(Step::UnshareCgroup);
    plan.step(Step::Setsid);
    let proc = plan.slot();
    plan.step(Step::NewFilesystem {
        slot: proc,
        fstype: "proc",
        options: Vec::new(),
        attributes: NOSUID_NODEV_NOEXEC,
    });
    plan.step(Step::SendFd { slot: proc });
    plan.step(Step::SetName("pericarp-init"));
    plan.step(Step::Identity { uid: 0, gid: 0, groups: Vec::new(), bounding: 0, ambient: 0 });
    plan.step(Step::NoNewPrivileges);
    plan.step(Step::Barrier);
    plan.step(Step::Reap);
    plan
}

fn join_pod_namespaces(plan: &mut Plan, pod: &PodSpec) {
    for (kind, mode) in [
        (Kind::Network, &pod.namespaces.network),
        (Kind::Ipc, &pod.namespaces.ipc),
        (Kind::Uts, &pod.namespaces.uts),
    ] {
        if *mode != NamespaceMode::Host {
            let slot = plan.source(Source::Namespace(kind));
            plan.step(Step::Join { slot, kind });
        }
    }
}

struct Build<'a> {
    plan: Plan,
    pod: &'a PodContext<'a>,
    container: &'a ContainerSpec,
    /// Directories in filesystems that init makes, for other mounts: the whole path, the slot of the filesystem, and
    /// the path in it.
    fresh: Vec<(String, Slot, &'static str)>,
    /// The first process of the container that is entered, instead of one that is made.
    inside: Option<Slot>,
}

impl Build<'_> {
    fn new_filesystem(
        &mut self,
        fstype: &'static str,
        options: Vec<(&'static str, String)>,
        attributes: u64,
    ) -> Slot {
        let slot = self.plan.slot();
        self.plan.step(Step::NewFilesystem { slot, fstype, options, attributes });
        slot
    }

    fn namespaces(&mut self) {
        join_pod_namespaces(&mut self.plan, self.pod.spec);
        self.plan.step(Step::UnshareCgroup);
        self.plan.step(Step::Setsid);
        // So that directories and nodes get exactly the mode that is asked for.
        self.plan.step(Step::Umask(0));
    }
}

/// A directory. The slash at its end makes the kernel say so when it is none.
fn tree(path: &Path, recursive: bool, propagation: Propagation) -> Source {
    Source::Tree { path: path.join(""), recursive, attributes: 0, attributes_recursive: false, propagation }
}
