//! Starting another program in a container.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstatat;

use super::create::{frozen, lost, stdio_owner};
use super::hooks::Hooks;
use super::listener::Listener;
use super::lsm;
use super::plan::{self, Plan};
use super::process::{Inner, Process};
use super::source::Opener;
use super::stdio;
use super::{Container, Terminal, exit};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::init::wire;
use crate::logs;
use crate::node::Proc;
use crate::pod::state::ProcessRef;
use crate::spawn::{Child, Control, Launch, Message};
use crate::spec::{ContainerSpec, ExecSpec, SharedFd};
use crate::sys::fd::wait_readable;
use crate::sys::{self, pidfd};

impl Container {
    /// Runs another program in the container, and returns when it runs: in all of the container's namespaces and its
    /// cgroup, with an identity, privileges and limits that are the container's unless the specification says otherwise.
    ///
    /// The process is a child of this program, and ends with the container. A container whose PID namespace is its own
    /// has not ended before this program has waited for what it executed there: waiting for the container does that,
    /// and so does removing it.
    ///
    /// # Errors
    /// `Exec` when the program cannot be executed, with the reason; `InvalidSpec`; `WrongState` when the container has
    /// ended, is frozen, or is still being made by another program. One that was not started yet is none.
    pub fn exec(&self, spec: &ExecSpec) -> Result<Process> {
        let executed = self.try_exec(spec).inspect(|process| {
            log::debug!(target: logs::CONTAINER, "{}: process {} was executed in it", self.words(), process.pid());
        });
        executed.map_err(|error| {
            let program = spec.args.first().map_or("", String::as_str);
            error.within(format!(
                "execute {program:?} in container {:?} of pod {}",
                self.name(),
                self.0.pod.name()
            ))
        })
    }

    fn try_exec(&self, spec: &ExecSpec) -> Result<Process> {
        let whole = spec.over(self.spec())?;
        let whole = lsm::on_this_machine(&self.0.pod.0.node, &whole)?;
        let plan = plan::compile_exec(&self.0.pod.context(), &whole)?;
        let Some(first) = &self.0.pidfd else { return Err(self.has_ended()) };
        let cgroup = self.0.cgroup.as_ref();
        if cgroup.is_none() && self.0.pod.0.node.0.cgroups.exists() {
            return Err(self.has_ended());
        }
        if wait_readable(first, Some(std::time::Duration::ZERO)) {
            return Err(self.has_ended());
        }
        // It would stand still from birth, and this call with it, until somebody thaws the container.
        if cgroup.map_or(Ok(false), Cgroup::is_frozen)? {
            return Err(frozen("enter the frozen container", self.name()));
        }
        let mut attempt = Attempt {
            container: self,
            plan,
            process: None,
            listener: Listener::connect(&whole)?,
            terminal: None,
        };
        attempt.run(&whole, first, cgroup).map_err(|error| {
            attempt.undo();
            // Whatever failed, it failed for that.
            if self.is_about_to_end(first, &error) { self.has_ended() } else { error }
        })
    }

    /// Whether an error has the end of the container as its reason. Who kills a cgroup kills one process after the
    /// other, and what was just started may be the first of them.
    fn is_about_to_end(&self, first: &OwnedFd, error: &Error) -> bool {
        const TRIES: u32 = 50;
        let tries = if error.kind() == ErrorKind::System { TRIES } else { 1 };
        (0..tries).any(|number| {
            if number > 0 {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            self.is_ending(first)
        })
    }

    /// Whether the first process has ended or is about to: it was killed, or waits for the others of its PID namespace
    /// to be gone.
    fn is_ending(&self, first: &OwnedFd) -> bool {
        const PF_EXITING: u32 = 0x4;
        const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);
        let proc = &self.0.pod.0.node.0.proc;
        let exiting = || -> Option<bool> {
            let stat = proc.read(&format!("{}/stat", self.pid())).ok()?;
            // The ninth field of all; the second one, the name, ends with the last parenthesis.
            let flags: u32 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(6)?.parse().ok()?;
            let status = proc.read(&format!("{}/status", self.pid())).ok()?;
            let pending = status
                .lines()
                .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")));
            let killed = |set: &str| u64::from_str_radix(set.trim(), 16).is_ok_and(|set| set & SIGKILL != 0);
            Some(flags & PF_EXITING != 0 || pending.into_iter().any(killed))
        };
        // What cannot be read is gone, and what is gone has given its pid away.
        exiting().unwrap_or(true) || wait_readable(first, Some(std::time::Duration::ZERO))
    }

