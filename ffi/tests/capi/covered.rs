//! Every function and every constant of the header is part of the behaviour suite, which compares it with the Rust
//! interface, or has a reason here.

use std::fs;

use libtest_mimic::Failed;

use crate::support::*;
use crate::tests;

tests![every_function_is_called_by_the_behaviours, every_constant_is_used_by_the_behaviours];

/// Functions that no behaviour calls, and why.
const FUNCTIONS: &[(&str, &str)] =
    &[("pericarp_has_feature", "Rust has none; a test of the crate compares each name with the header")];

/// Constants that no behaviour knows, and why.
const CONSTANTS: &[(&str, &str)] = &[
    (
        "PERICARP_ERROR_INVALID_ARGUMENT",
        "Rust has no such arguments; arguments.rs gives them to every function",
    ),
    ("PERICARP_ERROR_PANIC", "none is known; tests of the crate make one"),
    ("PERICARP_EVENT_OTHER", "for kinds of events to come"),
];

/// The C side of the behaviours.
fn behaviours() -> Result<String, Failed> {
    let mut text = String::new();
    for entry in fs::read_dir(root().join("ffi/tests/behaviour/c"))? {
        text += &fs::read_to_string(entry?.path())?;
    }
    Ok(text)
}

fn covered(names: &[String], reasons: &[(&str, &str)]) -> Outcome {
    let behaviours = behaviours()?;
    let reasoned = |name: &str| reasons.iter().any(|(known, _)| *known == name);
    let missing: Vec<&String> =
        names.iter().filter(|name| !has_word(&behaviours, name) && !reasoned(name)).collect();
    let is_stale = |name: &str| has_word(&behaviours, name) || !names.iter().any(|known| known == name);
    let stale: Vec<&str> = reasons.iter().map(|(name, _)| *name).filter(|name| is_stale(name)).collect();
    if !missing.is_empty() || !stale.is_empty() {
        return fail(format!("no behaviour has {missing:?}; reasons that nothing needs: {stale:?}"));
    }
    PASS
}

fn every_function_is_called_by_the_behaviours() -> Outcome {
    let names: Vec<String> = functions()?.into_iter().map(|function| function.name).collect();
    covered(&names, FUNCTIONS)
}

fn every_constant_is_used_by_the_behaviours() -> Outcome {
    covered(&constants()?, CONSTANTS)
}
