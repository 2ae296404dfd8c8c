//! C programs that have something to lose: what the library promises to its host.

use std::path::Path;
use std::process::Command;

use crate::support::*;
use crate::tests;

tests![
    nothing_of_the_host_changes,
    threads_hammer_one_node,
    exit_statuses_where_a_handler_takes_every_child,
    exit_statuses_where_sigchld_is_ignored,
];

fn host(compiler: &[&str], name: &str, arguments: &[&str]) -> Outcome {
    if let Some(reason) = lacks(&["cc"]) {
        return skip(reason);
    }
    let directory = tempfile::tempdir()?;
    let program = directory.path().join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(format!("{name}.c"));
    compile(compiler, &source, &program)?;
    eprint!("{}", run(Command::new(program).args(arguments))?);
    PASS
}

fn nothing_of_the_host_changes() -> Outcome {
    host(C11, "promises", &[])
}

fn threads_hammer_one_node() -> Outcome {
    host(C11, "threads", &[])
}

fn exit_statuses_where_a_handler_takes_every_child() -> Outcome {
    host(C11, "sigchld", &["handler"])
}

fn exit_statuses_where_sigchld_is_ignored() -> Outcome {
    host(C11, "sigchld", &["ignore"])
}
