//! Processor time: of this process, and of the kernel's own threads, which remove namespaces behind everybody's back.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

/// Set in the flags of `/proc/PID/stat` for kernel threads.
const PF_KTHREAD: u64 = 0x0020_0000;

/// User and system time of this process and of the children it has awaited.
pub fn own_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    // SAFETY: plain integers.
    let mut children: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is ours.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut children) };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 + ns(children.ru_utime) + ns(children.ru_stime)
}

/// The sum of what kernel threads have used, remembering those that have ended.
#[derive(Default)]
pub struct KernelThreads {
    used: HashMap<u32, u64>,
    users: HashMap<u32, ()>,
}

impl KernelThreads {
    /// Nanoseconds so far, or `None` on a kernel without `schedstat`.
    pub fn ns(&mut self) -> Option<u64> {
        fs::metadata("/proc/self/schedstat").ok()?;
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if self.users.contains_key(&pid) {
                continue;
            }
            if !self.used.contains_key(&pid) && !is_kernel_thread(pid) {
                self.users.insert(pid, ());
                continue;
            }
            let now = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
            let now = now.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let used = self.used.entry(pid).or_default();
            *used = now.max(*used);
        }
        Some(self.used.values().sum())
    }

    /// Waits until the kernel's threads have been quiet for a while, and returns what they have used.
    pub fn settle(&mut self) -> Option<u64> {
        const WINDOW: Duration = Duration::from_millis(50);
        const QUIET_WINDOWS: u32 = 4;
        const QUIET_NS: u64 = 2_500_000;
        let start = Instant::now();
        let (mut before, mut quiet, mut namespaces) = (self.ns()?, 0, network_namespaces());
        while quiet < QUIET_WINDOWS && start.elapsed() < Duration::from_secs(8) {
            std::thread::sleep(WINDOW);
            let (now, alive) = (self.ns()?, network_namespaces());
            quiet = if now - before < QUIET_NS && alive == namespaces { quiet + 1 } else { 0 };
            (before, namespaces) = (now, alive);
        }
        Some(before)
    }
}

fn is_kernel_thread(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let flags = after_name.split_whitespace().nth(6).and_then(|word| word.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & PF_KTHREAD != 0)
}

/// How many network namespaces the kernel has not yet freed, as far as it tells.
fn network_namespaces() -> Option<u64> {
    let slabs = fs::read_to_string("/proc/slabinfo").ok()?;
    let line = slabs.lines().find(|line| line.starts_with("net_namespace "))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
