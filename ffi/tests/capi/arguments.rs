//! NULL and garbage for every parameter of every function, as the header declares them.

use std::ffi::{CStr, c_char};
use std::os::fd::AsRawFd;

use libtest_mimic::Failed;

use crate::support::*;
use crate::tests;

tests![
    all_null,
    each_pointer_null_where_the_others_are_right,
    each_pointer_garbage_where_the_others_are_right,
    the_strings_of_an_error_s_accessors_are_there,
];

/// Memory that is no handle, no UTF-8, and no structure of a size that anybody knows.
#[repr(C, align(64))]
struct Memory([u8; 8192]);

impl Memory {
    fn garbage() -> Box<Self> {
        let mut memory = Box::new(Memory([0xa5; 8192]));
        memory.0[8191] = 0;
        memory
    }

    /// A structure of a size that all have room in, otherwise zero.
    fn structure() -> Box<Self> {
        let mut memory = Box::new(Memory([0; 8192]));
        memory.0[..8].copy_from_slice(&256_usize.to_ne_bytes());
        memory
    }

    fn address(&self) -> usize {
        self.0.as_ptr().expose_provenance()
    }
}

fn all_null() -> Outcome {
    let library = Library::load()?;
    for function in functions()? {
        // SAFETY: the header allows NULL everywhere: it is an error at worst.
        let result = unsafe { library.call(&function.name, &[0; 6]) }? as i32;
        if function.can_fail() && result != -libc::EINVAL {
            return fail(format!("{} returned {result} for nothing but NULL", function.name));
        }
    }
    PASS
}

/// A node, a pod and a container, whose program is never started, and another program in it.
struct Objects<'a> {
    library: &'a Library,
    node: usize,
    pod: usize,
    container: usize,
    process: usize,
    fanout: usize,
    events: usize,
    bundle: usize,
    _directory: tempfile::TempDir,
}

impl<'a> Objects<'a> {
    fn make(library: &'a Library) -> Result<Self, Failed> {
        let directory = tempfile::tempdir()?;
        let state = format!("{}/state\0", directory.path().display());
        let cgroup = format!("pericarp-arguments-{}-{:?}\0", std::process::id(), std::thread::current().id());
        let cgroup = cgroup.replace(['(', ')'], "-");
        let options =
            [64, 0, state.as_ptr().expose_provenance(), cgroup.as_ptr().expose_provenance(), 0, 0, 0, 0];
        let mut objects = Objects {
            library,
            node: 0,
            pod: 0,
            container: 0,
            process: 0,
            fanout: 0,
            events: 0,
            bundle: 0,
            _directory: directory,
        };
        let options = options.as_ptr().expose_provenance();
        objects.node = must(library, "pericarp_node_open", &[options])?;
        let json = c"{\"name\": \"p\", \"ephemeral\": true}".as_ptr().expose_provenance();
        objects.pod = must(library, "pericarp_node_create_pod_json", &[objects.node, json])?;
        let json =
            c"{\"name\": \"c\", \"rootfs\": {\"overlay\": {\"lower\": [\"/\"]}}, \"args\": [\"true\"]}";
        let json = json.as_ptr().expose_provenance();
        objects.container = must(library, "pericarp_pod_create_container", &[objects.pod, json, 0])?;
        let json = c"{\"args\": [\"sleep\", \"1000\"]}".as_ptr().expose_provenance();
        objects.process = must(library, "pericarp_container_exec", &[objects.container, json, 0])?;
        let (source, _) = std::io::pipe()?;
        objects.fanout = must(library, "pericarp_fanout_create", &[source.as_raw_fd() as usize, 4096, 0])?;
        objects.events = must(library, "pericarp_pod_events", &[objects.pod, 0])?;
        let json = c"{\"ociVersion\": \"1.2.0\"}".as_ptr().expose_provenance();
        let path = c"/".as_ptr().expose_provenance();
        objects.bundle = must(library, "pericarp_bundle_parse", &[json, path])?;
        Ok(objects)
    }

    /// An argument that is right for a parameter of that type.
    fn right(&self, kind: &str, structure: &Memory, place: &Memory) -> usize {
        match kind {
            "const pericarp_node_t *" => self.node,
            "const pericarp_pod_t *" => self.pod,
            "const pericarp_container_t *" => self.container,
            "const pericarp_process_t *" => self.process,
            "const pericarp_fanout_t *" => self.fanout,
            "const pericarp_events_t *" => self.events,
            "const pericarp_bundle_t *" => self.bundle,
            "const char *" => c"x".as_ptr().expose_provenance(),
            "pericarp_exit_status_t *" | "pericarp_container_stats_t *" | "pericarp_event_t *" => {
                structure.address()
            }
            _ if kind.starts_with("const pericarp_") => structure.address(),
            _ if kind.ends_with('*') => place.address(),
            _ => 0,
        }
    }
}

impl Drop for Objects<'_> {
    fn drop(&mut self) {
        for (name, handle) in [
            ("pericarp_pod_remove", self.pod),
            ("pericarp_process_unref", self.process),
            ("pericarp_fanout_unref", self.fanout),
            ("pericarp_events_unref", self.events),
            ("pericarp_bundle_unref", self.bundle),
            ("pericarp_container_unref", self.container),
            ("pericarp_pod_unref", self.pod),
            ("pericarp_node_remove", self.node),
            ("pericarp_node_unref", self.node),
        ] {
            // SAFETY: these are handles, or NULL, and given back once.
            let _ = unsafe { self.library.call(name, &[handle, 0]) };
        }
    }
}

/// Calls a function that makes a handle.
fn must(library: &Library, name: &str, arguments: &[usize]) -> Result<usize, Failed> {
    let (mut handle, mut err): (usize, usize) = (0, 0);
    let mut all = arguments.to_vec();
    all.push((&raw mut handle).expose_provenance());
    all.push((&raw mut err).expose_provenance());
    // SAFETY: the arguments are right.
    let result = unsafe { library.call(name, &all) }? as i32;
    if result == 0 { Ok(handle) } else { fail(format!("{name}: {}", message(library, err)?)) }
}

/// The message of an error, which is given back.
fn message(library: &Library, err: usize) -> Result<String, Failed> {
    // SAFETY: it is an error, or NULL.
    unsafe {
        let text: *const c_char =
            std::ptr::with_exposed_provenance(library.call("pericarp_error_message", &[err])?);
        let message =
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() };
        library.call("pericarp_error_unref", &[err])?;
        Ok(message)
    }
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
            if !parameter.is_pointer() || parameter.name == "err" {
                continue;
            }
            let Some(wrong) = wrong(parameter) else { continue };
            let (structure, place) = (Memory::structure(), Memory::garbage());
            let mut arguments: Vec<usize> = function
                .parameters
                .iter()
                .map(|parameter| objects.right(&parameter.kind, &structure, &place))
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
        let filled = ["pericarp_exit_status_t *", "pericarp_container_stats_t *", "pericarp_event_t *"];
        let is_place = !parameter.kind.starts_with("const ") && !filled.contains(&parameter.kind.as_str());
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
