//! The Go package of `examples/go`, with the installed library.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::installed::install;
use crate::support::*;
use crate::tests;

tests![
    the_package_has_all_of_the_header,
    the_package_has_all_constants_of_the_header,
    the_quickstart_runs,
    the_load_runs_under_the_race_detector,
    the_package_s_tests_pass,
    vet_is_content
];

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

const NEEDS: &[&str] = &["cc", "busybox", "perl", "pkg-config", "go"];

/// Functions that the package does without, each with what it has instead.
const NOT_IN_GO: &[(&str, &str)] = &[
    ("bundle_ref", "a pointer to a Bundle is one"),
    ("container_borrow_pidfd", "Wait takes a copy"),
    ("container_wait", "it would hold a thread: Wait parks the goroutine"),
    ("container_wait_timeout", "Wait takes a context"),
    ("error_errno", "the result of the call has the number"),
    ("events_is_over", "the channel is closed"),
    ("events_pod", "the caller has the Pod"),
    ("events_ref", "a pointer to Events is one"),
    ("fanout_ref", "a pointer to a Fanout is one"),
    ("fanout_run", "it would hold a thread: Run parks the goroutine"),
    ("node_create_pod", "CreatePod takes all, as JSON"),
    ("node_ref", "a pointer to a Node is one"),
    ("pod_run", "it would hold a thread: Run parks the goroutine"),
    ("process_borrow_pidfd", "Wait takes a copy"),
    ("process_ref", "a pointer to a Process is one"),
    ("process_wait", "it would hold a thread: Wait parks the goroutine"),
    ("process_wait_timeout", "Wait takes a context"),
];

/// Constants that the package does without, each with what it has instead.
const CONSTANTS_NOT_IN_GO: &[(&str, &str)] = &[
    ("POD_EPHEMERAL", JSON),
    ("POD_HOSTNAME_FILES", JSON),
    ("POD_HOST_NETWORK", JSON),
    ("POD_HOST_IPC", JSON),
    ("POD_HOST_UTS", JSON),
    ("POD_HOST_PID", JSON),
    ("POD_SHARED_PID", JSON),
    ("EXIT_CODE", "ExitStatus is what tells a signal from a code"),
    ("EXIT_SIGNAL", "ExitStatus is what tells a signal from a code"),
    ("EVENT_OTHER", "an EventKind may be any number"),
];
const JSON: &str = "CreatePod takes all, as JSON";

/// The package itself, without its tests.
fn package() -> Result<String, Failed> {
    let mut package = String::new();
    for entry in std::fs::read_dir(root().join("examples/go"))? {
        let path = entry?.path();
        let is_test = path.to_string_lossy().ends_with("_test.go");
        if path.extension().is_some_and(|extension| extension == "go") && !is_test {
            package += &std::fs::read_to_string(path)?;
        }
    }
    Ok(package)
}

fn the_package_has_all_constants_of_the_header() -> Outcome {
    let package = package()?;
    let constants = constants()?;
    let has = |name: &str| has_word(&package, &format!("C.PERICARP_{name}"));
    let names: Vec<&str> = constants.iter().filter_map(|name| name.strip_prefix("PERICARP_")).collect();
    let reasoned = |name: &str| CONSTANTS_NOT_IN_GO.iter().any(|(known, _)| *known == name);
    let missing: Vec<_> = names.iter().filter(|name| !has(name) && !reasoned(name)).collect();
    assert!(
        missing.is_empty(),
        "examples/go lacks {missing:?}: use them, or say why not in CONSTANTS_NOT_IN_GO"
    );
    let wrong: Vec<_> =
        CONSTANTS_NOT_IN_GO.iter().filter(|(known, _)| has(known) || !names.contains(known)).collect();
    assert!(wrong.is_empty(), "the package has these, or the header has not: {wrong:?}");
    PASS
}

fn the_package_has_all_of_the_header() -> Outcome {
    let package = package()?;
    let has = |function: &str| package.contains(&format!("C.pericarp_{function}("));
    let header = std::fs::read_to_string(root().join("include/pericarp.h"))?;
    let declared = header.lines().filter(|line| !line.starts_with([' ', '#', '/']));
    let mut functions: Vec<&str> = declared
        .filter_map(|line| line.split_once('(')?.0.rsplit(['*', ' ']).next()?.strip_prefix("pericarp_"))
        .collect();
    functions.dedup();
    assert!(functions.len() > 100, "the header has only {functions:?}");
    let missing: Vec<_> = functions
        .iter()
        .filter(|function| !has(function) && !NOT_IN_GO.iter().any(|(known, _)| known == *function))
        .collect();
    assert!(missing.is_empty(), "examples/go lacks {missing:?}: wrap them, or say why not in NOT_IN_GO");
    let wrong: Vec<_> =
        NOT_IN_GO.iter().filter(|(known, _)| has(known) || !functions.contains(known)).collect();
    assert!(wrong.is_empty(), "the package has these, or the header has not: {wrong:?}");
    PASS
}

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
