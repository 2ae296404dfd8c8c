//! Triggers of pressure stall information.
//!
//! A trigger forgets that it fired as soon as poll(2) has told anybody: through nested epolls the outer one would hear of
//! it and the inner one not. So the kernel polls each file itself (`sys/aio.rs`), and an eventfd is what is polled.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::options::PressureTrigger;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::sys::aio::Polls;

const EVENTS: i16 = libc::POLLPRI | libc::POLLERR;

/// The triggers of one subscription.
pub(super) struct Triggers {
    // Given up before the files are closed.
    polls: Polls,
    bell: EventFd,
    armed: Vec<(PressureTrigger, OwnedFd)>,
}

impl Triggers {
    /// Sets the triggers on the pod's cgroup; none when there are none.
    pub(super) fn set(cgroup: &Cgroup, triggers: &[PressureTrigger]) -> Result<Option<Self>> {
        if triggers.is_empty() {
            return Ok(None);
        }
        let open = |trigger: &PressureTrigger| {
            Ok((*trigger, cgroup.pressure_trigger(trigger.file(), &trigger.text())?))
        };
        let armed = triggers.iter().map(open).collect::<Result<Vec<_>>>()?;
        let bell =
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).step("make", "an eventfd")?;
        let polls = Polls::new(triggers.len() as u32).map_err(|errno| {
            let error = Error::system(errno, "poll").on("triggers of pressure");
            match errno {
                Errno::EAGAIN => error.because("all of fs.aio-max-nr is in use"),
                _ => error,
            }
        })?;
        let all = Triggers { polls, bell, armed };
        (0..all.armed.len()).try_for_each(|at| all.arm(at))?;
        Ok(Some(all))
    }

    fn arm(&self, at: usize) -> Result<()> {
        let Some((trigger, file)) = self.armed.get(at) else { return Ok(()) };
        let step = || format!("poll {} for {:?}", trigger.file(), trigger.text());
        self.polls
            .submit(at as u64, file.as_fd(), EVENTS, &self.bell)
            .map_err(|errno| Error::system(errno, step()))
    }

    /// Readable when a trigger has fired.
    pub(super) fn bell(&self) -> &EventFd {
        &self.bell
    }

    /// The triggers that have fired. Those whose cgroup is gone are silent from then on.
    pub(super) fn fired(&self) -> Result<Vec<PressureTrigger>> {
        // Before the polls are looked at: what is over after that rings again.
        match self.bell.read() {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(errno).step("read", "the eventfd of triggers"),
        }
        let mut fired = Vec::new();
        while let Some(over) = self.polls.take().step("poll", "triggers of pressure")? {
            let at = over.number as usize;
            if over.events < 0 || over.events & i64::from(libc::POLLERR) != 0 {
                continue;
            }
            fired.extend(self.armed.get(at).map(|(trigger, _)| *trigger));
            self.arm(at)?;
        }
        Ok(fired)
    }
}
