//! From the host program to init in one clone3(2) and one execveat(2).
//!
//! The child shares the memory of the host program until it executes init (`CLONE_VM | CLONE_VFORK`): nothing is
//! copied, however large the host is. The calling thread stands still meanwhile, and has to: the OOM killer spares a child
//! that somebody waits for so, and with any other one in a cgroup with too little memory it would kill the host program,
//! which shares the memory of its victim. In return it may do next to nothing: it runs on a stack of its own, with all
//! signals blocked, makes raw system calls only, touches no thread-local storage (that is the calling thread's), and
//! neither allocates nor locks. It must not change its identity either: changing the user id would make the whole
//! host program undumpable, since both share one address space.
#![allow(unsafe_code, reason = "a child that shares memory is made and lives by raw system calls")]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::image::InitImage;
use crate::error::{Error, Result};
use crate::sys::{self, pidfd, thread, worker};

/// Room for the child's few frames.
const STACK: usize = 32 << 10;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLOSE_RANGE_CLOEXEC: usize = 4;
const NEW_MOUNTS: usize = libc::CLONE_NEWNS as usize;

/// `struct clone_args` of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A process to be: init, in these namespaces and this cgroup. It waits for its plan.
pub(crate) struct Launch<'a> {
    pub(crate) init: &'a InitImage,
    /// Init's end of the socket by which it gets its plan, see [`Control::plan`](super::Control::plan): all that it finds
    /// open. It is closed here.
    pub(crate) control: OwnedFd,
    /// The mount namespace that it has a copy of; it is in the caller's without one.
    pub(crate) mounts: Option<BorrowedFd<'a>>,
    /// Namespaces that are new for it.
    pub(crate) namespaces: CloneFlags,
    /// The directory of the cgroup that it starts in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// A process that runs init.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

impl Child {
    /// Waits until it has ended, and takes its status; `None` if another part of the host program took it.
    pub(crate) fn wait(&self) -> Option<pidfd::WaitStatus> {
        sys::fd::wait_readable(&self.pidfd, None);
        match pidfd::reap(&self.pidfd) {
            Ok(Some(status)) => Some(status),
            _ => pidfd::kept_status(&self.pidfd),
        }
    }

    /// Kills it, and waits until nothing of it is left.
    pub(crate) fn end(&self) {
        let _ = pidfd::send_signal(&self.pidfd, libc::SIGKILL);
        self.wait();
    }
}

/// What the child reads, and where it leaves the error number when it cannot execute init.
struct Task {
    init: RawFd,
    control: RawFd,
    /// -1 for none.
    mounts: RawFd,
    /// The empty path of execveat(2).
    path: *const libc::c_char,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    failure: AtomicI32,
}

impl Launch<'_> {
    /// Makes the process, from any thread of the program: what that one is in, and is not new for init, init is in, too.
    pub(crate) fn spawn(self) -> Result<Child> {
        let number = CString::new(self.control.as_raw_fd().to_string()).expect("digits have no NUL");
        let argv = [c"pericarp-init".as_ptr(), number.as_ptr(), std::ptr::null()];
        let envp = [std::ptr::null()];
        let task = Task {
            init: self.init.as_fd().as_raw_fd(),
            control: self.control.as_raw_fd(),
            mounts: self.mounts.map_or(-1, |mounts| mounts.as_raw_fd()),
            path: c"".as_ptr(),
            argv: argv.as_ptr(),
            envp: envp.as_ptr(),
            failure: AtomicI32::new(0),
        };
        // Nobody reads what was not written there before: no need to touch all of it.
        let mut stack = Vec::<u128>::with_capacity(STACK / size_of::<u128>());
        let mut pidfd: RawFd = -1;
        let mut args = CloneArgs {
            flags: (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64
                | self.namespaces.bits() as u64,
            pidfd: (&raw mut pidfd).addr() as u64,
            exit_signal: libc::SIGCHLD as u64,
            stack: stack.as_mut_ptr().addr() as u64,
            stack_size: STACK as u64,
            ..CloneArgs::default()
        };
        if worker::gives_children_away() {
            // With the signal that the worker itself has.
            args.flags |= libc::CLONE_PARENT as u64;
            args.exit_signal = 0;
        }
        if let Some(cgroup) = self.cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        // SAFETY: the child runs `child` on the stack given, which outlives it in this address space: CLONE_VFORK
        // keeps this thread here until the child has executed init or ended. `task` is valid as long.
        let pid = thread::with_all_signals_blocked(|| unsafe { clone3(&args, &raw const task) });
        if pid < 0 {
            let error = Error::system(Errno::from_raw(-pid as i32), "clone3").on("a process for init");
            return Err(match error.errno() {
                Some(libc::EACCES) => error.because(
                    "it may not be born in its cgroup: an ordinary user's program must itself be in the cgroup that was \
                     delegated, or in one below",
                ),
                _ => error,
            });
        }
        // SAFETY: CLONE_PIDFD stored a new file descriptor there.
        let child = Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } };
        match task.failure.load(Ordering::Relaxed) {
            0 => Ok(child),
            errno => {
                // It is about to end; nobody else may learn of it. CLONE_VFORK let this thread go when the child gave up
                // the address space, which is before it can be reaped.
                child.wait();
                Err(Error::system(Errno::from_raw(errno), "execute")
                    .on("the sealed image of init in a copy of the template's mounts"))
            }
        }
    }
}

