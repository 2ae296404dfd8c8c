//! Short-lived threads on which the library changes namespaces, so that no thread of the host program ever does.
#![allow(
    unsafe_code,
    reason = "threads are made by pthread_create, and blocking every signal, also glibc's own, needs the raw call"
)]

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::SigSet;

use super::worker;
use crate::error::{Context, Error, ErrorKind, Result};

/// Enough for a few frames and path buffers; most of the time on a new thread is the kernel's anyway.
const STACK: usize = 256 << 10;

/// What a thread is given, and what it leaves.
struct Job<W, T> {
    work: Option<W>,
    result: Option<std::thread::Result<Result<T>>>,
}

/// Runs `work` on a thread of its own, with the host program's signals blocked and with its own root and working directory,
/// so that it can join namespaces. The thread ends with the call.
pub(crate) fn run<T: Send, W: FnOnce() -> Result<T> + Send>(work: W) -> Result<T> {
    if worker::is_running() {
        return worker::nested(work);
    }
    beside(work, || ()).0
}

/// Runs `work` on a library thread, and `own` on the caller's meanwhile. Both have ended when it returns; where both fail, the
/// error is that of `own`.
pub(crate) fn run_beside<T: Send>(
    own: impl FnOnce() -> Result<()>,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    if worker::is_running() {
        return own().and_then(|()| worker::nested(work));
    }
    let (result, own) = beside(work, own);
    own.and(result)
}

/// Runs `work` on a thread as [`run`] does, and `own` on the caller's meanwhile. Both have ended when it returns.
///
/// By pthread_create(3): a thread of the standard library also gets a name, a stack for signal handlers and a look at
/// its own stack, which together cost 20 us of a container's millisecond.
fn beside<T: Send, U, W: FnOnce() -> Result<T> + Send>(work: W, own: impl FnOnce() -> U) -> (Result<T>, U) {
    let mut job = Job { work: Some(work), result: None };
    let thread = match create(&mut job) {
        Ok(thread) => thread,
        Err(errno) => return (Err(errno).step("start", "a library thread"), own()),
    };
    let joined = Joined(thread);
    let own = own();
    drop(joined);
    let result = match job.result {
        Some(Ok(result)) => result,
        Some(Err(panic)) => std::panic::resume_unwind(panic),
        None => Err(Error::new(ErrorKind::System, "run").on("a library thread")),
    };
    (result, own)
}

/// A thread that runs a job, and is to be joined.
struct Joined(libc::pthread_t);

impl Drop for Joined {
    fn drop(&mut self) {
        // SAFETY: `create` has made it, and nobody else joins it.
        unsafe { libc::pthread_join(self.0, std::ptr::null_mut()) };
    }
}

/// Lets a thread do the job, which nobody else may touch before that thread has been joined.
fn create<T: Send, W: FnOnce() -> Result<T> + Send>(job: &mut Job<W, T>) -> nix::Result<libc::pthread_t> {
    let check = |code: libc::c_int| match code {
        0 => Ok(()),
        code => Err(Errno::from_raw(code)),
    };
    let mut thread: libc::pthread_t = 0;
    // SAFETY: the attributes are initialised before they are used and destroyed after. `beside` keeps the job in its place,
    // and leaves it alone, until it has joined the thread. Both types may be sent to another thread.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        check(libc::pthread_attr_init(&mut attributes))?;
        libc::pthread_attr_setstacksize(&mut attributes, STACK);
        let created = libc::pthread_create(&mut thread, &attributes, main::<T, W>, (&raw mut *job).cast());
        libc::pthread_attr_destroy(&mut attributes);
        check(created)?;
    }
    Ok(thread)
}

/// Runs `work` on the caller's thread and on as many others as `others` says, all at the same time.
pub(crate) fn share<T: Send>(others: usize, work: &(impl Fn() -> Result<T> + Sync)) -> Result<Vec<T>> {
    if others == 0 || worker::is_running() {
        return work().map(|own| vec![own]);
    }
    let (theirs, ours) = beside(work, || share(others - 1, work));
    let mut all = ours?;
    all.push(theirs?);
    Ok(all)
}

