//! Hooks that run in the container, right before its program: as its user, and with its restrictions.

use crate::process::{self, CLONE_PIDFD, SIGCHLD};
use crate::sys::{EINTR, EINVAL, Errno, PollFd, close, exit, nr, pipe, syscall};
use crate::wire::{self, Reader};
use crate::{Done, In, State};

const SIGKILL: usize = 9;
/// What did not happen in time (`ETIMEDOUT`).
const ETIMEDOUT: Errno = Errno(110);

static mut WORDS: [*const u8; wire::MAX_HOOK_WORDS] = [core::ptr::null(); wire::MAX_HOOK_WORDS];

pub fn run(state: &State, mut fields: Reader) -> Done {
    let (stdin, milliseconds, path) = (state.slot(fields.u32()?)?, fields.u64()?, fields.string()?);
    let (args, env) = (fields.u32()? as usize, fields.u32()? as usize);
    // SAFETY: there is one thread, and this is the only place where the words are borrowed.
    let words = unsafe { &mut *(&raw mut WORDS) };
    let total = args.saturating_add(env).saturating_add(2);
    let (argv, envp) = words.get_mut(..total).ok_or(wire::Malformed)?.split_at_mut(args + 1);
    for list in [&mut *argv, &mut *envp] {
        let Some((end, list)) = list.split_last_mut() else { return Err(wire::Malformed.into()) };
        for word in list {
            *word = fields.string()?.as_ptr();
        }
        *end = core::ptr::null();
    }
    // The same file for every hook: the one before may have read it.
    syscall!(nr::LSEEK, stdin, 0, 0).within(wire::CALL_LSEEK)?;
    let [hears, tells] = pipe().within(wire::CALL_PIPE)?;
    let mut pidfd = -1i32;
    let flags = CLONE_PIDFD | SIGCHLD as usize;
    let pid = syscall!(nr::CLONE, flags, 0, &raw mut pidfd).within(wire::CALL_CLONE)?;
    if pid == 0 {
        execute(stdin, tells, path, argv, envp);
    }
    close(tells);
    let ended = wait(pidfd, milliseconds);
    close(pidfd);
    if ended.is_err() {
        let _ = syscall!(nr::KILL, pid, SIGKILL);
    }
    let mut status = 0u32;
    while let Err(errno) = syscall!(nr::WAIT4, pid, &raw mut status, 0, 0) {
        if errno != EINTR {
            return Err(errno).within(wire::CALL_WAIT);
        }
    }
    let mut errno = 0i32;
    let heard = syscall!(nr::READ, hears, &raw mut errno, size_of::<i32>());
    close(hears);
    if heard == Ok(size_of::<i32>()) {
        return Err(Errno(errno)).within(wire::CALL_HOOK_EXEC);
    }
    ended.within(wire::CALL_HOOK_TIMEOUT)?;
    match status {
        0 => Ok(()),
        status if status & 0x7f != 0 => Err(EINVAL).within(wire::HOOK_SIGNALED + (status & 0x7f) as u16),
        status => Err(EINVAL).within(wire::HOOK_EXITED + (status >> 8 & 0xff) as u16),
    }
}

/// In the child: descriptors other than the streams are closed by execve(2). Why that failed goes through a pipe.
fn execute(stdin: i32, tells: i32, path: &[u8], argv: &[*const u8], envp: &[*const u8]) -> ! {
    let _ = process::set_signal_mask(0);
    let result = syscall!(nr::DUP3, stdin, 0, 0)
        .and_then(|_| syscall!(nr::EXECVE, path.as_ptr(), argv.as_ptr(), envp.as_ptr()));
    if let Err(errno) = result {
        let _ = syscall!(nr::WRITE, tells, &raw const errno.0, size_of::<i32>());
    }
    exit(process::EXIT_FAILURE)
}

/// Waits until the process has ended, at most so long. The kernel counts the time down when a signal interrupts.
fn wait(pidfd: i32, milliseconds: u64) -> Result<(), Errno> {
    let mut left = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    let timeout = if milliseconds == 0 { core::ptr::null_mut() } else { left.as_mut_ptr() };
    let mut files = PollFd::of(pidfd);
    loop {
        match syscall!(nr::PPOLL, &raw mut files, 1, timeout, 0, 8) {
            Ok(0) => return Err(ETIMEDOUT),
            Err(EINTR) => {}
            result => return result.map(drop),
        }
    }
}
