//! Every function of the header is part of the behaviour suite, which compares it with the Rust interface, or has a
//! reason here.

use std::fs;

use libtest_mimic::Failed;

use crate::support::*;
use crate::tests;

tests![every_function_is_called_by_the_behaviours];

/// Functions that no behaviour calls, and why.
const REASONS: &[(&str, &str)] =
    &[("pericarp_has_feature", "Rust has none; a test of the crate compares each name with the header")];

/// The C side of the behaviours.
fn calls() -> Result<String, Failed> {
    let mut text = String::new();
    for entry in fs::read_dir(root().join("ffi/tests/behaviour/c"))? {
        text += &fs::read_to_string(entry?.path())?;
    }
    Ok(text)
}

fn every_function_is_called_by_the_behaviours() -> Outcome {
    let calls = calls()?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let called = |name: &str| calls.split(name).skip(1).any(|rest| !rest.starts_with(is_part));
    let functions = functions()?;
    let reasoned = |name: &str| REASONS.iter().any(|(function, _)| *function == name);
    let missing: Vec<&str> = functions
        .iter()
        .map(|function| function.name.as_str())
        .filter(|name| !called(name) && !reasoned(name))
        .collect();
    let stale: Vec<&str> = REASONS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| called(name) || !functions.iter().any(|function| function.name == *name))
        .collect();
    if !missing.is_empty() || !stale.is_empty() {
        return fail(format!("no behaviour calls {missing:?}; reasons that nothing needs: {stale:?}"));
    }
    PASS
}
