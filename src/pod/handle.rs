//! The handle of a pod.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{FlockArg, OFlag, openat};
use nix::sys::stat::Mode;

use super::ending::dismantle;
use super::ipc_handle::PodIpc;
use super::pins::PodPins;
use super::state::{self, PodState};
use crate::cgroup::{Cgroup, no_cgroups};
use crate::container::{self, Container, ContainerStatus, ExitStatus, Plan, plan};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::logs;
use crate::node::{self, GARBAGE, Home, Node, PODS};
use crate::spec::{ContainerSpec, IdMappings, NamespaceMode, PidMode, PodSpec};
use crate::sys;
use crate::sys::clock::Deadline;
use crate::sys::namespace::{self, Kind};

/// A pod: namespaces, shared memory, volumes and a cgroup that containers have in common.
///
/// A handle: cloning it is cheap, dropping it removes nothing. Any thread may use it, and other programs may use the
/// same pod at the same time.
#[derive(Clone)]
pub struct Pod(pub(crate) Arc<Inner>);

/// What handles of a pod share.
pub(crate) struct Inner {
    pub(crate) node: Node,
    pub(crate) home: Arc<Home>,
    pub(crate) state: PodState,
    /// Opened once: a later pod never has the same cgroup.
    pub(crate) cgroup: OnceLock<Cgroup>,
}

/// Which pod, in the words of a log.
pub(super) fn words(namespace: &str, name: &str, id: &str) -> String {
    format!("pod {namespace}/{name} ({id})")
}

/// A kind of namespace that a pod has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NamespaceKind {
    /// network_namespaces(7)
    Network,
    /// ipc_namespaces(7)
    Ipc,
    /// uts_namespaces(7)
    Uts,
    /// pid_namespaces(7); a pod has one only with [`PidMode::Pod`].
    Pid,
    /// user_namespaces(7); see [`UserMode`](crate::spec::UserMode).
    User,
}

impl From<NamespaceKind> for Kind {
    fn from(kind: NamespaceKind) -> Self {
        match kind {
            NamespaceKind::Network => Kind::Network,
            NamespaceKind::Ipc => Kind::Ipc,
            NamespaceKind::Uts => Kind::Uts,
            NamespaceKind::Pid => Kind::Pid,
            NamespaceKind::User => Kind::User,
        }
    }
}

/// A pod as seen at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PodStatus {
    /// Its containers, by name.
    pub containers: BTreeMap<String, ContainerStatus>,
}

/// Opens a whole pod, and takes back or finishes a resize of it that was cut short.
pub(crate) fn open(node: &Node, home: Arc<Home>, id: &str) -> Result<Pod> {
    let (pod, dir) = open_as_is(node, home, id)?;
    pod.settle_if_idle(dir);
    Ok(pod)
}

/// Opens a whole pod, with its directory.
pub(crate) fn open_as_is(node: &Node, home: Arc<Home>, id: &str) -> Result<(Pod, OwnedFd)> {
    let dir = home.pod_dir(PODS, id)?;
    let path = home.path().join(PODS).join(id);
    let corrupt = |why: &'static str| {
        Error::new(ErrorKind::CorruptState, "open").on(path.join(state::STATE).display()).because(why)
    };
    let read = state::read(&dir, state::STATE);
    let Some(state): Option<PodState> =
        read.map_err(|error| error.within(format!("open {}", path.display())))?
    else {
        // Unless it was removed since its directory was opened.
        home.pod_dir(PODS, id)?;
        return Err(corrupt("it is missing"));
    };
    if state.id != id {
        return Err(corrupt("it is another pod's"));
    }
    if state.boot_id != node.0.proc.boot_id() {
        return Err(Error::new(ErrorKind::NotFound, "open").on(format!("pod {id}")).because(
            "it ended with an earlier boot of the machine; recover the node to remove what is left",
        ));
    }
    Ok((Pod(Arc::new(Inner { node: node.clone(), home, state, cgroup: OnceLock::new() })), dir))
}

