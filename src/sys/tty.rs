//! Terminals, see ioctl_tty(2).
#![allow(unsafe_code, reason = "nix has no wrappers for these calls")]

use std::os::fd::{AsFd, AsRawFd};

use super::{Result, check};

/// Sets the size in characters, and tells the foreground processes (`SIGWINCH`) when it changes.
pub(crate) fn resize(master: impl AsFd, width: u16, height: u16) -> Result<()> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure is the one of this call, and outlives it.
    check(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size) }.into()).map(drop)
}

/// The width and height in characters.
pub(crate) fn size(master: impl AsFd) -> Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure is the one of this call, and ours.
    check(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &mut size) }.into())?;
    Ok((size.ws_col, size.ws_row))
}

/// The number of the other side in its devpts.
pub(crate) fn number(master: impl AsFd) -> Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: an unsigned int is what this call writes.
    check(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTN, &mut number) }.into())?;
    Ok(number)
}
