//! Kubernetes-style pods as a library: no daemon, no pause process, no re-exec of the program that links it.
//!
//! A [`Node`] is the pods of one machine under one state directory. A [`Pod`] is what containers share: a network, IPC
//! and UTS namespace, shared memory, volumes and a cgroup; it needs no process. A [`Container`] is one isolated process
//! tree in a pod. What to make is said by [`PodSpec`] and [`ContainerSpec`].
//!
//! ```no_run
//! use pericarp::{ContainerSpec, Node, NodeOptions, PodSpec, Rootfs};
//!
//! fn main() -> pericarp::Result<()> {
//!     let node = Node::open(&NodeOptions::new())?;
//!     let pod = node.create_pod(&PodSpec::new("shop"))?;
//!     let hello = ContainerSpec::new("hello", Rootfs::overlay(["/"])).args(["echo", "hello"]);
//!     assert!(pod.run(&hello)?.success());
//!     pod.remove()
//! }
//! ```
//!
//! # The host program is a guest of nobody
//!
//! Any thread may call. The library never changes the working directory, umask, environment, dumpable flag, resource
//! limits, subreaper flag, signal handlers or masks, oom_score_adj, or the namespaces of the calling thread. It
//! installs nothing when it is loaded, never calls waitpid(-1), opens every file close-on-exec, and dropping a handle
//! never blocks and never kills, with one exception: a container that was created, never started and is not detached
//! ends with its last handle, since nobody could start it any more.
//!
//! Containers are children of the program that starts them: when one ends, the kernel sends `SIGCHLD`. A program that
//! takes every child's status with `waitpid(-1)`, or ignores `SIGCHLD`, loses exit statuses on kernels before 6.15;
//! the library then says so ([`ErrorKind::StatusLost`]) and never hangs.
//!
//! # Logs
//!
//! The library tells the [`log`](https://docs.rs/log) facade what it does, and writes nothing: without a logger that the
//! host installs nothing comes of it. Targets are `pericarp::node`, `pericarp::pod` and `pericarp::container`.
//!
//! - `info`: a pod was made or removed; a container was made, started, ended or removed, with its name and its pod's.
//!   Containers that end with the removal of their pod go without words of their own.
//! - `warn`: failures that no call returns, since another error matters more: of taking back what was half made, and of
//!   hooks after the first that failed (with what the hook wrote, as in errors); and what [`Node::recover`] has found broken.
//! - `debug`: a program was executed in a container.
//!
//! No message has arguments, environment or the sources of mounts. A logger is called on the thread that calls the library,
//! which may hold locks on the pod then: it must not call the library itself.
//!
//! # Features
//!
//! `tokio`: the events of a pod as a stream (`Events::into_stream`). Off by default; it brings tokio's reactor as a
//! dependency, and nothing else of this library uses it.
//!
//! # Needs
//!
//! Linux 6.1 or later, cgroup v2 (a hybrid with v1 is enough for pods without limits), and root; or an ordinary user, whose
//! pods end with the program ([`NodeOptions::for_user`]).

#![deny(missing_docs)]

mod cgroup;
mod container;
mod error;
mod events;
mod fanout;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod init;
mod logs;
mod node;
mod pod;
mod spawn;
pub mod spec;
pub mod stats;
mod sys;

/// The model of OCI configurations that `from_oci` takes.
pub use oci_spec;

pub use cgroup::CgroupParent;
pub use container::{Container, ContainerStatus, ExitStatus, Plan, Process, Terminal};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "tokio")]
pub use events::EventStream;
pub use events::{Event, EventOptions, EventSource, Events, Pressure, PressureShare, PressureTrigger, Since};
pub use fanout::{Fanout, SlowReader};
pub use node::{IdRange, IdRanges, Node, NodeOptions, NodeUser, Recovery};
pub use pod::ipc::{
    IpcListing, MessageQueueInfo, SemaphoreSetInfo, SharedMemoryInfo, ShmObjectInfo, SysvMessageQueueInfo,
};
pub use pod::{NamespaceKind, Pod, PodIpc, PodStatus};
#[doc(inline)]
pub use spec::{ContainerSpec, ExecSpec, Mount, PodSpec, Resources, Rootfs, Stdio, Volume};
#[doc(inline)]
pub use stats::{ContainerStats, NodeStats, PodStats, StatsOptions};
