//! The project's own commands, run as `cargo xtask COMMAND`.

mod cargo;
mod fuzz;
mod header;
mod lint;
mod process;
mod report;
mod results;
mod symbols;
mod test;
mod tools;

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Result, bail};

const HELP: &str = "\
usage: cargo xtask COMMAND [ARGUMENTS]

  test    run every test, on this machine and in a guest, and add up the results
  vm      run programs in a throw-away QEMU guest with all of cgroup v2
  lint    check the formatting, clippy's lints, the documentation and the C header
  header  write include/pericarp.h and ffi/pericarp.map
  bench   run the benchmarks
  fuzz    feed made-up input to what reads plans, specifications and seccomp profiles

`cargo xtask COMMAND --help` tells more.
";

const BENCH_HELP: &str = "\
usage: cargo xtask bench [ARGUMENTS]
       cargo xtask bench cost [ROUNDS]

Runs `cargo run --release --package pericarp-bench -- ARGUMENTS`, or compares the C interface with Rust: a container
from create to remove, in pairs; fails when C costs 3 % more, or above that.
";

const VM_HELP: &str = "\
usage: cargo xtask vm [OPTIONS] -- PROGRAM [ARGUMENTS...]
       cargo xtask vm --fetch [--kernel debian|newest|DIR]

Makes sure that the needed tools are there, then runs tests/vm/run with the same arguments:
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("--help", arguments),
    };
    match command {
        "test" => test::run(rest),
        "vm" => vm(rest),
        "lint" => lint::run(rest),
        "header" => header::run(rest),
        "bench" => bench(rest),
        "fuzz" => fuzz::run(rest),
        "--help" | "-h" | "help" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("no such command: {other}\n\n{HELP}"),
    }
}

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace")
}

/// Whether `--help` is among the arguments that are xtask's own.
fn wants_help(arguments: &[String]) -> bool {
    arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "--help" || argument == "-h")
}

fn vm(arguments: &[String]) -> Result<ExitCode> {
    let runner = root().join("tests/vm/run");
    if wants_help(arguments) {
        println!("{VM_HELP}");
        process::run(Command::new(runner).arg("--help"))?;
        return Ok(ExitCode::SUCCESS);
    }
    tools::ensure(&[tools::GUEST])?;
    process::exit_code(Command::new(runner).args(arguments))
}

fn bench(arguments: &[String]) -> Result<ExitCode> {
    if wants_help(arguments) {
        print!("{BENCH_HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let cost = ["--package", "pericarp-ffi", "--example", "cost", "--"];
    let (package, arguments): (&[&str], _) = match arguments.split_first() {
        Some((case, rest)) if case == "cost" => (&cost, rest),
        _ => (&["--package", "pericarp-bench", "--"], arguments),
    };
    let mut command = cargo::command(&["run", "--release"]);
    process::exit_code(command.args(package).args(arguments))
}
