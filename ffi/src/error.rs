//! Errors as a C program gets them.

use std::borrow::Cow;
use std::ffi::{CString, c_char, c_int};
use std::ptr::null;

use pericarp::ErrorKind;

use crate::caller::{Caller, c_string};
use crate::handle::{Handle, Head, handle};
use crate::wall::{Panic, on_purpose};

/// The specification is wrong. Nothing was made.
pub const PERICARP_ERROR_INVALID_SPEC: c_int = 1;
/// Something of that name or id exists already.
pub const PERICARP_ERROR_ALREADY_EXISTS: c_int = 2;
/// No pod, container, IPC object or path of that name.
pub const PERICARP_ERROR_NOT_FOUND: c_int = 3;
/// The object is in a state in which the call makes no sense, for instance a second start.
pub const PERICARP_ERROR_WRONG_STATE: c_int = 4;
/// This kernel or machine lacks what was asked for, for instance a cgroup controller.
pub const PERICARP_ERROR_UNSUPPORTED: c_int = 5;
/// The kernel refused for lack of privilege.
pub const PERICARP_ERROR_PERMISSION_DENIED: c_int = 6;
/// A limit or quota of the machine is used up.
pub const PERICARP_ERROR_EXHAUSTED: c_int = 7;
/// Files of the state directory do not hold what this library writes.
pub const PERICARP_ERROR_CORRUPT_STATE: c_int = 8;
/// The program of a container could not be executed.
pub const PERICARP_ERROR_EXEC: c_int = 9;
/// The process has ended, but somebody else took its exit status and this kernel does not keep it (before Linux 6.15).
pub const PERICARP_ERROR_STATUS_LOST: c_int = 10;
/// Any other failed system call; `pericarp_error_errno` says which error.
pub const PERICARP_ERROR_SYSTEM: c_int = 11;
/// An argument of the call is wrong: NULL, not UTF-8, of an unknown size, an unknown flag.
pub const PERICARP_ERROR_INVALID_ARGUMENT: c_int = 12;
/// A defect of the library, see "Panics" in the conventions.
pub const PERICARP_ERROR_PANIC: c_int = 13;
/// A hook failed that follows what the call did: that was done, and stays so.
pub const PERICARP_ERROR_HOOK: c_int = 14;

/// Why a call failed. It never changes.
pub struct pericarp_error_t {
    head: Head,
    code: c_int,
    errno: c_int,
    step: CString,
    subject: Option<CString>,
    message: CString,
}

/// A failure on its way to the caller, as cheap as possible as long as nobody asked for more than the number.
pub(crate) enum Problem {
    /// Of the library.
    Library(pericarp::Error),
    /// Of the call itself.
    Call { code: c_int, number: c_int, step: &'static str, subject: String, detail: Cow<'static, str> },
}

impl From<pericarp::Error> for Problem {
    fn from(error: pericarp::Error) -> Self {
        Problem::Library(error)
    }
}

impl Problem {
    fn call(
        code: c_int,
        number: c_int,
        step: &'static str,
        subject: &str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Problem::Call { code, number, step, subject: subject.to_string(), detail: detail.into() }
    }

    /// The argument of that name is wrong.
    pub(crate) fn argument(name: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::call(PERICARP_ERROR_INVALID_ARGUMENT, libc::EINVAL, "check the argument", name, detail)
    }

    /// The structure of that name is larger than this library understands.
    pub(crate) fn too_big(name: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::call(PERICARP_ERROR_INVALID_ARGUMENT, libc::E2BIG, "check the argument", name, detail)
    }

    /// The JSON text is no specification.
    pub(crate) fn json(place: &str, detail: String) -> Self {
        Self::call(PERICARP_ERROR_INVALID_SPEC, libc::EINVAL, "read the specification", place, detail)
    }

    /// There is none.
    pub(crate) fn none(step: &'static str, subject: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::call(PERICARP_ERROR_NOT_FOUND, libc::ENOENT, step, subject, detail)
    }

    /// The call makes no sense as things are.
    pub(crate) fn wrong_state(step: &'static str, subject: &str, detail: &'static str) -> Self {
        Self::call(PERICARP_ERROR_WRONG_STATE, libc::EBUSY, step, subject, detail)
    }

    /// A failed system call of this crate's own.
    pub(crate) fn system(error: std::io::Error, step: &'static str, subject: &str) -> Self {
        let number = error.raw_os_error().unwrap_or(libc::EIO);
        Self::call(PERICARP_ERROR_SYSTEM, number, step, subject, error.to_string())
    }

    pub(crate) fn panic(panic: &Panic) -> Self {
        let said = format!("panicked: {}", panic.text());
        Self::call(PERICARP_ERROR_PANIC, libc::ENOTRECOVERABLE, "work", "", said)
    }

    pub(crate) fn poisoned(name: &str) -> Self {
        let why = "is poisoned: an earlier call with it panicked";
        Self::call(PERICARP_ERROR_PANIC, libc::ENOTRECOVERABLE, "check the argument", name, why)
    }

