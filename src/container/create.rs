//! Making a container: all of it, or nothing and the first error.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};

use nix::errno::Errno;
use nix::fcntl::FlockArg;
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, mkdirat};

use super::hooks::{self, Hooks};
use super::listener::{self, Listener};
use super::lsm;
use super::plan::{self, Plan};
use super::source::Opener;
use super::stdio;
use super::{Container, ExitStatus, Inner, Started, Terminal};
use crate::cgroup::{Cgroup, no_cgroups};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::logs;
use crate::node;
use crate::pod::state::{self, ContainerState, ProcessRef};
use crate::pod::{Pod, journal, kubernetes};
use crate::spawn::{Child, Control, Launch, Message};
use crate::spec::{ContainerSpec, PidMode, Stdio};
use crate::sys;

/// Which container, in the words of a log.
pub(super) fn words(pod: &Pod, spec: &ContainerSpec) -> String {
    format!("container {:?} of {}", spec.name, pod.words())
}

/// Makes a container of a pod, up to the barrier before its program.
pub(crate) fn create(pod: &Pod, spec: &ContainerSpec) -> Result<Container> {
    make(pod, spec, false)
}

/// Makes a container whose program runs as soon as it can, waits until it has ended, and removes it.
///
/// Init finds the message to start when it comes to the barrier: nobody has to be woken up on the way, and what the
/// library writes down is written while init works.
pub(crate) fn run(pod: &Pod, spec: &ContainerSpec) -> Result<ExitStatus> {
    // Hooks run on the way: then it is not one.
    // Without a cgroup it could not be found again, if this program died before its process is written down.
    let at_once = spec.hooks.is_empty() && pod.0.node.0.cgroups.exists();
    let container = make(pod, spec, at_once)?;
    let status = if at_once { container.finish() } else { start_and_wait(&container) };
    let removed = container.remove();
    let status = status?;
    removed.map(|()| status)
}

/// A program that goes on although a hook failed has its time, too.
fn start_and_wait(container: &Container) -> Result<ExitStatus> {
    match container.start() {
        Err(error) if error.kind() == ErrorKind::Hook => container.wait().and(Err(error)),
        started => started.and_then(|()| container.wait()),
    }
}

fn make(pod: &Pod, spec: &ContainerSpec, at_once: bool) -> Result<Container> {
    spec.validate()?;
    let spec = &*kubernetes::with_score(pod, spec)?;
    check_node(pod, spec)?;
    let confined = lsm::on_this_machine(&pod.0.node, spec)?;
    if at_once && listener::is_for_a_handle(spec) {
        return Err(Error::invalid(
            "security.seccomp",
            "notifies, and a container that runs at once has no handle to take the listener from: give a listenerPath, \
             or create and start it",
        ));
    }
    // Shared with other containers being made, but not with a removal of the pod.
    let dir = node::lock(pod.dir()?, FlockArg::LockShared).step("lock", "the pod's directory")?;
    let mut attempt = Attempt {
        pod,
        spec,
        confined: &confined,
        claimed: false,
        plan: Plan::default(),
        cgroup: OnceLock::new(),
        process: None,
        twin: None,
        hooks_ran: false,
        listener: Listener::default(),
        terminal: None,
    };
    match attempt.run(&dir, at_once) {
        Ok(container) => {
            drop(dir);
            log::info!(target: logs::CONTAINER, "{} was made, as process {}", container.words(), container.pid());
            if at_once {
                log::info!(target: logs::CONTAINER, "{} was started", container.words());
            }
            Ok(container)
        }
        Err(error) => {
            let of = words(pod, spec);
            attempt.undo(&of);
            if attempt.claimed {
                let removed = node::remove_tree(&dir, &place(spec));
                logs::swallowed(logs::CONTAINER, &of, logs::UNDO, removed);
            }
            if attempt.hooks_ran {
                // The creation's own error is the one to tell.
                let poststop = Hooks { pod, spec }.poststop();
                logs::swallowed(logs::CONTAINER, &of, "run the hooks of its end", poststop);
            }
            Err(error)
        }
    }
}

/// The state directory of a container, from the pod's.
fn place(spec: &ContainerSpec) -> String {
    format!("{}/{}", state::CONTAINERS, spec.name)
}

