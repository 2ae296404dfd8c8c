//! What is left of a pod goes: its processes, its cgroup, its pins.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use super::journal;
use super::pins::PodPins;
use super::state::{self, PodState, ProcessRef};
use crate::container;
use crate::error::Result;
use crate::node::{self, Home, Node};
use crate::sys;
use crate::sys::clock::Deadline;

/// How long killed processes may take to be gone: in uninterruptible sleep, or giving back gigabytes.
const KILLED: Duration = Duration::from_secs(10);

/// Removes all of a pod but its state, which must be in `dir`, and its name. Can be done again when it failed.
pub(crate) fn dismantle(node: &Node, home: &Home, id: &str, dir: &OwnedFd) -> Result<()> {
    // One that cannot be read must not keep the pod from being removed: all but the wait for its init goes by the id.
    let state: Option<PodState> = state::read(dir, state::STATE).unwrap_or_default();
    if let Some(cgroup) = super::place::open_remains(node, dir, id, state.as_ref())? {
        let children = processes(node, dir, state.as_ref());
        if !children.is_empty() {
            let leaving = journal::leaving(node, dir, &cgroup);
            // Before the cgroup goes: process 1 of a PID namespace ends only when all that died in it have been reaped,
            // and since Linux 6.19 its cgroup is not empty until then.
            cgroup.kill()?;
            for (process, _) in &children {
                node.0.guests.wait_for_programs(process, KILLED);
            }
            reap_all(children);
            leaving.iter().for_each(|container| container.note(dir));
        }
        super::place::remove(&cgroup)?;
    } else if !node.0.cgroups.exists() {
        end(node, processes(node, dir, state.as_ref()));
    }
    node.0.realm.run(|| PodPins::enter(&home.pins, id)?.remove())
}

/// Removes the cgroup of a pod whose namespaces are gone, with all that runs in it.
pub(crate) fn remove_cgroup(node: &Node, dir: &OwnedFd, id: &str) -> Result<()> {
    let state: Option<PodState> = state::read(dir, state::STATE).unwrap_or_default();
    if !node.0.cgroups.exists() {
        end(node, processes(node, dir, state.as_ref()));
    }
    super::place::open_remains(node, dir, id, state.as_ref())?
        .map_or(Ok(()), |cgroup| super::place::remove(&cgroup))
}

/// Kills the first processes of containers that have no cgroup, and with them all of their PID namespaces.
fn end(node: &Node, processes: Vec<(ProcessRef, OwnedFd)>) {
    for (_, pidfd) in &processes {
        // What has ended needs no signal.
        let _ = sys::pidfd::send_signal(pidfd, libc::SIGKILL);
    }
    for (process, _) in &processes {
        node.0.guests.wait_for_programs(process, KILLED);
    }
    reap_all(processes);
}

/// Waits until the processes, which were killed, have ended, as they do, and takes the statuses of those that are this
/// program's children: they are not left as zombies.
fn reap_all(mut processes: Vec<(ProcessRef, OwnedFd)>) {
    let deadline = Deadline::after(Some(KILLED));
    while !processes.is_empty() && !deadline.passed() {
        let mut fds: Vec<PollFd<'_>> =
            processes.iter().map(|(_, fd)| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        if poll(&mut fds, deadline.poll_timeout()).is_err_and(|errno| errno != Errno::EINTR) {
            return;
        }
        let ended: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let mut ended = ended.into_iter();
        processes.retain(|(process, fd)| {
            let ended = ended.next().unwrap_or(false);
            if ended {
                container::exit::reap(process, fd);
            }
            !ended
        });
    }
}

/// The first processes of a pod's containers, and its reaper, with descriptors.
fn processes(node: &Node, dir: &OwnedFd, state: Option<&PodState>) -> Vec<(ProcessRef, OwnedFd)> {
    let names = node::open_directory(dir, state::CONTAINERS).and_then(node::names).unwrap_or_default();
    let of_container = |name: &String| {
        let dir = node::open_directory(dir, format!("{}/{name}", state::CONTAINERS).as_str()).ok()?;
        let state: state::ContainerState = state::read(&dir, state::STATE).ok()??;
        Some(state.process)
    };
    names
        .iter()
        .filter_map(of_container)
        .chain(state.and_then(|state| state.reaper))
        .filter_map(|process| Some((process, node.0.proc.open_process(&process).ok()??)))
        .collect()
}
