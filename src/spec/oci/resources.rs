//! `linux.resources`: values of cgroup v1 become those of version 2, as runc and crun do it.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::{refuse, unsupported, wrong};
use crate::error::Result;
use crate::spec::kubernetes::cpu_weight;
use crate::spec::{CpuMax, IoMax, IoWeight, Limit, RdmaMax, Resources};

const FIELD: &str = "linux.resources";

pub(super) fn import(resources: &LinuxResources) -> Result<Resources> {
    let mut imported = Resources::default();
    if let Some(memory) = resources.memory() {
        import_memory(memory, &mut imported)?;
    }
    if let Some(cpu) = resources.cpu() {
        import_cpu(cpu, &mut imported)?;
    }
    if let Some(pids) = resources.pids() {
        // Zero says nothing, as in runc.
        imported.pids_max = match pids.limit() {
            0 => None,
            limit => Some(limit_or_max(&format!("{FIELD}.pids.limit"), limit)?),
        };
    }
    if let Some(io) = resources.block_io() {
        import_io(io, &mut imported)?;
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        // Not even -1: the specification has no number below zero here.
        let limit = u64::try_from(huge.limit()).map_err(|_| {
            wrong(format!("{FIELD}.hugepageLimits"), format!("{} is below zero", huge.limit()))
        })?;
        imported.hugetlb.insert(huge.page_size().clone(), Limit::At(limit));
    }
    refuse(
        &format!("{FIELD}.network"),
        resources.network(),
        "cgroup v2 has neither classes nor priorities of network packets",
    )?;
    let limit = |value: Option<u32>| value.map(|value| Limit::At(value.into()));
    for (device, rdma) in resources.rdma().iter().flatten() {
        let max = RdmaMax { hca_handles: limit(rdma.hca_handles()), hca_objects: limit(rdma.hca_objects()) };
        imported.rdma.insert(device.clone(), max);
    }
    imported.unified = resources.unified().clone().unwrap_or_default().into_iter().collect();
    Ok(imported)
}

/// -1 is no limit, and less means nothing.
fn limit_or_max(field: &str, value: i64) -> Result<Limit> {
    match value {
        0.. => Ok(Limit::At(value.unsigned_abs())),
        -1 => Ok(Limit::MAX),
        _ => Err(wrong(field, format!("is {value}, must be -1 for no limit, or at least 0"))),
    }
}

fn import_memory(memory: &LinuxMemory, imported: &mut Resources) -> Result<()> {
    let field = |name: &str| format!("{FIELD}.memory.{name}");
    // Zero says nothing, as in runc.
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let limit = |name, value| given(value).map(|value| limit_or_max(&field(name), value)).transpose();
    imported.memory.max = limit("limit", memory.limit())?;
    imported.memory.low = limit("reservation", memory.reservation())?;
    limit("swap", memory.swap())?;
    imported.memory.swap_max = match (given(memory.swap()), given(memory.limit())) {
        // No limit of memory lifts that of swap, too, as in runc: an update from a limit of both has no other way to say so.
        (None, Some(..0)) => Some(Limit::MAX),
        (None, _) => None,
        (Some(..0), _) => Some(Limit::MAX),
        (Some(_), None) => return Err(wrong(field("swap"), "is memory and swap together: it needs a limit")),
        (Some(_), Some(..0)) => return Err(wrong(field("swap"), "is limited although memory is not")),
        // The sum in version 1, swap alone in version 2.
        (Some(sum), Some(limit)) if sum >= limit => Some(Limit::At((sum - limit) as u64)),
        (Some(_), Some(_)) => {
            return Err(wrong(field("swap"), "is memory and swap together: it cannot be below the limit"));
        }
    };
    imported.memory.check_before_update = memory.check_before_update().unwrap_or_default();
    #[allow(deprecated, reason = "it is still in configurations")]
    let kernel = memory.kernel();
    for (name, value) in [("kernel", kernel), ("kernelTCP", memory.kernel_tcp())] {
        refuse(&field(name), &given(value), "cgroup v2 has no limit of kernel memory alone")?;
    }
    refuse(&field("swappiness"), &memory.swappiness(), "cgroup v2 has no swappiness of a cgroup")?;
    if memory.disable_oom_killer() == Some(true) {
        return Err(unsupported(field("disableOOMKiller"), "cgroup v2 cannot turn the OOM killer off"));
    }
    if memory.use_hierarchy() == Some(false) {
        return Err(unsupported(field("useHierarchy"), "cgroup v2 always counts by hierarchy"));
    }
    Ok(())
}