/// Takes the name: makes the state directory, of which `claimed` tells, and opens it.
fn claim(pod: &Pod, spec: &ContainerSpec, dir: &OwnedFd, claimed: &mut bool) -> Result<OwnedFd> {
    let path = place(spec);
    match mkdirat(dir, path.as_str(), Mode::S_IRWXU) {
        Err(Errno::EEXIST) => {
            return Err(Error::new(ErrorKind::AlreadyExists, "take")
                .on(format!("the name {:?}", spec.name))
                .because("a container of this pod has it; remove that container first"));
        }
        // The pod may have been removed while this waited for the lock.
        Err(Errno::ENOENT) => {
            return Err(Error::new(ErrorKind::NotFound, "open")
                .on(format!("pod {}", pod.id()))
                .because("it is gone"));
        }
        result => result.step("make", format!("the state directory of container {:?}", spec.name))?,
    }
    *claimed = true;
    let own =
        node::open_directory(dir, path.as_str()).step("open", "the state directory of the container")?;
    watched(dir, &own)?;
    kubernetes::admit_alone(pod, spec, &own)?;
    Ok(own)
}

/// Says of the directory of a container that the pod is watched, so that whoever removes the container knows. Asked after
/// that directory was made: who begins to watch now finds it.
fn watched(pod: &OwnedFd, own: &OwnedFd) -> Result<()> {
    if journal::is_watched(&nix::sys::stat::fstat(pod).step("stat", "the pod's directory")?) {
        journal::watch(own).step("mark", "the state directory of the container")?;
    }
    Ok(())
}

/// What has been made so far.
struct Attempt<'a> {
    pod: &'a Pod,
    spec: &'a ContainerSpec,
    /// The same without what a machine without security modules does not need.
    confined: &'a ContainerSpec,
    /// Whether the state directory is there, and this attempt's.
    claimed: bool,
    plan: Plan,
    cgroup: OnceLock<Cgroup>,
    process: Option<Child>,
    /// What takes its place in the end, in a pod with a user namespace.
    twin: Option<Child>,
    /// Whether hooks have run, so that those of the end must.
    hooks_ran: bool,
    listener: Listener,
    terminal: Option<Terminal>,
}

impl<'a> Attempt<'a> {
    /// `pod` is the pod's directory.
    fn run(&mut self, pod: &OwnedFd, at_once: bool) -> Result<Container> {
        let node = &self.pod.0.node;
        let (control, inits) = Control::pair()?;
        let hook_state = hook_state(self.spec)?;
        let pid_mode = self.pod.context().pid_mode(self.spec).clone();
        let (dir, mut opener) = self.launch(inits, pod, hook_state.as_ref())?;
        opener.listen(&self.plan, &dir)?;
        self.listener = Listener::connect(self.spec)?;
        let owner = stdio_owner(self.pod, self.spec);
        let (stdio, mut pipes) = stdio::open(self.spec, &node.0.realm, owner)?;
        opener.stdio(&self.plan, stdio)?;
        opener.map_ids(&self.plan)?;
        self.plan.resolve_targets(|slot| opener.like(slot.0))?;
        control.plan(&self.plan.encode()?, &opener.descriptors())?;
        drop(opener);
        if at_once {
            start_unless_ended(&control)?;
        }
        let cgroup_id = self.cgroup.get().map_or(Ok(0), Cgroup::id)?;
        // Which process stays is known only when it has entered its PID namespace.
        // And init waits until its listener was taken.
        let settles = self.plan.forks() || at_once && self.plan.listens();
        if settles {
            self.settle(&control, at_once)?;
        }
        let child = self.process.as_ref().ok_or_else(lost)?;
        let process =
            ProcessRef { pid: child.pid, identity: node.0.proc.identity(child.pid, child.pidfd.as_fd())? };
        let state = ContainerState {
            version: state::PodState::version(),
            created_at: state::now(),
            process,
            cgroup_id,
            at_once,
            barrier: if self.spec.detached { self.plan.barrier() } else { None },
            spec: remembered(self.spec),
        };
        if !self.spec.hooks.poststop.is_empty() {
            state::touch(&dir, state::POSTSTOP)?;
        }
        state::write(&dir, state::STATE, &state)?;
        if !at_once && !settles {
            self.settle(&control, at_once)?;
        }
        if let Some(file) = &hook_state {
            let hooks = Hooks { pod: self.pod, spec: self.spec };
            hooks::write_state(file, &hooks.state("created", Some(process.pid)))?;
        }
        if let PidMode::Target(host) = &pid_mode {
            self.join_guests(host, &dir, process)?;
        }
        pipes.terminal = self.terminal.take();
        let child = self.process.take().ok_or_else(lost)?;
        let exit = super::exit::slot(&state.process);
        Ok(Container(Arc::new(Inner {
            pod: self.pod.clone(),
            dir,
            state,
            pidfd: Some(child.pidfd),
            cgroup: self.cgroup.take(),
            plan: Some(std::mem::take(&mut self.plan)),
            barrier: Mutex::new(Started::NotYet(control)),
            pipes: Mutex::new(pipes),
            listener: Mutex::new(std::mem::take(&mut self.listener)),
            exit,
        })))
    }

