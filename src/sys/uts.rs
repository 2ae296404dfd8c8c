//! The NIS domain name of a UTS namespace.
#![allow(unsafe_code, reason = "nix has no wrapper for this call")]

use super::{Result, check};

/// setdomainname(2), in the UTS namespace of the calling thread.
pub(crate) fn set_domainname(name: &str) -> Result<()> {
    // SAFETY: as many bytes are read as the name has.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}
