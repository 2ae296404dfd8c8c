//! The cases, and how one of them is run.

use std::time::Duration;

use crate::contender::{Contender, Life, Program, Result, Sample, Work};
use crate::cpu::KernelThreads;
use crate::interrupt;
use crate::stats::{paired_ratio, percentile, us};

pub struct Case {
    pub name: &'static str,
    pub what: &'static str,
    pub work: Work,
}

const fn pod(life: Life, members: u32, program: Program) -> Work {
    Work::Pod { life, members, program }
}

pub const CASES: [Case; 9] = [
    Case {
        name: "pod",
        what: "a pod without containers, made and removed; it would outlive its maker",
        work: pod(Life::Durable, 0, Program::Tiny),
    },
    Case {
        name: "pod-ephemeral",
        what: "the same, held by descriptors alone",
        work: pod(Life::Ephemeral, 0, Program::Tiny),
    },
    Case {
        name: "container",
        what: "one container in a standing pod, from nothing to removed; it runs a program of three instructions",
        work: Work::Container { program: Program::Tiny },
    },
    Case {
        name: "container-busybox",
        what: "the same with busybox true",
        work: Work::Container { program: Program::Busybox },
    },
    Case {
        name: "container-unfiltered",
        what: "as container, without a system call filter: what the default filter takes is the difference",
        work: Work::Container { program: Program::Unfiltered },
    },
    Case {
        name: "container-full",
        what: "as container-busybox, with one of each of what a configuration may ask for: an ordinary user with groups, umask and an \
               ambient capability, resource limits, OOM score, I/O priority, scheduler, a read-only root, a directory, a \
               file and a tmpfs mounted, a device and a rule for it",
        work: Work::Container { program: Program::Full },
    },
    Case {
        name: "single",
        what: "a pod with one container, create to delete; for runtimes: run",
        work: pod(Life::Durable, 1, Program::Tiny),
    },
    Case {
        name: "single-busybox",
        what: "the same with busybox true",
        work: pod(Life::Durable, 1, Program::Busybox),
    },
    Case {
        name: "pod+2",
        what: "a pod with two containers one after the other, create to delete; for runtimes: pause, run, run, delete",
        work: pod(Life::Durable, 2, Program::Tiny),
    },
];

/// How often, and how soon after one another.
pub struct Pace {
    pub rounds: usize,
    pub gap: Duration,
}

pub const WARM_UP_ROUNDS: usize = 5;
/// Operations whose kernel threads' time is added up, so that one quiet wait before and after is enough.
const BATCH: usize = 100;

pub fn head() -> Vec<String> {
    let head = [
        "case",
        "contender",
        "median us",
        "p99 us",
        "min us",
        "CPU us",
        "kernel CPU us",
        "ratio to floor",
        "of CPU",
    ];
    head.map(str::to_owned).to_vec()
}

struct Entry<'a> {
    contender: &'a mut dyn Contender,
    samples: Vec<Sample>,
    failed: bool,
}

/// Runs all contenders that can do the case in turn, in an order that moves on with each round.
pub fn run(
    case: &Case,
    contenders: &mut [Box<dyn Contender>],
    pace: &Pace,
    kernel: &mut KernelThreads,
    notes: &mut Vec<String>,
) -> Result<Vec<Vec<String>>> {
    let able = contenders.iter_mut().filter(|contender| contender.does(case.work));
    let mut entries: Vec<Entry> = able
        .map(|contender| Entry { contender: contender.as_mut(), samples: Vec::new(), failed: false })
        .collect();
    let count = entries.len();
    for round in 0..pace.rounds + WARM_UP_ROUNDS {
        for turn in 0..count {
            let entry = &mut entries[(turn + round) % count];
            if entry.failed {
                continue;
            }
            if interrupt::requested() {
                return Ok(Vec::new());
            }
            std::thread::sleep(pace.gap);
            match entry.contender.measure(case.work) {
                Ok(sample) if round >= WARM_UP_ROUNDS => entry.samples.push(sample),
                Ok(_) => {}
                Err(error) => {
                    notes.push(format!("{} failed in {}: {error}", entry.contender.name(), case.name));
                    entry.failed = true;
                }
            }
        }
    }
    let walls = |entry: &Entry| -> Vec<u64> { entry.samples.iter().map(|sample| sample.wall_ns).collect() };
    let cpus = |entry: &Entry| -> Vec<u64> { entry.samples.iter().map(|sample| sample.cpu_ns).collect() };
    // The floor is the first of all contenders and does every case.
    let floor = entries.first().map(|floor| (walls(floor), cpus(floor))).unwrap_or_default();
    let mut rows = Vec::new();
    for entry in &mut entries {
        let name = entry.contender.name().to_owned();
        if entry.failed {
            rows.push(vec![case.name.to_owned(), name, "failed".to_owned()]);
            continue;
        }
        let kernel_ns = kernel_time(entry.contender, case.work, pace.rounds.min(BATCH), kernel);
        let (wall, cpu) = (walls(entry), cpus(entry));
        rows.push(vec![
            case.name.to_owned(),
            name,
            us(percentile(&wall, 0.5)),
            us(percentile(&wall, 0.99)),
            us(percentile(&wall, 0.0)),
            us(percentile(&cpu, 0.5)),
            kernel_ns.map_or("-".to_owned(), us),
            format!("{:.2}", paired_ratio(&wall, &floor.0)),
            format!("{:.2}", paired_ratio(&cpu, &floor.1)),
        ]);
    }
    Ok(rows)
}

/// Kernel threads' time an operation, most of it spent after the operation; `None` if it cannot be known. On a busy
/// machine it holds other people's work too.
fn kernel_time(
    contender: &mut dyn Contender,
    work: Work,
    times: usize,
    kernel: &mut KernelThreads,
) -> Option<u64> {
    let before = kernel.settle()?;
    for _ in 0..times {
        if interrupt::requested() {
            return None;
        }
        contender.measure(work).ok()?;
    }
    Some((kernel.settle()? - before) / times as u64)
}
