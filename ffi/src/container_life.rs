//! A container from its start to its removal.

use std::ffi::c_int;
use std::time::Duration;

use pericarp::ContainerStatus;

use crate::caller::Caller;
use crate::container::pericarp_container_t;
use crate::error::pericarp_error_t;
use crate::structs::*;

/// Made, waiting for its start.
pub const PERICARP_CONTAINER_CREATED: u32 = 1;
/// Its program runs.
pub const PERICARP_CONTAINER_RUNNING: u32 = 2;
/// It has ended.
pub const PERICARP_CONTAINER_EXITED: u32 = 3;

/// No limit for a negative time.
pub(crate) fn timeout(milliseconds: i64) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

/// Executes the program, and returns when it runs.
///
/// Ownership: the caller keeps `container`.
/// Errors: `EXEC` when it cannot be executed; `WRONG_STATE` when it was started before, or while it is
/// frozen, or in a program that did not make the container, unless that is detached.
/// Threads: any.
/// Rust: `Container::start`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_start(
    container: *const pericarp_container_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(container, "container")?.container.start()?;
        Ok(())
    })
}

/// Sends a signal (signal(7)) to the container's first process. The kernel drops signals that process 1 of a PID
/// namespace has no handler for, except `SIGKILL` and `SIGSTOP`.
///
/// Ownership: the caller keeps `container`.
/// Errors: `WRONG_STATE` when the process has ended.
/// Threads: any.
/// Rust: `Container::signal`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_signal(
    container: *const pericarp_container_t,
    signal: c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(container, "container")?.container.signal(signal)?;
        Ok(())
    })
}

/// Sends a signal (signal(7)) to every process of the container: those that there are at one moment, for which they are
/// frozen. `SIGKILL` is as `pericarp_container_kill`.
///
/// Ownership: the caller keeps `container`.
/// Errors: `WRONG_STATE` when no process is left; `INVALID_SPEC` for what is no signal, 1 to 64; `UNSUPPORTED` in a node
/// without cgroups; `PERMISSION_DENIED` for a process that a security module protects: all others have the signal then.
/// Threads: any.
/// Rust: `Container::signal_all`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_signal_all(
    container: *const pericarp_container_t,
    signal: c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(container, "container")?.container.signal_all(signal)?;
        Ok(())
    })
}

/// Kills every process of the container's cgroup at once (`cgroup.kill`). Nothing to kill is no error.
///
/// Ownership: the caller keeps `container`.
/// Errors: what the kernel says.
/// Threads: any.
/// Rust: `Container::kill`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_kill(
    container: *const pericarp_container_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(container, "container")?.container.kill()?;
        Ok(())
    })
}

/// Waits until the container's first process has ended. Any number of threads and programs may wait; all get the same
/// status. To wait for many, poll(2) their pidfds.
///
/// Ownership: the caller sets `out_status->size`.
/// Errors: `STATUS_LOST` when somebody else took the status from the kernel (waitpid(-1), `SIGCHLD` ignored), and the kernel
/// does not keep it (before 6.15).
/// Threads: any.
/// Rust: `Container::wait`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_wait(
    container: *const pericarp_container_t,
    out_status: *mut pericarp_exit_status_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out_structure(out_status, "out_status")?;
        let status = caller.handle(container, "container")?.container.wait()?;
        out.set(Some(status).into());
        Ok(())
    })
}

/// Waits at most `timeout_ms` milliseconds, or without limit if that is negative. That the container still runs then is no
/// error: `out_status->how` is `PERICARP_EXIT_NONE`.
///
/// Ownership: the caller sets `out_status->size`.
/// Errors: as `pericarp_container_wait`.
/// Threads: any.
/// Rust: `Container::wait_timeout`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_wait_timeout(
    container: *const pericarp_container_t,
    timeout_ms: i64,
    out_status: *mut pericarp_exit_status_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out_structure(out_status, "out_status")?;
        let container = caller.handle(container, "container")?;
        out.set(container.container.wait_timeout(timeout(timeout_ms))?.into());
        Ok(())
    })
}