    /// Takes the name, makes the cgroup and starts init in it, which takes its time to be executed. Meanwhile, on a thread
    /// of its own, makes the plan, and opens what that names in the host's mount namespace and in pins. `dir` is the
    /// pod's directory; the container's is returned.
    fn launch(
        &mut self,
        inits: OwnedFd,
        dir: &OwnedFd,
        hook_state: Option<&OwnedFd>,
    ) -> Result<(OwnedFd, Opener<'a>)> {
        let (pod, spec, confined) = (self.pod, self.spec, self.confined);
        let (node, home) = (&pod.0.node, &pod.0.home);
        let (cgroup, process, plan) = (&self.cgroup, &mut self.process, &mut self.plan);
        let (claimed, mut own) = (&mut self.claimed, None);
        let context = pod.context();
        let mut namespaces = CloneFlags::empty();
        // One that belongs to the pod's user namespace is made by init, when it is in that.
        if *context.pid_mode(spec) == PidMode::Container && context.ids.is_none() {
            namespaces |= CloneFlags::CLONE_NEWPID;
        }
        let prepare = || {
            own = Some(claim(pod, spec, dir, claimed)?);
            make_cgroup(pod, spec, cgroup)
        };
        let start = || {
            let launch = Launch {
                init: &node.0.init,
                control: inits,
                mounts: Some(home.template.as_fd()),
                namespaces,
                cgroup: cgroup.get().map(AsFd::as_fd),
            };
            *process = Some(launch.spawn()?);
            Ok(())
        };
        let open = || {
            *plan = plan::compile(&context, confined)?;
            let mut opener = Opener::new(node, Some(pod));
            opener.preserve(plan, &spec.preserved_fds)?;
            opener.open_on_host(plan)?;
            opener.hook_state(plan, hook_state)?;
            opener.open_in_pins(plan, home, pod.id())?;
            Ok(opener)
        };
        let opener = node.0.realm.launch_beside(prepare, start, open)?;
        Ok((own.ok_or_else(lost)?, opener))
    }

    /// Notes that the container lives in the PID namespace of another one.
    fn join_guests(&self, host: &str, dir: &OwnedFd, process: ProcessRef) -> Result<()> {
        let child = self.process.as_ref().ok_or_else(lost)?;
        let pidfd = sys::fd::duplicate(&child.pidfd).step("duplicate", "a pidfd")?;
        let dir = sys::fd::duplicate(dir).step("duplicate", "the state directory of the container")?;
        let host = self.pod.container(host)?.process();
        self.pod.0.node.0.guests.add_container(host, process, pidfd, dir)
    }

    /// Waits until init is at the barrier, and where that lets it pass until the listener of its filter was taken. Where
    /// it forks once more on the way, to enter the PID namespace, the process that is to stay comes first.
    fn settle(&mut self, control: &Control, at_once: bool) -> Result<()> {
        self.hear(control, at_once).inspect_err(|_| {
            // Two processes may be at work: when one has failed, the other may just have forked.
            self.end_processes();
            self.pod.0.node.0.proc.end_forks(control);
        })
    }

    fn hear(&mut self, control: &Control, at_once: bool) -> Result<()> {
        let proc = &self.pod.0.node.0.proc;
        let mut ready = false;
        let mut listened = !(at_once && self.plan.listens());
        while !(ready && listened) {
            match control.receive()? {
                Message::Listener(number) => {
                    let child = self.process.as_ref().ok_or_else(lost)?;
                    let hooks = Hooks { pod: self.pod, spec: self.spec };
                    self.listener.take_over(&hooks, (child.pid, child.pidfd.as_fd()), number, "creating")?;
                    control.listener_taken()?;
                    listened = true;
                }
                Message::Ready => ready = true,
                Message::Paused => {
                    self.hooks_ran = true;
                    let child = self.process.as_ref().ok_or_else(lost)?;
                    Hooks { pod: self.pod, spec: self.spec }.creation(child)?;
                    start_unless_ended(control)?;
                }
                Message::Terminal(master) => self.terminal = Some(Terminal::from(master)),
                Message::Fd(last) => {
                    proc.follow(self.process.as_mut().ok_or_else(lost)?, last)?;
                }
                Message::Twin(pidfd) => match &mut self.twin {
                    Some(twin) => proc.follow(twin, pidfd)?,
                    None => self.twin = Some(Child { pid: proc.pid_of(pidfd.as_fd())?, pidfd }),
                },
                Message::TakesOver => {
                    let twin = self.twin.take().ok_or_else(lost)?;
                    let init = self.process.replace(twin).ok_or_else(lost)?;
                    init.wait();
                }
                Message::Failed { step, call, errno } => return Err(self.plan.failure(step, call, errno)),
                Message::Closed => {
                    return Err(Error::new(ErrorKind::System, "prepare")
                        .on(format!("container {:?}", self.spec.name))
                        .because(
                            "init ended early; was it killed, by the OOM killer or a memory limit too small?",
                        ));
                }
            }
        }
        Ok(())
    }

