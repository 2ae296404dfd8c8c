//! Terminals of containers and of other programs in them. In C a terminal is the descriptor of its master.

use std::ffi::{c_char, c_int};
use std::io::IsTerminal;
use std::os::fd::IntoRawFd;

use pericarp::Terminal;

use crate::caller::{Caller, duplicate, text_for_caller};
use crate::container::pericarp_container_t;
use crate::error::{Problem, pericarp_error_t};
use crate::exec::pericarp_process_t;

/// A terminal of a caller's descriptor, for one call.
fn terminal(master: c_int) -> Result<Terminal, Problem> {
    let copy = duplicate(master, "master")?;
    if !copy.is_terminal() {
        return Err(Problem::argument("master", "is no terminal"));
    }
    Ok(Terminal::from(copy))
}

fn taken(terminal: Option<Terminal>) -> Result<c_int, Problem> {
    let none = || Problem::none("take", "the terminal", "it was not asked for, or was taken before");
    Ok(std::os::fd::OwnedFd::from(terminal.ok_or_else(none)?).into_raw_fd())
}

/// Takes the terminal of a container whose specification asked for one (`"terminal": true`): the descriptor of the master of
/// a pty(7). What is written to it is typed, what is read from it is displayed; reading fails with `EIO` once nobody has the
/// other side open any more. When all copies of it are closed, the terminal hangs up.
///
/// Ownership: `*out_master` is the caller's to close.
/// Errors: `NOT_FOUND` when there is none, or it was taken before.
/// Threads: any.
/// Rust: `Container::take_terminal`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_container_take_terminal(
    container: *const pericarp_container_t,
    out_master: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_master, "out_master")?;
        let container = caller.handle(container, "container")?;
        out.set(taken(container.container.take_terminal())?);
        Ok(())
    })
}

/// Takes the terminal of another program in a container, as `pericarp_container_take_terminal`.
///
/// Ownership: `*out_master` is the caller's to close.
/// Errors: `NOT_FOUND` when there is none, or it was taken before.
/// Threads: any.
/// Rust: `Process::take_terminal`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_process_take_terminal(
    process: *const pericarp_process_t,
    out_master: *mut c_int,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_master, "out_master")?;
        let process = caller.handle(process, "process")?;
        out.set(taken(process.process.take_terminal())?);
        Ok(())
    })
}

/// Sets the size of a terminal in characters. The processes in the foreground get `SIGWINCH`.
///
/// Ownership: `master` stays the caller's.
/// Errors: `INVALID_ARGUMENT` when `master` is no terminal.
/// Threads: any.
/// Rust: `Terminal::resize`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_terminal_resize(
    master: c_int,
    width: u16,
    height: u16,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        terminal(master)?.resize(width, height)?;
        Ok(())
    })
}

/// The size of a terminal in characters.
///
/// Ownership: `master` stays the caller's.
/// Errors: `INVALID_ARGUMENT` when `master` is no terminal.
/// Threads: any.
/// Rust: `Terminal::size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_terminal_size(
    master: c_int,
    out_width: *mut u16,
    out_height: *mut u16,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let (to_width, to_height) =
            (caller.out(out_width, "out_width")?, caller.out(out_height, "out_height")?);
        let (width, height) = terminal(master)?.size()?;
        to_width.set(width);
        to_height.set(height);
        Ok(())
    })
}

/// The path of the other side of a terminal in its container: "/dev/pts/0".
///
/// Ownership: `master` stays the caller's; `*out_name` is the caller's to free with `pericarp_string_free`.
/// Errors: `INVALID_ARGUMENT` when `master` is no terminal.
/// Threads: any.
/// Rust: `Terminal::name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_terminal_name(
    master: c_int,
    out_name: *mut *mut c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let out = caller.out(out_name, "out_name")?;
        out.set(text_for_caller(&terminal(master)?.name()?));
        Ok(())
    })
}

/// Sends a terminal to a program that listens on a stream socket at that path, as OCI runtimes do with `--console-socket`: one
/// message, whose text is the name and which the descriptor comes along with (`SCM_RIGHTS`, unix(7)).
///
/// Ownership: `master` stays the caller's, open.
/// Errors: `INVALID_ARGUMENT` when `master` is no terminal; what the kernel says.
/// Threads: any.
/// Rust: `Terminal::send_to`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_terminal_send_to(
    master: c_int,
    path: *const c_char,
    err: *mut *mut pericarp_error_t,
) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.entry(err, || {
        let path = caller.text(path, "path")?;
        terminal(master)?.send_to(path)?;
        Ok(())
    })
}