/// The status, if the container's first process has ended; otherwise `out_status->how` is `PERICARP_EXIT_NONE`. Never
/// waits.
///
/// Ownership: the caller sets `out_status->size`.
/// Errors: as `pericarp_container_wait`.
/// Threads: any.
/// Rust: `Container::try_wait`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_try_wait(
    container: *const pericarp_container_t,
    out_status: *mut pericarp_exit_status_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out_structure(out_status, "out_status")?;
        out.set(caller.handle(container, "container")?.container.try_wait()?.into());
        Ok(())
    })
}

/// Where the container is in its life: one of the `PERICARP_CONTAINER_` constants, and how it ended. One that has ended
/// with `PERICARP_EXIT_NONE` has lost its status: nobody waited, and this kernel does not keep it.
///
/// Ownership: the caller sets `out_status->size`.
/// Errors: what the kernel says.
/// Threads: any.
/// Rust: `Container::status`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_status(
    container: *const pericarp_container_t,
    out_state: *mut u32,
    out_status: *mut pericarp_exit_status_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let state = caller.out(out_state, "out_state")?;
        let out = caller.out_structure(out_status, "out_status")?;
        let (word, status) = match caller.handle(container, "container")?.container.status()? {
            ContainerStatus::Created => (PERICARP_CONTAINER_CREATED, None),
            ContainerStatus::Running => (PERICARP_CONTAINER_RUNNING, None),
            ContainerStatus::Exited(status) => (PERICARP_CONTAINER_EXITED, status),
        };
        state.set(word);
        out.set(status.into());
        Ok(())
    })
}

/// Asks the container to end by its stop signal, waits at most `grace_ms` milliseconds, and then kills all that is left
/// of it. One that was never started is killed at once. `out_status`, which tells how it ended, may be NULL.
///
/// Ownership: the caller sets `out_status->size`.
/// Errors: as `pericarp_container_wait`.
/// Threads: any.
/// Rust: `Container::stop`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_stop(
    container: *const pericarp_container_t,
    grace_ms: u64,
    out_status: *mut pericarp_exit_status_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = match out_status.is_null() {
            true => None,
            false => Some(caller.out_structure(out_status, "out_status")?),
        };
        let container = caller.handle(container, "container")?;
        let status = container.container.stop(Duration::from_millis(grace_ms))?;
        if let Some(out) = out {
            out.set(Some(status).into());
        }
        Ok(())
    })
}

/// Ends the container if it has not ended, and removes all that there is of it. Its name is free again. The handle must
/// still be given back; it goes on telling how the container ended.
///
/// Ownership: the caller keeps its reference to `container`.
/// Errors: `NOT_FOUND` when it is gone already.
/// Threads: any.
/// Rust: `Container::remove`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_remove(
    container: *const pericarp_container_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(container, "container")?.container.remove()?;
        Ok(())
    })
}

/// The process ids of the container, ascending, as the host sees them. Zombies count, processes of a PID namespace that
/// this program cannot see into are 0. As many as there is room for are written to `pids`, which may be NULL if `room` is
/// 0; `*out_count` is how many there are, which may be more.
///
/// Ownership: `pids` is the caller's array of `room` elements.
/// Errors: what the kernel says.
/// Threads: any.
/// Rust: `Container::processes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_processes(
    container: *const pericarp_container_t,
    pids: *mut i32,
    room: usize,
    out_count: *mut usize,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_count, "out_count")?;
        caller.fill(pids, room, &[], "pids")?;
        let processes = caller.handle(container, "container")?.container.processes()?;
        caller.fill(pids, room, &processes, "pids")?;
        out.set(processes.len());
        Ok(())
    })
}

/// Stops every process of the container where it is (`cgroup.freeze`), and returns when all have stopped. Frozen
/// processes can be killed.
///
/// Ownership: the caller keeps `container`.
/// Errors: when some have not stopped after 10 seconds; then all run on.
/// Threads: any.
/// Rust: `Container::freeze`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_freeze(
    container: *const pericarp_container_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(container, "container")?.container.freeze()?;
        Ok(())
    })
}

/// Lets every process of the container run again.
///
/// Ownership: the caller keeps `container`.
/// Errors: `NOT_FOUND` when its cgroup is gone.
/// Threads: any.
/// Rust: `Container::thaw`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_thaw(
    container: *const pericarp_container_t,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        caller.handle(container, "container")?.container.thaw()?;
        Ok(())
    })
}
