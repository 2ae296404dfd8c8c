//! From [`Resources`] to what is written into which file. Pure: no I/O.

use std::borrow::Cow;

use super::controller::Controller;
use super::cpulist::CpuList;
use crate::spec::{IoMax, Limit, RdmaMax, Resources};

/// One write to a file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The controller that makes the file; `None` for the kernel's own (`cgroup.max.depth`).
    pub(super) controller: Option<Controller>,
    /// The file's name.
    pub(super) file: Cow<'static, str>,
    /// What to write, in one write(2).
    pub(super) value: String,
}

/// Everything that `resources` asks for, in the order in which it is written. Nothing for the default: no memory is
/// allocated then.
pub(super) fn settings(resources: &Resources) -> Vec<Setting> {
    let Resources { cpu, memory, pids_max, cpuset, io, hugetlb, rdma, misc, unified } = resources;
    let mut list = Vec::new();
    let mut set = |controller, file: &'static str, value: Option<String>| {
        list.extend(value.map(|value| Setting { controller: Some(controller), file: file.into(), value }));
    };
    let limit = |limit: Option<Limit>| limit.map(|limit| limit.to_string());

    set(Controller::Cpu, "cpu.weight", cpu.weight.map(|weight| weight.to_string()));
    set(Controller::Cpu, "cpu.idle", cpu.idle.map(|on| u8::from(on).to_string()));
    set(Controller::Cpu, "cpu.max", cpu.max.map(|max| format!("{} {}", max.quota, max.period)));
    // The quota is there before it: the kernel compares the two.
    set(Controller::Cpu, "cpu.max.burst", cpu.burst.map(|burst| burst.to_string()));
    set(Controller::Memory, "memory.max", limit(memory.max));
    set(Controller::Memory, "memory.high", limit(memory.high));
    set(Controller::Memory, "memory.low", limit(memory.low));
    set(Controller::Memory, "memory.min", limit(memory.min));
    set(Controller::Memory, "memory.swap.max", limit(memory.swap_max));
    set(Controller::Memory, "memory.oom.group", memory.oom_group.map(|on| u8::from(on).to_string()));
    set(Controller::Pids, "pids.max", limit(*pids_max));
    set(Controller::Cpuset, "cpuset.cpus", cpuset.cpus.clone());
    set(Controller::Cpuset, "cpuset.mems", cpuset.mems.clone());
    set(Controller::Io, "io.weight", io.weight.map(|weight| format!("default {weight}")));
    // The kernel reads one device a write.
    for line in &io.max {
        set(Controller::Io, "io.max", Some(io_max(line)));
    }
    for line in &io.device_weights {
        set(Controller::Io, "io.weight", Some(format!("{}:{} {}", line.major, line.minor, line.weight)));
    }
    for line in &io.latency {
        set(
            Controller::Io,
            "io.latency",
            Some(format!("{}:{} target={}", line.major, line.minor, line.target)),
        );
    }
    for (name, limit) in misc {
        set(Controller::Misc, "misc.max", Some(format!("{name} {limit}")));
    }
    for (device, max) in rdma {
        set(Controller::Rdma, "rdma.max", Some(rdma_max(device, max)));
    }
    // What is reserved is bounded, too: mmap(2) refuses what is too much then, where only the bound of what is used would
    // have the program killed by SIGBUS when it touches its memory.
    for (size, limit) in hugetlb {
        list.extend(["max", "rsvd.max"].map(|bound| Setting {
            controller: Some(Controller::Hugetlb),
            file: format!("hugetlb.{size}.{bound}").into(),
            value: limit.to_string(),
        }));
    }
    for (file, value) in unified {
        list.extend(value.split('\n').filter(|line| !line.is_empty()).map(|line| Setting {
            controller: Controller::of_file(file),
            file: file.clone().into(),
            value: line.to_string(),
        }));
    }
    list
}

/// `mlx5_0 hca_handle=2 hca_object=max`
fn rdma_max(device: &str, max: &RdmaMax) -> String {
    let mut text = device.to_string();
    for (key, limit) in [("hca_handle", max.hca_handles), ("hca_object", max.hca_objects)] {
        text.extend(limit.map(|limit| format!(" {key}={limit}")));
    }
    text
}

/// `8:0 rbps=1048576 wiops=max`: keys that are not written keep their value.
fn io_max(line: &IoMax) -> String {
    let keys = [("rbps", line.rbps), ("wbps", line.wbps), ("riops", line.riops), ("wiops", line.wiops)];
    let mut text = format!("{}:{}", line.major, line.minor);
    for (key, limit) in keys {
        text.extend(limit.map(|limit| format!(" {key}={limit}")));
    }
    text
}

impl Setting {
    /// Whether its controller is one that every pod and container has.
    pub(super) fn is_always(&self) -> bool {
        self.controller.is_some_and(|controller| Controller::ALWAYS.contains(&controller))
    }

