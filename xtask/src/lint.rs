//! `cargo xtask lint`

use std::{
    env, fs,
    process::{self, Command, ExitCode},
};

use anyhow::{Result, bail};

use crate::{cargo, header, process::run as run_command, root, wants_help};

const HELP: &str = "\
usage: cargo xtask lint

Fails on any of these, having run them all:

  cargo fmt --all --check, and rustfmt --check of src/init/main.rs
  cargo clippy --workspace --all-targets, with warnings as errors
  clippy over src/init/main.rs, the freestanding program that the build script builds
  cargo doc --workspace --no-deps, with warnings as errors
  cargo xtask header --check
  cargo check of fuzz/, and with that of what the library has under cfg(fuzzing), with warnings as errors
";

pub fn run(arguments: &[String]) -> Result<ExitCode> {
    if wants_help(arguments) {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(argument) = arguments.first() {
        bail!("lint takes no arguments, but got {argument} (see --help)");
    }
    let mut failed = Vec::new();
    let mut check = |name: &'static str, result: Result<()>| match result {
        Ok(()) => eprintln!("xtask: {name}: ok"),
        Err(error) => {
            eprintln!("xtask: {name}: {error:#}");
            failed.push(name);
        }
    };
    check("formatting", run_command(&mut cargo::command(&["fmt", "--all", "--check"])));
    check("formatting of the init", run_command(&mut init_format()));
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    check("clippy", run_command(&mut cargo::command(&clippy)));
    check("clippy of the init", init());
    let mut documentation = cargo::command(&["doc", "--workspace", "--no-deps"]);
    check("documentation", run_command(documentation.env("RUSTDOCFLAGS", "-Dwarnings")));
    check("C header", header::check());
    check("fuzz targets", run_command(&mut fuzz()));
    if !failed.is_empty() {
        bail!("these checks failed: {}", failed.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// The targets are a workspace of their own, and are built with a flag for every crate: in a place of its own, since that
/// would build everything else anew, too.
fn fuzz() -> Command {
    let mut check = cargo::command(&["check", "--locked", "--manifest-path", "fuzz/Cargo.toml"]);
    check.args(["--target-dir", "target/fuzz-check"]).env("RUSTFLAGS", "--cfg fuzzing -D warnings");
    // Of no use without the code.
    check.env("CARGO_PROFILE_DEV_DEBUG", "0");
    check
}

/// The init is no target of Cargo's, so `cargo fmt` does not see it either.
fn init_format() -> Command {
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--check", "--edition", "2024", "src/init/main.rs"]).current_dir(root());
    rustfmt
}

/// The init is no target of Cargo's, so `cargo clippy` does not see it.
fn init() -> Result<()> {
    let source = root().join("src/init/main.rs");
    if !source.exists() {
        eprintln!("xtask: WARNING: there is no {}, so it is NOT linted", source.display());
        return Ok(());
    }
    let output = env::temp_dir().join(format!("pericarp-lint-{}.rmeta", process::id()));
    let mut clippy = Command::new("clippy-driver");
    clippy.args(["--edition", "2024", "--crate-name", "init", "--crate-type", "bin", "--emit", "metadata"]);
    clippy.args(["-C", "panic=abort", "-D", "warnings"]).arg(&source).arg("-o").arg(&output);
    let result = run_command(clippy.current_dir(root()));
    let _ = fs::remove_file(output);
    result
}
