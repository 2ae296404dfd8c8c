//! Garbage behind the pointers and in the numbers: extremes for each number, each field of each structure, texts that are
//! no JSON, and functions that have no way to tell an error. No call panics or crashes, and what must be refused is.
//!
//! Without the bound on `set->count` in `pericarp_ipc_create_sysv_sem`, 4294967295 semaphores are read from beyond all memory:
//! the test ends by SIGSEGV. Without the check for arrays in `json::read`, `pericarp_ipc_create` takes "[]". (Both were so.)

use std::ffi::CString;
use std::process::Command;

use libtest_mimic::Failed;

use crate::layout::*;
use crate::objects::*;
use crate::support::*;
use crate::tests;

tests![
    no_pointer_at_all_with_and_without_a_place_for_the_error,
    extremes_for_every_number,
    garbage_in_every_field_of_every_structure,
    texts_that_are_no_specification,
    functions_without_errors_answer_garbage_with_nothing,
    the_allocator_of_the_address_sanitizer_finds_nothing_in_all_of_it,
];

const ALREADY_EXISTS: i32 = 2;
const NOT_FOUND: i32 = 3;
const WRONG_STATE: i32 = 4;
const PANIC: i32 = 13;

/// Values of numbers that a function may take, each with why. For all others every extreme is an error.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("pericarp_pod_stop", "grace_ms", "a container that has ended is not waited for"),
    ("pericarp_container_stop", "grace_ms", "likewise"),
    ("pericarp_container_wait_timeout", "timeout_ms", "likewise"),
    ("pericarp_process_wait_timeout", "timeout_ms", "likewise"),
    ("pericarp_terminal_resize", "width", "the kernel takes any size"),
    ("pericarp_terminal_resize", "height", "likewise"),
    (
        "pericarp_container_processes",
        "room",
        "the program says how much room it has, and nobody can check it",
    ),
];

/// Garbage in fields that is taken, each with why.
const TAKEN: &[(&str, &str, &str)] = &[
    ("pericarp_node_options_t", "subid_user", "a user that has no ranges is one without ranges"),
    ("pericarp_pod_options_t", "shm_size", "a limit, which the kernel takes when it can count so far"),
    ("pericarp_stdio_t", "stdin_fd", "-1 is as the specification says"),
    ("pericarp_stdio_t", "stdout_fd", "likewise"),
    ("pericarp_stdio_t", "stderr_fd", "likewise"),
    ("pericarp_sysv_shm_t", "key", "any number but 0 is a key"),
    ("pericarp_sysv_sem_t", "key", "likewise"),
    ("pericarp_sysv_msg_t", "key", "likewise"),
];

/// What a call said.
struct Said {
    result: i32,
    code: i32,
    message: String,
}

/// Calls a function that can fail. Whatever the arguments, it does not panic, and there is an error if and only if the
/// number says so.
fn call(library: &Library, function: &Function, mut arguments: Vec<usize>) -> Result<Said, Failed> {
    let mut err: usize = 0;
    *arguments.last_mut().ok_or("no parameters")? = (&raw mut err).expose_provenance();
    // SAFETY: garbage is only where the header promises to tell it, or where it is a number.
    let (result, code) = unsafe {
        let result = library.call(&function.name, &arguments)? as i32;
        (result, library.call("pericarp_error_code", &[err])? as i32)
    };
    let said = Said { result, code, message: message(library, err)? };
    if said.code == PANIC || (said.result < 0) != (err != 0) || said.result > 0 {
        return fail(format!("{}: {result}, code {code}, {:?}", function.name, said.message));
    }
    Ok(said)
}

/// Right arguments, but for texts, of which the right one depends on the function.
fn right(objects: &Objects<'_>, function: &Function, structure: &Memory, place: &Memory) -> Vec<usize> {
    let json = match function.name.as_str() {
        "pericarp_pod_create_container" | "pericarp_pod_run" => {
            c"{\"name\": \"d\", \"rootfs\": {\"overlay\": {\"lower\": [\"/\"]}}, \"args\": [\"true\"]}"
        }
        "pericarp_container_exec" => c"{\"args\": [\"true\"]}",
        "pericarp_container_exec_oci" => {
            c"{\"args\": [\"true\"], \"cwd\": \"/\", \"user\": {\"uid\": 0, \"gid\": 0}}"
        }
        _ => c"x",
    };
    let of = |parameter: &Parameter| match parameter.name.as_str() {
        "json" => json.as_ptr().expose_provenance(),
        // More than so many elements are not in the place for them.
        "room" => 16,
        _ => objects.right(parameter, structure, place),
    };
    function.parameters.iter().map(of).collect()
}

