//! C programs that have something to lose: what the library promises to its host. Each also runs with the sanitizers.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Failed;

use crate::support::*;
use crate::tests;

tests![
    the_programs_compile,
    nothing_of_the_host_changes,
    threads_hammer_one_node,
    exit_statuses_where_a_handler_takes_every_child,
    exit_statuses_where_sigchld_is_ignored,
    all_of_it_with_the_address_sanitizer,
];

const ALL: [&str; 3] = ["promises", "threads", "sigchld"];

/// A program, compiled. It is left beside this one: a guest has no compiler, and gets it from there.
fn program(name: &str) -> Result<PathBuf, Failed> {
    let directory = std::env::current_exe()?.with_file_name("c-programs");
    let kept = directory.join(name);
    if on_path("cc") {
        fs::create_dir_all(&directory)?;
        let new = tempfile::tempdir_in(&directory)?;
        compile(C11, &c_source(name), &new.path().join(name))?;
        // Another test may run it at this moment.
        fs::rename(new.path().join(name), &kept)?;
    }
    Ok(kept)
}

fn the_programs_compile() -> Outcome {
    if !on_path("cc") {
        return skip("there is no cc");
    }
    for name in ALL {
        program(name)?;
    }
    PASS
}

fn host(name: &str, arguments: &[&str]) -> Outcome {
    if let Some(reason) = lacks(&[]) {
        return skip(reason);
    }
    let program = program(name)?;
    if !program.exists() {
        return skip("there is no cc, nor what it made before");
    }
    eprint!("{}", run(Command::new(program).args(arguments))?);
    PASS
}

fn nothing_of_the_host_changes() -> Outcome {
    host("promises", &[&shared_library()?.to_string_lossy()])
}

fn threads_hammer_one_node() -> Outcome {
    host("threads", &[])
}

fn exit_statuses_where_a_handler_takes_every_child() -> Outcome {
    host("sigchld", &["handler"])
}

fn exit_statuses_where_sigchld_is_ignored() -> Outcome {
    host("sigchld", &["ignore"])
}

fn all_of_it_with_the_address_sanitizer() -> Outcome {
    if let Some(reason) = lacks(&["cc"]) {
        return skip(reason);
    }
    let (directory, library) = (tempfile::tempdir()?, shared_library()?);
    let library = library.to_string_lossy();
    for name in ALL {
        let program = directory.path().join(name);
        compile(SANITIZED, &c_source(name), &program)?;
        let runs: &[&[&str]] = match name {
            "promises" => &[&[&library]],
            "sigchld" => &[&["handler"], &["ignore"]],
            _ => &[&[]],
        };
        for arguments in runs {
            eprint!("{}", run(Command::new(&program).args(*arguments))?);
        }
    }
    PASS
}
