//! What happens in a pod, told through one pollable descriptor and without a thread.
//!
//! The truth is always read: the directories of state, the flags and counters of cgroups, pidfds. What the kernel notifies
//! of (inotify(7), epoll(7)) only says where to look, so that a notification too few, too many or too late never makes
//! an event wrong. What would be gone before anybody looks is in the pod's journal (`pod/journal.rs`).

mod event;
mod handle;
mod options;
mod pressure;
mod status;
#[cfg(feature = "tokio")]
mod stream;
mod tracked;
mod watcher;

pub use event::Event;
pub use handle::{EventSource, Events};
pub use options::{EventOptions, Pressure, PressureShare, PressureTrigger, Since};
#[cfg(feature = "tokio")]
pub use stream::EventStream;