    /// The error number that the call returns, positive.
    pub(crate) fn number(&self) -> c_int {
        let error = match self {
            Problem::Library(error) => error,
            Problem::Call { number, .. } => return *number,
        };
        error.errno().filter(|errno| *errno > 0).unwrap_or(match error.kind() {
            ErrorKind::InvalidSpec => libc::EINVAL,
            ErrorKind::AlreadyExists => libc::EEXIST,
            ErrorKind::NotFound => libc::ENOENT,
            ErrorKind::WrongState => libc::EBUSY,
            ErrorKind::Unsupported => libc::EOPNOTSUPP,
            ErrorKind::PermissionDenied => libc::EPERM,
            ErrorKind::Exhausted => libc::EAGAIN,
            ErrorKind::CorruptState => libc::EUCLEAN,
            ErrorKind::Exec => libc::ENOEXEC,
            ErrorKind::StatusLost => libc::ECHILD,
            ErrorKind::Hook => libc::EPROTO,
            _ => libc::EIO,
        })
    }
}

fn code(kind: ErrorKind) -> c_int {
    match kind {
        ErrorKind::InvalidSpec => PERICARP_ERROR_INVALID_SPEC,
        ErrorKind::AlreadyExists => PERICARP_ERROR_ALREADY_EXISTS,
        ErrorKind::NotFound => PERICARP_ERROR_NOT_FOUND,
        ErrorKind::WrongState => PERICARP_ERROR_WRONG_STATE,
        ErrorKind::Unsupported => PERICARP_ERROR_UNSUPPORTED,
        ErrorKind::PermissionDenied => PERICARP_ERROR_PERMISSION_DENIED,
        ErrorKind::Exhausted => PERICARP_ERROR_EXHAUSTED,
        ErrorKind::CorruptState => PERICARP_ERROR_CORRUPT_STATE,
        ErrorKind::Exec => PERICARP_ERROR_EXEC,
        ErrorKind::StatusLost => PERICARP_ERROR_STATUS_LOST,
        ErrorKind::Hook => PERICARP_ERROR_HOOK,
        _ => PERICARP_ERROR_SYSTEM,
    }
}

impl pericarp_error_t {
    pub(crate) fn new(problem: Problem) -> Self {
        on_purpose::at("error");
        match &problem {
            Problem::Library(error) => pericarp_error_t {
                head: Head::new(Self::MARK),
                code: code(error.kind()),
                errno: error.errno().unwrap_or(0),
                step: c_string(error.step()),
                subject: error.subject().map(c_string),
                message: c_string(&error.to_string()),
            },
            Problem::Call { code, number, step, subject, detail } => {
                let space = if subject.is_empty() { "" } else { " " };
                pericarp_error_t {
                    head: Head::new(Self::MARK),
                    code: *code,
                    errno: if *code == PERICARP_ERROR_SYSTEM { *number } else { 0 },
                    step: c_string(step),
                    subject: (!subject.is_empty()).then(|| c_string(subject)),
                    message: c_string(&format!("{step}{space}{subject}: {detail}")),
                }
            }
        }
    }
}

handle!(pericarp_error_t, 0x7065_7269_4552_524f);

/// The kind of failure: one of the `PERICARP_ERROR_` constants. More may be added.
///
/// Ownership: the caller keeps `error`.
/// Errors: none; 0 for NULL.
/// Threads: any.
/// Rust: `Error::kind`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_error_code(error: *const pericarp_error_t) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(error, 0, |error| error.code)
}

/// The error number of the failed system call (see errno(3)), positive; 0 when no system call failed.
///
/// Ownership: the caller keeps `error`.
/// Errors: none; 0 for NULL.
/// Threads: any.
/// Rust: `Error::errno`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_error_errno(error: *const pericarp_error_t) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(error, 0, |error| error.errno)
}

/// The step that failed, in words: "mount proc", "check the argument".
///
/// Ownership: the string belongs to `error` and is valid as long as that is.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Error::step`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_error_step(error: *const pericarp_error_t) -> *const c_char {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(error, null(), |error| error.step.as_ptr())
}

/// What the step worked on: a path, a field of a specification, a container, a parameter. NULL when there is nothing
/// to name.
///
/// Ownership: the string belongs to `error` and is valid as long as that is.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Error::subject`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_error_subject(error: *const pericarp_error_t) -> *const c_char {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(error, null(), |error| error.subject.as_ref().map_or(null(), |subject| subject.as_ptr()))
}

/// All of it in one line, the outermost context first.
///
/// Ownership: the string belongs to `error` and is valid as long as that is.
/// Errors: none; NULL for NULL.
/// Threads: any.
/// Rust: `Error`'s `Display`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_error_message(error: *const pericarp_error_t) -> *const c_char {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.look(error, null(), |error| error.message.as_ptr())
}

/// Gives an error back.
///
/// Ownership: takes the caller's reference to `error`, which may be NULL.
/// Errors: none.
/// Threads: any.
/// Rust: `Drop` of `Error`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_error_unref(error: *mut pericarp_error_t) {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.unrefer(error);
}
