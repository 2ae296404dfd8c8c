//! The socket between the library and init: init tells that it is ready or what failed, the library says when to
//! start. When init has executed the container's program, its end is closed and the library reads the end of file.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType, recvmsg,
    sendmsg, shutdown, socketpair,
};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::init::wire;
use crate::sys;

/// What init says.
#[derive(Debug)]
pub(crate) enum Message {
    /// All steps up to the barrier are done.
    Ready,
    /// All steps up to the hooks of the creation are done.
    Paused,
    /// The step of that index failed in that call with that error number.
    Failed { step: usize, call: u16, errno: Errno },
    /// A file descriptor.
    Fd(OwnedFd),
    /// Init has loaded a filter whose listener has that number in it, and waits until it was taken.
    Listener(i32),
    /// The master of a terminal.
    Terminal(OwnedFd),
    /// The pidfd of init's twin: of a first one, or of what that one has forked.
    Twin(OwnedFd),
    /// The twin goes on in init's place.
    TakesOver,
    /// Init has executed the program, or has ended.
    Closed,
}

/// The library's end.
#[derive(Debug)]
pub(crate) struct Control(OwnedFd);

impl Control {
    /// A connected pair: the library's end, and init's.
    pub(crate) fn pair() -> Result<(Control, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, inits) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .step("make", "the control socket of init")?;
        let inits = sys::fd::clear_of_stdio(inits).step("duplicate", "the control socket of init")?;
        Ok((Control(ours), inits))
    }

    /// Gives init its plan with the descriptors of the slots after that of the control socket: before any other message.
    /// They are copies; they may be closed when this returns.
    ///
    /// An init that has ended is no error: what it said before, if anything, is still to be read.
    ///
    /// A message costs init's start some 80 us less than a file in memory, whose pages are made for it alone.
    pub(crate) fn plan(&self, plan: &[u8], descriptors: &[RawFd]) -> Result<()> {
        match self.send_plan(plan, descriptors) {
            Err(Errno::EPIPE) => Ok(()),
            Err(Errno::ETOOMANYREFS) => Err(Error::system(Errno::ETOOMANYREFS, "hand over")
                .on("the files of init")
                .because("this user has more files in messages than it may have open (RLIMIT_NOFILE): raise that limit")),
            result => result.step("hand over", "the plan of init"),
        }
    }

    fn send_plan(&self, plan: &[u8], mut descriptors: &[RawFd]) -> sys::Result<()> {
        const MOST: usize = 64 << 10;
        // One more may be needed for the file.
        while descriptors.len() >= wire::MAX_RIGHTS {
            let (first, rest) = descriptors.split_at(wire::MAX_RIGHTS);
            self.send_with(&message([wire::MSG_DESCRIPTORS, 0, 0]), first)?;
            descriptors = rest;
        }
        if plan.len() <= MOST {
            match self.send_with(plan, descriptors) {
                // Whoever runs the machine may have made the buffers of sockets small (net.core.wmem_default).
                Err(Errno::EMSGSIZE | Errno::ENOBUFS) => {}
                result => return result,
            }
        }
        let file = sys::fd::sealed_memfd(c"pericarp-plan", plan, false)?;
        let with_file = [descriptors, &[file.as_raw_fd()]].concat();
        self.send_with(&message([wire::MSG_PLAN_IN_FILE, 0, 0]), &with_file)
    }

    /// Lets init go on from the barrier, or when hooks have run.
    pub(crate) fn start(&self) -> Result<()> {
        self.send([wire::MSG_START, 0, 0]).step("tell", "init to start")
    }

    /// Says that nothing more will come, nor be heard: init ends at its next look.
    pub(crate) fn hang_up(&self) {
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }

    /// Lets init go on after its listener was taken.
    pub(crate) fn listener_taken(&self) -> Result<()> {
        self.send([wire::MSG_LISTENER_TAKEN, 0, 0]).step("tell", "init that its seccomp listener was taken")
    }

    fn send(&self, words: [u32; 3]) -> sys::Result<()> {
        self.send_with(&message(words), &[])
    }

    fn send_with(&self, message: &[u8], descriptors: &[RawFd]) -> sys::Result<()> {
        let rights = [ControlMessage::ScmRights(descriptors)];
        let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(message)], rights, flags, None) {
                Err(Errno::EINTR) => {}
                result => return result.map(drop),
            }
        }
    }

    /// The descriptors that are in what is still to be read, up to the end of file or until nothing came for a while.
    pub(crate) fn rest(&self) -> Vec<OwnedFd> {
        // Only for what nobody expects: all who write to it have been killed.
        const PATIENCE: u16 = 10_000;
        let mut fds = Vec::new();
        loop {
            let mut poll = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match nix::poll::poll(&mut poll, PATIENCE) {
                Err(Errno::EINTR) => continue,
                Ok(1) => {}
                _ => return fds,
            }
            match self.receive() {
                Ok(Message::Fd(fd) | Message::Twin(fd)) => fds.push(fd),
                Ok(Message::Closed) | Err(_) => return fds,
                Ok(_) => {}
            }
        }
    }

    /// The next message; waits for it.
    pub(crate) fn receive(&self) -> Result<Message> {
        let mut bytes = [0u8; wire::MESSAGE];
        let mut space = cmsg_space!(OwnedFd);
        let (length, fd) = loop {
            let mut iov = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.0.as_raw_fd(), &mut iov, Some(&mut space), flags) {
                // ECONNRESET: init ended with a message of ours unread. That is told once, before all that init itself
                // has said, for instance which step failed; then comes the end of file.
                Err(Errno::EINTR | Errno::ECONNRESET) => continue,
                Err(errno) => return Err(errno).step("hear from", "init"),
                Ok(message) => {
                    let mut fd = None;
                    for control in message.cmsgs().step("read the control data of", "init's message")? {
                        if let ControlMessageOwned::ScmRights(fds) = control {
                            for raw in fds {
                                fd = Some(take(raw));
                            }
                        }
                    }
                    break (message.bytes, fd);
                }
            }
        };
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        match (length, word(0), fd) {
            (0, ..) => Ok(Message::Closed),
            (wire::MESSAGE, wire::MSG_READY, None) => Ok(Message::Ready),
            (wire::MESSAGE, wire::MSG_PAUSED, None) => Ok(Message::Paused),
            (wire::MESSAGE, wire::MSG_FAILED, None) => Ok(Message::Failed {
                step: word(4) as usize,
                call: (word(8) >> 16) as u16,
                errno: Errno::from_raw((word(8) & 0xffff) as i32),
            }),
            (wire::MESSAGE, wire::MSG_FD, Some(fd)) => Ok(Message::Fd(fd)),
            (wire::MESSAGE, wire::MSG_LISTENER, None) => Ok(Message::Listener(word(4) as i32)),
            (wire::MESSAGE, wire::MSG_TERMINAL, Some(fd)) => Ok(Message::Terminal(fd)),
            (wire::MESSAGE, wire::MSG_TWIN, Some(fd)) => Ok(Message::Twin(fd)),
            (wire::MESSAGE, wire::MSG_TAKES_OVER, None) => Ok(Message::TakesOver),
            _ => Err(Error::new(ErrorKind::System, "understand").on("init's message")),
        }
    }
}

fn message(words: [u32; 3]) -> [u8; wire::MESSAGE] {
    let mut bytes = [0; wire::MESSAGE];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

#[allow(unsafe_code, reason = "SCM_RIGHTS gives bare numbers")]
fn take(raw: i32) -> OwnedFd {
    // SAFETY: recvmsg(2) just made this file descriptor for us.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

impl From<OwnedFd> for Control {
    fn from(socket: OwnedFd) -> Self {
        Control(socket)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
