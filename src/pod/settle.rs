//! What is left of a resize whose program did not live to end it.
//!
//! Who resizes a pod first writes a record into its directory, and removes it last. So whoever finds one, and can lock the
//! directory, knows that each limit is the old or the new one and that `memory.high` may still hold what ran at a limit
//! that was about to sink. The old limits are put back. Where the pod uses more memory than these by now, and the kernel
//! cannot reclaim it, the resize is finished instead; if that cannot be done either the record stays, and it is tried
//! again the next time.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::FlockArg;
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::Pod;
use super::kubernetes::{Allocation, allocation};
use super::resize::Changes;
use super::state::{self, PodState};
use crate::error::{Context, Error, Result};
use crate::logs;
use crate::node;
use crate::spec::kubernetes::Shrink;

/// The file in a pod's directory while it is being resized.
pub(crate) const FILE: &str = "resize.json";

/// A resize under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    version: u32,
    /// What the pod had before, and has until the new is admitted.
    pub(crate) old: Allocation,
    new: Allocation,
    /// `memory.high` where it sinks for a while, by the id of the cgroup.
    pub(super) highs: BTreeMap<u64, String>,
}

/// How a resize that was cut short has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// There was none.
    Nothing,
    /// The pod has what it had before.
    TakenBack,
    /// The pod has what it was to have.
    Finished,
}

impl Record {
    pub(super) fn new(old: Allocation, new: Allocation, highs: BTreeMap<u64, String>) -> Self {
        Record { version: PodState::version(), old, new, highs }
    }

    /// The record in a pod's directory; `None` when nobody has left one.
    pub(crate) fn read(dir: &OwnedFd) -> Result<Option<Self>> {
        state::read(dir, FILE)
    }

    pub(super) fn write(&self, dir: &OwnedFd) -> Result<()> {
        state::write(dir, FILE, self)
    }

    /// With that the resize is done.
    pub(super) fn remove(dir: &OwnedFd) -> Result<()> {
        match unlinkat(dir, FILE, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            result => result.step("remove", FILE),
        }
    }
}

/// Takes back, or else finishes, what a program that is gone has left half done. The pod's directory `dir` must be locked.
pub(crate) fn settle(pod: &Pod, dir: &OwnedFd) -> Result<Settled> {
    let context = |error: Error| error.within("settle a resize that was cut short");
    let Some(record) = Record::read(dir).map_err(context)? else { return Ok(Settled::Nothing) };
    let now = allocation(pod).map_err(context)?.unwrap_or_else(|| record.old.clone());
    let containers = pod.containers().map_err(context)?;
    let become_ = |to: &Allocation| -> Result<()> {
        let from = [&record.old, &record.new, &now];
        let changes = Changes::new(pod, &containers, &from, to, &record.highs)?;
        changes.apply(Shrink::Reclaim).map_err(|failed| failed.error)?;
        to.write(dir)?;
        Record::remove(dir)
    };
    let first = match become_(&record.old) {
        Ok(()) => return Ok(Settled::TakenBack),
        Err(error) => error,
    };
    // Only what was admitted may be finished.
    if now != record.new {
        return Err(context(first));
    }
    match become_(&record.new) {
        Ok(()) => Ok(Settled::Finished),
        Err(error) => Err(context(first.and(format!("and it cannot be finished: {error}")))),
    }
}

impl Pod {
    /// As [`settle`], unless somebody is at work in the pod: that may be the program which resizes it. Best effort, for
    /// whoever opens the pod; who recovers the node, or resizes the pod again, is told.
    pub(super) fn settle_if_idle(&self, dir: OwnedFd) {
        if state::exists(&dir, FILE)
            && let Ok(dir) = node::lock(dir, FlockArg::LockExclusiveNonblock)
        {
            logs::swallowed(logs::POD, self.words(), "settle an earlier resize", settle(self, &dir));
        }
    }
}