    /// Takes back all that was made. Errors here are told to a logger alone: the first error is the one that matters, and
    /// `Node::recover` finds what is left.
    fn undo(&mut self, of: &str) {
        self.end_processes();
        if let Some(cgroup) = self.cgroup.get() {
            logs::swallowed(logs::CONTAINER, of, logs::UNDO, cgroup.remove_tree());
        }
    }

    fn end_processes(&mut self) {
        for child in [self.process.take(), self.twin.take()].into_iter().flatten() {
            child.end();
        }
    }
}

/// The user and group of a process in a pod as the host knows them.
pub(super) fn stdio_owner(pod: &Pod, spec: &ContainerSpec) -> (u32, u32) {
    let (uid, gid) = (spec.user.uid, spec.user.gid);
    let mapped = pod.id_mappings().and_then(|ids| ids.host_uid(uid).zip(ids.host_gid(gid)));
    mapped.unwrap_or((uid, gid))
}

/// Refuses what the node cannot give.
fn check_node(pod: &Pod, spec: &ContainerSpec) -> Result<()> {
    let node = &pod.0.node.0;
    node.cgroups.check(&spec.resources)?;
    let context = pod.context();
    let mode = context.pid_mode(spec);
    node.realm.check_pid(mode)?;
    if *mode != PidMode::Container && !node.cgroups.exists() {
        return Err(no_cgroups("share the PID namespace of"));
    }
    Ok(())
}

/// The cgroup, with the limits and under the rules for devices: nothing ever runs in it without them. It is put into its
/// place as soon as it is there: whatever fails then, it is removed.
fn make_cgroup(pod: &Pod, spec: &ContainerSpec, place: &OnceLock<Cgroup>) -> Result<()> {
    if !pod.0.node.0.cgroups.exists() {
        return Ok(());
    }
    let guard = pod.0.node.0.cgroups.device_guard(&spec.device_rules)?;
    let resources = kubernetes::container_resources(pod, spec)?;
    let made = pod.cgroup()?.create_guarded(&spec.name, &resources, &guard)?;
    // Init would stand still from birth, and this call, with the pod's lock, until somebody thaws the pod.
    if place.get_or_init(|| made).is_frozen()? {
        return Err(frozen("make a container in the frozen pod", pod.name()));
    }
    Ok(())
}

/// What would wait for a thaw that may never come is an error instead.
pub(super) fn frozen(step: &'static str, subject: &str) -> Error {
    Error::new(ErrorKind::WrongState, step).on(subject).because("thaw it first")
}

/// The specification as it is written down. A descriptor means nothing to other programs, nor to this one later.
fn remembered(spec: &ContainerSpec) -> ContainerSpec {
    let mut spec = spec.clone();
    for stream in [&mut spec.stdio.stdin, &mut spec.stdio.stdout, &mut spec.stdio.stderr] {
        if let Stdio::Fd(_) = stream {
            *stream = Stdio::Null;
        }
    }
    spec.preserved_fds.clear();
    spec
}

/// Init may have failed, or been killed, meanwhile: what it said before, if anything, is still to be read.
fn start_unless_ended(control: &Control) -> Result<()> {
    match control.start() {
        Err(error) if error.errno().map(Errno::from_raw) == Some(Errno::EPIPE) => Ok(()),
        other => other,
    }
}

/// The file from which hooks in the container read its state.
fn hook_state(spec: &ContainerSpec) -> Result<Option<OwnedFd>> {
    let file = || sys::fd::memfd(c"pericarp-state").step("make", "the state for the startContainer hooks");
    (!spec.hooks.start_container.is_empty()).then(file).transpose()
}

pub(super) fn lost() -> Error {
    Error::new(ErrorKind::System, "keep").on("the process of the container")
}
