//! What the Rust library can do, the C interface can do: every public method of the types of handles is named in
//! a `Rust:` line of the header, or has a reason here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use libtest_mimic::Failed;

use crate::support::*;
use crate::tests;

tests![every_rust_method_has_a_c_function_or_a_reason, the_header_names_methods_that_are_there];

/// The types, and the lines that begin their methods, in whichever file of the library.
const TYPES: &[(&str, &str)] = &[
    ("Node", "impl Node {"),
    ("Pod", "impl Pod {"),
    ("PodIpc", "impl<'a> PodIpc<'a> {"),
    ("Container", "impl Container {"),
    ("Process", "impl Process {"),
    ("Events", "impl Events {"),
    ("Terminal", "impl Terminal {"),
    ("Fanout", "impl Fanout {"),
];

/// Methods that C has no function for, and why.
const REASONS: &[(&str, &str)] = &[
    (
        "Pod::ipc",
        "the pericarp_ipc_ functions take the pod: a borrow of a handle would be one more thing to free",
    ),
    ("Events::into_stream", "tokio is a Rust library; C waits for the descriptor"),
];

/// The texts of all source files of the library.
fn sources(directory: &Path, texts: &mut Vec<String>) -> Result<(), Failed> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, texts)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(fs::read_to_string(path)?);
        }
    }
    Ok(())
}

/// All public methods, as `Type::method`.
fn methods() -> Result<BTreeSet<String>, Failed> {
    let mut texts = Vec::new();
    sources(&root().join("src"), &mut texts)?;
    let mut methods = BTreeSet::new();
    for (kind, start) in TYPES {
        let before = methods.len();
        let start = format!("\n{start}\n");
        for block in texts.iter().flat_map(|text| text.split(&start).skip(1)) {
            let block = block.split("\n}\n").next().unwrap_or_default();
            for line in block.lines() {
                let Some(rest) = line.strip_prefix("    pub fn ") else { continue };
                let end = rest.find(['(', '<']).unwrap_or(rest.len());
                methods.insert(format!("{kind}::{}", &rest[..end]));
            }
        }
        if methods.len() == before {
            return fail(format!("no methods of {kind} were found"));
        }
    }
    Ok(methods)
}

/// What the header names in its `Rust:` lines, with the function that does.
fn named() -> Result<BTreeSet<(String, String)>, Failed> {
    let mut named = BTreeSet::new();
    for function in functions()? {
        let rust = function.comment.split("Rust:").nth(1).unwrap_or_default().to_owned();
        let items = rust.split('`').skip(1).step_by(2).filter(|item| item.contains("::"));
        named.extend(items.map(|item| (item.to_owned(), function.name.clone())));
    }
    Ok(named)
}

fn every_rust_method_has_a_c_function_or_a_reason() -> Outcome {
    let named: BTreeSet<String> = named()?.into_iter().map(|(item, _)| item).collect();
    let has =
        |method: &String| named.contains(method) || REASONS.iter().any(|(reasoned, _)| reasoned == method);
    let missing: Vec<String> = methods()?.into_iter().filter(|method| !has(method)).collect();
    if !missing.is_empty() {
        return fail(format!(
            "these have neither a C function nor a reason in this file: {}",
            missing.join(", ")
        ));
    }
    PASS
}

fn the_header_names_methods_that_are_there() -> Outcome {
    let methods = methods()?;
    let of_handles = |item: &str| TYPES.iter().any(|(kind, ..)| item.split("::").next() == Some(kind));
    let stale: Vec<(String, String)> =
        named()?.into_iter().filter(|(item, _)| of_handles(item) && !methods.contains(item)).collect();
    let reasoned: Vec<&str> =
        REASONS.iter().map(|(method, _)| *method).filter(|method| !methods.contains(*method)).collect();
    if !stale.is_empty() || !reasoned.is_empty() {
        return fail(format!("these are no methods: {stale:?} {reasoned:?}"));
    }
    PASS
}
