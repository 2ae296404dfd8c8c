//! Whether the size of the host program matters: the case `container` from a small and from a large process, in turn.

use crate::case::{Pace, WARM_UP_ROUNDS};
use crate::contender::{Contender, Program, Result, Work};
use crate::stats::{paired_ratio, percentile, us};
use crate::{interrupt, remote};

pub const CASE: &str = "spawn-resident";
const SMALL_MIB: usize = 16;

/// Makes `mib` MiB of pages of 4 KiB resident, for the rest of the process.
pub fn touch(mib: usize) -> Result<()> {
    let available = available_mib()?;
    if available < mib + 256 {
        return Err(format!("{mib} MiB cannot be resident, {available} MiB are available").into());
    }
    let (length, access) = (mib << 20, libc::PROT_READ | libc::PROT_WRITE);
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at a place of the kernel's choice.
    let pages = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
    if pages == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the mapping made above. Kernels without huge pages answer EINVAL, and none are used then.
    unsafe { libc::madvise(pages, length, libc::MADV_NOHUGEPAGE) };
    for at in (0..length).step_by(4096) {
        // SAFETY: within the mapping, which nobody else knows.
        unsafe { pages.cast::<u8>().add(at).write_volatile(1) };
    }
    Ok(())
}

fn available_mib() -> Result<usize> {
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")).ok_or("no MemAvailable")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? / 1024)
}

/// Rows of the table, its head included.
pub fn run(pace: &Pace, large_mib: usize) -> Result<Vec<Vec<String>>> {
    let mut small = remote::start(&["resident", &SMALL_MIB.to_string()])?;
    let mut large = remote::start(&["resident", &large_mib.to_string()])?;
    let work = Work::Container { program: Program::Tiny };
    let mut times = vec![[Vec::new(), Vec::new()]; small.len()];
    for round in 0..pace.rounds + WARM_UP_ROUNDS {
        for turn in 0..small.len() * 2 {
            if interrupt::requested() {
                return Ok(Vec::new());
            }
            std::thread::sleep(pace.gap);
            let slot = (turn + round) % (small.len() * 2);
            let (number, size) = (slot / 2, slot % 2);
            let sample = [&mut small, &mut large][size][number].measure(work)?;
            if round >= WARM_UP_ROUNDS {
                times[number][size].push(sample.wall_ns);
            }
        }
    }
    let mut rows = vec![vec![
        "case".to_owned(),
        "contender".to_owned(),
        format!("median us, {SMALL_MIB} MiB resident"),
        format!("median us, {large_mib} MiB resident"),
        "ratio".to_owned(),
    ]];
    for (contender, [small, large]) in small.iter().zip(&times) {
        rows.push(vec![
            CASE.to_owned(),
            contender.name().to_owned(),
            us(percentile(small, 0.5)),
            us(percentile(large, 0.5)),
            format!("{:.2}", paired_ratio(large, small)),
        ]);
    }
    Ok(rows)
}
