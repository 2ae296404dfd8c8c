//! Single numbers, as the kubelet and the runtimes compute them.

use crate::spec::{CpuMax, Limit};

/// `cpu.shares` of cgroup v1 for thousandths of a processor: 1024 for a whole one, from 2 to 262144.
pub fn cpu_shares(millicpu: u64) -> u64 {
    (u128::from(millicpu) * 1024 / 1000).clamp(2, 262_144) as u64
}

/// `cpu.weight` for the shares of cgroup v1, as runc 1.3.2 and crun 1.23 compute it: 1024 shares, a whole processor of
/// Kubernetes, are 100. `None` for 0, which says nothing.
pub fn cpu_weight(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1..=2 => Some(1),
        262_144.. => Some(10_000),
        shares => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            Some(10f64.powf(exponent).ceil() as u64)
        }
    }
}

/// The greatest quota that the kernel takes, in microseconds: more processors than any machine has, whatever the period.
const MAX_QUOTA: u64 = (1 << 44) - 1;

/// `cpu.max` for a limit of so many thousandths of a processor, in a period of so many microseconds: at least 1000
/// microseconds, and at most what the kernel takes. `None` for no limit.
pub fn cpu_max(millicpu: u64, period: u64) -> Option<CpuMax> {
    let quota = u64::try_from(u128::from(millicpu) * u128::from(period) / 1000).unwrap_or(u64::MAX);
    (millicpu > 0).then(|| CpuMax { quota: Limit::At(quota.clamp(1000, MAX_QUOTA)), period })
}

/// `memory.high` between request and limit, in bytes: a factor, in millionths, of what is between them, rounded down to
/// pages. `None` where that is not above the request.
pub fn memory_high(request: u64, limit: u64, millionths: u64, page: u64) -> Option<u64> {
    let page = u128::from(page.max(1));
    let (low, high) = (u128::from(request), u128::from(limit));
    let above = high.checked_sub(low)? * u128::from(millionths) / 1_000_000;
    let rounded = (low + above) / page * page;
    u64::try_from(rounded).ok().filter(|high| *high > request)
}

/// The swap that goes with a request of memory, in bytes: the machine's in the proportion of its memory.
pub fn limited_swap(request: u64, machine_memory: u64, machine_swap: u64) -> u64 {
    let share = u128::from(request) * u128::from(machine_swap) / u128::from(machine_memory.max(1));
    u64::try_from(share).unwrap_or(u64::MAX).min(machine_swap)
}

/// The name of pages of that many bytes in the kernel's files: `2MB`, `1GB`, `64KB`.
pub fn huge_page_name(bytes: u64) -> String {
    match bytes {
        0x4000_0000.. => format!("{}GB", bytes >> 30),
        0x10_0000.. => format!("{}MB", bytes >> 20),
        _ => format!("{}KB", bytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_of_weights() {
        for (milli, shares, weight) in [
            (0, 2, 1),
            (1, 2, 1),
            (10, 10, 4),
            (100, 102, 17),
            (250, 256, 35),
            (500, 512, 59),
            (1000, 1024, 100),
            (2000, 2048, 174),
            (4000, 4096, 303),
            (8000, 8192, 532),
            (64_000, 65_536, 3023),
            (256_000, 262_144, 10_000),
            (u64::MAX, 262_144, 10_000),
        ] {
            assert_eq!(cpu_shares(milli), shares, "{milli}");
            assert_eq!(cpu_weight(shares), Some(weight), "{milli}");
        }
        assert_eq!(cpu_weight(0), None);
    }

    #[test]
    fn the_quota_has_a_least_value() {
        let quota = |milli, period| cpu_max(milli, period).map(|max| (max.quota, max.period));
        assert_eq!(quota(0, 100_000), None);
        assert_eq!(quota(1, 100_000), Some((Limit::At(1000), 100_000)));
        assert_eq!(quota(10, 100_000), Some((Limit::At(1000), 100_000)));
        assert_eq!(quota(11, 100_000), Some((Limit::At(1100), 100_000)));
        assert_eq!(quota(500, 100_000), Some((Limit::At(50_000), 100_000)));
        assert_eq!(quota(1500, 5000), Some((Limit::At(7500), 5000)));
        assert_eq!(cpu_max(1500, 100_000), Some(CpuMax::millis(1500)));
    }

    #[test]
    fn memory_high_is_between_request_and_limit_in_whole_pages() {
        const MIB: u64 = 1 << 20;
        assert_eq!(memory_high(64 * MIB, 128 * MIB, 900_000, 4096), Some(127_504_384 / 4096 * 4096));
        assert_eq!(memory_high(0, 100 * 4096, 900_000, 4096), Some(90 * 4096));
        assert_eq!(memory_high(4096, 4096, 900_000, 4096), None);
        assert_eq!(memory_high(4096, 4100, 900_000, 4096), None);
        assert_eq!(memory_high(8192, 4096, 900_000, 4096), None);
    }

    /// Values of the kubelet's own test.
    #[test]
    fn swap_goes_with_the_request() {
        const GIB: u64 = 1 << 30;
        assert_eq!(limited_swap(GIB, 80 * GIB, 4 * GIB), 53_687_091);
        assert_eq!(limited_swap(2 * GIB, 40 * GIB, 2 * GIB), 107_374_182);
        assert_eq!(limited_swap(GIB, 0, GIB), GIB);
    }

    #[test]
    fn pages_are_named_as_the_kernel_does() {
        assert_eq!(
            [2 << 20, 1 << 30, 64 << 10, 512 << 20].map(huge_page_name),
            ["2MB", "1GB", "64KB", "512MB"]
        );
    }

    proptest! {
        #[test]
        fn more_is_never_less(a in 0_u64..400_000, more in 0_u64..400_000) {
            let weight = |milli| cpu_weight(cpu_shares(milli)).unwrap_or(0);
            prop_assert!(weight(a) <= weight(a + more));
            prop_assert!((1..=10_000).contains(&weight(a)));
            let quota = |milli| match cpu_max(milli, 100_000).map(|max| max.quota) {
                Some(Limit::At(quota)) => quota,
                _ => 0,
            };
            prop_assert!(quota(a) <= quota(a + more));
        }

        #[test]
        fn weights_of_all_shares_rise(shares in 1_u64..300_000) {
            prop_assert!(cpu_weight(shares) <= cpu_weight(shares + 1));
        }

        #[test]
        fn memory_high_has_bounds_and_rises(
            request in 0_u64..1 << 50,
            above in 0_u64..1 << 50,
            factor in 1_u64..=1_000_000,
            more in 0_u64..1 << 40,
        ) {
            let limit = request + above;
            if let Some(high) = memory_high(request, limit, factor, 4096) {
                prop_assert!(high > request && high <= limit && high % 4096 == 0);
                prop_assert!(memory_high(request, limit + more, factor, 4096) >= Some(high));
            }
        }

        #[test]
        fn swap_is_a_share(request in any::<u64>(), memory in any::<u64>(), swap in any::<u64>()) {
            let share = limited_swap(request, memory, swap);
            prop_assert!(share <= swap);
            prop_assert!(share >= limited_swap(request / 2, memory, swap));
        }
    }
}
