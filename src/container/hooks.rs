//! Running hooks (OCI runtime-spec, "POSIX-platform Hooks").
//!
//! A hook is started like a container: by the trampoline and init, with a plan of two steps. So a large host program
//! is not copied, nothing of it is inherited, and a program that cannot be executed is told in words.

use std::io::{IoSlice, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use serde_json::{Value, json};

use super::plan::{self, HOST};
use super::source::{Opener, set_propagation};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::logs;
use crate::node::Node;
use crate::pod::Pod;
use crate::spawn::{Child, Control, Launch, Message};
use crate::spec::{ContainerSpec, Hook, Propagation, Rootfs};
use crate::sys::fd::{open_beneath, resolve, wait_readable};
use crate::sys::mount::{attach, clone_tree, open_tree};
use crate::sys::namespace::{self, Kind};
use crate::sys::{self, pidfd, thread};

/// The version of the specification that the state is of.
pub(super) const OCI_VERSION: &str = "1.3.0";
/// Bytes of what a failed hook wrote that its error quotes.
const QUOTED: u64 = 2048;

/// What every hook of a container is told.
pub(super) struct Hooks<'a> {
    pub(super) pod: &'a Pod,
    pub(super) spec: &'a ContainerSpec,
}

impl Hooks<'_> {
    /// The state of the container (OCI runtime-spec, "State").
    pub(super) fn state(&self, status: &str, pid: Option<i32>) -> Vec<u8> {
        self.state_value(status, pid).to_string().into_bytes()
    }

    /// The same as a JSON value, for what it is a part of.
    pub(super) fn state_value(&self, status: &str, pid: Option<i32>) -> Value {
        let hooks = &self.spec.hooks;
        let id = hooks.id.clone().unwrap_or_else(|| format!("{}/{}", self.pod.id(), self.spec.name));
        let bundle = hooks.bundle.as_deref().unwrap_or(Path::new("/"));
        let mut state = json!({
            "ociVersion": OCI_VERSION,
            "id": id,
            "status": status,
            "bundle": bundle,
        });
        if let Some(pid) = pid {
            state["pid"] = pid.into();
        }
        if !self.spec.annotations.is_empty() {
            state["annotations"] = json!(self.spec.annotations);
        }
        state
    }

    /// Runs those that stop the creation, while init waits.
    pub(super) fn creation(&self, process: &Child) -> Result<()> {
        let hooks = &self.spec.hooks;
        // They were called at the start once, of what had been created, and are told so as they were then.
        let created = self.state("created", Some(process.pid));
        self.on_host("prestart", &hooks.prestart, &created)?;
        let state = self.state("creating", Some(process.pid));
        self.on_host("createRuntime", &hooks.create_runtime, &state)?;
        if hooks.create_container.is_empty() {
            return Ok(());
        }
        let Rootfs::Directory { path, .. } = &self.spec.rootfs else {
            return Err(Error::invalid(
                "hooks.createContainer",
                "needs a root filesystem that is a directory",
            ));
        };
        self.pod.0.node.0.realm.run(|| {
            self.enter(process, path)?;
            hooks.create_container.iter().try_for_each(|hook| self.run("createContainer", hook, &state))
        })
    }

    /// Runs hooks in the host's namespaces, up to the first that fails.
    fn on_host(&self, point: &'static str, hooks: &[Hook], state: &[u8]) -> Result<()> {
        if hooks.is_empty() {
            return Ok(());
        }
        thread::run(|| hooks.iter().try_for_each(|hook| self.run(point, hook, state)))
    }

    /// Runs all hooks for a container whose program runs.
    pub(super) fn poststart(&self, pid: i32) -> Result<()> {
        self.all("poststart", &self.spec.hooks.poststart, || self.state("running", Some(pid)))
    }

    /// Runs all hooks for a container that is gone.
    pub(super) fn poststop(&self) -> Result<()> {
        self.all("poststop", &self.spec.hooks.poststop, || self.state("stopped", None))
    }

    /// Runs all hooks in the host's namespaces, whatever becomes of them, and tells the first failure, and a logger the
    /// others. What they follow is done, and stays so.
    fn all(&self, point: &'static str, hooks: &[Hook], state: impl FnOnce() -> Vec<u8>) -> Result<()> {
        if hooks.is_empty() {
            return Ok(());
        }
        let state = state();
        let results: Vec<Result<()>> =
            thread::run(|| Ok(hooks.iter().map(|hook| self.run(point, hook, &state)).collect()))?;
        let mut failures = results.into_iter().filter_map(Result::err);
        let first = failures.next();
        for error in failures {
            log::warn!(target: logs::CONTAINER, "{}: {error}", super::create::words(self.pod, self.spec));
        }
        first.map_or(Ok(()), |error| Err(error.of_kind(ErrorKind::Hook)))
    }

    /// Takes the calling library thread into the container's namespaces, with the host's files around its root
    /// filesystem: both are taken away again when init pivots into the root.
    fn enter(&self, process: &Child, rootfs: &Path) -> Result<()> {
        let node = &self.pod.0.node;
        // A copy of the namespace leaves out mounts of mount namespaces, such as the node's pins: no such mount may be
        // in a namespace that is younger than the one it keeps (ELOOP).
        unshare(CloneFlags::CLONE_NEWNS).step("copy", "the host's mount namespace for a hook")?;
        let host = clone_tree(AT_FDCWD, c"/", true).step("clone", "the host's files for a hook")?;
        set_propagation(&host, Propagation::Private).step("make private", "the host's files for a hook")?;
        let mut namespaces = Vec::new();
        for kind in [Kind::Network, Kind::Ipc, Kind::Uts, Kind::Mount] {
            let fd = namespace::of_process(&node.0.proc, process.pid, kind)
                .step("open", format!("the {} namespace of the container", kind.word()))?;
            namespaces.push((kind, fd));
        }
        // It lives: what was opened under its pid was its own.
        pidfd::send_signal(&process.pidfd, 0).step("find", "the process of the container")?;
        for (kind, fd) in &namespaces {
            setns(fd, kind.flag()).step(format!("join the {} namespace of", kind.word()), "the container")?;
        }
        attach(host.as_fd(), AT_FDCWD, HOST).step("attach", "the host's files for a hook")?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let inside =
            openat(AT_FDCWD, HOST, flags, Mode::empty()).step("open", "the host's files for a hook")?;
        let path = namespace::c_path(rootfs).step("use", rootfs.display())?;
        let place = open_beneath(&inside, &path, libc::O_PATH, 0, resolve::IN_ROOT | resolve::NO_MAGICLINKS)
            .step("open", rootfs.display())?;
        let root = open_tree(AT_FDCWD, c"/root").step("open", "the container's root filesystem")?;
        attach(root.as_fd(), &place, c"").step("move the root filesystem to", rootfs.display())?;
        nix::unistd::fchdir(&inside)
            .and_then(|()| nix::unistd::chroot("."))
            .and_then(|()| nix::unistd::chdir("/"))
            .step("enter", "the host's files for a hook")
    }

    /// Runs one hook from the calling library thread, in its namespaces and with its root.
    fn run(&self, point: &'static str, hook: &Hook, state: &[u8]) -> Result<()> {
        let failed = |error: Error| error.within(format!("run the {point} hook {}", hook.path.display()));
        let (stdin, output) = streams(state).map_err(failed)?;
        let child = launch(&self.pod.0.node, hook, stdin, &output).map_err(failed)?;
        let timeout = hook.timeout.map(|seconds| Duration::from_secs(seconds.into()));
        let ended = wait_readable(&child.pidfd, timeout);
        if !ended {
            let _ = pidfd::send_signal(&child.pidfd, libc::SIGKILL);
        }
        let why = match child.wait().map(super::ExitStatus::from_wait) {
            _ if !ended => format!("it has not ended after {} s", hook.timeout.unwrap_or_default()),
            Some(status) if status.success() => return Ok(()),
            Some(status) => format!("it {status}"),
            None => "its exit status is lost: another part of the program took it".to_string(),
        };
        let said = said(output);
        let error = Error::new(ErrorKind::Exec, "run").on("the program of the hook");
        Err(failed(error.because(if said.is_empty() { why } else { format!("{why} and wrote: {said}") })))
    }
}

