//! Other programs in a container.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::ptr::null_mut;

use pericarp::{ExecSpec, Process};

use crate::caller::{Caller, give};
use crate::container::{given_streams, pericarp_container_t, put_streams};
use crate::container_life::timeout;
use crate::error::{Problem, pericarp_error_t};
use crate::handle::{Handle, Head, handle};
use crate::json;
use crate::structs::*;

/// A program that was executed in a container.
pub struct pericarp_process_t {
    head: Head,
    pub(crate) process: Process,
}

handle!(pericarp_process_t, 0x7065_7269_5052_4f43);

impl pericarp_process_t {
    pub(crate) fn new(process: Process) -> Self {
        pericarp_process_t { head: Head::new(Self::MARK), process }
    }
}

/// Runs another program in a container, and returns when it runs: in all of the container's namespaces and its cgroup. The
/// JSON object's keys are those of `ExecSpec`: `{"args": ["sh", "-c", "date"]}`; what it does not say is as the container's
/// specification has it. `stdio` may be NULL; descriptors in it take the place of what the JSON says. The process is a child
/// of this program, and ends with the container.
///
/// Ownership: `*out_process` is the caller's to give back with `pericarp_process_unref`. Descriptors in `stdio` stay the
/// caller's, and may be closed after the call.
/// Errors: `EXEC` when the program cannot be executed; `INVALID_SPEC`; `WRONG_STATE` when the container has ended, is frozen or
/// is still being made.
/// Threads: any.
/// Rust: `Container::exec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_exec(
    container: *const pericarp_container_t,
    json: *const c_char,
    stdio: *const pericarp_stdio_t,
    out_process: *mut *mut pericarp_process_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_process, "out_process")?;
        let container = caller.handle(container, "container")?;
        let (json, given) = (caller.text(json, "json")?, given_streams(caller, stdio)?);
        let mut spec: ExecSpec = json::read(json)?;
        put_streams(given, &mut spec.stdio)?;
        let process = container.container.exec(&spec)?;
        out.set(give(pericarp_process_t::new(process)));
        Ok(())
    })
}

/// One more reference to a process, the same pointer. NULL for NULL.
///
/// Ownership: the caller gets a reference to give back with `pericarp_process_unref`.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Clone` of `Process`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_ref(process: *const pericarp_process_t) -> *mut pericarp_process_t {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.refer(process)
}

/// Gives a reference to a process back. It goes on.
///
/// Ownership: takes the caller's reference to `process`, which may be NULL.
/// Errors: none.
/// Threads: any.
/// Rust: `Drop` of `Process`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_unref(process: *mut pericarp_process_t) {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.unrefer(process);
}

/// The container that it runs in, as a new handle.
///
/// Ownership: the result is the caller's to give back with `pericarp_container_unref`.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Process::container`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_container(
    process: *const pericarp_process_t,
) -> *mut pericarp_container_t {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(process, null_mut(), |process| {
        give(pericarp_container_t::new(process.process.container().clone()))
    })
}

/// Its process id, as the host sees it. It may have ended, and another process may have the number: use a pidfd.
///
/// Ownership: the caller keeps `process`.
/// Errors: none; -1 for NULL.
/// Threads: any.
/// Rust: `Process::pid`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_pid(process: *const pericarp_process_t) -> i32 {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(process, -1, |process| process.process.pid())
}

/// A descriptor of the process, which becomes readable when that ends (pidfd_open(2)).
///
/// Ownership: `*out_fd` stays the library's: do not close it. It is valid as long as the caller's reference to `process`.
/// Errors: only those of arguments.
/// Threads: any.
/// Rust: `Process::pidfd`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_borrow_pidfd(
    process: *const pericarp_process_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        out.set(caller.handle(process, "process")?.process.pidfd().as_raw_fd());
        Ok(())
    })
}

/// A copy of the descriptor of `pericarp_process_borrow_pidfd`.
///
/// Ownership: `*out_fd` is the caller's to close.
/// Errors: `SYSTEM` when no more files can be opened.
/// Threads: any.
/// Rust: `Process::pidfd`, `BorrowedFd::try_clone_to_owned`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_dup_pidfd(
    process: *const pericarp_process_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let copy = caller.handle(process, "process")?.process.pidfd().try_clone_to_owned();
        let copy = copy.map_err(|error| Problem::system(error, "duplicate", "the pidfd"))?;
        out.set(copy.into_raw_fd());
        Ok(())
    })
}

