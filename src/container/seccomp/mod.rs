//! Seccomp: what system calls a container may make.
//!
//! [`profile`] is the model, with the semantics of the OCI runtime specification;
//! [`default_program`] is the policy that every container gets unless its spec says otherwise, [`custom_program`] that
//! of a spec;
//! [`compile`](mod@compile) turns a profile into a BPF program for seccomp(2). All of it is pure data: nothing here
//! makes a system call. The container's first process loads the program, as its last step before exec.

pub(crate) mod arch;
pub(crate) mod bpf;
mod cache;
pub(crate) mod compile;
mod custom;
mod defaults;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub(crate) mod profile;
mod syscalls;

#[cfg(test)]
mod tests;

pub(crate) use cache::{custom_program, default_program};
pub(crate) use compile::Program;
