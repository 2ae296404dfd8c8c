//! What both interfaces can do, in the words of the Rust one.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use log::LevelFilter;
use pericarp::spec::kubernetes::{Capacity, KubernetesPod, Resize};
use pericarp::spec::{
    DeviceRule, IdMappings, IpcObjects, MessageQueueSpec, SemaphoreSetSpec, SharedMemorySpec, ShmObjectSpec,
    SysvMessageQueueSpec,
};
use pericarp::stats::StatsOptions;
use pericarp::{
    ContainerSpec, ContainerStatus, ErrorKind, Event, EventOptions, ExecSpec, ExitStatus, NamespaceKind,
    NodeOptions, PodSpec, Resources, SlowReader, Stdio,
};
use serde_json::Value;

/// All that an error tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub kind: ErrorKind,
    pub errno: Option<i32>,
    pub step: String,
    pub subject: Option<String>,
    pub message: String,
}

pub type Res<T> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

/// Messages of the library: level (1 error to 5 trace), target and text.
pub type Lines = Mutex<Vec<(u32, String, String)>>;

/// One of the interfaces.
pub trait Api: Sync {
    /// The one that names of tests begin with.
    fn word(&self) -> &'static str;
    /// Collects messages up to a level from now on, or none any more.
    fn set_log(&self, level: LevelFilter, lines: Option<&'static Lines>) -> Res<()>;
    fn open(&self, options: &NodeOptions) -> Res<Box<dyn NodeApi>>;
    fn delegated_cgroup(&self) -> Res<PathBuf>;
    /// As text and as a number.
    fn version(&self) -> (String, u32);
    fn bundle(&self, path: &Path) -> Res<Box<dyn BundleApi>>;
    fn parse_bundle(&self, text: &str, path: &Path) -> Res<Box<dyn BundleApi>>;
    fn oci_features(&self) -> Value;
    /// As the JSON of the header.
    fn explain_kubernetes(&self, pod: &KubernetesPod, machine: &Capacity) -> Res<Value>;
    fn fanout(&self, source: OwnedFd, backlog: usize, slow: SlowReader) -> Res<Box<dyn FanoutApi>>;
    fn terminal(&self, master: OwnedFd) -> Box<dyn TerminalApi>;
}

/// An OCI configuration.
pub trait BundleApi: Send + Sync {
    fn again(&self) -> Box<dyn BundleApi>;
    /// What is behind it, which the other calls of the same interface look for.
    fn as_any(&self) -> &dyn Any;
    fn path(&self) -> String;
    fn config(&self) -> Value;
    fn warnings(&self) -> Vec<String>;
    fn pod_spec(&self, name: &str) -> Res<PodSpec>;
    fn container_spec(&self) -> Res<ContainerSpec>;
}

pub trait FanoutApi: Send + Sync {
    fn again(&self) -> Box<dyn FanoutApi>;
    fn attach(&self) -> Res<File>;
    fn attach_from_now(&self) -> Res<File>;
    /// A copy of it.
    fn fd(&self) -> OwnedFd;
    fn pump(&self) -> Res<bool>;
    fn run(&self) -> Res<()>;
    fn readers(&self) -> usize;
}

pub trait TerminalApi: Send + Sync {
    /// A copy of the master.
    fn file(&self) -> File;
    fn resize(&self, width: u16, height: u16) -> Res<()>;
    fn size(&self) -> Res<(u16, u16)>;
    fn name(&self) -> Res<String>;
    fn send_to(&self, path: &Path) -> Res<()>;
}

pub trait NodeApi: Send + Sync {
    /// One more handle.
    fn again(&self) -> Box<dyn NodeApi>;
    fn create_pod(&self, spec: &PodSpec) -> Res<Box<dyn PodApi>>;
    /// By the setters in Rust and by the structure in C, which say less than the specification.
    fn create_simple_pod(&self, simple: &Simple) -> Res<Box<dyn PodApi>>;
    fn create_pod_oci(&self, bundle: &dyn BundleApi, name: &str) -> Res<Box<dyn PodApi>>;
    fn pods(&self) -> Res<Vec<Box<dyn PodApi>>>;
    fn open_pod(&self, id_or_name: &str) -> Res<Box<dyn PodApi>>;
    /// As the JSON of the header.
    fn recover(&self) -> Res<Value>;
    fn controllers(&self) -> Vec<String>;
    /// As the JSON of the header.
    fn stats(&self, options: &StatsOptions) -> Res<Value>;
    fn prometheus(&self) -> Res<String>;
    fn capacity(&self) -> Res<Value>;
    fn remove(&self) -> Res<()>;
}

/// What `pericarp_pod_options_t` says.
#[derive(Default)]
pub struct Simple {
    pub name: String,
    pub namespace: Option<String>,
    pub hostname: Option<String>,
    pub shm_size: Option<u64>,
    pub ephemeral: bool,
    pub hostname_files: bool,
    pub host_network: bool,
    pub host_ipc: bool,
    pub host_uts: bool,
    pub shared_pid: bool,
    pub host_pid: bool,
}

pub trait PodApi: Send + Sync {
    fn again(&self) -> Box<dyn PodApi>;
    fn id(&self) -> String;
    fn name(&self) -> String;
    fn namespace(&self) -> String;
    fn cgroup_path(&self) -> String;
    /// Nanoseconds since 1970.
    fn created_at(&self) -> u64;
    fn node(&self) -> Box<dyn NodeApi>;
    fn spec(&self) -> PodSpec;
    fn label(&self, key: &str) -> Option<String>;
    fn namespace_fd(&self, kind: NamespaceKind) -> Res<OwnedFd>;
    fn namespace_inode(&self, kind: NamespaceKind) -> Res<u64>;
    fn create_container(&self, spec: &ContainerSpec) -> Res<Box<dyn ContainerApi>>;
    /// With that as its standard output: an open file, or the null device.
    fn create_container_oci(
        &self,
        bundle: &dyn BundleApi,
        name: &str,
        stdout: Stdio,
    ) -> Res<Box<dyn ContainerApi>>;
    fn run(&self, spec: &ContainerSpec) -> Res<ExitStatus>;
    fn explain(&self, spec: &ContainerSpec) -> Res<String>;
    fn container(&self, name: &str) -> Res<Box<dyn ContainerApi>>;
    fn containers(&self) -> Res<Vec<Box<dyn ContainerApi>>>;
    /// As the JSON of the header.
    fn status(&self) -> Res<Value>;
    /// As the JSON of the header.
    fn stats(&self, options: &StatsOptions) -> Res<Value>;
    fn stop(&self, grace: Duration) -> Res<()>;
    fn freeze(&self) -> Res<()>;
    fn thaw(&self) -> Res<()>;
    fn is_frozen(&self) -> Res<bool>;
    fn kill(&self) -> Res<()>;
    fn events(&self, options: Option<&EventOptions>) -> Res<Box<dyn EventsApi>>;
    fn remove(&self) -> Res<()>;
    fn qos_class(&self) -> Option<String>;
    /// As the JSON of the specification.
    fn kubernetes(&self) -> Res<Option<Value>>;
    /// As the JSON of the header.
    fn resize(&self, resize: &Resize) -> Res<Value>;
    fn update(&self, resources: &Resources) -> Res<()>;
    fn update_all(&self, resources: &Resources, containers: &BTreeMap<String, Resources>) -> Res<()>;
    /// From `linux.resources` of an OCI configuration.
    fn update_oci(&self, resources: &Value) -> Res<()>;
    fn id_mappings(&self) -> Option<IdMappings>;