fn import_cpu(cpu: &LinuxCpu, imported: &mut Resources) -> Result<()> {
    let field = |name: &str| format!("{FIELD}.cpu.{name}");
    imported.cpu.weight = cpu.shares().and_then(cpu_weight);
    let period = cpu.period().filter(|period| *period != 0);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    if period.is_some() || quota.is_some() {
        // Any number below zero, as the specification has it.
        let quota = quota.map_or(Limit::MAX, |quota| u64::try_from(quota).map_or(Limit::MAX, Limit::At));
        imported.cpu.max = Some(CpuMax { quota, period: period.unwrap_or(100_000) });
    }
    imported.cpu.burst = cpu.burst();
    imported.cpu.idle = match cpu.idle() {
        None => None,
        Some(0) => Some(false),
        Some(1) => Some(true),
        Some(other) => return Err(wrong(field("idle"), format!("is {other}, must be 0 or 1"))),
    };
    let given = |name: &str, value: bool| match value {
        true => Err(unsupported(field(name), "cgroup v2 has no real-time budgets")),
        false => Ok(()),
    };
    given("realtimeRuntime", cpu.realtime_runtime().is_some_and(|value| value != 0))?;
    given("realtimePeriod", cpu.realtime_period().is_some_and(|value| value != 0))?;
    let list = |list: &Option<String>| list.clone().filter(|list| !list.is_empty());
    imported.cpuset.cpus = list(cpu.cpus());
    imported.cpuset.mems = list(cpu.mems());
    Ok(())
}

/// `io.weight` for a weight of blkio, 10 to 1000.
fn io_weight(field: &str, weight: u16) -> Result<u64> {
    match weight {
        10..=1000 => Ok(1 + (u64::from(weight) - 10) * 9999 / 990),
        other => Err(wrong(field, format!("is {other}, must be from 10 to 1000"))),
    }
}

fn import_io(io: &LinuxBlockIo, imported: &mut Resources) -> Result<()> {
    let field = |name: &str| format!("{FIELD}.blockIO.{name}");
    const LEAVES: &str = "cgroup v2 has no weight of a cgroup's own processes";
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        imported.io.weight = Some(io_weight(&field("weight"), weight)?);
    }
    refuse(&field("leafWeight"), &io.leaf_weight().filter(|weight| *weight != 0), LEAVES)?;
    for device in io.weight_device().iter().flatten() {
        let (major, minor) = numbers(&field("weightDevice"), device.major(), device.minor())?;
        refuse(&field("weightDevice.leafWeight"), &device.leaf_weight(), LEAVES)?;
        if let Some(weight) = device.weight() {
            let weight = io_weight(&field("weightDevice"), weight)?;
            imported.io.device_weights.push(IoWeight { major, minor, weight });
        }
    }
    // One line a device, whatever list it is in.
    let mut lines: BTreeMap<(u32, u32), IoMax> = BTreeMap::new();
    let mut take = |name: &str, list: &Option<Vec<LinuxThrottleDevice>>, set: fn(&mut IoMax, Limit)| {
        for device in list.iter().flatten() {
            let (major, minor) = numbers(&field(name), device.major(), device.minor())?;
            let empty = IoMax { major, minor, rbps: None, wbps: None, riops: None, wiops: None };
            // Zero is no limit, as in version 1.
            let rate = if device.rate() == 0 { Limit::MAX } else { Limit::At(device.rate()) };
            set(lines.entry((major, minor)).or_insert(empty), rate);
        }
        Ok(())
    };
    take("throttleReadBpsDevice", io.throttle_read_bps_device(), |line, rate| line.rbps = Some(rate))?;
    take("throttleWriteBpsDevice", io.throttle_write_bps_device(), |line, rate| line.wbps = Some(rate))?;
    take("throttleReadIOPSDevice", io.throttle_read_iops_device(), |line, rate| line.riops = Some(rate))?;
    take("throttleWriteIOPSDevice", io.throttle_write_iops_device(), |line, rate| line.wiops = Some(rate))?;
    imported.io.max = lines.into_values().collect();
    Ok(())
}

fn numbers(field: &str, major: i64, minor: i64) -> Result<(u32, u32)> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) => Ok((major, minor)),
        _ => Err(wrong(field, format!("{major}:{minor} is no device number"))),
    }
}
