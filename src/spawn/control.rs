//! The socket between the library and init: init tells that it is ready or what failed, the library says when to
//! start. When init has executed the container's program, its end is closed and the library reads the end of file.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
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

    /// Gives init its plan, which it reads as soon as it runs: the first message, before any other. A plan that is too
    /// large for one comes back as a sealed file, which init must find open under the same number.
    ///
    /// A message costs init's start some 80 us less than a file in memory, whose pages are made for it alone.
    pub(super) fn plan(&self, plan: &[u8]) -> Result<Option<OwnedFd>> {
        const MOST: usize = 64 << 10;
        if plan.len() <= MOST {
            match self.send_bytes(plan) {
                // Whoever runs the machine may have made the buffers of sockets small (net.core.wmem_default).
                Err(Errno::EMSGSIZE | Errno::ENOBUFS) => {}
                result => return result.map(|()| None).step("hand over", "the plan of init"),
            }
        }
        let file = sys::fd::sealed_memfd(c"pericarp-plan", plan, false)
            .and_then(sys::fd::clear_of_stdio)
            .step("make", "the plan of init")?;
        self.send([wire::MSG_PLAN_IN_FILE, file.as_raw_fd() as u32, 0])
            .step("hand over", "the plan of init")?;
        Ok(Some(file))
    }

    /// Lets init go on from the barrier, or when hooks have run.
    pub(crate) fn start(&self) -> Result<()> {
        self.send([wire::MSG_START, 0, 0]).step("tell", "init to start")
    }

    /// Lets init go on after its listener was taken.
    pub(crate) fn listener_taken(&self) -> Result<()> {
        self.send([wire::MSG_LISTENER_TAKEN, 0, 0]).step("tell", "init that its seccomp listener was taken")
    }

    fn send(&self, words: [u32; 3]) -> sys::Result<()> {
        let message: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        self.send_bytes(&message)
    }

    fn send_bytes(&self, message: &[u8]) -> sys::Result<()> {
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(message)], &[], MsgFlags::MSG_NOSIGNAL, None)
            .map(drop)
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
        let mut bytes = [0u8; 12];
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
            (12, wire::MSG_READY, None) => Ok(Message::Ready),
            (12, wire::MSG_PAUSED, None) => Ok(Message::Paused),
            (12, wire::MSG_FAILED, None) => Ok(Message::Failed {
                step: word(4) as usize,
                call: (word(8) >> 16) as u16,
                errno: Errno::from_raw((word(8) & 0xffff) as i32),
            }),
            (12, wire::MSG_FD, Some(fd)) => Ok(Message::Fd(fd)),
            (12, wire::MSG_LISTENER, None) => Ok(Message::Listener(word(4) as i32)),
            (12, wire::MSG_TERMINAL, Some(fd)) => Ok(Message::Terminal(fd)),
            (12, wire::MSG_TWIN, Some(fd)) => Ok(Message::Twin(fd)),
            (12, wire::MSG_TAKES_OVER, None) => Ok(Message::TakesOver),
            _ => Err(Error::new(ErrorKind::System, "understand").on("init's message")),
        }
    }
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
