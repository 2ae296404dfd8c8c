//! One isolated process tree in a pod: what it is, and its descriptors. Its life is in `container_life.rs`.

use std::ffi::{CString, c_char, c_int};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::ptr::{null, null_mut};

use pericarp::spec::StdioSet;
use pericarp::{Container, ContainerSpec, Stdio};

use crate::caller::{Caller, c_string, duplicate, give, known_flags, text_for_caller};
use crate::error::{Problem, pericarp_error_t};
use crate::handle::{Handle, Head, handle};
use crate::json;
use crate::pod::pericarp_pod_t;
use crate::structs::*;

/// A container of a pod.
pub struct pericarp_container_t {
    head: Head,
    pub(crate) container: Container,
    name: CString,
}

handle!(pericarp_container_t, 0x7065_7269_434f_4e54);

impl pericarp_container_t {
    pub(crate) fn new(container: Container) -> Self {
        pericarp_container_t { head: Head::new(Self::MARK), name: c_string(container.name()), container }
    }

    /// For the functions that are in files of their own.
    pub(crate) fn inner(&self) -> &Container {
        &self.container
    }
}

/// The specification that a JSON text and a structure of streams make together.
pub(crate) fn container_spec(
    caller: Caller,
    json: *const c_char,
    stdio: *const pericarp_stdio_t,
) -> Result<ContainerSpec, Problem> {
    let (json, given) = (caller.text(json, "json")?, given_streams(caller, stdio)?);
    let mut spec: ContainerSpec = json::read(json)?;
    put_streams(given, &mut spec.stdio)?;
    Ok(spec)
}

/// The structure of streams, where there is one.
pub(crate) fn given_streams(
    caller: Caller,
    stdio: *const pericarp_stdio_t,
) -> Result<Option<pericarp_stdio_t>, Problem> {
    if stdio.is_null() { Ok(None) } else { caller.structure(stdio, "stdio").map(Some) }
}

/// Puts the descriptors of the structure in the place of streams.
pub(crate) fn put_streams(given: Option<pericarp_stdio_t>, streams: &mut StdioSet) -> Result<(), Problem> {
    let Some(given) = given else { return Ok(()) };
    known_flags(given.flags, 0, "stdio->flags")?;
    if given.reserved != 0 {
        return Err(Problem::argument("stdio->reserved", "is not 0"));
    }
    for (stream, fd, name) in [
        (&mut streams.stdin, given.stdin_fd, "stdio->stdin_fd"),
        (&mut streams.stdout, given.stdout_fd, "stdio->stdout_fd"),
        (&mut streams.stderr, given.stderr_fd, "stdio->stderr_fd"),
    ] {
        match fd {
            -1 => {}
            0.. => *stream = Stdio::fd(duplicate(fd, name)?),
            _ => {
                return Err(Problem::argument(
                    name,
                    format!("is {fd}, which is neither a descriptor nor -1"),
                ));
            }
        }
    }
    Ok(())
}

fn pidfd(fd: Option<BorrowedFd<'_>>) -> Result<BorrowedFd<'_>, Problem> {
    fd.ok_or_else(|| {
        Problem::none("get", "the pidfd", "the process had ended before the container was opened")
    })
}

/// One more reference to a container, the same pointer. NULL for NULL.
///
/// Ownership: the caller gets a reference to give back with `pericarp_container_unref`.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Clone` of `Container`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_ref(
    container: *const pericarp_container_t,
) -> *mut pericarp_container_t {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.refer(container)
}

/// Gives a reference to a container back. It goes on, unless it was never started, is not detached, and this was
/// its last handle.
///
/// Ownership: takes the caller's reference to `container`, which may be NULL.
/// Errors: none.
/// Threads: any.
/// Rust: `Drop` of `Container`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_unref(container: *mut pericarp_container_t) {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.unrefer(container);
}

/// Frees a list of containers with the references in it. To keep one, take a reference of it first.
///
/// Ownership: takes `containers`, which may be NULL: a list as this library returns it, which ends with NULL.
/// Errors: none.
/// Threads: any.
/// Rust: `Drop` of `Vec<Container>`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_list_free(containers: *mut *mut pericarp_container_t) {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.free_handles(containers);
}

