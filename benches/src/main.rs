//! Compares pericarp with the bare system calls of the same isolation, and with the command-line runtimes that are
//! installed. All contenders of a case take turns in one run, round by round, and only ratios of one run are worth
//! quoting: a shared machine's times wander by a factor of two.

mod case;
mod contender;
mod cpu;
mod floor;
mod full;
mod interrupt;
mod oci;
mod peers;
mod pericarp;
mod readings;
mod remote;
mod resident;
mod rootfs;
mod stats;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use case::{CASES, Case, Pace};
use contender::{Contender, Result};
use cpu::KernelThreads;
use workspace::Workspace;

const USAGE: &str = "\
pericarp-bench [--rounds N] [--cases a,b] [--resident MIB] [--peers] [--gap MS]     (as root)
  --rounds N      rounds a case, after a few that are not counted (default 200)
  --cases a,b     only these, of: CASES
  --resident MIB  resident memory of the large process of spawn-resident (default 4096)
  --peers         also crun, runc, youki and bwrap, where they are installed
  --gap MS        idle time before each operation, so that the kernel has done away with what the one before left
                  (default 0)";

struct Options {
    rounds: usize,
    cases: Option<Vec<String>>,
    resident_mib: usize,
    peers: bool,
    gap: Duration,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let answer = match words[..] {
        ["--serve", ref what @ ..] => serve(what),
        ["--help" | "-h"] => {
            println!("{}", usage());
            Ok(())
        }
        _ => parse(&words).and_then(|options| compare(&options)),
    };
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pericarp-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let names: Vec<&str> =
        CASES.iter().map(|case| case.name).chain([resident::CASE, readings::CASE]).collect();
    USAGE.replace("CASES", &names.join(", "))
}

fn parse(words: &[&str]) -> Result<Options> {
    let mut options =
        Options { rounds: 200, cases: None, resident_mib: 4096, peers: false, gap: Duration::ZERO };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{}", usage()));
        match *word {
            "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
            "--cases" => options.cases = Some(value()?.split(',').map(str::to_owned).collect()),
            "--resident" => options.resident_mib = value()?.parse()?,
            "--gap" => options.gap = Duration::from_millis(value()?.parse()?),
            "--peers" => options.peers = true,
            _ => return Err(format!("{word}?\n{}", usage()).into()),
        }
    }
    for name in options.cases.iter().flatten() {
        if ![resident::CASE, readings::CASE].contains(&name.as_str())
            && !CASES.iter().any(|case| case.name == name)
        {
            return Err(format!("no case is called {name}\n{}", usage()).into());
        }
    }
    Ok(options)
}

/// The contenders that work in this process.
fn in_process(workspace: &Workspace) -> Result<Vec<Box<dyn Contender>>> {
    let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(floor::Floor::new(workspace)?)];
    contenders.extend(pericarp::open(workspace)?);
    Ok(contenders)
}

/// What this program does when it has started itself.
fn serve(what: &[&str]) -> Result<()> {
    interrupt::catch();
    match what {
        ["peers"] => {
            peers::prepare_process()?;
            let workspace = Workspace::new()?;
            remote::serve(peers::open(&workspace)?)
        }
        ["resident", mib] => {
            resident::touch(mib.parse()?)?;
            let workspace = Workspace::new()?;
            remote::serve(in_process(&workspace)?)
        }
        _ => Err(format!("cannot serve {what:?}").into()),
    }
}

fn compare(options: &Options) -> Result<()> {
    // SAFETY: no pointers.
    if unsafe { libc::geteuid() } != 0 {
        return Err("namespaces, mounts and cgroups need root".into());
    }
    interrupt::catch();
    let wanted =
        |name: &str| options.cases.as_ref().is_none_or(|cases| cases.iter().any(|case| case == name));
    let workspace = Workspace::new()?;
    let mut contenders = in_process(&workspace)?;
    for contender in &mut contenders {
        let looked_at = floor::verify::verify(contender.as_mut())?;
        let name = contender.name();
        eprintln!("{name}: {}", if looked_at { "isolation verified" } else { "isolation not verified" });
    }
    if options.peers {
        for peer in remote::start(&["peers"])? {
            contenders.push(Box::new(peer));
        }
    }

    let pace = Pace { rounds: options.rounds, gap: options.gap };
    let load = load();
    let mut notes = Vec::new();
    if contenders.iter().all(|contender| contender.name() != pericarp::NAME) {
        notes.push(format!("{} is not linked in", pericarp::NAME));
    }
    let mut rows = vec![case::head()];
    let mut kernel = KernelThreads::default();
    for case in CASES.iter().filter(|case: &&Case| wanted(case.name)) {
        eprintln!("{}: {}", case.name, case.what);
        rows.extend(case::run(case, &mut contenders, &pace, &mut kernel, &mut notes)?);
    }
    if rows.len() > 1 {
        println!("{}", stats::table(&rows));
    }
    if wanted(resident::CASE) && !interrupt::requested() {
        eprintln!("{}: case container from a small and from a large process", resident::CASE);
        println!("{}", stats::table(&resident::run(&pace, options.resident_mib)?));
    }
    if wanted(readings::CASE) && !interrupt::requested() {
        eprintln!("{}: what all containers use, in one call", readings::CASE);
        println!("{}", stats::table(&readings::run(&workspace, &pace)?));
    }
    if options.peers && !peers::missing().is_empty() {
        notes.push(format!("missing peers: {}", peers::missing().join(", ")));
    }
    for note in &notes {
        println!("Note: {note}.");
    }
    println!("{}", machine(&pace, &load));
    match () {
        () if interrupt::requested() => Err("interrupted; cases that were not finished are left out".into()),
        () => Ok(()),
    }
}

/// Date, kernel and processors: without them a number says nothing.
fn machine(pace: &Pace, load: &str) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(since_epoch.as_secs() / 86_400);
    let (kernel, rounds, gap) = (kernel.trim(), pace.rounds, pace.gap.as_millis());
    format!(
        "{year}-{month:02}-{day:02}, Linux {kernel}, {processors} CPUs, load {load} before the run, {rounds} rounds, \
         gaps of {gap} ms"
    )
}

/// The load average of the last minute: other work on the machine spoils what follows.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").to_owned()
}

/// The Gregorian date of a day since 1970-01-01, counted in years that begin with March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month < 3), month, day)
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_515), (2026, 3, 3));
    }
}
