//! The one error type of the library.

use std::borrow::Cow;
use std::fmt;

use nix::errno::Errno;

/// What went wrong, coarsely: enough to decide what to do next.
///
/// More kinds may be added; match with a wildcard arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The specification is wrong. Nothing was made.
    InvalidSpec,
    /// Something of that name or id exists already.
    AlreadyExists,
    /// No pod, container, IPC object or path of that name.
    NotFound,
    /// The object is in a state in which the call makes no sense, for instance a second `start`.
    WrongState,
    /// This kernel or machine lacks what was asked for, for instance a cgroup controller.
    Unsupported,
    /// The kernel refused for lack of privilege (`EPERM`, `EACCES`).
    PermissionDenied,
    /// A limit or quota of the machine is used up (`ENOMEM`, `ENOSPC`, `EMFILE`, `EAGAIN`, …).
    Exhausted,
    /// Files of the state directory do not hold what this library writes.
    CorruptState,
    /// The program of a container could not be executed.
    Exec,
    /// A hook failed that follows what the call did: that was done, and stays so.
    Hook,
    /// The process has ended, but somebody else took its exit status and this kernel does not keep it
    /// (before Linux 6.15).
    StatusLost,
    /// Any other failed system call; [`Error::errno`] says which error.
    System,
}

/// An error of this library.
///
/// It answers four questions: what kind of failure is it ([`Error::kind`]), what did the kernel say
/// ([`Error::errno`]), which step failed ([`Error::step`]), and on what ([`Error::subject`]). The text puts them in
/// one line, outermost context first:
///
/// ```text
/// create container "web" of pod shop: mount proc on /proc: EPERM: Operation not permitted: in move_mount
/// ```
pub struct Error(Box<Repr>);

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

struct Repr {
    kind: ErrorKind,
    errno: Option<Errno>,
    step: Cow<'static, str>,
    subject: Option<String>,
    detail: Option<Cow<'static, str>>,
    /// Innermost first; printed the other way round.
    context: Vec<String>,
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The error number of the failed system call (see errno(3)), when a system call failed.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno.map(|errno| errno as i32)
    }

    /// The step that failed, in words: "mount proc", "check the specification".
    pub fn step(&self) -> &str {
        &self.0.step
    }

    /// What the step worked on: a path, a field of a specification, a container.
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    fn build(kind: ErrorKind, errno: Option<Errno>, step: Cow<'static, str>) -> Self {
        Error(Box::new(Repr { kind, errno, step, subject: None, detail: None, context: Vec::new() }))
    }

    /// A failed system call: the kind follows from the error number.
    pub(crate) fn system(errno: Errno, step: impl Into<Cow<'static, str>>) -> Self {
        let kind = match errno {
            Errno::EPERM | Errno::EACCES | Errno::EROFS => ErrorKind::PermissionDenied,
            Errno::ENOENT => ErrorKind::NotFound,
            Errno::EEXIST => ErrorKind::AlreadyExists,
            Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::ENODEV => ErrorKind::Unsupported,
            Errno::ENOMEM
            | Errno::ENOSPC
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::EAGAIN
            | Errno::EDQUOT
            | Errno::EUSERS => ErrorKind::Exhausted,
            _ => ErrorKind::System,
        };
        Self::build(kind, Some(errno), step.into())
    }

    /// A failure without a failed system call.
    pub(crate) fn new(kind: ErrorKind, step: impl Into<Cow<'static, str>>) -> Self {
        Self::build(kind, None, step.into())
    }

    /// The specification's `field` is wrong because of `detail`.
    pub(crate) fn invalid(field: impl fmt::Display, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidSpec, "check the specification").on(field).because(detail)
    }

    /// Names what the step worked on.
    pub(crate) fn on(mut self, subject: impl fmt::Display) -> Self {
        self.0.subject = Some(subject.to_string());
        self
    }

    /// Says why, or what to do about it.
    pub(crate) fn because(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds what happened besides to the reason.
    pub(crate) fn and(self, more: impl Into<String>) -> Self {
        let more = more.into();
        let detail =
            self.0.detail.as_ref().map_or_else(|| more.clone(), |detail| format!("{detail}; {more}"));
        self.because(detail)
    }

    /// Replaces the kind that was derived from the error number, where the caller knows better.
    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Puts the error into the context of a larger step ("create pod default/shop").
    pub(crate) fn within(mut self, context: impl fmt::Display) -> Self {
        self.0.context.push(context.to_string());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        f.write_str(&self.0.step)?;
        if let Some(subject) = &self.0.subject {
            write!(f, " {subject}")?;
        }
        if let Some(errno) = self.0.errno {
            write!(f, ": {errno}")?;
        }
        if let Some(detail) = &self.0.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {}

/// Adds the step and its subject to a bare error number.
pub(crate) trait Context<T> {
    /// Names the step that failed, in words, and what it worked on.
    fn step(self, step: impl Into<Cow<'static, str>>, subject: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, Errno> {
    fn step(self, step: impl Into<Cow<'static, str>>, subject: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Error::system(errno, step).on(subject))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn step(self, step: impl Into<Cow<'static, str>>, subject: impl fmt::Display) -> Result<T> {
        self.map_err(|error| match error.raw_os_error() {
            Some(raw) => Error::system(Errno::from_raw(raw), step).on(subject),
            None => Error::new(ErrorKind::System, step).on(subject).because(error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_context_step_subject_and_errno_in_that_order() {
        let error = Error::system(Errno::EPERM, "mount proc").on("/proc").within("create container \"web\"");
        assert_eq!(
            error.to_string(),
            "create container \"web\": mount proc /proc: EPERM: Operation not permitted"
        );
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(error.errno(), Some(libc::EPERM));
        assert_eq!(error.step(), "mount proc");
        assert_eq!(error.subject(), Some("/proc"));
    }

    #[test]
    fn io_errors_keep_their_number() {
        let result: std::io::Result<()> = Err(std::io::Error::from_raw_os_error(libc::EMFILE));
        let error = result.step("open", "/x").unwrap_err();
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Exhausted, Some(libc::EMFILE)));
    }

    #[test]
    fn invalid_names_the_field() {
        let error = Error::invalid("args", "is empty");
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        assert_eq!(error.to_string(), "check the specification args: is empty");
    }
}
