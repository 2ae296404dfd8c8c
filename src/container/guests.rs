//! Processes that this program has started in the PID namespace of a container: containers that share it
//! ([`PidMode::Target`](crate::spec::PidMode::Target)), and programs executed in it
//! ([`Container::exec`](super::Container::exec)).
//!
//! When process 1 of a PID namespace ends, the kernel kills all others in it, and process 1 is not gone before each of
//! them has been waited for. Guests that this program has started are its children, and nobody but this program can
//! wait for them: whoever waits for their host waits for them, too.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::exit;
use crate::error::{Context, Result};
use crate::pod::state::{self, ExitState, ProcessRef};
use crate::sys::clock::Deadline;
use crate::sys::pidfd;

/// One of them, with what is needed to wait for it when its handles are gone.
pub(crate) struct Guest {
    host: ProcessRef,
    process: ProcessRef,
    pidfd: OwnedFd,
    /// The state directory of a container; programs have none.
    dir: Option<OwnedFd>,
}

/// The guests that this program has started and not waited for.
pub(crate) struct Guests(Mutex<List>);

/// Those of all nodes that are open: a program in a container is a child of this program whichever handle of the node it was
/// executed by, and one that is waited for by another handle. They go with the last node.
static OPEN: Mutex<Weak<Guests>> = Mutex::new(Weak::new());

struct List {
    guests: Vec<Arc<Guest>>,
    /// Becomes readable when there is one more. Then it has another one after it.
    news: Arc<EventFd>,
}

fn new_bell() -> Result<Arc<EventFd>> {
    EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map(Arc::new)
        .step("make", "an eventfd")
}

impl Guests {
    /// The guests of this program.
    pub(crate) fn open() -> Result<Arc<Self>> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guests) = open.upgrade() {
            return Ok(guests);
        }
        let guests = Arc::new(Guests(Mutex::new(List { guests: Vec::new(), news: new_bell()? })));
        *open = Arc::downgrade(&guests);
        Ok(guests)
    }

    fn list(&self) -> std::sync::MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a container in the PID namespace of the one whose process is `host`, and tells those who wait for that.
    pub(crate) fn add_container(
        &self,
        host: ProcessRef,
        process: ProcessRef,
        pidfd: OwnedFd,
        dir: OwnedFd,
    ) -> Result<()> {
        self.add(Guest { host, process, pidfd, dir: Some(dir) })
    }

    /// Notes a program in the container whose process is `host`, and tells those who wait for that.
    pub(crate) fn add_program(&self, host: ProcessRef, process: ProcessRef, pidfd: OwnedFd) -> Result<()> {
        // Nobody may ever ask for those before it.
        self.collect_ended_programs();
        self.add(Guest { host, process, pidfd, dir: None })
    }

    fn add(&self, guest: Guest) -> Result<()> {
        let next = new_bell()?;
        let mut list = self.list();
        list.guests.push(Arc::new(guest));
        let rung = std::mem::replace(&mut list.news, next);
        rung.write(1).map(drop).step("write to", "an eventfd")
    }

    /// Forgets a guest whose status has been taken.
    pub(crate) fn forget(&self, process: &ProcessRef) {
        self.list().guests.retain(|guest| guest.process != *process);
    }

    fn programs(&self, of: impl Fn(&Guest) -> bool) -> Vec<Arc<Guest>> {
        let list = self.list();
        list.guests.iter().filter(|guest| guest.dir.is_none() && of(guest)).cloned().collect()
    }

    /// Takes the statuses of all programs that have ended, for their handles.
    pub(crate) fn collect_ended_programs(&self) {
        let programs = self.programs(|_| true);
        self.collect_of(&programs, Deadline::after(Some(Duration::ZERO)));
    }

    /// Waits until the programs in a container have ended, which were killed, at most so long.
    pub(crate) fn wait_for_programs(&self, host: &ProcessRef, timeout: Duration) {
        let deadline = Deadline::after(Some(timeout));
        loop {
            let programs = self.programs(|guest| guest.host == *host);
            if programs.is_empty() || !self.collect_of(&programs, deadline) {
                return;
            }
        }
    }

    /// Takes the statuses of those that have ended; waits until there is one, at most until the deadline.
    fn collect_of(&self, guests: &[Arc<Guest>], deadline: Deadline) -> bool {
        if guests.is_empty() {
            return false;
        }
        let mut files: Vec<PollFd<'_>> =
            guests.iter().map(|guest| PollFd::new(guest.pidfd.as_fd(), PollFlags::POLLIN)).collect();
        loop {
            match poll(&mut files, deadline.poll_timeout()) {
                Err(Errno::EINTR) => {}
                Ok(0) if !deadline.passed() => {}
                Ok(0) | Err(_) => return false,
                Ok(_) => break,
            }
        }
        let ended = guests.iter().zip(&files).filter(|(_, file)| file.any().unwrap_or(false));
        if ended.filter(|(guest, _)| self.collect(guest)).count() == 0 {
            std::thread::sleep(exit::TRACED);
        }
        !deadline.passed()
    }

    /// Waits until the process has ended, and meanwhile for its guests, at most so long.
    pub(crate) fn wait_for_host(
        &self,
        host: &ProcessRef,
        pidfd: &OwnedFd,
        timeout: Option<Duration>,
    ) -> bool {
        let deadline = Deadline::after(timeout);
        loop {
            let (guests, news) = {
                let list = self.list();
                let of_host = list.guests.iter().filter(|guest| guest.host == *host);
                (of_host.cloned().collect::<Vec<_>>(), list.news.clone())
            };
            let mut files = vec![
                PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
                PollFd::new(news.as_fd(), PollFlags::POLLIN),
            ];
            files.extend(guests.iter().map(|guest| PollFd::new(guest.pidfd.as_fd(), PollFlags::POLLIN)));
            match poll(&mut files, deadline.poll_timeout()) {
                Ok(0) if deadline.passed() => return false,
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                // Not reached with valid descriptors; saying "not yet" is safe for every caller.
                Err(_) => return false,
            }
            let ready = |file: &PollFd<'_>| file.any().unwrap_or(false);
            if ready(&files[0]) {
                return true;
            }
            let ended = guests.iter().zip(&files[2..]).filter(|(_, file)| ready(file));
            if ended.filter(|(guest, _)| self.collect(guest)).count() == 0 {
                std::thread::sleep(exit::TRACED);
            }
        }
    }

    /// Takes the status of a guest that has ended, for its handles and for other programs. Not yet when somebody traces
    /// it: it stays as long in its PID namespace.
    fn collect(&self, guest: &Arc<Guest>) -> bool {
        let status = exit::reap(&guest.process, &guest.pidfd);
        if status.is_none() && pidfd::has_status(&guest.pidfd) {
            return false;
        }
        if let (Some(status), Some(dir)) = (status, &guest.dir) {
            // When it was removed meanwhile, nobody will ask.
            let _ = state::write(dir, state::EXIT, &ExitState { status, at: state::now() });
        }
        self.list().guests.retain(|other| !Arc::ptr_eq(other, guest));
        true
    }
}
