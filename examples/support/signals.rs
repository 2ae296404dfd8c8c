//! Ctrl-C as a file: the examples wait for containers and for signals with one poll(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that ask this program to end: SIGINT, SIGTERM and SIGHUP.
pub struct Signals(SignalFd);

/// Why [`Signals::wait`] came back.
pub enum Woken {
    /// One of the files is readable: the process behind a pidfd has ended.
    Ended,
    /// A signal came.
    Signal(&'static str),
    /// Neither, in all that time.
    TimedOut,
}

impl Signals {
    /// Takes the signals over. To be called before the first thread is started: threads inherit what is blocked.
    pub fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Waits until one of the files is readable or a signal has come; without `limit` as long as it takes.
    pub fn wait(&self, files: &[BorrowedFd<'_>], limit: Option<Duration>) -> io::Result<Woken> {
        let limit = limit.map_or(PollTimeout::NONE, |limit| {
            // Rounded up, so that nobody spins through the last millisecond.
            PollTimeout::try_from(limit + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
        });
        loop {
            let mut polled = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            polled.extend(files.iter().map(|file| PollFd::new(*file, PollFlags::POLLIN)));
            match poll(&mut polled, limit) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
                Ok(0) => return Ok(Woken::TimedOut),
                Ok(_) => {}
            }
            if let Some(info) = self.0.read_signal()? {
                let signal = Signal::try_from(info.ssi_signo as i32).map_or("a signal", Signal::as_str);
                return Ok(Woken::Signal(signal));
            }
            if polled[1..].iter().any(|file| file.any().unwrap_or(false)) {
                return Ok(Woken::Ended);
            }
        }
    }
}