    fn has_ended(&self) -> Error {
        Error::new(ErrorKind::WrongState, "enter").on(format!("{:?}", self.name())).because("it has ended")
    }
}

/// What has been made so far.
struct Attempt<'a> {
    container: &'a Container,
    plan: Plan,
    process: Option<Child>,
    listener: Listener,
    terminal: Option<Terminal>,
}

impl Attempt<'_> {
    fn run(&mut self, spec: &ContainerSpec, first: &OwnedFd, cgroup: Option<&Cgroup>) -> Result<Process> {
        let container = &self.container.0;
        let node = &container.pod.0.node;
        let (stdio, mut pipes) = stdio::open(spec, &node.0.realm, stdio_owner(&container.pod, spec))?;
        let (control, inits) = Control::pair()?;
        let ends = (&control, inits);
        self.launch(first, cgroup, ends, stdio, &spec.preserved_fds)?;
        self.settle(&control, spec)?;
        let child = self.process.as_ref().ok_or_else(lost)?;
        let process =
            ProcessRef { pid: child.pid, identity: node.0.proc.identity(child.pid, child.pidfd.as_fd())? };
        let exit = exit::slot(&process);
        // Whoever waits for the container has to know of it before it runs.
        let copy = sys::fd::duplicate(&child.pidfd).step("duplicate", "a pidfd")?;
        node.0.guests.add_program(container.state.process, process, copy)?;
        control.start()?;
        loop {
            match control.receive()? {
                Message::Closed => break,
                Message::Listener(number) => self.hand_over(spec, &control, number)?,
                Message::Failed { step, call, errno } => {
                    let error = self.plan.failure(step, call, errno);
                    node.0.guests.forget(&process);
                    return Err(error);
                }
                other => {
                    return Err(
                        Error::new(ErrorKind::System, "understand").on(format!("init's message {other:?}"))
                    );
                }
            }
        }
        pipes.terminal = self.terminal.take();
        let child = self.process.take().ok_or_else(lost)?;
        Ok(Process(Arc::new(Inner {
            container: self.container.clone(),
            process,
            pidfd: child.pidfd,
            pipes: Mutex::new(pipes),
            exit,
        })))
    }

    /// Waits until init is at the barrier. Where it forks once more on the way, to enter the PID namespace, the process
    /// that is to stay comes first.
    fn settle(&mut self, control: &Control, spec: &ContainerSpec) -> Result<()> {
        self.hear(control, spec).inspect_err(|_| {
            self.undo();
            self.container.0.pod.0.node.0.proc.end_forks(control);
        })
    }

    fn hear(&mut self, control: &Control, spec: &ContainerSpec) -> Result<()> {
        loop {
            match control.receive()? {
                Message::Ready => return Ok(()),
                Message::Terminal(master) => self.terminal = Some(Terminal::from(master)),
                Message::Fd(last) => {
                    let child = self.process.as_mut().ok_or_else(lost)?;
                    self.container.0.pod.0.node.0.proc.follow(child, last)?;
                }
                Message::Listener(number) => self.hand_over(spec, control, number)?,
                Message::Failed { step, call, errno } => return Err(self.failure(step, call, errno)),
                Message::Closed | Message::Paused | Message::Twin(_) | Message::TakesOver => {
                    return Err(Error::new(ErrorKind::System, "prepare").on("the program").because(
                        "init ended early; was it killed, by the OOM killer or a memory limit too small?",
                    ));
                }
            }
        }
    }

    /// Gives the listener of the filter to the program that answers.
    fn hand_over(&mut self, spec: &ContainerSpec, control: &Control, number: i32) -> Result<()> {
        let child = self.process.as_ref().ok_or_else(lost)?;
        let hooks = Hooks { pod: &self.container.0.pod, spec };
        self.listener.take_over(&hooks, (child.pid, child.pidfd.as_fd()), number, "running")?;
        control.listener_taken()
    }

    /// On a thread of its own: opens what the plan names and starts init. That makes nothing, so that it needs no copy
    /// of the template, in which the null device is.
    fn launch(
        &mut self,
        first: &OwnedFd,
        cgroup: Option<&Cgroup>,
        (control, inits): (&Control, OwnedFd),
        stdio: [Option<OwnedFd>; 3],
        preserved: &[SharedFd],
    ) -> Result<()> {
        let (container, plan) = (self.container, &mut self.plan);
        let (node, home) = (&container.0.pod.0.node, &container.0.pod.0.home);
        let (child, opener) = node.0.realm.launch(|| {
            let mut opener = Opener::new(node, Some(&container.0.pod));
            opener.first_process(plan, first)?;
            opener.first_root(plan, container.pid())?;
            // Init starts in the template: even the host's mount namespace is another one.
            let foreign = foreign_namespaces(&node.0.proc, container.pid(), first)?;
            plan.resolve_joins(foreign | CloneFlags::CLONE_NEWNS);
            opener.preserve(plan, preserved)?;
            opener.open_on_host(plan)?;
            opener.stdio(plan, stdio)?;
            setns(&home.template, CloneFlags::CLONE_NEWNS).step("join", "the template namespace")?;
            let launch = Launch {
                init: &node.0.init,
                control: inits,
                mounts: None,
                namespaces: CloneFlags::empty(),
                cgroup: cgroup.map(AsFd::as_fd),
            };
            Ok((launch.spawn()?, opener))
        })?;
        self.process = Some(child);
        control.plan(&plan.encode()?, &opener.descriptors())
    }

    fn failure(&self, step: usize, call: u16, errno: Errno) -> Error {
        let error = self.plan.failure(step, call, errno);
        if call == wire::CALL_ENTER {
            return error.of_kind(ErrorKind::WrongState).because("the container is still being made");
        }
        error
    }

    fn undo(&mut self) {
        if let Some(child) = self.process.take() {
            child.end();
        }
    }
}

