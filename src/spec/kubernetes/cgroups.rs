//! From requests and limits to limits of cgroups. Pure: the machine is given as a [`Capacity`].

use super::convert::{cpu_max, cpu_shares, cpu_weight, huge_page_name, limited_swap, memory_high};
use super::{
    Capacity, KubernetesPod, MemoryReservation, QosClass, Quantity, Requirements, ResourceList, ResourceName,
    SwapBehavior,
};
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
            let limit = own_limit.unwrap_or(machine.memory);
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
/// the top of its tree. `pods` are the Burstable ones; those of other classes are left out.
pub fn qos_resources<'a>(class: QosClass, pods: impl IntoIterator<Item = &'a KubernetesPod>) -> Resources {
    let mut resources = Resources::default();
    let burstable = |pod: &&KubernetesPod| class == QosClass::Burstable && pod.qos_class() == class;
    let requested = |list: ResourceList| list.get(&ResourceName::Cpu).copied().map_or(0, milli);
    let sum = pods
        .into_iter()
        .filter(burstable)
        .fold(0_u64, |sum, pod| sum.saturating_add(requested(pod.requests())));
    if class != QosClass::Guaranteed {
        resources.cpu.weight = cpu_weight(cpu_shares(sum));
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