fn no_pointer_at_all_with_and_without_a_place_for_the_error() -> Outcome {
    let library = Library::load()?;
    for function in functions()? {
        let count = function.parameters.len();
        // SAFETY: the header allows NULL everywhere: it is an error at worst.
        let bare = unsafe { library.call(&function.name, &vec![0; count]) }?;
        if function.can_fail() {
            let said = call(&library, &function, vec![0; count])?;
            if bare as i32 != said.result || said.result != function.for_nothing() {
                return fail(format!("{}: {} and {}", function.name, bare as i32, said.result));
            }
        } else if count > 0 && !function.returns.is_empty() && function.returns != "void" && bare != 0 {
            let is_minus_one = function.name.ends_with("_pid") && bare as i32 == -1;
            if !is_minus_one {
                return fail(format!("{} answers {bare} for NULL", function.name));
            }
        }
    }
    PASS
}

/// The extremes of a type of numbers, as a register holds them.
fn extremes(kind: &str) -> Result<Vec<usize>, Failed> {
    let signed = |values: &[i64]| values.iter().map(|value| *value as usize).collect();
    Ok(match kind {
        "int" | "int32_t" => signed(&[-1, i32::MIN.into(), i32::MAX.into(), 0x0100_0000]),
        "int64_t" => signed(&[-1, i64::MIN, i64::MAX]),
        "uint16_t" => vec![1, 0x8000, usize::from(u16::MAX)],
        "uint32_t" => vec![0x7fff_ffff, 0x8000_0000, u32::MAX as usize],
        "uint64_t" | "size_t" => vec![usize::MAX, usize::MAX / 2 + 1, u32::MAX as usize],
        _ => return fail(format!("no extremes of {kind} are known")),
    })
}

fn extremes_for_every_number() -> Outcome {
    if let Some(reason) = lacks(&[]) {
        return skip(reason);
    }
    let library = Library::load()?;
    let mut calls = 0;
    for function in functions()?.iter().filter(|function| function.can_fail()) {
        for (at, parameter) in function.parameters.iter().enumerate() {
            if parameter.is_pointer() || parameter.is_callback() {
                continue;
            }
            let key = (function.name.as_str(), parameter.name.as_str());
            let allowed = ALLOWED.iter().any(|(function, parameter, _)| (*function, *parameter) == key);
            let objects = Objects::make(&library)?;
            objects.end()?;
            for value in extremes(&parameter.kind)? {
                let (structure, place) = (Memory::structure(), Memory::garbage());
                let mut arguments = right(&objects, function, &structure, &place);
                arguments[at] = value;
                let said = call(&library, function, arguments)?;
                if said.result == 0 && !allowed {
                    return fail(format!("{} takes {value:#x} for {}", function.name, parameter.name));
                }
                calls += 1;
            }
        }
    }
    eprintln!("{calls} calls with an extreme number");
    if calls > 60 { PASS } else { fail(format!("only {calls} calls were made")) }
}

/// A structure with right fields.
fn filled(
    structure: &Structure,
    objects: &Objects<'_>,
    number: usize,
    texts: &mut Vec<CString>,
) -> Result<Box<Memory>, Failed> {
    static VALUES: [u16; 4] = [1; 4];
    let mut memory = Memory::structure();
    for field in &structure.fields {
        let mut text = |text: &str| -> Result<usize, Failed> {
            texts.push(CString::new(text)?);
            Ok(texts.last().map_or(0, |text| text.as_ptr().expose_provenance()))
        };
        let value = match field.name.as_str() {
            "size" => structure.size,
            // What is made by an earlier call is another one.
            "name" => text(&format!("x{number}"))?,
            // Not that of the node that is in use, which is to be removed as a whole afterwards.
            "state_dir" => text(objects.place().0)?,
            "cgroup_name" => text(objects.place().1)?,
            "bytes" => 4096,
            "key" => 0x1234 + number,
            "values" => VALUES.as_ptr().expose_provenance(),
            "count" => VALUES.len(),
            "stdin_fd" | "stdout_fd" | "stderr_fd" => -1_i32 as u32 as usize,
            _ => 0,
        };
        put(&mut memory, field, value);
    }
    Ok(memory)
}