/// All that happens in the child before init.
///
/// # Safety
/// Runs in the child of `clone3` only; see the module documentation for what it may not do.
unsafe extern "C" fn child(task: *const Task) -> ! {
    // SAFETY: the parent keeps the task alive while the child has not executed init.
    let task = unsafe { &*task };
    // Files of the host program that were not opened with O_CLOEXEC end here, and those that init needs stay. The
    // table of files is a copy: nothing changes for the host program.
    raw_syscall(libc::SYS_close_range, [3, u32::MAX as usize, CLOSE_RANGE_CLOEXEC, 0, 0]);
    let mut result = raw_syscall(libc::SYS_fcntl, [task.control as usize, libc::F_SETFD as usize, 0, 0, 0]);
    if result == 0 && task.mounts >= 0 {
        // Root and working directory become those of that namespace. They are the child's own, without CLONE_FS.
        result = raw_syscall(libc::SYS_setns, [task.mounts as usize, NEW_MOUNTS, 0, 0, 0]);
        if result == 0 {
            result = raw_syscall(libc::SYS_unshare, [NEW_MOUNTS, 0, 0, 0, 0]);
        }
    }
    if result == 0 {
        result = raw_syscall(
            libc::SYS_execveat,
            [
                task.init as usize,
                task.path.addr(),
                task.argv.addr(),
                task.envp.addr(),
                libc::AT_EMPTY_PATH as usize,
            ],
        );
    }
    task.failure.store(-result as i32, Ordering::Relaxed);
    loop {
        raw_syscall(libc::SYS_exit_group, [127, 0, 0, 0, 0]);
    }
}

/// clone3(2): returns in the parent, and calls `child(task)` in the child.
///
/// # Safety
/// `args` must say `CLONE_VM | CLONE_VFORK` with a stack that nobody else uses.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(args: *const CloneArgs, task: *const Task) -> isize {
    let result: isize;
    // SAFETY: in the child, rsp is the top of the new stack (16-byte aligned) and r12, r13 are as in the parent.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") child as unsafe extern "C" fn(*const Task) -> !,
            in("r13") task,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// clone3(2): returns in the parent, and calls `child(task)` in the child.
///
/// # Safety
/// `args` must say `CLONE_VM | CLONE_VFORK` with a stack that nobody else uses.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(args: *const CloneArgs, task: *const Task) -> isize {
    let result: isize;
    // SAFETY: in the child, sp is the top of the new stack and x9, x10 are as in the parent.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x10",
            "blr x9",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") args => result,
            in("x1") size_of::<CloneArgs>(),
            in("x9") child as unsafe extern "C" fn(*const Task) -> !,
            in("x10") task,
        );
    }
    result
}

/// A system call that leaves errno, which is thread-local, alone: the kernel's own return value.
#[cfg(target_arch = "x86_64")]
fn raw_syscall(number: libc::c_long, args: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: the callers above pass numbers and pointers to memory that outlives the call.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number as isize => result, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], in("r8") args[4], lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    result
}

/// A system call that leaves errno, which is thread-local, alone: the kernel's own return value.
#[cfg(target_arch = "aarch64")]
fn raw_syscall(number: libc::c_long, args: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: the callers above pass numbers and pointers to memory that outlives the call.
    unsafe {
        std::arch::asm!("svc 0", in("x8") number, inlateout("x0") args[0] => result, in("x1") args[1],
            in("x2") args[2], in("x3") args[3], in("x4") args[4], options(nostack));
    }
    result
}