impl Pod {
    /// The unique id: a random UUID (RFC 9562), which no other pod ever has.
    pub fn id(&self) -> &str {
        &self.0.state.id
    }

    /// The name, which a later pod may have again.
    pub fn name(&self) -> &str {
        &self.0.state.spec.name
    }

    /// The namespace that the name is unique in (Kubernetes' word, not the kernel's).
    pub fn namespace(&self) -> &str {
        &self.0.state.spec.namespace
    }

    /// The specification that it was made of, with labels and annotations.
    pub fn spec(&self) -> &PodSpec {
        &self.0.state.spec
    }

    /// When it was made.
    pub fn created_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.0.state.created_at)
    }

    /// The node that it belongs to.
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// Which pod, in the words of a log.
    pub(crate) fn words(&self) -> String {
        words(self.namespace(), self.name(), self.id())
    }

    pub(crate) fn error(&self, verb: &str, error: Error) -> Error {
        error.within(format!("{verb} pod {}/{}", self.namespace(), self.name()))
    }

    pub(crate) fn dir(&self) -> Result<OwnedFd> {
        self.0.home.pod_dir(PODS, self.id())
    }

    pub(crate) fn container_dir(&self, name: &str) -> Result<OwnedFd> {
        let path = format!("{}/{name}", state::CONTAINERS);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(self.dir()?, path.as_str(), flags, Mode::empty()).map_err(|errno| {
            Error::system(errno, "open").on(format!("container {name:?} of pod {}", self.name()))
        })
    }

    pub(crate) fn cgroup(&self) -> Result<&Cgroup> {
        if let Some(cgroup) = self.0.cgroup.get() {
            return Ok(cgroup);
        }
        if !self.0.node.0.cgroups.exists() {
            return Err(no_cgroups("use the cgroup of"));
        }
        let gone =
            || Error::new(ErrorKind::NotFound, "open").on(format!("the cgroup of pod {}", self.name()));
        let cgroup = super::place::open(&self.0.node, &self.0.state)?.ok_or_else(gone)?;
        Ok(self.0.cgroup.get_or_init(|| cgroup))
    }

    /// The directory of the pod's cgroup; empty in a node without cgroups.
    pub fn cgroup_path(&self) -> PathBuf {
        let cgroups = &self.0.node.0.cgroups;
        if !cgroups.exists() {
            return PathBuf::new();
        }
        self.spec()
            .cgroup
            .as_ref()
            .map_or_else(|| cgroups.path().join(self.id()), |path| cgroups.path_of(path))
    }

    /// Opens a namespace of the pod, for setns(2) or to compare. It stays alive while the descriptor is open.
    ///
    /// # Errors
    /// `NotFound` for a namespace that is not the pod's: the host's, or a PID namespace where each container has its
    /// own.
    pub fn namespace_fd(&self, kind: NamespaceKind) -> Result<OwnedFd> {
        let namespaces = &self.spec().namespaces;
        let none = match kind {
            NamespaceKind::Network => namespaces.network == NamespaceMode::Host,
            NamespaceKind::Ipc => namespaces.ipc == NamespaceMode::Host,
            NamespaceKind::Uts => namespaces.uts == NamespaceMode::Host,
            NamespaceKind::Pid => namespaces.pid != PidMode::Pod,
            NamespaceKind::User => namespaces.user.is_host(),
        };
        let kind = Kind::from(kind);
        if none {
            return Err(Error::new(ErrorKind::NotFound, "open")
                .on(format!("the {} namespace of pod {}", kind.word(), self.name()))
                .because("the pod has none of its own"));
        }
        self.0.node.0.realm.run(|| PodPins::enter(&self.0.home.pins, self.id())?.namespace(kind))
    }

    /// The number that identifies a namespace of the pod, as in `readlink /proc/PID/ns/net`.
    pub fn namespace_inode(&self, kind: NamespaceKind) -> Result<u64> {
        namespace::inode(self.namespace_fd(kind)?).step("fstat", "a namespace of the pod")
    }

    /// What a plan needs to know of the pod.
    pub(crate) fn context(&self) -> plan::PodContext<'_> {
        let realm = &self.0.node.0.realm;
        let ordinary =
            |ids| plan::Ordinary { ids, keeps_groups: realm.keeps_groups(), workers: realm.is_user() };
        plan::PodContext {
            spec: self.spec(),
            ids: self.0.state.ids.as_ref(),
            ordinary: realm.ids().map(ordinary),
        }
    }

    /// The ids of the pod's user namespace; `None` when it has none of its own.
    pub fn id_mappings(&self) -> Option<&IdMappings> {
        self.0.state.ids.as_ref()
    }

    /// The pod's IPC objects.
    pub fn ipc(&self) -> PodIpc<'_> {
        PodIpc::new(self)
    }

    /// Makes a container, up to the point where its program would run: [`Container::start`] does that.
    ///
    /// # Errors
    /// `InvalidSpec`, `AlreadyExists` for a second container of that name, `WrongState` while the pod is frozen, and
    /// whatever the kernel refused, with the step. Whatever the error, nothing is left behind.
    pub fn create_container(&self, spec: &ContainerSpec) -> Result<Container> {
        container::create(self, spec)
            .map_err(|error| error.within(format!("create container {:?} of pod {}", spec.name, self.name())))
    }

    /// Makes and starts a container, waits until it has ended, and removes it. Streams asked for as pipes would have
    /// nobody at the other end: they are refused.
    pub fn run(&self, spec: &ContainerSpec) -> Result<ExitStatus> {
        use crate::spec::Stdio::Pipe;
        if [&spec.stdio.stdin, &spec.stdio.stdout, &spec.stdio.stderr]
            .into_iter()
            .any(|stream| *stream == Pipe)
            || spec.terminal
        {
            return Err(Error::invalid(
                "stdio",
                "a pipe or terminal has nobody at its other end in run(); use create_container, or a file",
            ));
        }
        container::run(self, spec)
            .map_err(|error| error.within(format!("run container {:?} of pod {}", spec.name, self.name())))
    }

    /// What would be done to make a container, in words and in order. Nothing is made or opened, and nothing asked but what
    /// [requests](ContainerSpec::requirements) depend on.
    pub fn explain(&self, spec: &ContainerSpec) -> Result<Plan> {
        spec.validate()?;
        let spec = super::kubernetes::with_score(self, spec)?;
        plan::compile(&self.context(), &spec)
    }

    /// A container by its name.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn container(&self, name: &str) -> Result<Container> {
        container::open(self, name)
    }

    /// All containers, in no order.
    pub fn containers(&self) -> Result<Vec<Container>> {
        let dir = node::open_directory(self.dir()?, state::CONTAINERS)
            .step("open", "the directory of containers")?;
        let mut containers = Vec::new();
        for name in node::names(dir).step("read", "the directory of containers")? {
            match container::open(self, &name) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => containers.push(result?),
            }
        }
        Ok(containers)
    }

    /// The status of all containers.
    pub fn status(&self) -> Result<PodStatus> {
        let containers = self.containers()?;
        let status = |container: Container| Ok((container.name().to_string(), container.status()?));
        Ok(PodStatus { containers: containers.into_iter().map(status).collect::<Result<_>>()? })
    }

    /// Asks every container to end by its stop signal, waits at most `grace` for all of them together, and kills
    /// what is left. The pod stays, and containers can be made in it again.
    pub fn stop(&self, grace: Duration) -> Result<()> {
        self.try_stop(grace).map_err(|error| self.error("stop", error))
    }

    fn try_stop(&self, grace: Duration) -> Result<()> {
        let containers = self.containers()?;
        for container in &containers {
            container.ask_to_stop()?;
        }
        let deadline = Deadline::after(Some(grace));
        for container in &containers {
            container.wait_end(Some(deadline.left()));
        }
        for container in &containers {
            container.kill()?;
        }
        for container in &containers {
            match container.wait() {
                Err(error) if error.kind() == ErrorKind::StatusLost => {}
                result => drop(result?),
            }
        }
        Ok(())
    }

    /// Stops every process of the pod where it is (`cgroup.freeze`), and returns when all have stopped.
    ///
    /// # Errors
    /// When some have not stopped after 10 seconds; then all run on.
    pub fn freeze(&self) -> Result<()> {
        self.cgroup().and_then(|cgroup| cgroup.freeze()).map_err(|error| self.error("freeze", error))
    }

    /// Lets every process of the pod run again, except those of containers that are frozen themselves.
    pub fn thaw(&self) -> Result<()> {
        self.cgroup().and_then(|cgroup| cgroup.thaw()).map_err(|error| self.error("thaw", error))
    }

    /// Whether its processes stand still, because it was frozen.
    pub fn is_frozen(&self) -> Result<bool> {
        self.cgroup().and_then(|cgroup| cgroup.is_frozen()).map_err(|error| self.error("look at", error))
    }

    /// Kills every process of every container of the pod at once, by one write to `cgroup.kill`. Nothing to kill is no
    /// error. The pod stays, and containers can be made in it again: process 1 of a PID namespace that containers share
    /// is spared, and each container is then killed by a write of its own, in the order of their names. Who cannot let one
    /// of them see that another has gone can [`freeze`](Self::freeze) the pod first, and [`thaw`](Self::thaw) it after:
    /// what is frozen is killed all the same. [`remove`](Self::remove) needs one write for every pod.
    pub fn kill(&self) -> Result<()> {
        match self.try_kill() {
            // The pod is gone.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map_err(|error| self.error("kill", error)),
        }
    }

    fn try_kill(&self) -> Result<()> {
        let cgroup = self.cgroup()?;
        if self.0.state.reaper.is_none() {
            return cgroup.kill();
        }
        let dir = node::open_directory(self.dir()?, state::CONTAINERS)
            .step("open", "the directory of containers")?;
        let mut names = node::names(dir).step("read", "the directory of containers")?;
        names.sort_unstable();
        for name in names {
            if let Some(container) = cgroup.open_child(&name)? {
                container.kill()?;
            }
        }
        Ok(())
    }

    /// Ends all containers of the pod at once and removes all that there is of it. Its name is free again.
    ///
    /// # Errors
    /// `Exec` when all is removed and a `poststop` hook of a container failed.
    /// `NotFound` when it is gone already.
    pub fn remove(&self) -> Result<()> {
        self.try_remove().map_err(|error| self.error("remove", error))
    }

    /// Containers that have something to run at their end are removed one by one, so that it runs. What failed then
    /// does not keep the pod: it is told when that is gone.
    fn remove_containers_with_hooks(&self) -> Result<()> {
        let dir = node::open_directory(self.dir()?, state::CONTAINERS)
            .step("open", "the directory of containers")?;
        let copy = sys::fd::duplicate(&dir).step("duplicate", "the directory of containers")?;
        let mut outcome = Ok(());
        for name in node::names(copy).step("read", "the directory of containers")? {
            if state::exists(&dir, &format!("{name}/{}", state::POSTSTOP)) {
                let removed = container::open(self, &name).and_then(|container| container.remove());
                if outcome.is_ok() {
                    outcome = removed;
                } else {
                    // The first is the one that is told.
                    logs::swallowed(logs::POD, self.words(), "remove its containers", removed);
                }
            }
        }
        outcome
    }

    fn try_remove(&self) -> Result<()> {
        let hooks = self.remove_containers_with_hooks();
        // Waits for containers that are being made.
        let dir = node::lock(self.dir()?, FlockArg::LockExclusive).step("lock", "the pod's directory")?;
        self.0.home.move_pod(self.id(), PODS, GARBAGE)?;
        dismantle(&self.0.node, &self.0.home, self.id(), &dir)?;
        self.0.home.release_name(self.namespace(), self.name(), self.id())?;
        self.0.node.release_ids(self.spec(), self.id())?;
        self.0.home.remove_dir(GARBAGE, self.id())?;
        drop(dir);
        log::info!(target: logs::POD, "{} was removed", self.words());
        hooks
    }
}

impl std::fmt::Debug for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pod").field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}
