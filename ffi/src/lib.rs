//! The C interface of pericarp. No logic is here: every function checks its arguments and calls one method of the
//! Rust library.
//!
//! # Conventions
//!
//! **Handles** (`pericarp_node_t`, `pericarp_pod_t`, `pericarp_container_t`, `pericarp_process_t`, `pericarp_events_t`,
//! `pericarp_fanout_t`, `pericarp_bundle_t`, `pericarp_error_t`) are opaque and counted: who got one gives it back with
//! its `_unref`, which does nothing for NULL; all but errors have a `_ref`, which makes one more. Giving a handle back
//! never kills or removes what it stands for, with one exception: a container that was created and never started ends
//! with its last handle, since nobody could start it any more, unless its specification says `detached`.
//!
//! **Results.** Functions that can fail return 0 or a negative errno(3), and take a last argument
//! `pericarp_error_t **err`, which may be NULL. On failure, `*err` becomes a new error, which the caller gives back
//! with `pericarp_error_unref`; what was in `*err` is overwritten, not given back. On success `*err` is untouched.
//! Out-parameters come last before `err`, and are untouched on failure. There is no "last error" of a thread.
//!
//! **Which number.** That of the system call that failed; where none did, it follows from the code:
//! `INVALID_SPEC` and `INVALID_ARGUMENT` -EINVAL, `ALREADY_EXISTS` -EEXIST, `NOT_FOUND` -ENOENT, `WRONG_STATE`
//! -EBUSY, `UNSUPPORTED` -EOPNOTSUPP, `PERMISSION_DENIED` -EPERM, `EXHAUSTED` -EAGAIN, `CORRUPT_STATE` -EUCLEAN,
//! `EXEC` -ENOEXEC, `HOOK` -EPROTO, `STATUS_LOST` -ECHILD, `PANIC` -ENOTRECOVERABLE, `SYSTEM` -EIO.
//!
//! **Pointers.** Each is checked: one that is NULL, misaligned, or a handle of another type is -EINVAL, and the
//! message names the parameter. Only where a comment says "may be NULL" is NULL allowed. Handles that were given back
//! cannot be told from others with certainty: do not use them.
//!
//! **Panics** never cross. One is a defect of the library: the call returns -ENOTRECOVERABLE, and the handles that
//! took part are poisoned, which means that every later call with them returns the same; they can still be given
//! back. The message also goes to standard error, as Rust's panics do.
//!
//! **Structures** that callers fill begin with `size_t size`, which the caller sets to `sizeof` and all the rest to
//! zero first. A size that is too small is -EINVAL; fields that this library does not know must be zero, or the call
//! is -E2BIG. Flags are 64 bits; unknown ones are -EINVAL.
//!
//! **Strings** are UTF-8 and end with NUL. A `const char *` that a function returns belongs to the handle; a `char *`
//! is the caller's, to be freed with `pericarp_string_free`.
//!
//! **File descriptors.** One from a `_borrow_` function stays the library's. One from a `_dup_`, `_open_`, `_create_`
//! or `_take_` function is the caller's to close, and is close-on-exec. Descriptors given to the library stay the
//! caller's.
//!
//! **JSON.** Specifications of pods and containers are JSON objects whose keys are those of the Rust types `PodSpec`
//! and `ContainerSpec` in camelCase (docs/pod-json.md). Unknown keys are errors that name the key and its place. A
//! container can also be said by an OCI runtime configuration (`pericarp_bundle_open`); there, as that specification
//! demands, properties that nobody knows are no errors.
//!
//! **Threads.** Any thread may call any function with any handle at the same time, and a thread may end at any time
//! outside of a call. Nothing depends on which thread calls. No function calls back into the program, but for messages
//! where it has asked for them.
//!
//! **Logs.** The library writes none. A program that wants to hear of its work sets a callback (`pericarp_log_set`).

#![allow(non_camel_case_types, reason = "the names are those of the C types")]
#![allow(clippy::missing_safety_doc, reason = "the conventions above say it for all functions")]
#![deny(missing_docs)]

mod caller;
mod container;
mod container_life;
mod error;
mod events;
mod exec;
mod fanout;
mod handle;
mod ipc;
mod json;
mod kubernetes;
mod log;
mod node;
mod oci;
mod pod;
mod pod_life;
mod seccomp;
mod stats;
mod structs;
mod terminal;
mod update;
mod user;
mod version;
mod wall;

pub use container::*;
pub use container_life::*;
pub use error::*;
pub use events::*;
pub use exec::*;
pub use fanout::*;
pub use handle::*;
pub use ipc::*;
pub use kubernetes::*;
pub use log::*;
pub use node::*;
pub use oci::*;
pub use pod::*;
pub use pod_life::*;
pub use seccomp::*;
pub use stats::*;
pub use structs::*;
pub use terminal::*;
pub use update::*;
pub use user::*;
pub use version::*;
