//! The header against the library.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::*;
use crate::tests;

tests![
    every_function_says_ownership_errors_threads_and_the_rust_item,
    the_library_exports_the_header_and_nothing_else,
    the_soname_is_that_of_the_first_day,
    the_header_compiles_alone,
];

fn every_function_says_ownership_errors_threads_and_the_rust_item() -> Outcome {
    let functions = functions()?;
    if functions.len() < 70 {
        return fail(format!("only {} functions were found in the header", functions.len()));
    }
    let mut wrong = Vec::new();
    for function in &functions {
        for what in ["Ownership:", "Errors:", "Threads:", "Rust:"] {
            if !function.comment.lines().any(|line| line.trim_start().starts_with(what)) {
                wrong.push(format!("{} does not say {what}", function.name));
            }
        }
        if function.parameters.len() > 6 {
            wrong.push(format!("{} has more parameters than these tests can call", function.name));
        }
        let returns_number = function.returns == "int";
        if function.can_fail() && !returns_number {
            wrong.push(format!("{} takes err, but returns {}", function.name, function.returns));
        }
    }
    if wrong.is_empty() { PASS } else { fail(wrong.join("\n")) }
}

fn the_library_exports_the_header_and_nothing_else() -> Outcome {
    if !on_path("nm") {
        return skip("there is no nm");
    }
    let output = output(Command::new("nm").args(["-D", "--defined-only"]).arg(shared_library()?))?;
    let text = String::from_utf8(output.stdout)?;
    let exported: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    let functions = functions()?;
    let declared: BTreeSet<&str> = functions.iter().map(|function| function.name.as_str()).collect();
    let (more, less): (Vec<_>, Vec<_>) =
        (exported.difference(&declared).collect(), declared.difference(&exported).collect());
    if !more.is_empty() || !less.is_empty() {
        return fail(format!("exported but not declared: {more:?}; declared but not exported: {less:?}"));
    }
    PASS
}

fn the_soname_is_that_of_the_first_day() -> Outcome {
    if !on_path("readelf") {
        return skip("there is no readelf");
    }
    let output = output(Command::new("readelf").args(["-W", "-d"]).arg(shared_library()?))?;
    let text = String::from_utf8(output.stdout)?;
    if text.contains("soname: [libpericarp.so.0]") { PASS } else { fail(text) }
}

fn the_header_compiles_alone() -> Outcome {
    if !on_path("cc") {
        return skip("there is no cc");
    }
    let directory = tempfile::tempdir()?;
    let source = directory.path().join("alone.c");
    std::fs::write(
        &source,
        "#include <pericarp.h>\nint main(void) { return pericarp_version() == NULL; }\n",
    )?;
    let program = directory.path().join("alone");
    for compiler in [C11, CPP17] {
        if on_path(compiler[0]) {
            compile(compiler, &source, &program)?;
            run(&mut Command::new(&program))?;
        } else {
            eprintln!("WARNING: there is no {}, so the header was NOT compiled with it", compiler[0]);
        }
    }
    PASS
}
