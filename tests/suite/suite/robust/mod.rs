//! What the tests of robustness share: this program as a host program of its own, a tracer of it, a program of a few
//! bytes, and a look at what is left.

pub mod again;
pub mod filter;
pub mod left;
pub mod snapshot;
pub mod tiny;
pub mod trace;

/// Whether this is the guest: an emulated processor, some fifty times slower. Counts are smaller there.
pub fn in_guest() -> bool {
    std::env::var_os("PERICARP_VM").is_some()
}

/// Whether the kernel keeps the exit status of a process for whoever holds its pidfd (Linux 6.15).
pub fn kernel_keeps_statuses() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("read the kernel's release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}
