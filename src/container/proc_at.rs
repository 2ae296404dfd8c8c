//! The proc(5) of a PID namespace that is given by its path.
//!
//! Before Linux 6.17 nobody can mount the proc of a PID namespace from outside it. A process of init goes in, makes the
//! filesystem, sends it here, and ends.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;

use super::plan;
use super::source::Opener;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::node::Node;
use crate::pod::wait_readable;
use crate::spawn::{Control, Launch, Message};
use crate::sys::{self, pidfd};

/// A detached proc of the PID namespace. For a library thread: the process inherits its namespaces.
pub(super) fn make(node: &Node, namespace: OwnedFd) -> Result<OwnedFd> {
    let plan = plan::proc_of_namespace();
    let (control, inits) = Control::pair()?;
    let mut opener = Opener::new(node, None);
    opener.control(inits);
    opener.give(1, namespace)?;
    let inherited = opener.descriptors();
    let memory = sys::fd::sealed_memfd(c"pericarp-plan", &plan.encode(&inherited)?, false)
        .and_then(sys::fd::clear_of_stdio)
        .step("make", "the plan of init")?;
    let launch = Launch {
        init: node.0.init.as_fd(),
        plan: memory.as_fd(),
        inherited: &inherited,
        namespaces: CloneFlags::empty(),
        cgroup: None,
    };
    let mut processes = vec![launch.spawn()?.pidfd];
    // Only the processes hold the other end from here on.
    drop(opener);
    let result = hear(&control, &plan, &mut processes);
    // It waits for a start that never comes: this is its end.
    drop(control);
    for process in processes {
        wait_readable(&process, None);
        let _ = pidfd::reap(&process);
    }
    result
}

/// Hears of the process that has entered, and then gets the filesystem from it.
fn hear(control: &Control, plan: &plan::Plan, processes: &mut Vec<OwnedFd>) -> Result<OwnedFd> {
    let mut proc = None;
    loop {
        match control.receive()? {
            Message::Fd(fd) if processes.len() == 1 => processes.push(fd),
            Message::Fd(fd) => proc = Some(fd),
            Message::Failed { step, call, errno } => return Err(plan.failure(step, call, errno)),
            // It is at its barrier, or has ended.
            _ => break,
        }
    }
    proc.ok_or_else(|| {
        Error::new(ErrorKind::System, "make")
            .on("the proc of the given PID namespace")
            .because("init ended early")
    })
}
