//! A panic in a function of the header, as a C program sees it: the library of a test build panics on purpose where the
//! environment says so, and a program in C that is made from the header goes through all functions.
//!
//! Without `catch_unwind` in `Caller::entry` the program aborts in the first function, pericarp_node_open. Without poisoning
//! in the `Drop` of `Used`, pericarp_node_create_pod goes on to its next argument when it is called again. (Both were tried.)

use std::fmt::Write;
use std::process::Command;

use libtest_mimic::Failed;

use crate::objects::is_filled;
use crate::support::*;
use crate::tests;

tests![a_panic_of_any_function_is_an_error_and_poisons_the_handle];

/// An argument in C for a parameter, as `Objects::right` has it.
fn argument(parameter: &Parameter) -> String {
    match (parameter.kind.as_str(), parameter.name.as_str()) {
        (_, "err") => "&err".to_owned(),
        ("const char *", _) => "\"x\"".to_owned(),
        (kind, _) if handle(kind).is_some() => format!("objects.{}", handle(kind).unwrap_or_default()),
        (kind, _) if kind.starts_with("const pericarp_") || is_filled(kind) => format!("({kind})structure"),
        (kind, _) if kind.ends_with('*') => format!("({kind})place"),
        _ => "0".to_owned(),
    }
}

/// Which handle a pointer of that type is to.
fn handle(kind: &str) -> Option<&str> {
    let name = kind.strip_prefix("const pericarp_")?.strip_suffix("_t *")?;
    ["node", "pod", "container", "process", "fanout", "events", "bundle"].contains(&name).then_some(name)
}

/// A line for each function: `FAILS(function, handle, call)`, `BARE(function, call)` for those that take no handle, and
/// `LOOKS(function, handle, call)` for those that cannot fail.
pub fn calls() -> Result<String, Failed> {
    let mut text = String::new();
    for function in functions()? {
        let name = &function.name;
        let arguments: Vec<String> = function.parameters.iter().map(argument).collect();
        let call = format!("{name}({})", arguments.join(", "));
        let of = function.parameters.iter().find_map(|parameter| handle(&parameter.kind));
        let counts = ["_ref", "_unref", "_free"].iter().any(|end| name.ends_with(end));
        match (function.can_fail(), of) {
            (true, Some(handle)) => writeln!(text, "FAILS({name}, {handle}, {call})")?,
            (true, None) => writeln!(text, "BARE({name}, {call})")?,
            (false, Some(handle)) if !counts => writeln!(text, "LOOKS({name}, {handle}, {call})")?,
            _ => {}
        }
    }
    Ok(text)
}

/// The same with nothing but NULL and 0: `NULL_FAILS(call)`, `NULL_DOES(call)` for those that take it, and
/// `NULL_LOOKS(call)`.
pub fn null_calls() -> Result<String, Failed> {
    let mut text = String::new();
    for function in functions()? {
        let of = |parameter: &Parameter| match parameter.name.as_str() {
            "err" => "&err",
            _ if parameter.is_pointer() || parameter.is_callback() => "NULL",
            _ => "0",
        };
        let arguments: Vec<&str> = function.parameters.iter().map(of).collect();
        let kind = match (function.can_fail(), function.for_nothing()) {
            (true, 0) => "NULL_DOES",
            (true, _) => "NULL_FAILS",
            (false, _) => "NULL_LOOKS",
        };
        writeln!(text, "{kind}({}({}))", function.name, arguments.join(", "))?;
    }
    Ok(text)
}

fn a_panic_of_any_function_is_an_error_and_poisons_the_handle() -> Outcome {
    if let Some(reason) = lacks(&["cc"]) {
        return skip(reason);
    }
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("calls.inc"), calls()?)?;
    let program = directory.path().join("panics");
    let include = format!("-I{}", directory.path().display());
    compile(&[C11, &[&include]].concat(), &c_source("panics"), &program)?;
    let said = run(Command::new(program).env("RUST_BACKTRACE", "0"))?;
    eprint!("{said}");
    if said.ends_with("no panic crossed\n") { PASS } else { fail(said) }
}