/// `CLONE_NEWTIME` of clone(2), which nix has not.
const CLONE_NEWTIME: i32 = 0x80;

/// The namespaces of a process, its PID namespace excepted, that are not those of the calling thread. Some cannot be
/// joined once more by who is in them, and some this kernel may not have.
fn foreign_namespaces(proc: &Proc, pid: i32, process: &OwnedFd) -> Result<CloneFlags> {
    let mut foreign = CloneFlags::empty();
    for (name, flag) in [
        ("user", CloneFlags::CLONE_NEWUSER),
        ("mnt", CloneFlags::CLONE_NEWNS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("time", CloneFlags::from_bits_retain(CLONE_NEWTIME)),
    ] {
        let number = |whose: &str| fstatat(proc, format!("{whose}/ns/{name}").as_str(), AtFlags::empty());
        let own = match number("thread-self") {
            Err(Errno::ENOENT) => continue,
            result => result.step("look at", format!("the {name} namespace of a library thread"))?.st_ino,
        };
        let its =
            number(&pid.to_string()).step("look at", format!("the {name} namespace of process {pid}"))?;
        if its.st_ino != own {
            foreign |= flag;
        }
    }
    // It is still there: what was read under its pid was its own.
    pidfd::send_signal(process, 0).step("look at", format!("process {pid}"))?;
    Ok(foreign)
}
