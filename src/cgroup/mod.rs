//! Control groups, version 2 only: where pods and containers live, and what limits them.
//!
//! The tree is `<parent>/<pod>/<container>`. Processes are only in the leaves, as cgroup v2 demands of whoever
//! wants to limit them ("No Internal Process Constraint"); every controller that the machine has is enabled on the
//! way down; limits are written before the first process. A container's first process is born in its cgroup by
//! `clone3(CLONE_INTO_CGROUP)`, which takes the descriptor of `Cgroup`.
//!
//! Three rules hold everywhere here:
//! - Hierarchies of cgroup v1 are never touched, not even on hybrid machines.
//! - Once a directory is open, everything goes through its descriptor by names of one component: no path is
//!   resolved twice.
//! - A limit that cannot be applied is an error that names the file, the controller and the reason. Nothing is left
//!   out silently.
//!
//! See `Documentation/admin-guide/cgroup-v2.rst` of the kernel for every file that is written here.
#![deny(unsafe_code)]

mod bounds;
mod classes;
mod controller;
mod cpulist;
mod devices;
mod dir;
mod events;
mod group;
mod lack;
mod mounts;
mod optional;
mod parent;
mod place;
mod remove;
mod resize;
mod settings;
mod tree;
mod update;
mod validate;
mod walk;
mod watch;

#[cfg(test)]
mod inspect;
#[cfg(test)]
mod kernel_limit_tests;
#[cfg(test)]
mod kernel_tests;

pub(crate) use controller::{Controller, ControllerSet};
pub(crate) use events::is_populated;
pub(crate) use group::Cgroup;
pub(crate) use mounts::copy_of_host;
pub use parent::CgroupParent;
pub(crate) use place::check_path;
pub(crate) use resize::{Change, Failed, resize};
pub(crate) use tree::{Tree, no_cgroups};
pub(crate) use update::update_all;
pub(crate) use validate::validate;
pub(crate) use watch::MemoryCounts;
