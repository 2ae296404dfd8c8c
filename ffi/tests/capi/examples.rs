//! The programs of `examples/c`: each compiles without a warning, runs, and says at the end that it has removed all.

use std::process::Command;

use libtest_mimic::Completion;

use crate::support::*;
use crate::tests;

tests![
    all_compile_as_c11_and_as_cpp17,
    pod_runs,
    embed_runs,
    ipc_runs,
    exec_runs,
    oci_runs,
    all_run_with_the_address_sanitizer,
    calls_that_make_nothing_are_clean_under_valgrind,
    the_makefile_builds_them,
];

const ALL: [&str; 5] = ["pod", "embed", "ipc", "exec", "oci"];

fn runs(compiler: &[&str], name: &str) -> Outcome {
    if let Some(reason) = lacks(&["cc", "busybox", "perl"]) {
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

fn oci_runs() -> Outcome {
    runs(C11, "oci")
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

/// Only those: Valgrind 3.19 has none of open_tree(2), move_mount(2), fsopen(2) (number 430) and their kin, without which
/// already `pericarp_node_open` fails in it with ENOSYS. Programs that make containers run with the sanitizers.
fn calls_that_make_nothing_are_clean_under_valgrind() -> Outcome {
    if let Some(program) = ["cc", "valgrind"].into_iter().find(|program| !on_path(program)) {
        return skip(format!("there is no {program}"));
    }
    let directory = tempfile::tempdir()?;
    let program = directory.path().join("calls");
    std::fs::write(directory.path().join("nulls.inc"), crate::panics::null_calls()?)?;
    let include = format!("-I{}", directory.path().display());
    compile(&[C11, &[&include]].concat(), &c_source("calls"), &program)?;
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
    if ["pod", "embed", "ipc", "exec", "oci", "ipc_peer"].iter().all(made) {
        PASS
    } else {
        fail("not all were built")
    }
}
