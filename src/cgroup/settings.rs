//! From [`Resources`] to what is written into which file. Pure: no I/O.

use super::controller::Controller;
use super::cpulist::CpuList;
use crate::spec::{IoMax, Limit, Resources};

/// One write to a file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The controller that makes the file.
    pub(super) controller: Controller,
    /// The file's name.
    pub(super) file: &'static str,
    /// What to write, in one write(2).
    pub(super) value: String,
}

/// Everything that `resources` asks for, in the order in which it is written. Nothing for the default: no memory is
/// allocated then.
pub(super) fn settings(resources: &Resources) -> Vec<Setting> {
    let Resources { cpu, memory, pids_max, cpuset, io } = resources;
    let mut list = Vec::new();
    let mut set = |controller, file, value: Option<String>| {
        list.extend(value.map(|value| Setting { controller, file, value }));
    };
    let limit = |limit: Option<Limit>| limit.map(|limit| limit.to_string());

    set(Controller::Cpu, "cpu.weight", cpu.weight.map(|weight| weight.to_string()));
    set(Controller::Cpu, "cpu.max", cpu.max.map(|max| format!("{} {}", max.quota, max.period)));
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
    list
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
    /// The file that says what the kernel made of the setting, where it may grant less than was asked for without an
    /// error: `cpuset.cpus` may name processors that the parent may not use, or that are offline.
    pub(super) fn effective_file(&self) -> Option<&'static str> {
        match self.file {
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
        match self.file {
            "io.weight" => {
                "the kernel has no such file: it was built without CONFIG_BLK_CGROUP_IOCOST (the weight of the BFQ \
                 scheduler, io.bfq.weight, is another one and not set by this library)"
            }
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
    use crate::spec::{CpuMax, CpuResources, CpusetResources, IoResources, MemoryResources};

    fn lines(resources: &Resources) -> Vec<String> {
        settings(resources).iter().map(|s| format!("{}: {}={}", s.controller, s.file, s.value)).collect()
    }

    #[test]
    fn the_default_writes_nothing() {
        assert_eq!(settings(&Resources::default()), []);
    }

    #[test]
    fn every_field_has_its_file() {
        let all = Resources {
            cpu: CpuResources { weight: Some(79), max: Some(CpuMax::millis(500)) },
            memory: MemoryResources {
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
            },
        };
        assert_eq!(
            lines(&all),
            [
                "cpu: cpu.weight=79",
                "cpu: cpu.max=50000 100000",
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
            ]
        );
    }

    #[test]
    fn no_limit_is_written_as_max() {
        let resources = Resources {
            cpu: CpuResources { weight: None, max: Some(CpuMax { quota: Limit::MAX, period: 50_000 }) },
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
        let mut setting =
            Setting { controller: Controller::Cpuset, file: "cpuset.cpus", value: "2,0-1".to_string() };
        assert_eq!(setting.effective_file(), Some("cpuset.cpus.effective"));
        assert!(setting.is_granted("0-2\n"));
        assert!(!setting.is_granted("0-1\n"));
        assert!(!setting.is_granted("0-3\n"));
        assert!(!setting.is_granted("\n"));
        setting.file = "pids.max";
        assert_eq!(setting.effective_file(), None);
    }
}
