//! What is told of a cgroup, of a network and of a filesystem. All of it is plain data with units in its names.
//!
//! `None` is what this machine cannot tell: the controller is missing, the kernel is older than the file, or the cgroup
//! is gone. It is never 0 instead.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spec::{CpuMax, Limit};

/// What the cgroup of a pod or container has used, and what it waited for.
///
/// Read from the files of cgroup v2, see cgroup-v2 in the kernel's administration guide. Counters start with the
/// cgroup; they include whatever has ended in it since.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct CgroupStats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory and swap; `None` without the memory controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStats>,
    /// What block devices did for it, one entry a device, in the kernel's order; `None` without the io controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<Vec<DeviceIo>>,
    /// Tasks; `None` without the pids controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<PidsStats>,
    /// The processes directly in the cgroup (for a pod: in its containers' cgroups), zombies included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Time lost to waiting; see [`Pressure`].
    #[serde(skip_serializing_if = "PressureStats::is_empty")]
    pub pressure: PressureStats,
    /// Huge pages by their size as the kernel writes it ("2MB"); `None` where their controller is not enabled, which
    /// it is only where a limit asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hugetlb: Option<BTreeMap<String, HugetlbStats>>,
    /// RDMA adapters by name; `None` likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma: Option<BTreeMap<String, RdmaStats>>,
    /// Resources of the misc controller by name, in their own units; `None` likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misc: Option<BTreeMap<String, u64>>,
}

/// Makes a structure of optional numbers, and the method that puts a key's value of a flat keyed file where it belongs.
/// What is optional and no number comes after `and`.
macro_rules! numbers {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident $(= $key:literal)?,)* }
     $(and { $($(#[$more_meta:meta])* $more:ident: $type:ty,)* })?) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$field_meta])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<u64>,)*
            $($($(#[$more_meta])* #[serde(skip_serializing_if = "Option::is_none")] pub $more: Option<$type>,)*)?
        }

        impl $name {
            /// Takes the value of a key of the kernel's; keys that are not known are left.
            pub(super) fn take(&mut self, key: &[u8], value: u64) {
                match key {
                    $($($key => self.$field = Some(value),)?)*
                    _ => {}
                }
            }
        }
    };
}

numbers! {
    /// Processor time, from `cpu.stat`. Without the cpu controller there is no throttling to tell of.
    CpuStats {
        /// All of it, in microseconds.
        usage_usec = b"usage_usec",
        /// In user space, in microseconds.
        user_usec = b"user_usec",
        /// In the kernel, in microseconds.
        system_usec = b"system_usec",
        /// Periods of `cpu.max` in which something wanted to run.
        periods = b"nr_periods",
        /// Of these, the ones in which it was held back.
        throttled_periods = b"nr_throttled",
        /// How long it was held back, in microseconds.
        throttled_usec = b"throttled_usec",
        /// Periods in which it went over its quota by what it had saved up.
        burst_periods = b"nr_bursts",
        /// How much processor time that was, in microseconds.
        burst_usec = b"burst_usec",
        /// Its weight against its neighbours, 1 to 10000 (`cpu.weight`); only if
        /// [limits](super::StatsOptions::limits) were asked for.
        weight,
        /// What it may save up for a burst, in microseconds (`cpu.max.burst`); likewise.
        burst_limit_usec,
    } and {
        /// How much it may have in each period (`cpu.max`); likewise.
        max: CpuMax,
    }
}

/// Memory and swap, from the files `memory.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct MemoryStats {
    /// All memory that is charged to it, in bytes (`memory.current`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_bytes: Option<u64>,
    /// The most that this has been, in bytes (`memory.peak`, Linux 5.19).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// What the kubelet evicts by, in bytes: the usage without the files' pages that were not used lately
    /// (`inactive_file`), at least 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_set_bytes: Option<u64>,
    /// The limit (`memory.max`); only if [limits](super::StatsOptions::limits) were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Above that it is slowed down (`memory.high`); likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<Limit>,
    /// Below that nothing is taken from it as long as there is something else to take (`memory.low`); likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<Limit>,
    /// Below that nothing is ever taken from it (`memory.min`); likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Limit>,
    /// Swap in use, in bytes; `None` on a kernel without swap accounting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<u64>,
    /// The limit of swap (`memory.swap.max`); only if limits were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_limit: Option<Limit>,
    /// What it is made of, and faults.
    #[serde(flatten)]
    pub stat: MemoryDetail,
    /// How often limits were met; of the cgroup and all below it.
    pub events: MemoryEvents,
}

numbers! {
    /// What memory is used for, from `memory.stat`. In bytes, but for the faults.
    MemoryDetail {
        /// Memory of processes that is not of files: what cAdvisor calls rss.
        anon_bytes = b"anon",
        /// Pages of files, with tmpfs and shared memory.
        file_bytes = b"file",
        /// Of the kernel (Linux 5.18).
        kernel_bytes = b"kernel",
        /// Of the kernel, for stacks.
        kernel_stack_bytes = b"kernel_stack",
        /// Of the kernel, for its structures.
        slab_bytes = b"slab",
        /// Buffers of network connections.
        sock_bytes = b"sock",
        /// tmpfs and shared memory.
        shmem_bytes = b"shmem",
        /// Files that are mapped.
        mapped_file_bytes = b"file_mapped",
        /// Changed and not yet written.
        dirty_file_bytes = b"file_dirty",
        /// Being written.
        writeback_bytes = b"file_writeback",
        /// Not of files, used lately.
        active_anon_bytes = b"active_anon",
        /// Not of files, not used lately.
        inactive_anon_bytes = b"inactive_anon",
        /// Of files, used lately.
        active_file_bytes = b"active_file",
        /// Of files, not used lately.
        inactive_file_bytes = b"inactive_file",
        /// Locked, or for other reasons not to be taken.
        unevictable_bytes = b"unevictable",
        /// Page faults.
        page_faults = b"pgfault",
        /// Page faults that had to wait for a disk.
        major_page_faults = b"pgmajfault",
    }
}

numbers! {
    /// How often memory's limits were met, from `memory.events`.
    MemoryEvents {
        /// Memory was taken although the usage was below `memory.low`.
        low = b"low",
        /// Processes were slowed down because the usage went over `memory.high`.
        high = b"high",
        /// The usage was about to go over `memory.max`.
        max = b"max",
        /// That could not be helped by taking memory back.
        oom = b"oom",
        /// Processes that the OOM killer ended.
        oom_kill = b"oom_kill",
        /// Times that it ended a whole cgroup (Linux 5.17).
        oom_group_kill = b"oom_group_kill",
    }
}

/// What one block device did, from `io.stat`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct DeviceIo {
    /// The device number's upper half.
    pub major: u32,
    /// The device number's lower half.
    pub minor: u32,
    /// The kernel's name of the device ("sda"), if it still has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How much.
    #[serde(flatten)]
    pub counters: IoCounters,
}

numbers! {
    /// How much a block device did.
    IoCounters {
        /// Bytes read.
        read_bytes = b"rbytes",
        /// Bytes written.
        written_bytes = b"wbytes",
        /// Read operations.
        reads = b"rios",
        /// Write operations.
        writes = b"wios",
        /// Bytes discarded.
        discarded_bytes = b"dbytes",
        /// Discard operations.
        discards = b"dios",
    }
}

/// Tasks (processes and threads), from the files `pids.*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct PidsStats {
    /// How many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// The most that there were (`pids.peak`, which Linux 6.1 does not have).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
    /// How many there may be; only if [limits](super::StatsOptions::limits) were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
}

/// Time lost to waiting for processors, memory and block devices; see [`Pressure`]. `None` where the kernel does not
/// tell (`CONFIG_PSI`, `psi=1`, `cgroup.pressure`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct PressureStats {
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Pressure>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Pressure>,
    /// Block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<Pressure>,
}

