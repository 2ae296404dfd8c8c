//! The wire format that the library shares with init. Init itself is `main.rs` in this folder, which `build.rs`
//! compiles as a program of its own.

#[allow(dead_code, reason = "each side uses its half: the library writes plans, init reads them")]
pub(crate) mod wire;