/// Where the thread starts. No panic leaves it.
extern "C" fn main<T, W: FnOnce() -> Result<T>>(job: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `create` passes its job, which is touched again only after this thread has ended.
    let job = unsafe { &mut *job.cast::<Job<W, T>>() };
    if let Some(work) = job.work.take() {
        job.result = Some(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // Handlers of the host program do not run here. (glibc's own two signals go on, see below.)
            SigSet::all().thread_block().step("block the signals of", "a library thread")?;
            // setns(2) refuses a mount namespace while root and cwd are shared with other threads.
            unshare(CloneFlags::CLONE_FS).step("unshare", "root and working directory of a thread")?;
            work()
        })));
    }
    std::ptr::null_mut()
}

/// Calls `work` with every signal blocked for the calling thread, with those two that glibc hides from sigprocmask(3):
/// a handler must not run in a child that shares the memory of the host program.
///
/// Not for longer than that: glibc changes the identity of a program (setuid(2)) by a signal that each of its threads
/// must handle (nptl(7)), and a thread that keeps it blocked when it ends, or when it makes another, waits for ever.
pub(crate) fn with_all_signals_blocked<T>(work: impl FnOnce() -> T) -> T {
    let all = u64::MAX;
    let mut old = 0u64;
    set_mask(&all, &mut old);
    let result = work();
    set_mask(&old, std::ptr::null_mut());
    result
}

/// rt_sigprocmask(2), which has no way to fail here.
fn set_mask(new: &u64, old: *mut u64) {
    // SAFETY: both sets are 8 bytes as the kernel's; the old one is not asked for where its pointer is null.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, old, size_of::<u64>()) };
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn work_is_shared_by_threads_that_run_at_the_same_time() {
        // Nobody passes before all are there.
        let together = Barrier::new(4);
        let work = || {
            together.wait();
            Ok(nix::unistd::gettid())
        };
        let threads = share(3, &work).unwrap();
        assert_eq!(threads.iter().collect::<HashSet<_>>().len(), 4);
        assert!(threads.contains(&nix::unistd::gettid()), "the caller's is one of them");
        assert_eq!(share(0, &|| Ok(nix::unistd::gettid())).unwrap(), [nix::unistd::gettid()]);
    }

    #[test]
    fn an_error_of_one_thread_is_told_after_all_have_ended() {
        let (turn, ended) = (AtomicU32::new(0), AtomicU32::new(0));
        let work = || match turn.fetch_add(1, Ordering::Relaxed) {
            1 => Err(Error::system(Errno::EIO, "read").on("a file")),
            _ => {
                std::thread::sleep(std::time::Duration::from_millis(20));
                Ok(ended.fetch_add(1, Ordering::Relaxed))
            }
        };
        let error = share(2, &work).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EIO));
        assert_eq!(ended.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn both_work_at_the_same_time_and_the_callers_error_is_told_first() {
        let together = Barrier::new(2);
        let meet = || {
            together.wait();
            Ok(())
        };
        run_beside(meet, meet).unwrap();
        let error = |errno| Err::<(), _>(Error::system(errno, "read").on("a file"));
        let told = |own, work| run_beside(|| own, || work).unwrap_err().errno();
        assert_eq!(told(error(Errno::EIO), Ok(())), Some(libc::EIO));
        assert_eq!(told(Ok(()), error(Errno::ENOMEM)), Some(libc::ENOMEM));
        assert_eq!(told(error(Errno::EIO), error(Errno::ENOMEM)), Some(libc::EIO));
        let panic = std::panic::catch_unwind(|| run_beside(|| panic!("on purpose"), || Ok(())));
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"on purpose"));
    }

    #[test]
    fn a_panic_of_the_caller_waits_for_the_thread() {
        let ended = AtomicU32::new(0);
        let panic = std::panic::catch_unwind(|| {
            let slow = || {
                std::thread::sleep(std::time::Duration::from_millis(20));
                ended.store(1, Ordering::Relaxed);
                Ok(())
            };
            beside(slow, || panic!("on purpose")).0
        });
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"on purpose"));
        assert_eq!(ended.load(Ordering::Relaxed), 1, "what it borrows was still there");
    }
}
