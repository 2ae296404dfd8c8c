//! From requests and limits to limits of cgroups. Pure: the machine is given as a [`Capacity`].

use super::convert::{cpu_max, cpu_shares, cpu_weight, huge_page_name, limited_swap, memory_high};
use super::{
    Capacity, KubernetesPod, MemoryReservation, QosClass, Quantity, Requirements, ResourceList, ResourceName,
    SwapBehavior,
};
use serde::{Deserialize, Serialize};

use crate::spec::{Limit, Resources};

fn milli(quantity: Quantity) -> u64 {
    u64::try_from(quantity.milli_value()).unwrap_or_default()
}

fn bytes(quantity: Quantity) -> u64 {
    u64::try_from(quantity.value()).unwrap_or_default()
}

impl KubernetesPod {
    /// The limits of a container's cgroup. One that the pod does not name requests nothing.
    pub fn container_resources(&self, container: &str, machine: &Capacity) -> Resources {
        let none = Requirements::default();
        let own = self.find(container).map_or(&none, |(own, _)| own);
        // Where only the pod has a limit, the container may have all of it.
        let limit = |name| own.limited(name).or_else(|| self.resources.limited(name));
        let (cpu_limit, memory_limit) = (limit(ResourceName::Cpu), limit(ResourceName::Memory));
        let cpu_request = match own.requests.get(&ResourceName::Cpu) {
            Some(request) => *request,
            None => cpu_limit.unwrap_or_default(),
        };
        let policy = &self.policy;
        let mut resources = Resources::default();
        resources.cpu.weight = cpu_weight(cpu_shares(milli(cpu_request)));
        if policy.cpu_cfs_quota {
            resources.cpu.max = cpu_max(milli(cpu_limit.unwrap_or_default()), policy.cpu_cfs_quota_period);
        }
        resources.memory.max = memory_limit.map(|limit| Limit::At(bytes(limit)));
        resources.memory.oom_group = (!policy.single_process_oom_kill).then_some(true);
        let request = bytes(own.requested(ResourceName::Memory));
        resources.memory.swap_max =
            machine.swap.map(|swap| Limit::At(self.swap_of(own, machine.memory, swap)));
        self.reserve(&mut resources, request);
        if let Some(factor) = policy.memory_throttling_factor {
            let own_limit = own.limited(ResourceName::Memory).map(bytes);
            // The same amounts, or none at all: there is nothing in between.
            let between = own_limit.unwrap_or_default() != request;
            let limit = own_limit.unwrap_or(machine.memory_for_pods());
            let high = memory_high(request, limit, factor.millionths(), machine.page_size);
            resources.memory.high = high.filter(|_| between).map(Limit::At);
        }
        limit_huge_pages(&mut resources, &own.limits, machine);
        resources
    }

    /// The limits of the pod's cgroup.
    pub fn pod_resources(&self, machine: &Capacity) -> Resources {
        let (requests, limits, policy) = (self.requests(), self.limits(), &self.policy);
        let requested = |name| requests.get(&name).copied().unwrap_or_default();
        let class = self.qos_class();
        let mut resources = Resources::default();
        let cpu = if class == QosClass::BestEffort { Quantity::ZERO } else { requested(ResourceName::Cpu) };
        resources.cpu.weight = cpu_weight(cpu_shares(milli(cpu)));
        if class != QosClass::BestEffort {
            let limit = |name| limits.get(&name).copied();
            if let (Some(limit), true) = (limit(ResourceName::Cpu), policy.cpu_cfs_quota) {
                resources.cpu.max = cpu_max(milli(limit), policy.cpu_cfs_quota_period);
            }
            resources.memory.max = limit(ResourceName::Memory).map(|limit| Limit::At(bytes(limit)));
        }
        self.reserve(&mut resources, bytes(requested(ResourceName::Memory)));
        resources.pids_max = policy.pod_pids_limit.map(Limit::At);
        limit_huge_pages(&mut resources, &limits, machine);
        resources
    }

    /// Protects what is requested of memory from reclaim.
    fn reserve(&self, resources: &mut Resources, request: u64) {
        if request == 0 || self.policy.memory_reservation_policy == MemoryReservation::None {
            return;
        }
        match self.qos_class() {
            QosClass::Guaranteed => resources.memory.min = Some(Limit::At(request)),
            QosClass::Burstable => resources.memory.low = Some(Limit::At(request)),
            QosClass::BestEffort => {}
        }
    }

    fn swap_of(&self, own: &Requirements, memory: u64, swap: u64) -> u64 {
        let request = own.requested(ResourceName::Memory);
        let limited = self.policy.swap_behavior == SwapBehavior::LimitedSwap
            && self.qos_class() == QosClass::Burstable
            && !self.is_critical()
            && !request.is_zero()
            && own.limited(ResourceName::Memory) != Some(request);
        if limited { limited_swap(bytes(request), memory, swap) } else { 0 }
    }
}

/// The limits of the cgroup that all Burstable or all BestEffort pods of a kubelet are in; that of the Guaranteed ones is
/// the top of its tree, and has the others in it. `pods` are all pods, of whatever class.
pub fn qos_resources<'a>(class: QosClass, pods: impl IntoIterator<Item = &'a KubernetesPod>) -> Resources {
    class_resources(class, pods.into_iter().map(KubernetesPod::share))
}

/// What a pod adds to the limits of the cgroups of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share {
    pub(crate) class: QosClass,
    /// Thousandths of processors.
    cpu: u64,
    /// Bytes that are protected from reclaim.
    memory: u64,
}

impl KubernetesPod {
    pub(crate) fn share(&self) -> Share {
        let requests = self.requests();
        let requested = |name| requests.get(&name).copied().unwrap_or_default();
        let class = self.qos_class();
        let reserves =
            self.policy.memory_reservation_policy != MemoryReservation::None && class != QosClass::BestEffort;
        let memory = if reserves { bytes(requested(ResourceName::Memory)) } else { 0 };
        Share { class, cpu: milli(requested(ResourceName::Cpu)), memory }
    }
}

/// The limits of the cgroup of a class, with all pods that there are.
pub(crate) fn class_resources(class: QosClass, shares: impl IntoIterator<Item = Share>) -> Resources {
    let (mut cpu, mut burstable, mut all) = (0_u64, 0_u64, 0_u64);
    for share in shares {
        if share.class == QosClass::Burstable {
            cpu = cpu.saturating_add(share.cpu);
            burstable = burstable.saturating_add(share.memory);
        }
        all = all.saturating_add(share.memory);
    }
    let mut resources = Resources::default();
    match class {
        QosClass::BestEffort => resources.cpu.weight = cpu_weight(cpu_shares(0)),
        QosClass::Burstable => {
            resources.cpu.weight = cpu_weight(cpu_shares(cpu));
            resources.memory.low = Some(Limit::At(burstable));
        }
        QosClass::Guaranteed => resources.memory.min = Some(Limit::At(all)),
    }
    resources
}

/// Huge pages of every size are limited: to nothing where no limit is given.
fn limit_huge_pages(resources: &mut Resources, limits: &ResourceList, machine: &Capacity) {
    let none = machine.huge_pages.keys().map(|size| (*size, 0));
    let given = limits.iter().filter_map(|(name, limit)| match name {
        ResourceName::HugePages(size) => Some((*size, bytes(*limit))),
        _ => None,
    });
    for (size, limit) in none.chain(given) {
        resources.hugetlb.insert(huge_page_name(size), Limit::At(limit));
    }
}