/// The state as standard input, and a file in memory for what the hook writes. It has no end that anyone could be kept
/// waiting for.
fn streams(state: &[u8]) -> Result<(OwnedFd, OwnedFd)> {
    let stdin =
        sys::fd::sealed_memfd(c"pericarp-state", state, false).step("make", "the state for a hook")?;
    nix::unistd::lseek(&stdin, 0, nix::unistd::Whence::SeekSet).step("rewind", "the state for a hook")?;
    let output = sys::fd::memfd(c"pericarp-hook").step("make", "the output of a hook")?;
    Ok((stdin, output))
}

fn launch(node: &Node, hook: &Hook, stdin: OwnedFd, output: &OwnedFd) -> Result<Child> {
    let plan = plan::hook(hook);
    let (control, inits) = Control::pair()?;
    let copy = || sys::fd::duplicate(output).step("duplicate", "the output of a hook");
    let mut opener = Opener::new(node, None);
    opener.stdio(&plan, [Some(stdin), Some(copy()?), Some(copy()?)])?;
    let bytes = plan.encode()?;
    let namespaces = CloneFlags::empty();
    let launch = Launch { init: &node.0.init, control: inits, mounts: None, namespaces, cgroup: None };
    let child = launch.spawn()?;
    match control.plan(&bytes, &opener.descriptors()).and_then(|()| control.receive()) {
        Ok(Message::Closed) => Ok(child),
        other => {
            child.end();
            match other? {
                Message::Failed { step, call, errno } => Err(plan.failure(step, call, errno)),
                message => {
                    Err(Error::new(ErrorKind::System, "understand").on(format!("init's message {message:?}")))
                }
            }
        }
    }
}

/// The end of what a hook wrote, for its error.
fn said(output: OwnedFd) -> String {
    let mut file = std::fs::File::from(output);
    let end = file.seek(SeekFrom::End(0)).unwrap_or_default();
    let _ = file.seek(SeekFrom::Start(end.saturating_sub(QUOTED)));
    let mut bytes = Vec::new();
    let _ = file.take(QUOTED).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).trim().to_string()
}

/// The state for hooks that run in the container, written when the process is known. Init has the same file.
pub(super) fn write_state(file: &OwnedFd, state: &[u8]) -> Result<()> {
    let mut at = 0;
    while at < state.len() {
        match nix::sys::uio::pwritev(file, &[IoSlice::new(&state[at..])], at as i64) {
            Err(Errno::EINTR) => {}
            result => at += result.step("write", "the state for the startContainer hooks")?,
        }
    }
    Ok(())
}