    fn ipc_create(&self, objects: &IpcObjects) -> Res<()>;
    fn create_shm_object(&self, object: &ShmObjectSpec) -> Res<OwnedFd>;
    fn open_shm_object(&self, name: &str, writable: bool) -> Res<OwnedFd>;
    fn remove_shm_object(&self, name: &str) -> Res<()>;
    fn create_mqueue(&self, queue: &MessageQueueSpec) -> Res<()>;
    fn remove_mqueue(&self, name: &str) -> Res<()>;
    fn create_sysv_shm(&self, segment: &SharedMemorySpec) -> Res<i32>;
    fn remove_sysv_shm(&self, key: i32) -> Res<()>;
    fn create_sysv_sem(&self, set: &SemaphoreSetSpec) -> Res<i32>;
    fn remove_sysv_sem(&self, key: i32) -> Res<()>;
    fn create_sysv_msg(&self, queue: &SysvMessageQueueSpec) -> Res<i32>;
    fn remove_sysv_msg(&self, key: i32) -> Res<()>;
    /// As the JSON of `IpcListing`.
    fn ipc_list(&self) -> Res<Value>;
}

pub trait EventsApi: Send + Sync {
    fn next(&self) -> Res<Option<Event>>;
    /// A copy of it.
    fn fd(&self) -> OwnedFd;
    fn is_over(&self) -> bool;
    /// As the JSON of the header.
    fn sources(&self) -> Value;
    fn pod(&self) -> Box<dyn PodApi>;
}

pub trait ContainerApi: Send + Sync {
    fn again(&self) -> Box<dyn ContainerApi>;
    fn name(&self) -> String;
    fn pod(&self) -> Box<dyn PodApi>;
    fn spec(&self) -> ContainerSpec;
    fn pid(&self) -> i32;
    /// A copy of it.
    fn pidfd(&self) -> Option<OwnedFd>;
    fn take_stdin(&self) -> Option<File>;
    fn take_stdout(&self) -> Option<File>;
    fn take_stderr(&self) -> Option<File>;
    fn start(&self) -> Res<()>;
    fn signal(&self, signal: i32) -> Res<()>;
    fn signal_all(&self, signal: i32) -> Res<()>;
    fn update_device_rules(&self, rules: &[DeviceRule]) -> Res<()>;
    fn kill(&self) -> Res<()>;
    fn wait(&self) -> Res<ExitStatus>;
    fn wait_timeout(&self, timeout: Option<Duration>) -> Res<Option<ExitStatus>>;
    fn try_wait(&self) -> Res<Option<ExitStatus>>;
    fn status(&self) -> Res<ContainerStatus>;
    fn stop(&self, grace: Duration) -> Res<ExitStatus>;
    fn remove(&self) -> Res<()>;
    fn processes(&self) -> Res<Vec<i32>>;
    fn set_oom_score_adj(&self, adjustment: i32) -> Res<()>;
    fn freeze(&self) -> Res<()>;
    fn thaw(&self) -> Res<()>;
    /// As the JSON of the header.
    fn stats(&self, options: &StatsOptions) -> Res<Value>;
    /// The numbers of `pericarp_container_stats_t` by their names, and by what stands for them in JSON.
    fn hot_stats(&self) -> Res<BTreeMap<&'static str, Option<u64>>>;
    fn exec(&self, spec: &ExecSpec) -> Res<Box<dyn ProcessApi>>;
    /// From `process` of an OCI configuration, with that as its standard output: an open file, or the null device.
    fn exec_oci(&self, process: &Value, stdout: Stdio) -> Res<Box<dyn ProcessApi>>;
    fn update(&self, resources: &Resources) -> Res<()>;
    fn update_oci(&self, resources: &Value) -> Res<()>;
    fn is_frozen(&self) -> Res<bool>;
    fn take_terminal(&self) -> Option<Box<dyn TerminalApi>>;
    fn take_seccomp_listener(&self) -> Option<OwnedFd>;
}

/// The numbers that are looked at most often, by what C calls them, and where the JSON of a container's stats has them: `io`
/// is summed up over all devices.
pub const HOT: [(&str, &str); 18] = [
    ("timestamp_usec", "/timestampUsec"),
    ("cpu_usage_usec", "/cgroup/cpu/usageUsec"),
    ("cpu_user_usec", "/cgroup/cpu/userUsec"),
    ("cpu_system_usec", "/cgroup/cpu/systemUsec"),
    ("cpu_throttled_periods", "/cgroup/cpu/throttledPeriods"),
    ("cpu_throttled_usec", "/cgroup/cpu/throttledUsec"),
    ("cpu_waiting_usec", "/cgroup/pressure/cpu/some/totalUsec"),
    ("memory_bytes", "/cgroup/memory/usageBytes"),
    ("memory_peak_bytes", "/cgroup/memory/peakBytes"),
    ("memory_working_set_bytes", "/cgroup/memory/workingSetBytes"),
    ("memory_swap_bytes", "/cgroup/memory/swapBytes"),
    ("memory_oom_kills", "/cgroup/memory/events/oomKill"),
    ("memory_waiting_usec", "/cgroup/pressure/memory/some/totalUsec"),
    ("io_read_bytes", "/cgroup/io/readBytes"),
    ("io_written_bytes", "/cgroup/io/writtenBytes"),
    ("io_waiting_usec", "/cgroup/pressure/io/some/totalUsec"),
    ("processes", "/cgroup/processes"),
    ("tasks", "/cgroup/pids/current"),
];

/// What the JSON of a container's stats has of them.
pub fn hot_of(stats: &Value) -> BTreeMap<&'static str, Option<u64>> {
    let value = |pointer: &str| match pointer.strip_prefix("/cgroup/io/") {
        Some(key) => {
            let devices = stats["cgroup"]["io"].as_array()?;
            Some(devices.iter().filter_map(|device| device[key].as_u64()).sum())
        }
        None => stats.pointer(pointer)?.as_u64(),
    };
    HOT.iter().map(|(name, pointer)| (*name, value(pointer))).collect()
}

/// Another program in a container.
pub trait ProcessApi: Send + Sync {
    fn again(&self) -> Box<dyn ProcessApi>;
    fn container(&self) -> Box<dyn ContainerApi>;
    fn pid(&self) -> i32;
    /// A copy of it.
    fn pidfd(&self) -> OwnedFd;
    fn take_stdin(&self) -> Option<File>;
    fn take_stdout(&self) -> Option<File>;
    fn take_stderr(&self) -> Option<File>;
    fn take_terminal(&self) -> Option<Box<dyn TerminalApi>>;
    fn signal(&self, signal: i32) -> Res<()>;
    fn kill(&self) -> Res<()>;
    fn wait(&self) -> Res<ExitStatus>;
    fn wait_timeout(&self, timeout: Option<Duration>) -> Res<Option<ExitStatus>>;
    fn try_wait(&self) -> Res<Option<ExitStatus>>;
}