fn put(memory: &mut Memory, field: &Field, value: usize) {
    memory.0[field.offset..field.offset + field.size].copy_from_slice(&value.to_ne_bytes()[..field.size]);
}

/// Garbage for a field, each with what it is.
fn garbage(field: &Field, garbage: &Memory, long: &CString) -> Result<Vec<usize>, Failed> {
    Ok(match (field.kind.as_str(), field.name.as_str()) {
        (_, "size") => vec![0, 1, 8, field.offset + 12, 4097, usize::MAX],
        ("const char *", _) => vec![garbage.address(), long.as_ptr().expose_provenance()],
        (kind, _) if kind.ends_with('*') => vec![0, garbage.address() + 1],
        ("uint32_t", "reserved") => vec![1, u32::MAX as usize],
        // Any other number is a user, and 4 GiB are a size.
        ("uint32_t", "uid" | "gid") => vec![u32::MAX as usize],
        (_, "bytes") => vec![usize::MAX, usize::MAX / 2 + 1],
        (kind, _) => extremes(kind)?,
    })
}

fn garbage_in_every_field_of_every_structure() -> Outcome {
    if let Some(reason) = lacks(&[]) {
        return skip(reason);
    }
    let library = Library::load()?;
    let (structures, memory) = (structures()?, Memory::garbage());
    let long = CString::new("x".repeat(6000))?;
    let (mut calls, mut wrong) = (0, Vec::new());
    for function in functions()?.iter().filter(|function| function.can_fail()) {
        for (at, parameter) in function.parameters.iter().enumerate() {
            let kind = parameter.kind.trim_start_matches("const ").trim_end_matches(" *");
            let Some(structure) = structures.iter().find(|structure| structure.name == kind) else {
                continue;
            };
            let objects = Objects::make(&library)?;
            objects.end()?;
            let mut one = |field: Option<(&Field, usize)>, tail: bool| -> Result<Said, Failed> {
                let (mut texts, place) = (Vec::new(), Memory::garbage());
                calls += 1;
                let mut given = filled(structure, &objects, calls, &mut texts)?;
                if let Some((field, value)) = field {
                    put(&mut given, field, value);
                }
                if tail {
                    given.0[..8].copy_from_slice(&(structure.size + 8).to_ne_bytes());
                    given.0[structure.size + 7] = 1;
                }
                let other = Memory::structure();
                let mut arguments = right(&objects, function, &other, &place);
                arguments[at] = given.address();
                let json = format!(
                    r#"{{"name": "d{calls}", "rootfs": {{"overlay": {{"lower": ["/"]}}}}, "args": ["true"]}}"#
                );
                let (json, name) = (CString::new(json)?, CString::new(format!("d{calls}"))?);
                match function.parameters[at.saturating_sub(1)].name.as_str() {
                    "json" if !function.name.starts_with("pericarp_container_exec") => {
                        arguments[at - 1] = json.as_ptr().expose_provenance();
                    }
                    "name" => arguments[at - 1] = name.as_ptr().expose_provenance(),
                    _ => {}
                }
                let said = call(&library, function, arguments)?;
                if said.code == ALREADY_EXISTS {
                    return fail(format!("{}: {}", function.name, said.message));
                }
                Ok(said)
            };
            // Without garbage it works, so that it is the garbage that is refused.
            let said = one(None, false)?;
            if said.result < 0 && ![NOT_FOUND, WRONG_STATE].contains(&said.code) {
                return fail(format!("{} without garbage: {}", function.name, said.message));
            }
            let is_filled = is_filled(&parameter.kind);
            let said = one(None, true)?;
            if !is_filled && said.result != -libc::E2BIG {
                wrong.push(format!("{} takes an unknown tail: {}", function.name, said.result));
            }
            for field in structure.fields.iter().filter(|field| !is_filled || field.name == "size") {
                for value in garbage(field, &memory, &long)? {
                    let said = one(Some((field, value)), false)?;
                    let taken = |(structure, name, _): &(&str, &str, &str)| {
                        *structure == kind && *name == field.name.as_str()
                    };
                    if said.result == 0 && !TAKEN.iter().any(taken) {
                        wrong.push(format!("{} takes {value:#x} for {kind}.{}", function.name, field.name));
                    }
                }
            }
        }
    }
    eprintln!("{calls} calls with garbage in a structure");
    if !wrong.is_empty() {
        return fail(wrong.join("\n"));
    }
    if calls > 100 { PASS } else { fail(format!("only {calls} calls were made")) }
}

