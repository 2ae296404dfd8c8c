//! What pods and containers use: one call for a node, a pod or a container.
//!
//! A reading opens the files of a cgroup relative to its directory, reads each once and closes it: no process is
//! started, nothing is kept open, and no file is parsed twice. Nodes with many pods are read by several threads, which
//! end before the call does. The counters of a pod's network interfaces come over
//! netlink from the pod's own namespace.
//!
//! What this machine cannot tell is `None`, never 0.
//!
//! ```no_run
//! # fn main() -> pericarp::Result<()> {
//! # let node = pericarp::Node::open(&pericarp::NodeOptions::new())?;
//! let stats = node.stats()?;
//! for pod in &stats.pods {
//!     for container in &pod.containers {
//!         let memory = container.cgroup.memory.as_ref().and_then(|memory| memory.working_set_bytes);
//!         println!("{}/{}: {:?} us, {memory:?} bytes", pod.name, container.name, container.cgroup.cpu.usage_usec);
//!     }
//! }
//! print!("{}", stats.to_prometheus());
//! # Ok(())
//! # }
//! ```

mod filesystem;
mod machine;
mod network;
mod parse;
mod prometheus;
mod read;
mod types;
mod walk;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use machine::MachineStats;
pub use types::{
    CgroupStats, CpuStats, DeviceIo, FilesystemStats, HugetlbStats, InterfaceStats, IoCounters, MemoryDetail,
    MemoryEvents, MemoryStats, PidsStats, Pressure, PressureStats, RdmaStats, Stall,
};

use crate::container::Container;
use crate::error::{Error, ErrorKind, Result};
use crate::node::Node;
use crate::pod::Pod;

/// What to read besides what is always read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct StatsOptions {
    /// The counters of the pods' network interfaces; on unless said otherwise. They take a library thread a reading and
    /// some 40 us a pod.
    pub network: bool,
    /// How many processes there are, from `cgroup.procs`; on unless said otherwise.
    pub processes: bool,
    /// The limits that are in force (`cpu.max`, `cpu.max.burst`, `cpu.weight`, `memory.max`, `memory.high`, `memory.low`,
    /// `memory.min`, `memory.swap.max`, `pids.max`), a file each; off unless said otherwise.
    pub limits: bool,
    /// How full the containers' writable layers and the pods' volumes are; not asked unless given, since directories
    /// have to be counted file by file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystems: Option<FilesystemOptions>,
}

impl Default for StatsOptions {
    fn default() -> Self {
        StatsOptions { network: true, processes: true, limits: false, filesystems: None }
    }
}

impl StatsOptions {
    /// What is read without options.
    pub fn new() -> Self {
        Self::default()
    }

    /// See [`network`](Self::network).
    pub fn network(mut self, on: bool) -> Self {
        self.network = on;
        self
    }

    /// See [`processes`](Self::processes).
    pub fn processes(mut self, on: bool) -> Self {
        self.processes = on;
        self
    }

    /// See [`limits`](Self::limits).
    pub fn limits(mut self, on: bool) -> Self {
        self.limits = on;
        self
    }

    /// See [`filesystems`](Self::filesystems).
    pub fn filesystems(mut self, how: FilesystemOptions) -> Self {
        self.filesystems = Some(how);
        self
    }

    fn validate(&self) -> Result<()> {
        match &self.filesystems {
            Some(FilesystemOptions { max_files: 0 }) => {
                Err(Error::invalid("filesystems.maxFiles", "is 0; leave `filesystems` out to count nothing"))
            }
            _ => Ok(()),
        }
    }
}

/// How filesystems are looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct FilesystemOptions {
    /// How many files of one directory are counted at most; 100 000 unless said otherwise. What is a tmpfs of its own
    /// is asked, and nothing is counted in it.
    pub max_files: u64,
}

impl Default for FilesystemOptions {
    fn default() -> Self {
        FilesystemOptions { max_files: 100_000 }
    }
}

impl FilesystemOptions {
    /// Counts at most so many files of a directory.
    pub fn max_files(max_files: u64) -> Self {
        FilesystemOptions { max_files }
    }
}