    /// The file that says what the kernel made of the setting, where it may grant less than was asked for without an
    /// error: `cpuset.cpus` may name processors that the parent may not use, or that are offline.
    pub(super) fn effective_file(&self) -> Option<&'static str> {
        match &*self.file {
            "cpuset.cpus" => Some("cpuset.cpus.effective"),
            "cpuset.mems" => Some("cpuset.mems.effective"),
            _ => None,
        }
    }

    /// Whether `effective`, the content of [`effective_file`](Self::effective_file), is all that was asked for.
    pub(super) fn is_granted(&self, effective: &str) -> bool {
        CpuList::parse(&self.value).is_ok_and(|asked| CpuList::parse_kernel(effective) == Ok(asked))
    }

    /// Why the file may be missing although its controller is there.
    pub(super) fn missing_file(&self) -> &'static str {
        match &*self.file {
            "io.weight" => {
                "the kernel has no such file: it was built without CONFIG_BLK_CGROUP_IOCOST (the weight of the BFQ \
                 scheduler, io.bfq.weight, is another one and not set by this library)"
            }
            "io.latency" => "the kernel has no such file: it was built without CONFIG_BLK_CGROUP_IOLATENCY",
            "memory.swap.max" => {
                "the kernel has no such file: it was built without swap, or booted with swapaccount=0 or \
                 cgroup.memory=noswap"
            }
            _ => "this kernel has no such file",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        CpuMax, CpuResources, CpusetResources, IoLatency, IoResources, IoWeight, MemoryResources,
    };

    fn lines(resources: &Resources) -> Vec<String> {
        let line = |s: &Setting| match s.controller {
            Some(controller) => format!("{controller}: {}={}", s.file, s.value),
            None => format!("{}={}", s.file, s.value),
        };
        settings(resources).iter().map(line).collect()
    }

    #[test]
    fn the_default_writes_nothing() {
        assert_eq!(settings(&Resources::default()), []);
    }

    #[test]
    fn every_field_has_its_file() {
        let all = Resources {
            cpu: CpuResources {
                weight: Some(79),
                max: Some(CpuMax::millis(500)),
                burst: Some(20_000),
                idle: Some(false),
            },
            memory: MemoryResources {
                // That is for the library.
                check_before_update: true,
                max: Some(Limit::At(64 << 20)),
                high: Some(Limit::At(48 << 20)),
                low: Some(Limit::At(0)),
                min: Some(Limit::MAX),
                swap_max: Some(Limit::At(0)),
                oom_group: Some(true),
            },
            pids_max: Some(Limit::At(100)),
            cpuset: CpusetResources { cpus: Some("0-3,8".into()), mems: Some("0".into()) },
            io: IoResources {
                weight: Some(200),
                max: vec![
                    IoMax {
                        major: 8,
                        minor: 16,
                        rbps: Some(Limit::At(2_097_152)),
                        wbps: None,
                        riops: None,
                        wiops: Some(Limit::At(120)),
                    },
                    IoMax {
                        major: 254,
                        minor: 0,
                        rbps: None,
                        wbps: Some(Limit::MAX),
                        riops: Some(Limit::At(1)),
                        wiops: None,
                    },
                ],
                device_weights: vec![IoWeight { major: 8, minor: 0, weight: 50 }],
                latency: vec![IoLatency { major: 8, minor: 0, target: 2000 }],
            },
            hugetlb: [("2MB".to_string(), Limit::At(4 << 20))].into(),
            rdma: [(
                "mlx5_0".to_string(),
                RdmaMax { hca_handles: Some(Limit::At(2)), hca_objects: Some(Limit::MAX) },
            )]
            .into(),
            misc: [("sev".to_string(), Limit::At(3))].into(),
            unified: [
                ("memory.zswap.max".to_string(), "0".to_string()),
                ("cgroup.max.depth".to_string(), "2".to_string()),
                ("misc.max".to_string(), "a 1\nb 2\n".to_string()),
            ]
            .into(),
        };
        assert_eq!(
            lines(&all),
            [
                "cpu: cpu.weight=79",
                "cpu: cpu.idle=0",
                "cpu: cpu.max=50000 100000",
                "cpu: cpu.max.burst=20000",
                "memory: memory.max=67108864",
                "memory: memory.high=50331648",
                "memory: memory.low=0",
                "memory: memory.min=max",
                "memory: memory.swap.max=0",
                "memory: memory.oom.group=1",
                "pids: pids.max=100",
                "cpuset: cpuset.cpus=0-3,8",
                "cpuset: cpuset.mems=0",
                "io: io.weight=default 200",
                "io: io.max=8:16 rbps=2097152 wiops=120",
                "io: io.max=254:0 wbps=max riops=1",
                "io: io.weight=8:0 50",
                "io: io.latency=8:0 target=2000",
                "misc: misc.max=sev 3",
                "rdma: rdma.max=mlx5_0 hca_handle=2 hca_object=max",
                "hugetlb: hugetlb.2MB.max=4194304",
                "hugetlb: hugetlb.2MB.rsvd.max=4194304",
                "cgroup.max.depth=2",
                "memory: memory.zswap.max=0",
                "misc: misc.max=a 1",
                "misc: misc.max=b 2",
            ]
        );
    }

    #[test]
    fn no_limit_is_written_as_max() {
        let resources = Resources {
            cpu: CpuResources {
                max: Some(CpuMax { quota: Limit::MAX, period: 50_000 }),
                ..Default::default()
            },
            memory: MemoryResources { max: Some(Limit::MAX), oom_group: Some(false), ..Default::default() },
            pids_max: Some(Limit::MAX),
            ..Default::default()
        };
        assert_eq!(
            lines(&resources),
            [
                "cpu: cpu.max=max 50000",
                "memory: memory.max=max",
                "memory: memory.oom.group=0",
                "pids: pids.max=max"
            ]
        );
    }

    #[test]
    fn a_cpuset_is_granted_whole_or_not() {
        let mut setting = Setting {
            controller: Some(Controller::Cpuset),
            file: "cpuset.cpus".into(),
            value: "2,0-1".to_string(),
        };
        assert_eq!(setting.effective_file(), Some("cpuset.cpus.effective"));
        assert!(setting.is_granted("0-2\n"));
        assert!(!setting.is_granted("0-1\n"));
        assert!(!setting.is_granted("0-3\n"));
        assert!(!setting.is_granted("\n"));
        setting.file = "pids.max".into();
        assert_eq!(setting.effective_file(), None);
    }
}
