//! The handle of a program that was executed in a container.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;

use super::handle::lock;
use super::stdio::Pipes;
use super::{Container, ExitStatus, Terminal, exit};
use crate::error::{Error, ErrorKind, Result};
use crate::pod::state::ProcessRef;
use crate::sys::clock::Deadline;
use crate::sys::fd::wait_readable;
use crate::sys::pidfd;

/// A program that [`Container::exec`] runs in a container.
///
/// A handle: cloning it is cheap, dropping it neither blocks nor ends anything. Any thread may use it.
#[derive(Clone)]
pub struct Process(pub(super) Arc<Inner>);

/// What handles of a process share.
pub(super) struct Inner {
    pub(super) container: Container,
    pub(super) process: ProcessRef,
    pub(super) pidfd: OwnedFd,
    pub(super) pipes: Mutex<Pipes>,
    pub(super) exit: exit::Slot,
}

impl Process {
    /// The container that it runs in.
    pub fn container(&self) -> &Container {
        &self.0.container
    }

    /// Its process id, as the host sees it. It may have ended.
    pub fn pid(&self) -> i32 {
        self.0.process.pid
    }

    /// A descriptor of the process, which becomes readable when it ends (pidfd_open(2)). It stays the handle's.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd.as_fd()
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

    fn error(&self, verb: &str, error: Error) -> Error {
        let (container, pod) = (self.0.container.name(), self.0.container.pod().name());
        error.within(format!("{verb} process {} in container {container:?} of pod {pod}", self.pid()))
    }

    /// Sends it a signal (signal(7)).
    ///
    /// # Errors
    /// `WrongState` when it has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        pidfd::send_signal(&self.0.pidfd, signal).map_err(|errno| {
            let step = format!("signal {signal}");
            self.error(
                "signal",
                match errno {
                    Errno::ESRCH => {
                        Error::new(ErrorKind::WrongState, "send").on(step).because("it has ended")
                    }
                    errno => Error::system(errno, "send").on(step),
                },
            )
        })
    }

    /// Kills it, and no process that it has started. Nothing to kill is no error.
    pub fn kill(&self) -> Result<()> {
        match self.signal(libc::SIGKILL) {
            Err(error) if error.kind() == ErrorKind::WrongState => Ok(()),
            result => result,
        }
    }

    /// Waits until it has ended. Any number of threads may wait; all get the same status.
    ///
    /// # Errors
    /// `StatusLost` when somebody else took the status from the kernel, and the kernel does not keep it.
    pub fn wait(&self) -> Result<ExitStatus> {
        self.wait_timeout(None)?.ok_or_else(|| Error::new(ErrorKind::System, "wait"))
    }

    /// Waits at most so long; `None` as the result means that it still runs, `None` as the time that there is no limit.
    pub fn wait_timeout(&self, timeout: Option<Duration>) -> Result<Option<ExitStatus>> {
        if let Some(status) = *lock(&self.0.exit) {
            return Ok(Some(status));
        }
        let deadline = Deadline::after(timeout);
        loop {
            if !wait_readable(&self.0.pidfd, timeout.map(|_| deadline.left())) {
                return Ok(None);
            }
            // Another process of the container may trace it, and then has to let it go first.
            if exit::reap(&self.0.process, &self.0.pidfd).is_some() || !pidfd::has_status(&self.0.pidfd) {
                break;
            }
            if deadline.passed() {
                return Ok(None);
            }
            std::thread::sleep(exit::TRACED);
        }
        self.0.container.pod().0.node.0.guests.forget(&self.0.process);
        let mut exit = lock(&self.0.exit);
        if exit.is_none() {
            *exit = pidfd::kept_status(&self.0.pidfd).map(ExitStatus::from_wait);
        }
        exit.map(Some).ok_or_else(|| {
            let lost = Error::new(ErrorKind::StatusLost, "read").on("the exit status");
            self.error(
                "wait for",
                lost.because("another part of the program took it first; Linux 6.15 and later keep it"),
            )
        })
    }

    /// The status, if it has ended.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        self.wait_timeout(Some(Duration::ZERO))
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("container", &self.0.container.name())
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}
