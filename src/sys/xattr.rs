//! Extended attributes of files, see xattr(7).
#![allow(unsafe_code, reason = "nix has no wrapper for these calls")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use super::{Result, check};

/// Sets one, see fsetxattr(2).
pub(crate) fn set(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the name is NUL-terminated, the value is given with its length, and both outlive the call.
    let result = unsafe { libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(result.into()).map(drop)
}
