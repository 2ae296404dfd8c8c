//! From a specification to the steps of init. Pure: nothing is opened, asked or made here.

mod attributes;
mod devices;
mod elsewhere;
mod exec;
mod labels;
mod mounts;
mod ordinary;
mod process;
mod rootfs;
mod terminal;
mod user;

use std::path::Path;

use nix::sched::CloneFlags;

pub(crate) use exec::compile_exec;
pub(crate) use ordinary::Ordinary;
use user::Twin;
pub(crate) use user::{holder, queue, sysctls};

use super::step::Step;
use super::{Plan, Slot, Source, Spread};
use crate::error::{Error, Result};
use crate::spec::{
    CapabilityBits, CgroupNamespace, ContainerSpec, Hook, IdMap, IdMappings, NamespaceMode, PidMode, PodSpec,
    split_data,
};
use crate::sys::mount::{AttributeChange, attr};
use crate::sys::namespace::Kind;

/// Directories of the template mount namespace: where the root filesystem, a writable layer and read-only layers go.
pub(crate) const ROOT: &str = "/root";
pub(crate) const UPPER: &str = "/upper";
pub(crate) const LAYERS: &str = "/layers";
/// The directory of the template where the host's files are while hooks of a container's creation run.
pub(crate) const HOST: &std::ffi::CStr = c"/host";

const NOSUID_NODEV_NOEXEC: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;

/// What a plan needs to know of the pod.
pub(crate) struct PodContext<'a> {
    /// Its specification.
    pub(crate) spec: &'a PodSpec,
    /// The ids of its user namespace, if it has one.
    pub(crate) ids: Option<&'a IdMappings>,
    /// What an ordinary user's node has instead of root's privileges.
    pub(crate) ordinary: Option<Ordinary<'a>>,
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
    if !container.mount_namespace.is_container() {
        elsewhere::check(pod, container)?;
    }
    let mut build = Build {
        plan: Plan::new(),
        pod,
        container,
        fresh: Vec::new(),
        kernels: Vec::new(),
        proc: None,
        late_readonly: Vec::new(),
        twin: Twin::default(),
        inside: None,
    };
    build.preserve();
    build.check_ordinary()?;
    build.check_ids()?;
    build.session_keyring();
    build.namespaces();
    build.first_attributes()?;
    build.part();
    build.own_files();
    build.rootfs();
    build.mounts()?;
    build.devices()?;
    build.hide();
    build.enter_root();
    build.enter_user()?;
    build.process()?;
    Ok(build.plan)
}

