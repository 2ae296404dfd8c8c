//! The handle of a container.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use super::hooks::Hooks;
use super::listener::Listener;
use super::plan::Plan;
use super::status::{ContainerStatus, ExitStatus};
use super::stdio::Pipes;
use super::terminal::Terminal;
use crate::cgroup::{Cgroup, no_cgroups};
use crate::error::{Error, ErrorKind, Result};
use crate::logs;
use crate::pod::Pod;
use crate::pod::state::{self, ContainerState, ExitState, ProcessRef};
use crate::spawn::{Control, Message};
use crate::spec::{ContainerSpec, PidMode, Resources};
use crate::sys::pidfd;

/// A container of a [`Pod`].
///
/// A handle: cloning it is cheap, dropping it neither blocks nor ends anything. Any thread may use it. Only a
/// container that was made and never started ends with the last handle of the program that made it, since nobody
/// could start it any more; unless it is [detached](ContainerSpec::detached).
#[derive(Clone)]
pub struct Container(pub(crate) Arc<Inner>);

/// What handles of a container share.
pub(crate) struct Inner {
    pub(crate) pod: Pod,
    pub(crate) dir: OwnedFd,
    pub(crate) state: ContainerState,
    /// `None` when the process had ended before this program opened the container.
    pub(crate) pidfd: Option<OwnedFd>,
    /// The container's own, which a later container of that name does not have; `None` when it was gone before this
    /// program opened the container.
    pub(crate) cgroup: Option<Cgroup>,
    /// For the words of errors; only where the container was made.
    pub(crate) plan: Option<Plan>,
    pub(crate) barrier: Mutex<Started>,
    pub(crate) pipes: Mutex<Pipes>,
    pub(crate) listener: Mutex<Listener>,
    pub(crate) exit: super::exit::Slot,
}

/// Whether the program was started.
pub(crate) enum Started {
    /// Init waits at the barrier, at the other end of this socket.
    NotYet(Control),
    /// Yes, or another program made the container.
    Done,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here is left half changed by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a container that some program has made.
pub(crate) fn open(pod: &Pod, name: &str) -> Result<Container> {
    let gone =
        || Error::new(ErrorKind::NotFound, "find").on(format!("container {name:?} of pod {}", pod.name()));
    if !crate::spec::is_dns_label(name) {
        return Err(gone());
    }
    let dir = pod.container_dir(name)?;
    // A directory without a state is a container that is being made, or was when its program died.
    let state: ContainerState = state::read(&dir, state::STATE)?.ok_or_else(gone)?;
    let pidfd = pod.0.node.0.proc.open_process(&state.process)?;
    let found = if pod.0.node.0.cgroups.exists() { pod.cgroup()?.open_child(name)? } else { None };
    let cgroup = match found {
        Some(cgroup) if cgroup.id()? == state.cgroup_id => Some(cgroup),
        _ => None,
    };
    let exit = super::exit::slot(&state.process);
    Ok(Container(Arc::new(Inner {
        pod: pod.clone(),
        dir,
        state,
        pidfd,
        cgroup,
        plan: None,
        barrier: Mutex::new(Started::Done),
        pipes: Mutex::new(Pipes::default()),
        listener: Mutex::new(Listener::default()),
        exit,
    })))
}

impl Container {
    /// The name, unique in the pod.
    pub fn name(&self) -> &str {
        &self.0.state.spec.name
    }

    /// The pod.
    pub fn pod(&self) -> &Pod {
        &self.0.pod
    }

    /// The specification that it was made of. Streams given as descriptors are not remembered.
    pub fn spec(&self) -> &ContainerSpec {
        &self.0.state.spec
    }

    /// The process id of the container's first process, as the host sees it. It may have ended.
    pub fn pid(&self) -> i32 {
        self.0.state.process.pid
    }

    /// The first process, whatever has its pid later.
    pub(crate) fn process(&self) -> ProcessRef {
        self.0.state.process
    }

    /// A descriptor of the container's first process, which becomes readable when that ends (pidfd_open(2)). It stays
    /// the handle's; `None` when the process had ended before the container was opened.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.0.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Takes the other end of a standard input that was asked for as a pipe. Dropping it is the end of file.
    pub fn take_stdin(&self) -> Option<File> {
        lock(&self.0.pipes).stdin.take()
    }