impl PressureStats {
    fn is_empty(&self) -> bool {
        *self == PressureStats::default()
    }
}

/// Pressure stall information, see psi in the kernel's accounting documentation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All that had something to do waited; `None` where the kernel does not tell, such as for the processors of the
    /// machine as a whole before Linux 5.13.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<Stall>,
}

/// How long something waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last 5 minutes.
    pub avg300: f64,
    /// In all, in microseconds.
    pub total_usec: u64,
}

numbers! {
    /// Huge pages of one size.
    HugetlbStats {
        /// In use, in bytes.
        usage_bytes,
        /// How often the limit refused some.
        limit_hits = b"max",
    }
}

numbers! {
    /// What is used of an RDMA adapter.
    RdmaStats {
        /// Handles.
        hca_handles = b"hca_handle",
        /// Objects.
        hca_objects = b"hca_object",
    }
}

/// What a network interface did, from its 64-bit counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct InterfaceStats {
    /// Its name in the pod.
    pub name: String,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets that came in broken.
    pub receive_errors: u64,
    /// Packets that came in and were dropped.
    pub receive_dropped: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets that could not be sent.
    pub send_errors: u64,
    /// Packets that were to be sent and were dropped.
    pub send_dropped: u64,
}

/// How full something is that holds files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct FilesystemStats {
    /// The device that it is on (`"/dev/sda1"`), or its kind where it is on none (`"tmpfs"`, `"overlay"`), as cAdvisor has
    /// it; a device number where the kernel has no name for it.
    pub device: String,
    /// Bytes in use: of a tmpfs, what it holds; of a directory, the space that the files below it take on disk.
    pub used_bytes: u64,
    /// Files and directories in use, likewise.
    pub used_inodes: u64,
    /// Whether everything was counted. If not, the two numbers above are a lower bound: there was more than
    /// [`max_files`](super::FilesystemOptions::max_files) allows, or it is nested too deep.
    pub complete: bool,
    /// The size of the filesystem that it is on, in bytes.
    pub capacity_bytes: u64,
    /// What is left there for users other than root, in bytes.
    pub available_bytes: u64,
    /// How many files that filesystem can hold; `None` if it sets no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
    /// How many more it can hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_inodes: Option<u64>,
}