/// The name, unique in the pod.
///
/// Ownership: the string belongs to `container` and is valid as long as the caller's reference.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Container::name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_name(container: *const pericarp_container_t) -> *const c_char {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(container, null(), |container| container.name.as_ptr())
}

/// The pod, as a new handle.
///
/// Ownership: the result is the caller's to give back with `pericarp_pod_unref`.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Container::pod`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_pod(
    container: *const pericarp_container_t,
) -> *mut pericarp_pod_t {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller
        .look(container, null_mut(), |container| give(pericarp_pod_t::new(container.container.pod().clone())))
}

/// The specification that it was made of, as JSON. Streams given as descriptors are not remembered.
///
/// Ownership: `*out_json` is the caller's to free with `pericarp_string_free`.
/// Errors: only those of arguments.
/// Threads: any.
/// Rust: `Container::spec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_spec(
    container: *const pericarp_container_t,
    out_json: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_json, "out_json")?;
        let mut spec = caller.handle(container, "container")?.container.spec().clone();
        for stream in [&mut spec.stdio.stdin, &mut spec.stdio.stdout, &mut spec.stdio.stderr] {
            if matches!(stream, Stdio::Fd(_)) {
                *stream = Stdio::Null;
            }
        }
        out.set(text_for_caller(&json::write(&spec)?));
        Ok(())
    })
}

/// The process id of the container's first process, as the host sees it. It may have ended, and another process may have
/// the number: use a pidfd.
///
/// Ownership: the caller keeps `container`.
/// Errors: none; -1 for NULL.
/// Threads: any.
/// Rust: `Container::pid`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_pid(container: *const pericarp_container_t) -> i32 {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(container, -1, |container| container.container.pid())
}

/// A descriptor of the container's first process, which becomes readable when that ends (pidfd_open(2)).
///
/// Ownership: `*out_fd` stays the library's: do not close it. It is valid as long as the caller's reference to
/// `container`.
/// Errors: `NOT_FOUND` when the process had ended before the container was opened.
/// Threads: any.
/// Rust: `Container::pidfd`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_borrow_pidfd(
    container: *const pericarp_container_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let container = caller.handle(container, "container")?;
        out.set(pidfd(container.container.pidfd())?.as_raw_fd());
        Ok(())
    })
}

/// A copy of the descriptor of `pericarp_container_borrow_pidfd`.
///
/// Ownership: `*out_fd` is the caller's to close.
/// Errors: as `pericarp_container_borrow_pidfd`; `SYSTEM` when no more files can be opened.
/// Threads: any.
/// Rust: `Container::pidfd`, `BorrowedFd::try_clone_to_owned`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_dup_pidfd(
    container: *const pericarp_container_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let container = caller.handle(container, "container")?;
        let copy = pidfd(container.container.pidfd())?.try_clone_to_owned();
        let copy = copy.map_err(|error| Problem::system(error, "duplicate", "the pidfd"))?;
        out.set(copy.into_raw_fd());
        Ok(())
    })
}

/// Takes the other end of a standard input that the specification asked for as `"pipe"`. Closing it is the end of file.
///
/// Ownership: `*out_fd` is the caller's to close.
/// Errors: `NOT_FOUND` when there is none, or it was taken before.
/// Threads: any.
/// Rust: `Container::take_stdin`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_take_stdin(
    container: *const pericarp_container_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let container = caller.handle(container, "container")?;
        let pipe = container.container.take_stdin();
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
/// Rust: `Container::take_stdout`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_take_stdout(
    container: *const pericarp_container_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let container = caller.handle(container, "container")?;
        let pipe = container.container.take_stdout();
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
/// Rust: `Container::take_stderr`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_take_stderr(
    container: *const pericarp_container_t,
    out_fd: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_fd, "out_fd")?;
        let container = caller.handle(container, "container")?;
        let pipe = container.container.take_stderr();
        let none =
            || Problem::none("take", "the pipe of stderr", "it was not asked for, or was taken before");
        out.set(pipe.ok_or_else(none)?.into_raw_fd());
        Ok(())
    })
}
