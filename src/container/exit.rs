//! Exit statuses, shared by all handles that this program has of a container.
//!
//! A status can be taken from the kernel once (before Linux 6.15). Whoever takes it, a handle that waits or the removal
//! of the whole pod, leaves it here for the others: the state directory, where it stands too, may be gone by then.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::status::ExitStatus;
use crate::pod::state::ProcessRef;
use crate::sys::pidfd;

/// The pause before another look at a process that has ended and that somebody traces: only the end of that is told.
pub(super) const TRACED: Duration = Duration::from_millis(2);

/// The status of one process, as soon as it is known.
pub(crate) type Slot = Arc<Mutex<Option<ExitStatus>>>;

/// A slot for each process that there is a handle of.
static SLOTS: Mutex<Option<Slots>> = Mutex::new(None);

#[derive(Default)]
struct Slots {
    by_process: HashMap<ProcessRef, Weak<Mutex<Option<ExitStatus>>>>,
    /// When the map has so many entries, those without handles are dropped.
    full: usize,
}

/// The slot of a process: that of other handles, or a new one.
pub(crate) fn slot(process: &ProcessRef) -> Slot {
    let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    let slots = slots.get_or_insert_default();
    if let Some(slot) = slots.by_process.get(process).and_then(Weak::upgrade) {
        return slot;
    }
    if slots.by_process.len() >= slots.full {
        slots.by_process.retain(|_, slot| slot.strong_count() > 0);
        slots.full = 64 + 2 * slots.by_process.len();
    }
    let slot = Slot::default();
    slots.by_process.insert(*process, Arc::downgrade(&slot));
    slot
}

/// The status in a slot, if it is there already.
pub(crate) fn known(slot: &Slot) -> Option<ExitStatus> {
    *slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the status of a process that has ended, if it is this program's child, and leaves it to the handles.
/// Returns the status word when it was this call that took it.
pub(crate) fn reap(process: &ProcessRef, pidfd: &OwnedFd) -> Option<i32> {
    let slot = slot(process);
    // Held while the status is taken: a handle that comes meanwhile finds it, and not that somebody took it.
    let mut status = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if status.is_some() {
        return None;
    }
    let word = pidfd::reap(pidfd).ok()??;
    *status = Some(ExitStatus::from_wait(word));
    Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::state::ProcessIdentity;

    #[test]
    fn handles_of_one_process_share_a_slot_as_long_as_there_is_one() {
        let process = |number| ProcessRef { pid: -7, identity: ProcessIdentity::StartTime(number) };
        let (first, second) = (slot(&process(1)), slot(&process(1)));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &slot(&process(2))));
        *first.lock().unwrap() = Some(ExitStatus::Exited(3));
        drop(first);
        assert_eq!(*slot(&process(1)).lock().unwrap(), Some(ExitStatus::Exited(3)));
        drop(second);
        assert_eq!(*slot(&process(1)).lock().unwrap(), None);
        // Slots without handles are not kept for ever.
        (1000..10_000).for_each(|number| drop(slot(&process(number))));
        assert!(SLOTS.lock().unwrap().as_ref().unwrap().by_process.len() < 1000);
    }
}
