//! The proc(5) of a PID namespace that is given by its path.
//!
//! Before Linux 6.17 nobody can mount the proc of a PID namespace from outside it. A process of init goes in, makes the
//! filesystem, sends it here, and ends.

use std::os::fd::OwnedFd;

use nix::sched::CloneFlags;

use super::plan;
use crate::error::{Error, ErrorKind, Result};
use crate::node::Node;
use crate::pod::Helper;

/// A detached proc of the PID namespace. For a library thread: the process inherits its namespaces.
pub(super) fn make(node: &Node, namespace: OwnedFd) -> Result<OwnedFd> {
    let mut namespace = Some(namespace);
    let open = |_: &_| {
        namespace
            .take()
            .ok_or_else(|| Error::new(ErrorKind::System, "open").on("one namespace for two sources"))
    };
    Helper::start(node, plan::proc_of_namespace(), CloneFlags::empty(), open)?.file()
}
