//! `cargo xtask test`

use std::{
    env,
    ffi::OsString,
    io::stdout,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Result, bail};

use crate::{
    cargo::{self, Binary},
    process::{self, End},
    report::{Place, Report},
    results, root, tools, wants_help,
};

const HELP: &str = "\
usage: cargo xtask test [OPTIONS] [FILTER]

Runs every test of the workspace and adds up the results. What a machine must have for it is installed
if this runs as root, and named otherwise. Cargo-c is built once into target/tools, where the machine has
none.

  native   unit tests, documentation tests and the integration suite, on this machine
  guest    the library's unit tests, the suite, and what of the C interface depends on the kernel, as root in one
           QEMU guest with all of cgroup v2, where AppArmor is on; and the suite's tests of mandatory access
           control in a second one with SELinux

A test may be skipped in one place, with a reason, but one that ran nowhere fails the whole, unless a
FILTER or one of the places was asked for. With FILTER, only tests run that have it in their name.

  --kernel debian|newest|DIR   the guest's kernel: Debian 12's (the default), Debian's newest, or that in
                               the directory of an unpacked kernel package (with a slash in it)
  --native-only                no guest
  --guest-only                 only the guest
  --timeout SECONDS            for each suite on this machine, and for the guest as a whole (2400)

The last line is `N passed, N failed, N skipped`, summed over all places.
";

const LIBRARY: &str = "pericarp";
const SUITE: &str = "pericarp-suite";
const INTERFACE: &str = "pericarp-ffi";
/// What the names of the C interface's tests begin with that depend on the kernel: what becomes of exit statuses that others
/// take. Their program is built here, by the test of the second name: the guest has no compiler.
const STATUSES: &str = "hosts::exit_statuses";
const C_PROGRAMS: (&str, &str) = ("hosts::the_programs_compile", "c-programs/sigchld");
/// The one test that needs cargo-c.
const CARGO_C: &str = "installed::cargo_c_installs_the_same";
/// What the names of the suite's tests of mandatory access control begin with. A kernel has AppArmor or SELinux.
const LSM: &str = "lsm::";

#[derive(Debug, PartialEq)]
struct Options {
    kernel: String,
    native: bool,
    guest: bool,
    limit: Duration,
    filter: Option<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let limit = Duration::from_secs(2400);
        let mut options =
            Options { kernel: "debian".to_owned(), native: true, guest: true, limit, filter: None };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().cloned().ok_or_else(|| anyhow::anyhow!("{argument} wants a value"));
            match argument.as_str() {
                "--kernel" => options.kernel = value()?,
                "--timeout" => options.limit = Duration::from_secs(value()?.parse()?),
                "--native-only" => options.guest = false,
                "--guest-only" => options.native = false,
                option if option.starts_with('-') => bail!("no such option: {option} (see --help)"),
                _ if options.filter.is_some() => bail!("more than one FILTER"),
                filter => options.filter = Some(filter.to_owned()),
            }
        }
        if !options.native && !options.guest {
            bail!("--native-only and --guest-only exclude each other");
        }
        Ok(options)
    }
}

