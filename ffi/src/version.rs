//! Which library this is.

use std::ffi::{CStr, c_char, c_int};

use crate::caller::Caller;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("the version has a NUL in it"),
};

/// What `pericarp_has_feature` says yes to.
const FEATURES: &[&str] = &[
    "container-json",
    "events",
    "explain",
    "freeze",
    "ipc-mqueue",
    "ipc-shm",
    "ipc-sysv",
    "pod-json",
    "recover",
    "stdio-fds",
];

/// The version of the library that the program runs with: "0.1.0". `PERICARP_VERSION` is the one that it was
/// compiled with.
///
/// Ownership: the string is static.
/// Errors: none.
/// Threads: any.
/// Rust: the version of the crate.
#[unsafe(no_mangle)]
pub extern "C" fn pericarp_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The version as a number that can be compared, like `PERICARP_VERSION_NUMBER`: major * 1000000 + minor * 1000 +
/// patch.
///
/// Ownership: nothing.
/// Errors: none.
/// Threads: any.
/// Rust: the version of the crate.
#[unsafe(no_mangle)]
pub extern "C" fn pericarp_version_number() -> u32 {
    let digits = |text: &str| text.parse::<u32>().unwrap_or(0);
    let (major, minor) = (digits(env!("CARGO_PKG_VERSION_MAJOR")), digits(env!("CARGO_PKG_VERSION_MINOR")));
    major * 1_000_000 + minor * 1000 + digits(env!("CARGO_PKG_VERSION_PATCH"))
}

/// Whether this library can do something: 1 or 0. Names are "container-json" (containers from `ContainerSpec`'s
/// JSON), "pod-json", "events", "explain", "freeze", "ipc-shm", "ipc-mqueue", "ipc-sysv", "recover" and "stdio-fds";
/// later releases add names. Unknown ones are answered with 0. What this machine's kernel can do is another question, which
/// the errors of the calls answer.
///
/// Ownership: the caller keeps `name`.
/// Errors: none; 0 for NULL.
/// Threads: any.
/// Rust: none; a Rust program knows when it is compiled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pericarp_has_feature(name: *const c_char) -> c_int {
    // SAFETY: the caller keeps to the conventions of the header.
    let caller = unsafe { Caller::trust() };
    caller.text(name, "name").is_ok_and(|name| FEATURES.contains(&name)).into()
}