fn texts_that_are_no_specification() -> Outcome {
    if let Some(reason) = lacks(&[]) {
        return skip(reason);
    }
    let library = Library::load()?;
    let mut texts: Vec<String> =
        ["", "x", "null", "[]", "0", "\"", "{", "{}}", "{\"x\": 1}", "{\"name\": 1}"]
            .map(str::to_owned)
            .to_vec();
    texts.push("[".repeat(100_000));
    texts.push("{\"a\":".repeat(100_000));
    texts.push(" ".repeat(1 << 20));
    let texts: Vec<CString> = texts.into_iter().map(|text| CString::new(text).unwrap_or_default()).collect();
    let mut calls = 0;
    let objects = Objects::make(&library)?;
    for function in functions()?.iter().filter(|function| function.can_fail()) {
        for (at, parameter) in function.parameters.iter().enumerate() {
            let of_json = ["json", "options", "containers_json", "capacity"];
            if parameter.kind != "const char *" || !of_json.contains(&parameter.name.as_str()) {
                continue;
            }
            for text in &texts {
                let (structure, place) = (Memory::structure(), Memory::garbage());
                let mut arguments = right(&objects, function, &structure, &place);
                arguments[at] = text.as_ptr().expose_provenance();
                let said = call(&library, function, arguments)?;
                // Other keys are left alone, as the OCI runtime-spec wants it ("Extensibility").
                let is_oci = function.name == "pericarp_bundle_parse" || function.name.ends_with("_oci");
                let may_be_more = is_oci && text.to_bytes().ends_with(b"1}");
                // No rules besides the default ones are rules, too.
                let is_list = function.name == "pericarp_container_update_device_rules_json";
                let may_be_empty = is_list && text.to_bytes() == b"[]";
                if said.result == 0 && !may_be_more && !may_be_empty {
                    let text = text.to_string_lossy();
                    return fail(format!("{} takes {:.20?} for {}", function.name, text, parameter.name));
                }
                calls += 1;
            }
        }
    }
    eprintln!("{calls} calls with a text that is no specification");
    if calls > 100 { PASS } else { fail(format!("only {calls} calls were made")) }
}

/// What is not looked at: memory that the header wants to have been given by the library, and to be freed.
const FREES: &[&str] = &["pericarp_string_free", "pericarp_pod_list_free", "pericarp_container_list_free"];

fn functions_without_errors_answer_garbage_with_nothing() -> Outcome {
    let library = Library::load()?;
    let garbage = Memory::garbage();
    let mut calls = 0;
    for function in functions()?.iter().filter(|function| !function.can_fail()) {
        let takes_garbage = function.parameters.first().is_some_and(Parameter::is_pointer);
        if !takes_garbage || FREES.contains(&function.name.as_str()) {
            continue;
        }
        for address in [garbage.address(), garbage.address() + 1] {
            // SAFETY: it is memory of the right size, and the header promises to tell that it is no handle.
            let answer = unsafe { library.call(&function.name, &[address]) }?;
            let nothing = answer == 0 || function.returns == "void" || answer as i32 == -1;
            if !nothing {
                return fail(format!("{} answers garbage with {answer:#x}", function.name));
            }
            calls += 1;
        }
    }
    if calls > 30 { PASS } else { fail(format!("only {calls} calls were made")) }
}

/// The tests of this file and of `arguments` once more, in a process whose allocator is the sanitizer's: that finds what
/// is freed twice, freed without having been allocated, or used by a function of the C library after it was freed.
fn the_allocator_of_the_address_sanitizer_finds_nothing_in_all_of_it() -> Outcome {
    const AGAIN: &str = "PERICARP_GARBAGE_AGAIN";
    if std::env::var_os(AGAIN).is_some() {
        return skip("this is that process");
    }
    if let Some(reason) = lacks(&["cc"]) {
        return skip(reason);
    }
    let sanitizer = output(Command::new("cc").arg("-print-file-name=libasan.so"))?;
    let sanitizer = String::from_utf8(sanitizer.stdout)?.trim().to_owned();
    for tests in ["arguments::", "garbage::"] {
        let mut again = Command::new(std::env::current_exe()?);
        again.arg(tests).env(AGAIN, "1").env("LD_PRELOAD", &sanitizer);
        // Handles that calls of these tests make are not given back.
        let said = run(again.env("ASAN_OPTIONS", "detect_leaks=0:abort_on_error=1"))?;
        if !said.contains("test result: ok") {
            return fail(said);
        }
    }
    PASS
}