pub fn run(arguments: &[String]) -> Result<ExitCode> {
    if wants_help(arguments) {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse(arguments)?;
    tools::ensure(if options.guest { &[tools::NATIVE, tools::GUEST] } else { &[tools::NATIVE] })?;
    let path = match options.native && options.filter.as_ref().is_none_or(|filter| CARGO_C.contains(filter)) {
        true => Some(tools::ensure_cargo_c()?),
        false => env::var_os("PATH"),
    };
    let binaries = cargo::build_tests()?;
    if !binaries.iter().any(|binary| binary.is_test && binary.package == SUITE && binary.kind == "test") {
        bail!("the workspace has no test suite {SUITE}");
    }

    let mut report = Report::default();
    if options.native {
        native(&options, &binaries, path, &mut report)?;
    }
    if options.guest {
        guest(&options, &binaries, &mut report)?;
        guest_with_selinux(&options, &binaries, &mut report)?;
    }
    if options.native && options.guest && options.filter.is_none() {
        report.find_never_run();
    }
    report.check_not_empty();
    print!("{}", report.text());
    Ok(if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says which suite's output follows.
fn announce(suite: &str, place: &str) {
    println!("\n=== {suite}, {place}");
}

fn native(options: &Options, binaries: &[Binary], path: Option<OsString>, report: &mut Report) -> Result<()> {
    // The documentation tests come before the suite, which takes longest.
    let (suite, others): (Vec<&Binary>, Vec<&Binary>) =
        binaries.iter().filter(|binary| binary.is_test).partition(|binary| binary.package == SUITE);
    let run = |binary: &Binary, report: &mut Report| {
        let mut command = Command::new(&binary.executable);
        command.args(&options.filter).current_dir(&binary.directory);
        command.env("CARGO_MANIFEST_DIR", &binary.directory).envs(path.as_ref().map(|path| ("PATH", path)));
        one(binary.suite(), &mut command, options.limit, report)
    };
    for binary in others {
        run(binary, report)?;
    }
    let mut documentation = cargo::command(&["test", "--workspace", "--doc"]);
    if let Some(filter) = &options.filter {
        documentation.args(["--", filter]);
    }
    one("documentation".to_owned(), &mut documentation, options.limit, report)?;
    for binary in suite {
        run(binary, report)?;
    }
    Ok(())
}

/// Runs one suite on this machine.
fn one(suite: String, command: &mut Command, limit: Duration, report: &mut Report) -> Result<()> {
    announce(&suite, "native");
    let (output, end) = process::stream(command, limit, stdout())?;
    let ending = match end {
        End::Exited(status) if status.success() => None,
        End::Exited(status) => Some(format!("it ended with {status}")),
        End::TimedOut(limit) => Some(format!("it did not end within {} s", limit.as_secs())),
    };
    report.add(suite, Place::Native, results::parse(&output), ending);
    Ok(())
}

fn guest(options: &Options, binaries: &[Binary], report: &mut Report) -> Result<()> {
    let packages = [LIBRARY, SUITE];
    let filter = options.filter.as_deref();
    let tests = packages.iter().flat_map(|package| tests_of(binaries, package));
    let mut tests: Vec<(&Binary, Option<&str>)> = tests.map(|binary| (binary, filter)).collect();
    let mut programs = Vec::new();
    let of_interface = match filter {
        None => Some(STATUSES),
        Some(filter) => Some(filter).filter(|filter| filter.starts_with(STATUSES)),
    };
    if let Some(filter) = of_interface {
        let is_interface = |binary: &&Binary| binary.kind == "test" && binary.target == "capi";
        let Some(interface) = tests_of(binaries, INTERFACE).find(is_interface) else {
            bail!("the workspace has no tests of the C interface");
        };
        let mut compile = Command::new(&interface.executable);
        compile.arg(C_PROGRAMS.0).current_dir(&interface.directory);
        process::run(compile.env("CARGO_MANIFEST_DIR", &interface.directory))?;
        programs.push(interface.executable.with_file_name(C_PROGRAMS.1));
        tests.push((interface, Some(filter)));
    }
    boot(options, &Guest { binaries, tests, programs, lsm: None }, report)
}

/// The few tests that need a kernel with SELinux, unless others were asked for.
fn guest_with_selinux(options: &Options, binaries: &[Binary], report: &mut Report) -> Result<()> {
    let filter = match &options.filter {
        None => LSM,
        Some(filter) if filter.starts_with(LSM) => filter,
        Some(_) => return Ok(()),
    };
    let tests = tests_of(binaries, SUITE).map(|binary| (binary, Some(filter))).collect();
    boot(options, &Guest { binaries, tests, programs: Vec::new(), lsm: Some("selinux") }, report)
}

fn tests_of<'a>(binaries: &'a [Binary], package: &'a str) -> impl Iterator<Item = &'a Binary> {
    let is_test = |binary: &&Binary| binary.is_test && ["lib", "test"].contains(&binary.kind.as_str());
    binaries.iter().filter(move |binary| binary.package == package).filter(is_test)
}

/// One boot of the guest.
struct Guest<'a> {
    binaries: &'a [Binary],
    /// Each with what must be in the names of those that run.
    tests: Vec<(&'a Binary, Option<&'a str>)>,
    /// Other programs that they need, beside those of their packages.
    programs: Vec<PathBuf>,
    /// The security module, if not the kernel's default.
    lsm: Option<&'a str>,
}

fn boot(options: &Options, guest: &Guest<'_>, report: &mut Report) -> Result<()> {
    let Guest { binaries, tests, programs: others, lsm } = guest;
    let of = |package: &'static str| binaries.iter().filter(move |binary| binary.package == package);
    let helpers = of(LIBRARY).chain(of(SUITE)).filter(|binary| !binary.is_test && binary.kind == "bin");

    let mut command = Command::new(root().join("tests/vm/run"));
    command.current_dir(root()).args(["--marks", "--kernel", &options.kernel]);
    command.arg("--timeout").arg(options.limit.as_secs().to_string());
    if let Some(lsm) = lsm {
        command.args(["--lsm", lsm]);
    }
    for (name, value) in
        env::vars().filter(|(name, _)| name == "RUST_BACKTRACE" || name.starts_with("PERICARP_"))
    {
        command.arg("--env").arg(format!("{name}={value}"));
    }
    // What the tests may read, and the programs that they run.
    let suite = of(SUITE).take(1).map(|binary| binary.directory.clone());
    let programs = helpers.map(|binary| binary.executable.clone());
    let tested = tests.iter().map(|(binary, _)| binary.executable.clone());
    let tools = tools::IN_GUEST.iter().filter_map(|program| tools::find(program));
    let copies: Vec<PathBuf> =
        suite.chain(programs).chain(tested).chain(tools).chain(others.iter().cloned()).collect();
    for copy in &copies {
        command.arg("--copy").arg(copy);
    }
    command.arg("--");
    for (number, (binary, filter)) in tests.iter().enumerate() {
        if number > 0 {
            command.arg(":::");
        }
        // Each in its own package's directory, as Cargo does it.
        let script = "mkdir -p \"$0\" && cd \"$0\" && CARGO_MANIFEST_DIR=$0 exec \"$@\"";
        command.args(["sh", "-c", script]).arg(&binary.directory).arg(&binary.executable).args(*filter);
    }

    let names: Vec<String> = tests.iter().map(|(binary, _)| binary.suite()).collect();
    let place = lsm.map_or("guest".to_owned(), |lsm| format!("guest with {lsm}"));
    announce(&names.join(" and "), &place);
    // The runner has a time limit of its own; this one is for the runner, and ample.
    let (output, end) = process::stream(&mut command, options.limit + Duration::from_secs(300), stdout())?;
    let how = match end {
        End::Exited(status) => match status.code() {
            Some(124) => format!("the guest did not end within {} s", options.limit.as_secs()),
            Some(125) => "the guest could not be started".to_owned(),
            Some(126) => "the guest died".to_owned(),
            _ => format!("the guest ended with {status}"),
        },
        End::TimedOut(_) => "the guest's runner did not end".to_owned(),
    };
    for (suite, section) in names.into_iter().zip(sections(&output, tests.len())) {
        let ending = match section.status {
            Some(0) => None,
            Some(status) => Some(format!("it ended with exit status {status}")),
            None => Some(how.clone()),
        };
        report.add(suite, Place::Guest, results::parse(&section.output), ending);
    }
    Ok(())
}

/// What one program in the guest printed.
#[derive(Debug, Default, PartialEq)]
struct Section {
    output: String,
    /// None if it did not end.
    status: Option<i32>,
}

/// Splits the guest's output at the runner's marks.
fn sections(output: &str, count: usize) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    sections.resize_with(count, Section::default);
    let mut current = None;
    for line in output.lines() {
        if let Some(mark) = line.strip_prefix("==> vm: ") {
            let mut words = mark.split(' ');
            let event = words.next();
            let number = words.next().and_then(|number| number.parse::<usize>().ok());
            // The marks count from one.
            let Some(index) = number.and_then(|number| number.checked_sub(1)).filter(|index| *index < count)
            else {
                continue;
            };
            match event {
                Some("begin") => current = Some(index),
                Some("end") => {
                    sections[index].status = words.next().and_then(|status| status.parse().ok());
                    current = None;
                }
                _ => {}
            }
        } else if let Some(index) = current {
            sections[index].output.push_str(line);
            sections[index].output.push('\n');
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parse =
            |line: &str| Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let plain = parse("").unwrap();
        assert!(plain.native && plain.guest && plain.filter.is_none() && plain.kernel == "debian");
        let all = parse("--kernel newest --guest-only --timeout 5 name").unwrap();
        assert_eq!((all.kernel.as_str(), all.native, all.guest), ("newest", false, true));
        assert_eq!((all.limit.as_secs(), all.filter.as_deref()), (5, Some("name")));
        for wrong in ["--kernel", "--timeout x", "--other", "one two", "--native-only --guest-only"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_guest_s_output_is_split_at_the_marks() {
        let output = "\n==> vm: begin 1 /usr/bin/sh\none\n\n==> vm: end 1 101\n\n\
                      ==> vm: begin 2 /usr/bin/sh\ntwo\n";
        let sections = sections(output, 3);
        assert_eq!(sections[0], Section { output: "one\n\n".to_owned(), status: Some(101) });
        assert_eq!(sections[1], Section { output: "two\n".to_owned(), status: None });
        assert_eq!(sections[2], Section::default());
    }
}
