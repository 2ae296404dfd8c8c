//! The Go package of `examples/go`, with the installed library.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::installed::install;
use crate::support::*;
use crate::tests;

tests![the_quickstart_runs, the_load_runs_under_the_race_detector, the_package_s_tests_pass, vet_is_content];

/// An installation, and Go.
struct Go {
    installed: TempDir,
}

impl Go {
    fn new() -> Result<Go, Failed> {
        Ok(Go { installed: install()? })
    }

    fn library(&self) -> PathBuf {
        self.installed.path().join("lib")
    }

    /// Nothing is downloaded, and the results of the compiler are kept with those of cargo. Go does not ask pkg-config
    /// whether an earlier result still fits: the flags, which name the place of this installation, do.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut go = Command::new("go");
        go.args(arguments)
            .current_dir(root().join("examples/go"))
            .env("GOPROXY", "off")
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "-buildvcs=false")
            .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"))
            .env("CGO_CFLAGS", format!("-I{}", self.installed.path().join("include").display()))
            .env("CGO_LDFLAGS", format!("-L{}", self.library().display()))
            .env("PKG_CONFIG_PATH", self.library().join("pkgconfig"))
            .env("LD_LIBRARY_PATH", self.library());
        go
    }
}

const NEEDS: &[&str] = &["cc", "busybox", "pkg-config", "go"];

/// As the README has it.
fn the_quickstart_runs() -> Outcome {
    if let Some(reason) = lacks(NEEDS) {
        return skip(reason);
    }
    let go = Go::new()?;
    let package = "./examples/go/quickstart";
    // The first build takes longer than any run.
    finish(go.command(&["build", "-o", "/dev/null", package]).current_dir(root()))?;
    let said = run(go.command(&["run", package]).current_dir(root()))?;
    if said.ends_with("removed   all of it\n") { PASS } else { fail(said) }
}

fn the_load_runs_under_the_race_detector() -> Outcome {
    if let Some(reason) = lacks(NEEDS) {
        return skip(reason);
    }
    let go = Go::new()?;
    let program = go.installed.path().join("load");
    finish(go.command(&["build", "-race", "-o"]).arg(&program).arg("./load"))?;
    let said = run(Command::new(&program).env("LD_LIBRARY_PATH", go.library()))?;
    if said.ends_with("removed   all of it\n") { PASS } else { fail(said) }
}

/// Under the race detector, too.
fn the_package_s_tests_pass() -> Outcome {
    if let Some(reason) = lacks(NEEDS) {
        return skip(reason);
    }
    let go = Go::new()?;
    let program = go.installed.path().join("tests");
    finish(go.command(&["test", "-race", "-c", "-o"]).arg(&program))?;
    let said = run(Command::new(&program).arg("-test.v").env("LD_LIBRARY_PATH", go.library()))?;
    if said.contains("--- SKIP") || !said.ends_with("PASS\n") {
        return fail(said);
    }
    PASS
}

fn vet_is_content() -> Outcome {
    if let Some(program) = NEEDS.iter().find(|program| !on_path(program)) {
        return skip(format!("there is no {program}"));
    }
    finish(&mut Go::new()?.command(&["vet", "./..."]))?;
    let unformatted = output(Command::new("gofmt").arg("-l").arg(root().join("examples/go")))?;
    let unformatted = String::from_utf8(unformatted.stdout)?;
    if unformatted.is_empty() { PASS } else { fail(format!("gofmt would change {unformatted}")) }
}