    /// Takes the other end of a standard output that was asked for as a pipe.
    pub fn take_stdout(&self) -> Option<File> {
        lock(&self.0.pipes).stdout.take()
    }

    /// Takes the other end of a standard error that was asked for as a pipe.
    pub fn take_stderr(&self) -> Option<File> {
        lock(&self.0.pipes).stderr.take()
    }

    /// Takes the terminal that was asked for.
    pub fn take_terminal(&self) -> Option<Terminal> {
        lock(&self.0.pipes).terminal.take()
    }

    pub(super) fn error(&self, verb: &str, error: Error) -> Error {
        error.within(format!("{verb} container {:?} of pod {}", self.name(), self.0.pod.name()))
    }

    /// Executes the program, and returns when it runs.
    ///
    /// # Errors
    /// `Exec` when it cannot be executed, with the reason; `WrongState` when it was started before, or while it is
    /// frozen, or in a program that did not make the container, unless that is [detached](ContainerSpec::detached);
    /// `Hook` when a [`poststart`](crate::spec::Hooks::poststart) hook failed: the program runs nevertheless.
    pub fn start(&self) -> Result<()> {
        let started = self.try_start();
        // A hook that failed afterwards leaves it running.
        if started.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Hook) {
            log::info!(target: logs::CONTAINER, "{} was started", self.words());
        }
        started.map_err(|error| self.error("start", error))
    }

    /// Which container, in the words of a log.
    pub(super) fn words(&self) -> String {
        super::create::words(&self.0.pod, self.spec())
    }