/// Takes the other end of a standard input that the specification asked for as `"pipe"`. Closing it is
/// the end of file.
///
/// Ownership: `*out_fd` is the caller's to close.
/// Errors: `NOT_FOUND` when there is none, or it was taken before.
/// Threads: any.
/// Rust: `Process::take_stdin`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_take_stdin(
    process: *const pericarp_process_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let pipe = caller.handle(process, "process")?.process.take_stdin();
        let none = || Problem::none("take", "the pipe of stdin", "it was not asked for, or was taken before");
        out.set(pipe.ok_or_else(none)?.into_raw_fd());
        Ok(())
    })
}

/// Takes the other end of a standard output that the specification asked for as `"pipe"`.
///
/// Ownership: `*out_fd` is the caller's to close.
/// Errors: `NOT_FOUND` when there is none, or it was taken before.
/// Threads: any.
/// Rust: `Process::take_stdout`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_take_stdout(
    process: *const pericarp_process_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let pipe = caller.handle(process, "process")?.process.take_stdout();
        let none =
            || Problem::none("take", "the pipe of stdout", "it was not asked for, or was taken before");
        out.set(pipe.ok_or_else(none)?.into_raw_fd());
        Ok(())
    })
}

/// Takes the other end of a standard error that the specification asked for as `"pipe"`.
///
/// Ownership: `*out_fd` is the caller's to close.
/// Errors: `NOT_FOUND` when there is none, or it was taken before.
/// Threads: any.
/// Rust: `Process::take_stderr`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_take_stderr(
    process: *const pericarp_process_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let pipe = caller.handle(process, "process")?.process.take_stderr();
        let none =
            || Problem::none("take", "the pipe of stderr", "it was not asked for, or was taken before");
        out.set(pipe.ok_or_else(none)?.into_raw_fd());
        Ok(())
    })
}

/// Sends it a signal (signal(7)).
///
/// Ownership: the caller keeps `process`.
/// Errors: `WRONG_STATE` when it has ended.
/// Threads: any.
/// Rust: `Process::signal`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_signal(
    process: *const pericarp_process_t,
    signal: c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(process, "process")?.process.signal(signal)?;
        Ok(())
    })
}

/// Kills it, and no process that it has started. Nothing to kill is no error.
///
/// Ownership: the caller keeps `process`.
/// Errors: what the kernel says.
/// Threads: any.
/// Rust: `Process::kill`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_kill(
    process: *const pericarp_process_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(process, "process")?.process.kill()?;
        Ok(())
    })
}

/// Waits until it has ended. Any number of threads may wait; all get the same status.
///
/// Ownership: the caller sets `out_status->size`.
/// Errors: `STATUS_LOST` when somebody else took the status from the kernel, and the kernel does not keep it (before 6.15).
/// Threads: any.
/// Rust: `Process::wait`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_wait(
    process: *const pericarp_process_t,
    out_status: *mut pericarp_exit_status_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out_structure(out_status, "out_status")?;
        let status = caller.handle(process, "process")?.process.wait()?;
        out.set(Some(status).into());
        Ok(())
    })
}

/// Waits at most `timeout_ms` milliseconds, or without limit if that is negative. That it still runs then is no error:
/// `out_status->how` is `PERICARP_EXIT_NONE`.
///
/// Ownership: the caller sets `out_status->size`.
/// Errors: as `pericarp_process_wait`.
/// Threads: any.
/// Rust: `Process::wait_timeout`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_wait_timeout(
    process: *const pericarp_process_t,
    timeout_ms: i64,
    out_status: *mut pericarp_exit_status_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out_structure(out_status, "out_status")?;
        let status = caller.handle(process, "process")?.process.wait_timeout(timeout(timeout_ms))?;
        out.set(status.into());
        Ok(())
    })
}

/// The status, if it has ended; otherwise `out_status->how` is `PERICARP_EXIT_NONE`. Never waits.
///
/// Ownership: the caller sets `out_status->size`.
/// Errors: as `pericarp_process_wait`.
/// Threads: any.
/// Rust: `Process::try_wait`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_try_wait(
    process: *const pericarp_process_t,
    out_status: *mut pericarp_exit_status_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out_structure(out_status, "out_status")?;
        let status = caller.handle(process, "process")?.process.try_wait()?;
        out.set(status.into());
        Ok(())
    })
}
