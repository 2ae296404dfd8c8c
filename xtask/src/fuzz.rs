//! `cargo xtask fuzz`

use std::{fs, process::Command, process::ExitCode};

use anyhow::{Context, Result, bail};

use crate::{process, root, wants_help};

const HELP: &str = "\
usage: cargo xtask fuzz [TARGET [SECONDS]]

Feeds made-up input to a target of fuzz/fuzz_targets with cargo-fuzz, or to all of them one after the
other, for 60 seconds each unless told. What a target has learnt is kept in fuzz/corpus and made use of
the next time; input that it fails on is kept in fuzz/artifacts.
";

/// Runs the targets; fails when one of them does.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    if wants_help(arguments) {
        println!("{HELP}targets: {}", targets()?.join(" "));
        return Ok(ExitCode::SUCCESS);
    }
    let targets = targets()?;
    let (wanted, seconds) = match arguments {
        [] => (targets.clone(), "60"),
        [target] => (vec![target.clone()], "60"),
        [target, seconds] => (vec![target.clone()], seconds.as_str()),
        _ => bail!("fuzz takes a target and a number of seconds (see --help)"),
    };
    let seconds: u32 = seconds.parse().with_context(|| format!("not a number of seconds: {seconds}"))?;
    if Command::new("cargo-fuzz").arg("--version").output().is_err() {
        bail!("cargo-fuzz is missing: cargo install --locked cargo-fuzz");
    }
    for target in &wanted {
        if !targets.contains(target) {
            bail!("no such target: {target} (there are: {})", targets.join(" "));
        }
        process::run(&mut command(target, seconds)?)?;
        eprintln!("xtask: fuzzing {target} for {seconds} s: ok");
    }
    Ok(ExitCode::SUCCESS)
}

fn command(target: &str, seconds: u32) -> Result<Command> {
    let fuzz = root().join("fuzz");
    let corpus = fuzz.join("corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    // Not `cargo fuzz`: Cargo tells its commands a toolchain and flags that are not for this build.
    let mut cargo_fuzz = Command::new("cargo-fuzz");
    cargo_fuzz.current_dir(root()).args(["fuzz", "run", target]).arg(&corpus);
    let seeds = fuzz.join("seeds").join(target);
    if seeds.is_dir() {
        cargo_fuzz.arg(seeds);
    }
    cargo_fuzz.args(["--", "-max_len=8192", "-timeout=20", "-print_final_stats=1"]);
    cargo_fuzz.arg(format!("-max_total_time={seconds}"));
    let dictionary = fuzz.join(format!("{target}.dict"));
    if dictionary.is_file() {
        cargo_fuzz.arg(format!("-dict={}", dictionary.display()));
    }
    // The sanitizer and the coverage are options of unstable compilers, which a stable one also has.
    cargo_fuzz.env("RUSTC_BOOTSTRAP", "1");
    Ok(cargo_fuzz)
}

/// The names of the targets.
fn targets() -> Result<Vec<String>> {
    let directory = root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
        if let Some(name) = entry?.file_name().to_str().and_then(|name| name.strip_suffix(".rs")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