/// The plan of process 1 of a PID namespace that the pod's containers share: it has nothing and sees nothing. In an
/// `ordinary` node the template shows it a proc of the machine.
pub(crate) fn reaper(pod: &PodSpec, keeps_groups: bool, ordinary: bool) -> Plan {
    let mut plan = Plan::new();
    if keeps_groups {
        plan.step(Step::KeepGroups);
    }
    join_pod_namespaces(&mut plan, pod);
    plan.step(Step::Unshare(CloneFlags::CLONE_NEWCGROUP));
    plan.step(Step::Setsid);
    if !pod.namespaces.user.is_host() {
        if !ordinary {
            user::show_proc(&mut plan);
        }
        let user = plan.source(Source::Namespace(Kind::User));
        user::enter(&mut plan, user, CloneFlags::CLONE_NEWCGROUP | CloneFlags::CLONE_NEWPID);
        plan.step(Step::EnterPid);
    }
    let proc = plan.slot();
    plan.step(Step::NewFilesystem {
        slot: proc,
        fstype: "proc",
        options: Vec::new(),
        attributes: NOSUID_NODEV_NOEXEC,
    });
    plan.step(Step::SendFd { slot: proc });
    plan.step(Step::SetName("pericarp-init"));
    plan.step(Step::Identity { uid: 0, gid: 0, groups: Vec::new(), capabilities: CapabilityBits::default() });
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

/// The plan of a process that makes the proc of the PID namespace in slot 1, and waits to be let go.
pub(crate) fn proc_of_namespace() -> Plan {
    let mut plan = Plan::new();
    let namespace = plan.source(Source::NamespaceAt { kind: Kind::Pid, path: "given".into() });
    plan.step(Step::Join { slot: namespace, kind: Kind::Pid });
    plan.step(Step::EnterPid);
    let proc = plan.slot();
    plan.step(Step::NewFilesystem {
        slot: proc,
        fstype: "proc",
        options: Vec::new(),
        attributes: NOSUID_NODEV_NOEXEC,
    });
    plan.step(Step::SendFd { slot: proc });
    plan.step(Step::Barrier);
    plan
}

/// The plan of a hook: its streams, and the program.
pub(crate) fn hook(hook: &Hook) -> Plan {
    let mut plan = Plan::new();
    let stdio = [0, 1, 2].map(|stream| plan.source(Source::Stdio(stream)));
    plan.step(Step::Setsid);
    plan.step(Step::Stdio(stdio));
    plan.step(Step::Exec {
        candidates: vec![hook.path.display().to_string()],
        args: hook.argv(),
        env: hook.env.clone(),
    });
    plan
}

struct Build<'a> {
    plan: Plan,
    pod: &'a PodContext<'a>,
    container: &'a ContainerSpec,
    /// Directories in filesystems that init makes, for other mounts: the whole path, the slot of the filesystem, and
    /// the path in it.
    fresh: Vec<(String, Slot, &'static str)>,
    /// In a pod with a user namespace: what is made inside it.
    twin: Twin,
    /// What is mounted on `/proc` and on `/sys`.
    kernels: Vec<(&'static Path, Slot)>,
    /// The library's own proc, once a step has needed it.
    proc: Option<Slot>,
    /// Mounts that become read-only when all is made that goes into them: the slot, and the path.
    late_readonly: Vec<(Slot, String)>,
    /// The first process of the container that is entered, instead of one that is made.
    inside: Option<Slot>,
}

impl Build<'_> {
    fn new_filesystem(
        &mut self,
        fstype: &'static str,
        mut options: Vec<(&'static str, String)>,
        attributes: u64,
    ) -> Slot {
        self.label(fstype, &mut options);
        let slot = self.plan.slot();
        self.plan.step(Step::NewFilesystem { slot, fstype, options, attributes });
        slot
    }

    /// The same with options of the specification, which come after the given ones.
    fn new_filesystem_with(
        &mut self,
        fstype: &'static str,
        mut options: Vec<(&'static str, String)>,
        attributes: u64,
        data: &[String],
    ) -> Slot {
        if data.is_empty() {
            return self.new_filesystem(fstype, options, attributes);
        }
        let (pairs, flags) = split_data(data);
        if !pairs.iter().any(|(key, _)| labels::is_label(key)) {
            self.label(fstype, &mut options);
        }
        let own = options.into_iter().map(|(key, value)| (key.to_string(), value));
        let options = own.filter(|(key, _)| pairs.iter().all(|(other, _)| other != key)).collect::<Vec<_>>();
        let options = options.into_iter().chain(pairs.iter().cloned()).collect();
        let slot = self.plan.slot();
        self.plan.step(Step::NewFilesystemWith { slot, fstype, options, flags, attributes });
        slot
    }

    fn namespaces(&mut self) {
        join_pod_namespaces(&mut self.plan, self.pod.spec);
        match &self.container.cgroup_namespace {
            CgroupNamespace::Container => self.plan.step(Step::Unshare(CloneFlags::CLONE_NEWCGROUP)),
            CgroupNamespace::Host => {}
            CgroupNamespace::Path(path) => {
                let slot = self.plan.source(Source::NamespaceAt { kind: Kind::Cgroup, path: path.clone() });
                self.plan.step(Step::Join { slot, kind: Kind::Cgroup });
            }
        }
        self.plan.step(Step::Setsid);
        // So that directories and nodes get exactly the mode that is asked for.
        self.plan.step(Step::Umask(0));
    }
}

/// A directory. The slash at its end makes the kernel say so when it is none.
fn tree(
    path: &Path,
    recursive: bool,
    spread: Spread,
    idmap: Option<IdMap>,
    change: AttributeChange,
) -> Source {
    Source::Tree { path: path.join(""), follow: true, copy_link: false, recursive, change, spread, idmap }
}
