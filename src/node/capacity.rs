//! What a node has for its pods.

use std::collections::BTreeMap;

use nix::unistd::{SysconfVar, sysconf};

use super::Node;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::spec::kubernetes::{Capacity, huge_page_name};

/// Where the kernel tells of huge pages, a directory a size.
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

impl Node {
    /// What there is for the pods of this node: what the machine has, or what the limits of the node's cgroup and of
    /// those above it leave of it. What is in use does not count.
    ///
    /// # Errors
    /// Whatever reading proc, sysfs and the cgroups gives.
    pub fn capacity(&self) -> Result<Capacity> {
        self.try_capacity().map_err(|error| error.within("ask for the capacity of the machine"))
    }

    fn try_capacity(&self) -> Result<Capacity> {
        let (proc, cgroups) = (&self.0.proc, &self.0.cgroups);
        let meminfo = proc.read("meminfo")?;
        let kib = |key: &str| {
            let missing = || Error::new(ErrorKind::System, "read").on(format!("{key} of /proc/meminfo"));
            from_meminfo(&meminfo, key).map(|kib| kib.saturating_mul(1024)).ok_or_else(missing)
        };
        let number = |path: &str| {
            let odd = || Error::new(ErrorKind::System, "understand").on(format!("/proc/{path}"));
            proc.read(path)?.trim().parse::<u64>().map_err(|_| odd())
        };
        let pages = if cgroups.limits_huge_pages() { huge_pages()? } else { BTreeMap::new() };
        let names: Vec<String> = pages.keys().copied().map(huge_page_name).collect();
        let bounds = cgroups.bounds(&names)?;
        let least = |machine: u64, bound: Option<u64>| bound.map_or(machine, |bound| bound.min(machine));
        let online = configured(SysconfVar::_NPROCESSORS_ONLN)?;
        let swap = least(kib("SwapTotal")?, bounds.swap);
        let memory = least(kib("MemTotal")?, bounds.memory);
        let reserved = self.0.admission.as_ref().and_then(|admission| admission.reserved_memory());
        Ok(Capacity {
            cpu_millis: least(least(online, bounds.cpus).saturating_mul(1000), bounds.cpu_millis),
            memory,
            allocatable_memory: reserved.map(|reserved| memory.saturating_sub(reserved)),
            swap: bounds.counts_swap.then_some(swap),
            huge_pages: pages
                .into_iter()
                .map(|(size, bytes)| {
                    (size, least(bytes, bounds.huge_pages.get(&huge_page_name(size)).copied()))
                })
                .collect(),
            pids: least(number("sys/kernel/pid_max")?.min(number("sys/kernel/threads-max")?), bounds.pids),
            page_size: configured(SysconfVar::PAGE_SIZE)?,
        })
    }
}

/// A number of sysconf(3).
fn configured(variable: SysconfVar) -> Result<u64> {
    let value = sysconf(variable).step("ask sysconf for", format!("{variable:?}"))?;
    let none = || Error::new(ErrorKind::System, "ask sysconf for").on(format!("{variable:?}"));
    value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0).ok_or_else(none)
}

/// The number behind a key of proc_meminfo(5), in KiB.
fn from_meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Bytes of huge pages by their size. A kernel without them has no directory.
fn huge_pages() -> Result<BTreeMap<u64, u64>> {
    let entries = match std::fs::read_dir(HUGE_PAGES) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.step("read", HUGE_PAGES)?,
    };
    let mut pages = BTreeMap::new();
    for entry in entries {
        let entry = entry.step("read", HUGE_PAGES)?;
        let name = entry.file_name();
        let size = name.to_str().and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB"));
        let Some(size) = size.and_then(|size| size.parse::<u64>().ok()).and_then(|kib| kib.checked_mul(1024))
        else {
            continue;
        };
        let path = entry.path().join("nr_hugepages");
        let count = std::fs::read_to_string(&path).step("read", path.display())?;
        pages.insert(size, count.trim().parse::<u64>().unwrap_or_default().saturating_mul(size));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_meminfo_are_found_by_whole_keys() {
        let text =
            "MemTotal:       16384 kB\nSwapCached:    1 kB\nSwapTotal:      0 kB\nHugePages_Total:   7\n";
        assert_eq!(from_meminfo(text, "MemTotal"), Some(16384));
        assert_eq!(from_meminfo(text, "SwapTotal"), Some(0));
        assert_eq!(from_meminfo(text, "HugePages_Total"), Some(7));
        assert_eq!(from_meminfo(text, "Mem"), None);
    }

    #[test]
    fn sysconf_answers() {
        assert!(configured(SysconfVar::PAGE_SIZE).unwrap() >= 4096);
        assert!(configured(SysconfVar::_NPROCESSORS_ONLN).unwrap() >= 1);
    }
}
