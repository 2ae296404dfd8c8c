//! Pipes whose readers may go away, see pipe(7).
#![allow(unsafe_code, reason = "nix has no wrapper for sigtimedwait")]

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::Result;

/// Writes what there is room for. Unlike write(2) it sends the calling thread no `SIGPIPE` when nobody reads any more,
/// whatever the program does with that signal: the answer is `EPIPE` alone.
pub(crate) fn write(pipe: impl AsFd, bytes: &[u8]) -> Result<usize> {
    let mut broken = SigSet::empty();
    broken.add(Signal::SIGPIPE);
    let before = broken.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let pending = is_pending();
    let result = nix::unistd::write(pipe, bytes);
    // The signal of this very write, which goes to the writing thread; one that came before is the program's.
    if result == Err(Errno::EPIPE) && !pending {
        take(&broken);
    }
    before.thread_set_mask()?;
    result
}

fn is_pending() -> bool {
    let mut pending = SigSet::empty();
    // SAFETY: the set is ours, and a sigset_t is what the call writes.
    let result = unsafe { libc::sigpending((&raw mut pending).cast()) };
    result == 0 && pending.contains(Signal::SIGPIPE)
}

fn take(set: &SigSet) {
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both are read only, and no information is asked for.
    while unsafe { libc::sigtimedwait(set.as_ref(), std::ptr::null_mut(), &at_once) } < 0
        && Errno::last() == Errno::EINTR
    {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_is_an_error_and_no_signal() {
        // As in a C program: the tests' own handler of SIGPIPE is "ignore", which would hide it.
        let mut broken = SigSet::empty();
        broken.add(Signal::SIGPIPE);
        broken.thread_block().unwrap();
        let (read, pipe) = nix::unistd::pipe().unwrap();
        drop(read);
        assert_eq!(write(&pipe, b"x"), Err(Errno::EPIPE));
        assert!(!is_pending());
        // By write(2) itself it would be there now.
        assert_eq!(nix::unistd::write(&pipe, b"x"), Err(Errno::EPIPE));
        let ignored = is_pending();
        take(&broken);
        broken.thread_unblock().unwrap();
        assert!(ignored, "a blocked signal stays pending even where it is ignored");
    }
}
