//! Starting a container: by the program that made it, over the socket that both ends of were there from the beginning,
//! or, if the container is detached, by any program of the node's owner, over a socket in its directory of state.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::os::fd::OwnedFd;

use super::Container;
use super::handle::{Started, lock};
use super::plan;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::node;
use crate::pod::state;
use crate::spawn::{Control, Message, listens, meet};

impl Container {
    pub(super) fn try_start(&self) -> Result<()> {
        let mut barrier = lock(&self.0.barrier);
        // Init would not hear, and this call would wait for a thaw, with a lock that `stop` needs.
        if let Some(cgroup) = &self.0.cgroup
            && cgroup.is_frozen()?
        {
            return Err(super::create::frozen("start the frozen container", self.name()));
        }
        if self.spec().detached {
            return self.start_in_turn(&mut barrier);
        }
        let Started::NotYet(control) = &*barrier else {
            return Err(self.too_late(
                "it was started before, or is another program's: only who made a container that is not detached can start it",
            ));
        };
        self.tell(control)?;
        let message = self.listen_to(control);
        *barrier = Started::Done;
        self.hear(message?)
    }

    /// What init says, after its listener was taken. When that failed, init may wait for whom nobody will ever be.
    fn listen_to(&self, control: &Control) -> Result<Message> {
        self.hear_start(control).inspect_err(|_| {
            let _ = self.kill();
        })
    }

    /// Several programs may want to start it. Who has the lock on its directory asks, and knows how it went before the
    /// next one asks.
    fn start_in_turn(&self, barrier: &mut Started) -> Result<()> {
        let _turn = self.turn()?;
        if state::exists(&self.0.dir, state::STARTED) {
            *barrier = Started::Done;
            return Err(self.too_late("it was started before"));
        }
        let met;
        let control = match &*barrier {
            Started::NotYet(control) => {
                self.tell(control)?;
                control
            }
            Started::Done => {
                met = meet(&self.0.dir, state::START_SOCKET)?
                    .ok_or_else(|| self.too_late("it was started before, or has ended"))?;
                self.tell(&met)?;
                match met.receive()? {
                    Message::Ready => {}
                    // It was on its way to the barrier, and did not come there.
                    _ => return Err(self.too_late("it ended before its start")),
                }
                &met
            }
        };
        let message = self.listen_to(control);
        *barrier = Started::Done;
        self.hear(message?)
    }

    fn turn(&self) -> Result<Flock<OwnedFd>> {
        let dir =
            node::open_directory(&self.0.dir, ".").step("open", "the state directory of the container")?;
        node::lock(dir, FlockArg::LockExclusive).step("lock", "the state directory of the container")
    }

    fn tell(&self, control: &Control) -> Result<()> {
        control.start().map_err(|error| match error.errno().map(Errno::from_raw) {
            // Init is gone, or has been told by somebody who ended before the end of it.
            Some(Errno::EPIPE | Errno::ECONNRESET) => self.too_late("it has ended, or was started before"),
            _ => error,
        })
    }

    fn hear(&self, message: Message) -> Result<()> {
        match message {
            Message::Closed => {
                state::touch(&self.0.dir, state::STARTED)?;
                self.poststart()
            }
            Message::Failed { step, call, errno } => Err(self.failure(step, call, errno)),
            other => Err(Error::new(ErrorKind::System, "understand").on(format!("init's message {other:?}"))),
        }
    }

    fn too_late(&self, why: &'static str) -> Error {
        Error::new(ErrorKind::WrongState, "start").on(format!("{:?}", self.name())).because(why)
    }

    /// A failure after the barrier, in words. Who did not make the container compiles the specification again; before
    /// the barrier that plan may be another one, since descriptors for streams are not remembered.
    pub(super) fn failure(&self, step: usize, call: u16, errno: Errno) -> Error {
        if let Some(plan) = &self.0.plan {
            return plan.failure(step, call, errno);
        }
        let words = || {
            let plan = plan::compile(&self.0.pod.context(), self.spec()).ok()?;
            let step = step.checked_sub(self.0.state.barrier?)? + plan.barrier()?;
            Some(plan.failure(step, call, errno))
        };
        words().unwrap_or_else(|| Error::system(errno, "start"))
    }

    /// Whether the program was started, or is being started this moment.
    pub(super) fn was_started(&self) -> bool {
        if self.0.state.at_once || state::exists(&self.0.dir, state::STARTED) {
            return true;
        }
        // Who started it may have ended before it could say so. Init listens as long as it was not told.
        self.spec().detached && matches!(listens(&self.0.dir, state::START_SOCKET), Ok(false))
    }
}
