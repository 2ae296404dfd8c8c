//! NULL and garbage for every parameter of every function, as the header declares them.

use std::ffi::{CStr, c_char};

use crate::objects::*;
use crate::support::*;
use crate::tests;

tests![
    all_null,
    each_pointer_null_where_the_others_are_right,
    each_pointer_garbage_where_the_others_are_right,
    the_strings_of_an_error_s_accessors_are_there,
];

fn all_null() -> Outcome {
    let library = Library::load()?;
    for function in functions()? {
        // SAFETY: the header allows NULL everywhere: it is an error at worst.
        let result = unsafe { library.call(&function.name, &[0; 6]) }? as i32;
        if function.can_fail() && result != function.for_nothing() {
            return fail(format!("{} returned {result} for nothing but NULL", function.name));
        }
    }
    PASS
}

/// Calls every function that can fail, once for each of its pointers, with that one wrong.
fn each(wrong: impl Fn(&Parameter) -> Option<usize>, expected: &[i32]) -> Outcome {
    if let Some(reason) = lacks(&[]) {
        return skip(reason);
    }
    let library = Library::load()?;
    let objects = Objects::make(&library)?;
    let mut calls = 0;
    for function in functions()?.iter().filter(|function| function.can_fail()) {
        for (at, parameter) in function.parameters.iter().enumerate() {
            if !parameter.is_pointer() || parameter.is_handed_on() || parameter.name == "err" {
                continue;
            }
            let Some(wrong) = wrong(parameter) else { continue };
            let (structure, place) = (Memory::structure(), Memory::garbage());
            let mut arguments: Vec<usize> = function
                .parameters
                .iter()
                .map(|parameter| objects.right(parameter, &structure, &place))
                .collect();
            let mut err: usize = 0;
            *arguments.last_mut().ok_or("no parameters")? = (&raw mut err).expose_provenance();
            arguments[at] = wrong;
            // SAFETY: one argument is wrong, which the header promises to tell.
            let result = unsafe { library.call(&function.name, &arguments) }? as i32;
            let said = message(&library, err)?;
            let about = format!("{} with a wrong {}: {result}, {said:?}", function.name, parameter.name);
            if !expected.contains(&result)
                || !said.contains(&format!("check the argument {}", parameter.name))
            {
                return fail(about);
            }
            let untouched = structure.0 == Memory::structure().0 && place.0 == Memory::garbage().0;
            if !untouched {
                return fail(format!("{about}: an out-parameter was changed"));
            }
            calls += 1;
        }
    }
    eprintln!("{calls} calls with one wrong argument");
    if calls > 100 { PASS } else { fail(format!("only {calls} calls were made")) }
}

fn each_pointer_null_where_the_others_are_right() -> Outcome {
    each(|parameter| (!parameter.nullable).then_some(0), &[-libc::EINVAL])
}

fn each_pointer_garbage_where_the_others_are_right() -> Outcome {
    let garbage = Memory::garbage();
    let wrong = |parameter: &Parameter| {
        let is_place = !parameter.kind.starts_with("const ") && !is_filled(&parameter.kind);
        // Of a place for a result, nothing is looked at but where it is. A list with no room is not looked at.
        (parameter.name != "pids").then(|| garbage.address() + usize::from(is_place))
    };
    each(wrong, &[-libc::EINVAL, -libc::E2BIG])
}

fn the_strings_of_an_error_s_accessors_are_there() -> Outcome {
    let library = Library::load()?;
    let mut err: usize = 0;
    // SAFETY: NULL is allowed, and the place for the error is right.
    unsafe {
        let place = (&raw mut err).expose_provenance();
        library.call("pericarp_node_remove", &[0, place])?;
        for (name, expected) in [
            ("pericarp_error_step", "check the argument"),
            ("pericarp_error_subject", "node"),
            ("pericarp_error_message", "check the argument node: is NULL"),
        ] {
            let text: *const c_char = std::ptr::with_exposed_provenance(library.call(name, &[err])?);
            if text.is_null() || CStr::from_ptr(text).to_str()? != expected {
                return fail(format!("{name} is not {expected:?}"));
            }
        }
        if library.call("pericarp_error_code", &[err])? as i32 != 12
            || library.call("pericarp_error_errno", &[err])? as i32 != 0
        {
            return fail("the numbers are wrong");
        }
        library.call("pericarp_error_unref", &[err])?;
    }
    PASS
}
