//! Containers in the PID namespace of another container ([`PidMode::Target`](crate::spec::PidMode::Target)).
//!
//! When process 1 of a PID namespace ends, the kernel kills all others in it, and process 1 is not gone before each of
//! them has been waited for. Guests that this program has started are its children, and nobody but this program can
//! wait for them: whoever waits for their host waits for them, too.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::exit;
use crate::error::{Context, Result};
use crate::pod::state::{self, ExitState, ProcessRef};
use crate::sys::clock::Deadline;

/// A guest, with what is needed to wait for it when its handles are gone.
pub(crate) struct Guest {
    host: ProcessRef,
    process: ProcessRef,
    pidfd: OwnedFd,
    dir: OwnedFd,
}

/// The guests that this program has started and not waited for.
pub(crate) struct Guests(Mutex<List>);

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
    pub(crate) fn new() -> Result<Self> {
        Ok(Guests(Mutex::new(List { guests: Vec::new(), news: new_bell()? })))
    }

    fn list(&self) -> std::sync::MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a guest of the container whose process is `host`, and tells those who wait for that.
    pub(crate) fn add(
        &self,
        host: ProcessRef,
        process: ProcessRef,
        pidfd: OwnedFd,
        dir: OwnedFd,
    ) -> Result<()> {
        let next = new_bell()?;
        let mut list = self.list();
        list.guests.push(Arc::new(Guest { host, process, pidfd, dir }));
        let rung = std::mem::replace(&mut list.news, next);
        rung.write(1).map(drop).step("write to", "an eventfd")
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
            for (guest, _) in guests.iter().zip(&files[2..]).filter(|(_, file)| ready(file)) {
                self.collect(guest);
            }
        }
    }

    /// Takes the status of a guest that has ended, for its handles and for other programs.
    fn collect(&self, guest: &Arc<Guest>) {
        if let Some(status) = exit::reap(&guest.process, &guest.pidfd) {
            // When it was removed meanwhile, nobody will ask.
            let _ = state::write(&guest.dir, state::EXIT, &ExitState { status, at: state::now() });
        }
        self.list().guests.retain(|other| !Arc::ptr_eq(other, guest));
    }
}
