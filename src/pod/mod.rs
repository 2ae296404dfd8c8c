//! The shared context of containers: a pod.

mod borrowed;
mod create;
mod ending;
mod given;
mod handle;
mod helper;
pub mod ipc;
mod ipc_handle;
pub(crate) mod journal;
pub(crate) mod kubernetes;
mod netdev;
pub(crate) mod pins;
mod place;
mod reaper;
mod resize;
mod score;
pub(crate) mod settle;
pub(crate) mod state;
mod update;
mod user;

pub use handle::{NamespaceKind, Pod, PodStatus};
pub use ipc_handle::PodIpc;

pub(crate) use create::create;
pub(crate) use ending::{dismantle, remove_cgroup};
pub(crate) use handle::{Inner, open, open_as_is};
pub(crate) use helper::Helper;
