//! Init as a file that can be executed and never changed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Context, Result};
use crate::sys;

/// The program that `build.rs` compiled from `src/init`.
static INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// Init in a sealed file in memory. A container's `/proc/1/exe` is this file while init runs, and never the program
/// that embeds the library (CVE-2019-5736).
pub(crate) struct InitImage(OwnedFd);

impl InitImage {
    /// Writes and seals the file.
    pub(crate) fn new() -> Result<Self> {
        let fd =
            sys::fd::sealed_memfd(c"pericarp-init", INIT, true).step("make", "the sealed image of init")?;
        sys::fd::clear_of_stdio(fd).map(InitImage).step("duplicate", "the sealed image of init")
    }
}

impl AsFd for InitImage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