/// What a node's pods use, and the machine as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct NodeStats {
    /// When the reading began, in microseconds since 1970.
    pub timestamp_usec: u64,
    /// The machine, pods or not.
    pub machine: MachineStats,
    /// Where cgroup v2 is mounted: the paths of cgroups are below it. Empty in a node without cgroups.
    pub cgroup_mount: PathBuf,
    /// The directory of the node's cgroup; empty likewise.
    pub cgroup_path: PathBuf,
    /// All pods together: the node's cgroup, which pods at a cgroup path of their own are not part of.
    pub cgroup: CgroupStats,
    /// The pods, by namespace and name.
    pub pods: Vec<PodStats>,
}

/// What a pod uses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct PodStats {
    /// When it was read, in microseconds since 1970.
    pub timestamp_usec: u64,
    /// The pod's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The namespace that the name is unique in.
    pub namespace: String,
    /// When it was made, in microseconds since 1970.
    pub created_at_usec: u64,
    /// The directory of its cgroup.
    pub cgroup_path: PathBuf,
    /// The pod as a whole.
    pub cgroup: CgroupStats,
    /// Its network interfaces; `None` if it has the host's, or they were not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Vec<InterfaceStats>>,
    /// Its volumes, if filesystems were asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, FilesystemStats>,
    /// Its containers, by name.
    pub containers: Vec<ContainerStats>,
}

/// What a container uses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ContainerStats {
    /// When it was read, in microseconds since 1970.
    pub timestamp_usec: u64,
    /// The container's name.
    pub name: String,
    /// When it was made, in microseconds since 1970, to a hundredth of a second: by the time of a file.
    pub created_at_usec: u64,
    /// When it was started, likewise; `None` before, and for one that [`Pod::run`] runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at_usec: Option<u64>,
    /// What it uses. All `None` when its cgroup is gone, such as after somebody else removed it.
    pub cgroup: CgroupStats,
    /// Its writable layer, if filesystems were asked for: what the container has changed in an overlay. `None` for a
    /// root filesystem that is a directory, and for a tmpfs layer of a container that does not run, which nobody can
    /// see any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writable_layer: Option<FilesystemStats>,
}

impl Node {
    /// What all pods and containers use, in one reading.
    ///
    /// Pods and containers that are removed meanwhile are left out.
    ///
    /// # Errors
    /// What the kernel says, and those of [`pods`](Self::pods).
    pub fn stats(&self) -> Result<NodeStats> {
        self.stats_with(&StatsOptions::default())
    }

    /// As [`stats`](Self::stats), with more or less.
    ///
    /// # Errors
    /// `InvalidSpec` for a bound of 0; else as there.
    pub fn stats_with(&self, options: &StatsOptions) -> Result<NodeStats> {
        options
            .validate()
            .and_then(|()| walk::node(self, options))
            .map_err(|error| error.within("read stats"))
    }
}

impl Pod {
    /// What the pod and its containers use.
    ///
    /// # Errors
    /// `NotFound` when it is gone; what the kernel says.
    pub fn stats(&self) -> Result<PodStats> {
        self.stats_with(&StatsOptions::default())
    }

    /// As [`stats`](Self::stats), with more or less.
    ///
    /// # Errors
    /// `InvalidSpec` for a bound of 0; else as there.
    pub fn stats_with(&self, options: &StatsOptions) -> Result<PodStats> {
        let context =
            |error: Error| error.within(format!("read stats of pod {}/{}", self.namespace(), self.name()));
        options.validate().and_then(|()| walk::pod(self, options)).map_err(context)
    }
}

impl Container {
    /// What the container uses, or has used until it ended.
    ///
    /// # Errors
    /// `NotFound` when it is gone; what the kernel says.
    pub fn stats(&self) -> Result<ContainerStats> {
        self.stats_with(&StatsOptions::default())
    }

    /// As [`stats`](Self::stats), with more or less.
    ///
    /// # Errors
    /// `InvalidSpec` for a bound of 0; else as there.
    pub fn stats_with(&self, options: &StatsOptions) -> Result<ContainerStats> {
        let context = |error: Error| {
            error.within(format!("read stats of container {:?} of pod {}", self.name(), self.pod().name()))
        };
        options.validate().and_then(|()| walk::container(self, options)).map_err(context)
    }
}

/// That something is gone.
fn gone(what: String) -> Error {
    Error::new(ErrorKind::NotFound, "find").on(what).because("it is gone")
}
