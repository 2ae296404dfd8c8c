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
///
/// By pthread_create(3): a thread of the standard library also gets a name, a stack for signal handlers and a look at
/// its own stack, which together cost 20 us of a container's millisecond.
pub(crate) fn run<T: Send, W: FnOnce() -> Result<T> + Send>(work: W) -> Result<T> {
    if worker::is_running() {
        return worker::nested(work);
    }
    let mut job = Job { work: Some(work), result: None };
    let errno = |code: libc::c_int| match code {
        0 => Ok(()),
        code => Err(Errno::from_raw(code)),
    };
    let mut thread: libc::pthread_t = 0;
    // SAFETY: the attributes are initialised before they are used and destroyed after. `job` outlives the thread,
    // which is joined before this function returns, and nobody else touches it until then. Both types may be sent to
    // another thread.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        errno(libc::pthread_attr_init(&mut attributes)).step("start", "a library thread")?;
        libc::pthread_attr_setstacksize(&mut attributes, STACK);
        let created = libc::pthread_create(&mut thread, &attributes, main::<T, W>, (&raw mut job).cast());
        libc::pthread_attr_destroy(&mut attributes);
        errno(created).step("start", "a library thread")?;
        libc::pthread_join(thread, std::ptr::null_mut());
    }
    match job.result {
        Some(Ok(result)) => result,
        Some(Err(panic)) => std::panic::resume_unwind(panic),
        None => Err(Error::new(ErrorKind::System, "run").on("a library thread")),
    }
}

/// Where the thread starts. No panic leaves it.
extern "C" fn main<T, W: FnOnce() -> Result<T>>(job: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `run` passes its job, and touches it again only after this thread has ended.
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
