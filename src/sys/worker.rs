//! What stands in for a library thread where a user namespace has to be joined, which no thread can: a *worker*.
//!
//! It is a process that shares the memory and the open files of the host program, and lives in place of the library
//! thread that makes it: that one stands still (`CLONE_VFORK`), and lends its thread-local storage. So, unlike in the
//! child of a fork(2), any code runs in it as it would on the thread: another thread that holds a lock goes on and gives
//! it back. What it may not do is make threads, whose creation takes a lock that setuid(3) may hold while it waits for
//! the library thread.
//!
//! Joining a user namespace that one owns changes neither the ids of a process nor whether the program is dumpable
//! (commit_creds() of the kernel takes the credentials for no more than those of before), so that the host program stays
//! as it is. For a namespace of somebody else that would not be so: a worker is for the node's own.
#![allow(
    unsafe_code,
    reason = "a process that shares memory is made by clone(2), and lives on a stack that is given to it"
)]

use std::cell::Cell;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::fd::wait_readable;
use super::{check, pidfd, thread};
use crate::error::{Context, Error, ErrorKind, Result};

/// As much as a library thread has.
const STACK: usize = 256 << 10;
/// A page that cannot be touched, at the end of the stack. (Pages are larger on some machines.)
const GUARD: usize = 64 << 10;

thread_local! {
    /// Set while a worker lives in the thread's place.
    static PLACE: Cell<Place> = const { Cell::new(Place::Thread) };
}

/// What runs on a thread's storage.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The thread itself.
    Thread,
    /// A worker whose children are its own.
    Worker,
    /// A worker whose children are the host program's, so that they outlive it.
    Nurse,
}

/// Whether a worker runs, and no thread.
pub(crate) fn is_running() -> bool {
    PLACE.get() != Place::Thread
}

/// Whether what is started here is to be a child of the host program instead.
pub(crate) fn gives_children_away() -> bool {
    PLACE.get() == Place::Nurse
}

/// Runs `work` in a worker that has joined the user namespace, which the calling program owns.
pub(crate) fn run<T: Send, W: FnOnce() -> Result<T> + Send>(user: BorrowedFd<'_>, work: W) -> Result<T> {
    thread::run(|| instead(Place::Worker, || join(user).and_then(|()| work())))
}

/// The same; processes that [`Launch`](crate::spawn::Launch) makes in it are children of the host program.
pub(crate) fn run_for_children<T: Send, W: FnOnce() -> Result<T> + Send>(
    user: BorrowedFd<'_>,
    work: W,
) -> Result<T> {
    thread::run(|| instead(Place::Nurse, || join(user).and_then(|()| work())))
}

/// Runs `work` in a worker of its own, with the namespaces of the one that runs.
pub(super) fn nested<T, W: FnOnce() -> Result<T>>(work: W) -> Result<T> {
    instead(Place::Worker, work)
}

fn join(user: BorrowedFd<'_>) -> Result<()> {
    setns(user, CloneFlags::CLONE_NEWUSER).step("join", "the node's user namespace")
}

/// What a worker is given, and what it leaves.
struct Job<W, T> {
    work: Option<W>,
    result: Option<std::thread::Result<Result<T>>>,
}

/// A stack, given back with it.
struct Stack(*mut libc::c_void);

impl Stack {
    fn new() -> super::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: new memory, wherever the kernel has room.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), GUARD + STACK, rights, flags, -1, 0) };
        if place == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let stack = Stack(place);
        // SAFETY: the lowest part of what was just mapped, which nothing uses.
        check(unsafe { libc::mprotect(place, GUARD, libc::PROT_NONE) }.into())?;
        Ok(stack)
    }

    /// Where it begins: it grows downwards, and its size is a multiple of every alignment.
    fn top(&self) -> *mut libc::c_void {
        self.0.wrapping_byte_add(GUARD + STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: what `new` has mapped, and nobody uses any more: the worker has ended.
        unsafe { libc::munmap(self.0, GUARD + STACK) };
    }
}

