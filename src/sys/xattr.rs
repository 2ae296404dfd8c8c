//! Extended attributes of files, see xattr(7).
#![allow(unsafe_code, reason = "nix has no wrapper for these calls")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::{Result, check};

/// The value of one, see fgetxattr(2); `None` when the file has none of that name, or it is longer than `N` bytes.
pub(crate) fn get<const N: usize>(file: impl AsFd, name: &CStr) -> Result<Option<Vec<u8>>> {
    let mut value = [0_u8; N];
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the name is NUL-terminated, the buffer is given with its length, and both outlive the call.
    let result = unsafe { libc::fgetxattr(fd, name.as_ptr(), value.as_mut_ptr().cast(), N) };
    match check(result as i64) {
        Ok(length) => Ok(Some(value[..length as usize].to_vec())),
        Err(Errno::ENODATA | Errno::ERANGE | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sets one, see fsetxattr(2).
pub(crate) fn set(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the name is NUL-terminated, the value is given with its length, and both outlive the call.
    let result = unsafe { libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(result.into()).map(drop)
}
