//! What the cgroups above the pods leave to them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::openat;
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use super::Tree;
use super::cpulist::CpuList;
use super::dir::{DIRECTORY, read_file};
use crate::error::{Context, Result};

/// The least limits of the node's cgroup and of those above it. `None` is no limit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Processors that may be used.
    pub(crate) cpus: Option<u64>,
    /// Thousandths of processors by quota.
    pub(crate) cpu_millis: Option<u64>,
    pub(crate) memory: Option<u64>,
    pub(crate) swap: Option<u64>,
    /// Whether the kernel accounts for swap by cgroup.
    pub(crate) counts_swap: bool,
    pub(crate) pids: Option<u64>,
    /// Bytes of huge pages, by the kernel's name of their size.
    pub(crate) huge_pages: BTreeMap<String, u64>,
}

impl Tree {
    /// See [`Bounds`]. `huge_pages` are the kernel's names of the sizes that there are.
    pub(crate) fn bounds(&self, huge_pages: &[String]) -> Result<Bounds> {
        let mut bounds = Bounds::default();
        let read = |dir: BorrowedFd<'_>, file: &str| read_file(dir, file, self.path()).ok();
        // Without cgroups nothing bounds the pods but the machine.
        let Some(dir) = self.fd() else { return Ok(bounds) };
        bounds.counts_swap = read(dir, "memory.swap.max").is_some();
        let mut above: OwnedFd = open(dir, ".").step("open", self.path().display())?;
        loop {
            bounds.lower(huge_pages, |file| read(above.as_fd(), file));
            let next = open(above.as_fd(), "..").step("open the cgroup above", self.path().display())?;
            let kind = fstatfs(&next).step("statfs", "the directory above")?.filesystem_type();
            // Above the mount there is something else; above a root there is nothing but itself.
            if kind != CGROUP2_SUPER_MAGIC || inode(&next)? == inode(&above)? {
                return Ok(bounds);
            }
            above = next;
        }
    }

    /// Whether huge pages can be limited here.
    pub(crate) fn limits_huge_pages(&self) -> bool {
        self.optional().contains(&"hugetlb")
    }
}

fn open(dir: BorrowedFd<'_>, name: &str) -> nix::Result<OwnedFd> {
    openat(dir, name, DIRECTORY, Mode::empty())
}

fn inode(dir: &OwnedFd) -> Result<(u64, u64)> {
    let stat = fstat(dir).step("fstat", "a cgroup")?;
    Ok((stat.st_dev, stat.st_ino))
}

impl Bounds {
    /// Takes the limits of one cgroup into account: files that are missing, as those of controllers that it does not
    /// have, say nothing.
    fn lower(&mut self, huge_pages: &[String], read: impl Fn(&str) -> Option<String>) {
        let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
        least(&mut self.memory, number("memory.max"));
        least(&mut self.swap, number("memory.swap.max"));
        least(&mut self.pids, number("pids.max"));
        least(&mut self.cpu_millis, read("cpu.max").and_then(|text| quota(&text)));
        let cpus = || read("cpuset.cpus.effective").and_then(|text| CpuList::parse_kernel(&text).ok());
        // The nearest one is within those above it.
        self.cpus = self.cpus.or_else(|| cpus().map(|list| list.count()).filter(|count| *count > 0));
        for size in huge_pages {
            if let Some(bytes) = number(&format!("hugetlb.{size}.max")) {
                let entry = self.huge_pages.entry(size.clone()).or_insert(bytes);
                *entry = bytes.min(*entry);
            }
        }
    }
}

fn least(bound: &mut Option<u64>, other: Option<u64>) {
    *bound = [*bound, other].into_iter().flatten().min();
}

/// Thousandths of processors in `50000 100000`.
fn quota(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<u128>().ok()?, period.parse::<u128>().ok()?);
    u64::try_from((quota * 1000).checked_div(period)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_all_counts() {
        let files = |list: &'static [(&str, &str)]| {
            move |file: &str| list.iter().find(|(name, _)| *name == file).map(|(_, text)| text.to_string())
        };
        let mut bounds = Bounds::default();
        let sizes = ["2MB".to_string()];
        bounds.lower(
            &sizes,
            files(&[
                ("memory.max", "max\n"),
                ("cpuset.cpus.effective", "1-2,4\n"),
                ("cpu.max", "max 100000\n"),
            ]),
        );
        assert_eq!(bounds, Bounds { cpus: Some(3), ..Default::default() });
        bounds.lower(
            &sizes,
            files(&[
                ("memory.max", "4096\n"),
                ("cpu.max", "150000 100000\n"),
                ("cpuset.cpus.effective", "0-7\n"),
                ("pids.max", "9\n"),
                ("hugetlb.2MB.max", "2097152\n"),
            ]),
        );
        bounds.lower(
            &sizes,
            files(&[("memory.max", "8192\n"), ("cpu.max", "200000 100000\n"), ("memory.swap.max", "0\n")]),
        );
        assert_eq!(
            bounds,
            Bounds {
                cpus: Some(3),
                cpu_millis: Some(1500),
                memory: Some(4096),
                swap: Some(0),
                counts_swap: false,
                pids: Some(9),
                huge_pages: [("2MB".to_string(), 2_097_152)].into(),
            }
        );
        assert_eq!(quota("1 0"), None);
    }
}