/// Lets a worker live in place of the calling library thread.
fn instead<T, W: FnOnce() -> Result<T>>(place: Place, work: W) -> Result<T> {
    let stack = Stack::new().step("make", "the stack of a worker")?;
    let mut job = Job { work: Some(work), result: None };
    let mut raw = -1;
    let before = PLACE.replace(place);
    // No CLONE_FS: it has a root and a working directory of its own. No CLONE_SIGHAND: handlers of the host program are
    // copied, and do not run, since library threads block all signals.
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: `main` gets the job, which outlives the worker: this thread goes on only when that has ended. Nobody else
    // uses the stack. CLONE_PIDFD stores the descriptor in the argument for the thread id of the parent.
    let pid = unsafe { libc::clone(main::<T, W>, stack.top(), flags, (&raw mut job).cast(), &raw mut raw) };
    let result = check(pid.into());
    PLACE.set(before);
    result.step("start", "a worker of the library")?;
    // SAFETY: the kernel just made this file descriptor for us.
    let process = unsafe { OwnedFd::from_raw_fd(raw) };
    // It has let go of the memory, and is about to end.
    wait_readable(&process, None);
    let _ = pidfd::reap(&process);
    match job.result {
        Some(Ok(result)) => result,
        Some(Err(panic)) => std::panic::resume_unwind(panic),
        None => {
            Err(Error::new(ErrorKind::System, "run").on("a worker of the library").because("it was killed"))
        }
    }
}

/// Where a worker starts, and ends. No panic leaves it.
extern "C" fn main<T, W: FnOnce() -> Result<T>>(job: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `instead` passes its job, and touches it again only after this process has ended.
    let job = unsafe { &mut *job.cast::<Job<W, T>>() };
    if let Some(work) = job.work.take() {
        job.result = Some(catch_unwind(AssertUnwindSafe(work)));
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It has the memory and the files of the program, and neither its process id nor its directory.
    #[test]
    fn a_worker_lives_in_the_place_of_a_thread() {
        let here = std::process::id();
        let directory = std::env::current_dir().unwrap();
        let (there, file, text) = thread::run(|| {
            nested(|| {
                assert!(is_running() && !gives_children_away());
                nix::unistd::chdir("/").step("enter", "/")?;
                let file = std::fs::File::open("/proc/self/stat").step("open", "/proc/self/stat")?;
                let text = nested(|| Ok(format!("{}", std::process::id())))?;
                Ok((std::process::id(), file, text))
            })
        })
        .unwrap();
        assert_ne!(there, here);
        assert_ne!(text, there.to_string());
        assert!(!is_running());
        assert_eq!(std::env::current_dir().unwrap(), directory);
        // Opened there, and open here.
        assert!(nix::sys::stat::fstat(&file).is_ok());
        assert_eq!(Errno::ESRCH, pidfd::open(there as i32).unwrap_err(), "it was waited for");
    }

    #[test]
    fn a_panic_comes_out_as_one() {
        let panic = std::panic::catch_unwind(|| {
            let _: Result<()> = thread::run(|| nested(|| panic!("on purpose")));
        });
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"on purpose"));
    }

    /// Other threads allocate and take locks all the time, and the host program keeps its dumpable flag.
    #[test]
    fn workers_get_along_with_other_threads() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (stop, list) = (AtomicBool::new(false), std::sync::Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let mut list = list.lock().unwrap();
                        list.push(vec![0u8; 3000]);
                        list.truncate(64);
                    }
                });
            }
            for _ in 0..200 {
                let work = || {
                    list.lock().unwrap().push(format!("{:?}", std::time::Instant::now()).into_bytes());
                    Ok(())
                };
                thread::run(|| nested(work)).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        // SAFETY: no pointer is passed.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }, 1);
    }
}
