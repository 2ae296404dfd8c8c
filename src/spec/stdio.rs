//! Where standard input, output and error of a container go.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One standard stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stdio {
    /// The null device, whatever the container has at `/dev/null`.
    #[default]
    Null,
    /// That of the calling program. A terminal is refused: a container could push characters into it
    /// (`TIOCSTI`); use [`Stdio::Pipe`] and copy.
    Inherit,
    /// A file of the host, made when it is missing, appended to when it is an output.
    File(PathBuf),
    /// A pipe; the other end is taken from the container's handle.
    Pipe,
    /// An open file of the caller's, which keeps it.
    #[serde(skip)]
    Fd(SharedFd),
}

impl Stdio {
    /// An open file. It is duplicated for the container; the specification can be used again.
    pub fn fd(fd: impl Into<OwnedFd>) -> Self {
        Stdio::Fd(SharedFd(Arc::new(fd.into())))
    }
}

impl PartialEq for Stdio {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Stdio::Null, Stdio::Null) | (Stdio::Inherit, Stdio::Inherit) | (Stdio::Pipe, Stdio::Pipe) => {
                true
            }
            (Stdio::File(a), Stdio::File(b)) => a == b,
            (Stdio::Fd(a), Stdio::Fd(b)) => a == b,
            _ => false,
        }
    }
}

/// A file descriptor that a specification holds; closed with the last copy of the specification.
#[derive(Debug, Clone)]
pub struct SharedFd(Arc<OwnedFd>);

impl SharedFd {
    /// The file that this program inherited under a number, for callers that are told "descriptors 3 to N".
    ///
    /// # Errors
    /// When there is none, or it is one of this program's own (`FD_CLOEXEC`).
    pub fn inherited(number: i32) -> crate::Result<Self> {
        use crate::error::Context;
        let fd = crate::sys::fd::duplicate_number(number).step("inherit descriptor", number)?;
        Ok(SharedFd(Arc::new(fd)))
    }
}

impl From<OwnedFd> for SharedFd {
    fn from(fd: OwnedFd) -> Self {
        SharedFd(Arc::new(fd))
    }
}

impl PartialEq for SharedFd {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl AsFd for SharedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The three standard streams.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StdioSet {
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
}
