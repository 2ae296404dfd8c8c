//! One isolated process tree in a pod.

mod create;
mod ending;
mod exec;
pub(crate) mod exit;
pub(crate) mod guests;
mod handle;
mod hooks;
mod listener;
mod live;
pub(crate) mod lsm;
mod oom;
pub(crate) mod plan;
mod proc_at;
mod process;
pub(crate) mod seccomp;
pub(crate) mod source;
mod starting;
mod status;
mod stdio;
mod terminal;

pub use handle::Container;
pub use plan::Plan;
pub use process::Process;
pub use status::{ContainerStatus, ExitStatus};
pub use terminal::Terminal;

pub(crate) use create::{create, run};
pub(crate) use handle::{Inner, Started, open};
pub(crate) use source::{not_mapped, set_propagation};