    pub(super) fn hooks(&self) -> Hooks<'_> {
        Hooks { pod: &self.0.pod, spec: self.spec() }
    }

    pub(super) fn poststart(&self) -> Result<()> {
        self.hooks().poststart(self.pid())
    }

    /// What init says to the start, after its listener, if it has one, was taken.
    pub(super) fn hear_start(&self, control: &Control) -> Result<Message> {
        loop {
            match control.receive()? {
                Message::Listener(number) => {
                    let pidfd = self.0.pidfd.as_ref().ok_or_else(|| Error::new(ErrorKind::System, "keep"))?;
                    let process = (self.pid(), pidfd.as_fd());
                    lock(&self.0.listener).take_over(&self.hooks(), process, number, "created")?;
                    control.listener_taken()?;
                }
                message => return Ok(message),
            }
        }
    }

    /// Takes the listener of a seccomp filter of the specification that notifies and names no `listener_path`: whoever
    /// holds it answers what the container asks, see seccomp_unotify(2). It is there from
    /// [`start`](Self::start) on (with `no_new_privileges` off, from the creation on), for the program that made the
    /// container.
    ///
    /// If the filter notifies of a call that is part of the start, such as execve(2), `start` returns when it was
    /// answered: take the listener on another thread then.
    pub fn take_seccomp_listener(&self) -> Option<OwnedFd> {
        lock(&self.0.listener).take()
    }

    /// Sends a signal (signal(7)) to the container's first process.
    ///
    /// The kernel drops signals that process 1 of a PID namespace has no handler for, except `SIGKILL` and `SIGSTOP`.
    ///
    /// # Errors
    /// `WrongState` when the process has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let ended = || {
            let error = Error::new(ErrorKind::WrongState, "send").on(format!("signal {signal}"));
            self.error("signal", error.because("it has ended"))
        };
        match pidfd::send_signal(self.0.pidfd.as_ref().ok_or_else(ended)?, signal) {
            Ok(()) => Ok(()),
            Err(Errno::ESRCH) => Err(ended()),
            Err(errno) => {
                Err(self.error("signal", Error::system(errno, "send").on(format!("signal {signal}"))))
            }
        }
    }

    /// Kills every process of the container's cgroup at once (`cgroup.kill`); in a node without cgroups the first one, with
    /// which all others of its PID namespace end. Nothing to kill is no error.
    pub fn kill(&self) -> Result<()> {
        if self.has_no_cgroup() {
            return self.kill_first();
        }
        self.0.cgroup.as_ref().map_or(Ok(()), Cgroup::kill).map_err(|error| self.error("kill", error))
    }

    /// Waits until the container's first process has ended.
    ///
    /// Any number of threads and programs may wait; all get the same status.
    ///
    /// # Errors
    /// `StatusLost` when somebody else took the status from the kernel, and the kernel does not keep it.
    pub fn wait(&self) -> Result<ExitStatus> {
        self.wait_timeout(None)?.ok_or_else(|| Error::new(ErrorKind::System, "wait"))
    }

    /// Waits at most so long; `None` as the result means that the container still runs, `None` as the time that there
    /// is no limit.
    pub fn wait_timeout(&self, timeout: Option<Duration>) -> Result<Option<ExitStatus>> {
        if let Some(status) = *lock(&self.0.exit) {
            return Ok(Some(status));
        }
        if !self.wait_end(timeout) {
            return Ok(None);
        }
        self.collect().map(Some).map_err(|error| self.error("wait for", error))
    }

    /// Waits until the first process has ended, and its guests with it.
    pub(crate) fn wait_end(&self, timeout: Option<Duration>) -> bool {
        let node = &self.0.pod.0.node.0;
        match &self.0.pidfd {
            Some(pidfd) => node.guests.wait_for_host(&self.0.state.process, pidfd, timeout),
            None => true,
        }
    }

    /// Waits for a container that was made to start at once. Errors of its start are told like those of `start`.
    pub(super) fn finish(&self) -> Result<ExitStatus> {
        self.wait_end(None);
        let barrier = lock(&self.0.barrier);
        let Started::NotYet(control) = &*barrier else {
            return Err(Error::new(ErrorKind::WrongState, "finish").on(format!("{:?}", self.name())));
        };
        // The process has ended, and with it its end of the socket: all that it said is here.
        let mut ready = self.0.plan.as_ref().is_some_and(|plan| plan.forks() || plan.listens());
        loop {
            match control.receive()? {
                Message::Ready => ready = true,
                Message::Failed { step, call, errno } => return Err(self.failure(step, call, errno)),
                Message::Fd(_)
                | Message::Paused
                | Message::Listener(_)
                | Message::Terminal(_)
                | Message::Twin(_)
                | Message::TakesOver => {}
                Message::Closed if ready => break,
                Message::Closed => {
                    return Err(Error::new(ErrorKind::System, "prepare")
                        .on(format!("{:?}", self.name()))
                        .because(
                            "init ended early; was it killed, by the OOM killer or a memory limit too small?",
                        ));
                }
            }
        }
        drop(barrier);
        self.collect()
    }

    /// The status, if the container's first process has ended.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.wait_timeout(Some(Duration::ZERO))
    }

    /// Takes the status of the process, which has ended, from wherever it is: the kernel, if the process was our
    /// child; the file of a program that was there first; the kernel's memory of it.
    pub(super) fn collect(&self) -> Result<ExitStatus> {
        let mut exit = lock(&self.0.exit);
        if let Some(status) = *exit {
            return Ok(status);
        }
        let mut unwritten = None;
        let status = match self.0.pidfd.as_ref().map(pidfd::reap) {
            Some(Ok(Some(status))) => {
                // A container that runs at once is removed at once: nobody can open it any more, and who has it open
                // hears from the kernel where that keeps the status.
                let kept = || self.0.pidfd.as_ref().is_some_and(|pidfd| pidfd::kept_status(pidfd).is_some());
                if !(self.0.state.at_once && kept()) {
                    let record = ExitState { status, at: state::now() };
                    unwritten = state::write(&self.0.dir, state::EXIT, &record).err();
                }
                self.sweep();
                status
            }
            _ => self.recorded_status()?,
        };
        let status = *exit.insert(ExitStatus::from_wait(status));
        // A logger may ask for the status.
        drop(exit);
        log::info!(target: logs::CONTAINER, "{} has ended: {status}", self.words());
        // When the container was removed meanwhile, nobody will ask.
        if let Some(error) = unwritten.filter(|error| error.kind() != ErrorKind::NotFound) {
            log::warn!(target: logs::CONTAINER, "{}: write down how it ended: {error}", self.words());
        }
        Ok(status)
    }

    /// The status of a process that is not this program's child, or that somebody else has waited for: from the file
    /// that the program writes whose child it is, or from the kernel's memory.
    fn recorded_status(&self) -> Result<i32> {
        const TRIES: u32 = 50;
        for _ in 0..TRIES {
            if let Some(record) = state::read::<ExitState>(&self.0.dir, state::EXIT)? {
                return Ok(record.status);
            }
            // Whose child it is may not ask for long, and then there is no file.
            let zombie = |pidfd: &OwnedFd| self.0.pod.0.node.0.proc.zombie_status(self.pid(), pidfd.as_fd());
            match self.0.pidfd.as_ref().map(|pidfd| zombie(pidfd).or_else(|| pidfd::kept_status(pidfd))) {
                Some(Some(status)) => return Ok(status),
                // The process has ended this moment: whose child it is may be about to write it down.
                Some(None) => std::thread::sleep(Duration::from_millis(2)),
                None => break,
            }
        }
        Err(Error::new(ErrorKind::StatusLost, "read").on("the exit status").because(
            "another part of the program, or another program, took it first; Linux 6.15 and later keep it",
        ))
    }

    /// Ends what the first process left behind, where its PID namespace does not end with it.
    fn sweep(&self) {
        if *self.0.pod.context().pid_mode(&self.0.state.spec) != PidMode::Container {
            let _ = self.kill();
        }
    }

    /// The processes of the container, in ascending order of their ids as the host sees them. Zombies count, processes
    /// of a PID namespace that this program cannot see into are 0.
    ///
    /// # Errors
    /// `Unsupported` in a node without cgroups, which alone tell.
    pub fn processes(&self) -> Result<Vec<i32>> {
        if self.has_no_cgroup() {
            return Err(self.error("list the processes of", no_cgroups("look into the cgroup of")));
        }
        let processes = self.0.cgroup.as_ref().map_or(Ok(Vec::new()), Cgroup::processes);
        processes.map_err(|error| self.error("list the processes of", error))
    }

    /// Stops every process of the container where it is (`cgroup.freeze`), and returns when all have stopped. Frozen
    /// processes can be killed.
    ///
    /// # Errors
    /// When some have not stopped after 10 seconds; then all run on.
    pub fn freeze(&self) -> Result<()> {
        self.live_cgroup().and_then(|cgroup| cgroup.freeze()).map_err(|error| self.error("freeze", error))
    }

    /// Lets every process of the container run again.
    pub fn thaw(&self) -> Result<()> {
        self.live_cgroup().and_then(|cgroup| cgroup.thaw()).map_err(|error| self.error("thaw", error))
    }

    /// Whether its processes stand still, because it or its pod was frozen.
    pub fn is_frozen(&self) -> Result<bool> {
        self.0
            .cgroup
            .as_ref()
            .map_or(Ok(false), Cgroup::is_frozen)
            .map_err(|error| self.error("look at", error))
    }

    /// Changes limits of the container while it runs. What is `None` keeps the value that it has;
    /// [`spec`](Self::spec) still says what the container was made of.
    ///
    /// # Errors
    /// `InvalidSpec`; `Unsupported` for a limit whose controller this machine lacks; whatever the kernel refused. Then
    /// no limit is changed.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        crate::cgroup::validate(resources)
            .and_then(|()| self.live_cgroup()?.update(resources))
            .map_err(|error| self.error("update", error))
    }

    /// Whether the node has none, as opposed to one that is gone.
    pub(super) fn has_no_cgroup(&self) -> bool {
        !self.0.pod.0.node.0.cgroups.exists()
    }

    /// Its cgroup, while it is there.
    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        self.0.cgroup.as_ref()
    }

    pub(crate) fn live_cgroup(&self) -> Result<&Cgroup> {
        if self.has_no_cgroup() {
            return Err(no_cgroups("use the cgroup of"));
        }
        let gone = || Error::new(ErrorKind::NotFound, "open").on("the cgroup").because("it is gone");
        self.0.cgroup.as_ref().ok_or_else(gone)
    }

    /// Where the container is in its life.
    pub fn status(&self) -> Result<ContainerStatus> {
        match self.try_wait() {
            Ok(Some(status)) => Ok(ContainerStatus::Exited(Some(status))),
            Ok(None) if self.was_started() => Ok(ContainerStatus::Running),
            Ok(None) => Ok(ContainerStatus::Created),
            Err(error) if error.kind() == ErrorKind::StatusLost => Ok(ContainerStatus::Exited(None)),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container")
            .field("name", &self.name())
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}
