//! Asynchronous polling, see io_submit(2) and `IOCB_CMD_POLL` of linux/aio_abi.h.
//!
//! A file that forgets that it was ready as soon as somebody has asked, such as a trigger of pressure stall information,
//! cannot be waited for through a set of epoll(7) that is itself polled: the outer poll asks, and nothing is left for the
//! inner one. Here the kernel waits for the file itself, once, and tells an eventfd.
#![allow(unsafe_code, reason = "the C library has no wrappers for these calls")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::{Result, check};

const IOCB_CMD_POLL: u16 = 5;
const IOCB_FLAG_RESFD: u32 = 1;

/// `struct iocb` of linux/aio_abi.h for a poll, on little-endian machines.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    fd: u32,
    /// The events that are waited for.
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    /// The eventfd that is told.
    result_fd: u32,
}

/// `struct io_event` of linux/aio_abi.h.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct IoEvent {
    data: u64,
    request: u64,
    result: i64,
    result2: i64,
}

/// A context for polls. Dropping it gives those up that wait.
pub(crate) struct Polls(libc::c_ulong);

/// A poll that is over.
pub(crate) struct Polled {
    /// The number that it was submitted with.
    pub(crate) number: u64,
    /// What poll(2) says of the file.
    pub(crate) events: i64,
}

impl Polls {
    /// For so many polls at a time.
    pub(crate) fn new(room: u32) -> Result<Self> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the place for the context is ours and zero, as the call wants it.
        check(unsafe { libc::syscall(libc::SYS_io_setup, room, &mut context) })?;
        Ok(Polls(context))
    }

    /// Waits once for these events of a file, which may be closed only when the poll is over or given up, and adds 1 to
    /// the eventfd then.
    pub(crate) fn submit(&self, number: u64, fd: BorrowedFd<'_>, events: i16, bell: impl AsFd) -> Result<()> {
        let mut request = Iocb {
            data: number,
            opcode: IOCB_CMD_POLL,
            fd: fd.as_raw_fd() as u32,
            buffer: u64::from(events as u16),
            flags: IOCB_FLAG_RESFD,
            result_fd: bell.as_fd().as_raw_fd() as u32,
            ..Iocb::default()
        };
        let requests = [&raw mut request];
        // SAFETY: the kernel copies the request before the call returns, and takes references of the two files.
        check(unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1, requests.as_ptr()) }).map(drop)
    }

    /// The next poll that is over. Never waits.
    pub(crate) fn take(&self) -> Result<Option<Polled>> {
        let mut event = IoEvent::default();
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            // SAFETY: there is room for one event, and the time is ours.
            let taken = check(unsafe {
                libc::syscall(libc::SYS_io_getevents, self.0, 0, 1, &raw mut event, &raw const now)
            });
            match taken {
                Err(Errno::EINTR) => {}
                Ok(0) => return Ok(None),
                result => {
                    return result.map(|_| Some(Polled { number: event.data, events: event.result }));
                }
            }
        }
    }
}

impl Drop for Polls {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and not used again. Polls that wait are cancelled at once.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::*;

    #[test]
    fn a_poll_tells_the_eventfd_once() {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        let polls = Polls::new(4).unwrap();
        polls.submit(7, read.as_fd(), libc::POLLIN, &bell).unwrap();
        assert!(polls.take().unwrap().is_none());
        nix::unistd::write(&write, b"x").unwrap();
        let mut ready = [PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::try_from(10_000).unwrap()).unwrap(), 1);
        let over = polls.take().unwrap().expect("the poll is over");
        assert_eq!((over.number, over.events & i64::from(libc::POLLIN)), (7, i64::from(libc::POLLIN)));
        assert!(polls.take().unwrap().is_none(), "it is over once");
        // Given up with a poll that waits.
        nix::unistd::read(&read, &mut [0]).unwrap();
        polls.submit(8, read.as_fd(), libc::POLLIN, &bell).unwrap();
    }
}
