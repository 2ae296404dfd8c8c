//! How a process ended, for those who only watch: nothing is taken from whoever waits for it.

use std::os::fd::{AsFd, OwnedFd};

use crate::container::{ExitStatus, exit};
use crate::error::Result;
use crate::node::Node;
use crate::pod::state::{self, ExitState, ProcessRef};
use crate::sys::pidfd;

/// The status of a process that has ended, from wherever it is already: a handle of this program that has waited, the
/// file of a program that has, the process itself if nobody has, or the kernel's memory of it.
pub(super) fn find(
    node: &Node,
    process: &ProcessRef,
    slot: &exit::Slot,
    pidfd: Option<&OwnedFd>,
    dir: Option<&OwnedFd>,
) -> Result<Option<ExitStatus>> {
    if let Some(status) = exit::known(slot) {
        return Ok(Some(status));
    }
    if let Some(dir) = dir
        && let Some(written) = state::read::<ExitState>(dir, state::EXIT)?
    {
        return Ok(Some(ExitStatus::from_wait(written.status)));
    }
    let Some(pidfd) = pidfd else { return Ok(None) };
    let zombie = || node.0.proc.zombie_status(process.pid, pidfd.as_fd());
    // Who takes it between the one look and the other leaves it where the others are.
    let word = zombie().or_else(|| pidfd::kept_status(pidfd));
    Ok(word.map(ExitStatus::from_wait).or_else(|| exit::known(slot)))
}
