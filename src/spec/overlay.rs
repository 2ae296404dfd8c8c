//! Limits of two origins as one.

use super::Resources;

impl Resources {
    /// These limits, and on top of them others: what the others set is theirs, what they leave out stays.
    pub(crate) fn overlaid_by(mut self, top: &Resources) -> Resources {
        let Resources { cpu, memory, pids_max, cpuset, io, hugetlb, rdma, misc, unified } = top;
        take(&mut self.cpu.weight, &cpu.weight);
        take(&mut self.cpu.max, &cpu.max);
        take(&mut self.cpu.burst, &cpu.burst);
        take(&mut self.cpu.idle, &cpu.idle);
        take(&mut self.memory.max, &memory.max);
        take(&mut self.memory.high, &memory.high);
        take(&mut self.memory.low, &memory.low);
        take(&mut self.memory.min, &memory.min);
        take(&mut self.memory.swap_max, &memory.swap_max);
        take(&mut self.memory.oom_group, &memory.oom_group);
        take(&mut self.pids_max, pids_max);
        take(&mut self.cpuset.cpus, &cpuset.cpus);
        take(&mut self.cpuset.mems, &cpuset.mems);
        // Kubernetes has no terms for these: nothing is below.
        self.io = io.clone();
        self.hugetlb.extend(hugetlb.iter().map(|(size, limit)| (size.clone(), *limit)));
        self.rdma.extend(rdma.iter().map(|(device, max)| (device.clone(), *max)));
        self.misc.extend(misc.iter().map(|(name, limit)| (name.clone(), *limit)));
        self.unified.extend(unified.iter().map(|(file, value)| (file.clone(), value.clone())));
        self
    }
}

fn take<T: Clone>(value: &mut Option<T>, top: &Option<T>) {
    if top.is_some() {
        value.clone_from(top);
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::{CpuMax, Limit, Resources};

    #[test]
    fn what_is_on_top_wins_and_the_rest_stays() {
        let below: Resources = serde_json::from_str(
            r#"{"cpu": {"weight": 1, "max": {"quota": 1000}}, "memory": {"max": 8192, "oomGroup": true},
                "hugetlb": {"2MB": 0, "1GB": 0}}"#,
        )
        .unwrap();
        assert_eq!(below.clone().overlaid_by(&Resources::default()), below);
        let top: Resources = serde_json::from_str(
            r#"{"cpu": {"weight": 7, "idle": false}, "memory": {"max": "max"}, "hugetlb": {"2MB": 2097152},
                "cpuset": {"cpus": "0"}, "io": {"weight": 9}, "misc": {"a": 1}, "unified": {"memory.zswap.max": "0"}}"#,
        )
        .unwrap();
        let both = below.overlaid_by(&top);
        assert_eq!(
            (both.cpu.weight, both.cpu.idle, both.cpu.max),
            (Some(7), Some(false), Some(CpuMax::millis(10)))
        );
        assert_eq!((both.memory.max, both.memory.oom_group), (Some(Limit::MAX), Some(true)));
        assert_eq!(both.hugetlb, [("2MB".into(), Limit::At(2 << 20)), ("1GB".into(), Limit::At(0))].into());
        assert_eq!(
            (both.cpuset, both.io, both.misc, both.unified),
            (top.cpuset, top.io, top.misc, top.unified)
        );
    }
}
