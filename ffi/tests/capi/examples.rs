//! The programs of `examples/c`: each compiles without a warning, runs, and says at the end that it has removed all.

use std::path::Path;
use std::process::Command;

use libtest_mimic::{Completion, Failed};
use tempfile::TempDir;

use crate::support::*;
use crate::tests;

tests![
    all_compile_as_c11_and_as_cpp17,
    pod_runs,
    embed_runs,
    ipc_runs,
    exec_runs,
    pod_runs_as_a_user_would_build_it,
    pod_runs_with_cargo_s_shared_library,
    all_run_with_the_address_sanitizer,
    calls_that_make_nothing_are_clean_under_valgrind,
    the_makefile_builds_them,
    the_go_programs_run,
];

const ALL: [&str; 4] = ["pod", "embed", "ipc", "exec"];

fn runs(compiler: &[&str], name: &str) -> Outcome {
    if let Some(reason) = lacks(&["cc", "busybox"]) {
        return skip(reason);
    }
    let (_directory, program) = example(compiler, name)?;
    let said = run(&mut Command::new(program))?;
    if said.ends_with("removed     all of it\n") { PASS } else { fail(said) }
}

fn all_compile_as_c11_and_as_cpp17() -> Outcome {
    for compiler in [C11, CPP17] {
        if !on_path(compiler[0]) {
            return skip(format!("there is no {}", compiler[0]));
        }
        for name in ALL {
            example(compiler, name)?;
        }
    }
    PASS
}

fn pod_runs() -> Outcome {
    runs(C11, "pod")
}

fn embed_runs() -> Outcome {
    runs(C11, "embed")
}

fn ipc_runs() -> Outcome {
    runs(C11, "ipc")
}

fn exec_runs() -> Outcome {
    runs(C11, "exec")
}

/// Installs the library into a directory of its own.
fn install() -> Result<TempDir, Failed> {
    let directory = tempfile::tempdir()?;
    let mut install = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh"));
    finish(install.arg("--prefix").arg(directory.path()).arg("--library").arg(static_library()?))?;
    Ok(directory)
}

/// With the installed library, header and pkg-config file: `cc pod.c $(pkg-config --cflags --libs pericarp)`.
fn pod_runs_as_a_user_would_build_it() -> Outcome {
    if let Some(reason) = lacks(&["cc", "busybox", "pkg-config"]) {
        return skip(reason);
    }
    let directory = install()?;
    let here = directory.path();
    let symbols =
        output(Command::new("nm").args(["-D", "--defined-only"]).arg(here.join("lib/libpericarp.so")))?;
    let symbols = String::from_utf8(symbols.stdout)?;
    let stray = |line: &&str| !line.contains(" T pericarp_") && !line.ends_with(" A PERICARP_0");
    if let Some(stray) = symbols.lines().find(stray) {
        return fail(format!("the installed library exports {stray}"));
    }
    let versioned = symbols.lines().filter(|line| line.ends_with("@@PERICARP_0")).count();
    if versioned != functions()?.len() {
        return fail(format!("{versioned} symbols have a version"));
    }
    let program = here.join("pod");
    let script =
        "cc -Wall -Wextra -pedantic -std=c11 -Werror -o \"$0\" \"$1\" $(pkg-config --cflags --libs pericarp)";
    let mut compiler = Command::new("sh");
    compiler.args(["-c", script]).arg(&program).arg(root().join("examples/c/pod.c"));
    finish(compiler.env("PKG_CONFIG_PATH", here.join("lib/pkgconfig")))?;
    let said = run(Command::new(&program).env("LD_LIBRARY_PATH", here.join("lib")))?;
    if said.ends_with("removed     all of it\n") { PASS } else { fail(said) }
}

fn pod_runs_with_cargo_s_shared_library() -> Outcome {
    if let Some(reason) = lacks(&["cc", "busybox"]) {
        return skip(reason);
    }
    let directory = tempfile::tempdir()?;
    let here = directory.path();
    // As an installation has it.
    std::fs::copy(shared_library()?, here.join("libpericarp.so.0"))?;
    std::os::unix::fs::symlink("libpericarp.so.0", here.join("libpericarp.so"))?;
    let program = here.join("pod");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-I"]).arg(root().join("include"));
    compiler
        .arg(root().join("examples/c/pod.c"))
        .arg("-L")
        .arg(here)
        .arg("-lpericarp")
        .arg("-o")
        .arg(&program);
    finish(&mut compiler)?;
    let said = run(Command::new(&program).env("LD_LIBRARY_PATH", here))?;
    if said.ends_with("removed     all of it\n") { PASS } else { fail(said) }
}

fn all_run_with_the_address_sanitizer() -> Outcome {
    for name in ALL {
        let outcome = runs(SANITIZED, name)?;
        if !matches!(outcome, Completion::Completed) {
            return Ok(outcome);
        }
    }
    PASS
}

fn calls_that_make_nothing_are_clean_under_valgrind() -> Outcome {
    // Valgrind knows too few of the system calls that make containers (3.19 has no fsopen).
    if let Some(program) = ["cc", "valgrind"].into_iter().find(|program| !on_path(program)) {
        return skip(format!("there is no {program}"));
    }
    let directory = tempfile::tempdir()?;
    let program = directory.path().join("calls");
    compile(C11, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/calls.c"), &program)?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--error-exitcode=9", "--leak-check=full"]);
    valgrind.arg("--errors-for-leak-kinds=definite,indirect,possible").arg(&program);
    run(&mut valgrind)?;
    PASS
}

fn the_makefile_builds_them() -> Outcome {
    if let Some(program) = ["cc", "make"].into_iter().find(|program| !on_path(program)) {
        return skip(format!("there is no {program}"));
    }
    let directory = tempfile::tempdir()?;
    let mut make = Command::new("make");
    make.arg("-C").arg(root().join("examples/c")).arg("CFLAGS=-O1 -Werror");
    make.arg(format!("OUT={}", directory.path().display()));
    finish(make.arg(format!("PERICARP_LIB={}", static_library()?.display())))?;
    let made = |name: &&str| directory.path().join(name).exists();
    if ["pod", "embed", "ipc", "exec", "ipc_peer"].iter().all(made) {
        PASS
    } else {
        fail("not all were built")
    }
}

/// The quickstart, and the load program under Go's race detector.
fn the_go_programs_run() -> Outcome {
    if let Some(reason) = lacks(&["cc", "busybox", "pkg-config", "go"]) {
        return skip(reason);
    }
    let directory = install()?;
    let library = directory.path().join("lib");
    for (package, race) in [("quickstart", false), ("load", true)] {
        let program = directory.path().join(package);
        let mut go = Command::new("go");
        go.args(["build", "-buildvcs=false"]).args(race.then_some("-race")).arg("-o").arg(&program);
        go.arg(format!("./{package}")).current_dir(root().join("examples/go"));
        // Nothing is downloaded, and the results of the compiler are kept with those of cargo. Go does not ask
        // pkg-config whether an earlier result still fits: the flags, which name the place of this installation, do.
        go.env("GOPROXY", "off")
            .env("GOTOOLCHAIN", "local")
            .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"))
            .env("CGO_CFLAGS", format!("-I{}", directory.path().join("include").display()))
            .env("CGO_LDFLAGS", format!("-L{}", library.display()))
            .env("PKG_CONFIG_PATH", library.join("pkgconfig"));
        finish(&mut go)?;
        let said = run(Command::new(&program).env("LD_LIBRARY_PATH", &library))?;
        if !said.ends_with("removed   all of it\n") {
            return fail(said);
        }
    }
    PASS
}
