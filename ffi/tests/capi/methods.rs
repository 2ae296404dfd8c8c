//! What the Rust library can do, the C interface can do: every public method of every public type, and every public
//! function, is named in a `Rust:` line of the header, or has a reason here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use libtest_mimic::Failed;

use crate::support::*;
use crate::tests;

tests![
    every_rust_method_has_a_c_function_or_a_reason,
    the_header_names_methods_that_are_there,
    every_kind_of_method_is_found,
];

/// The files whose `pub use` lines are what the library has in public.
const PUBLIC: &[&str] =
    &["lib.rs", "spec/mod.rs", "spec/kubernetes/mod.rs", "spec/oci/mod.rs", "stats/mod.rs"];

/// Nothing in these is public: system calls, and the program that becomes a container's first process.
const PRIVATE: &[&str] = &["sys", "spawn", "init", "fuzzing.rs"];

/// Methods that C has no function for, and why.
const METHODS: &[(&str, &str)] = &[
    (
        "Pod::ipc",
        "the pericarp_ipc_ functions take the pod: a borrow of a handle would be one more thing to free",
    ),
    ("Events::into_stream", "tokio is a Rust library; C waits for the descriptor"),
    ("Resources::kubernetes", "the beginning of Requirements, which JSON says"),
];

/// Functions that C has not, and why.
const FUNCTIONS: &[(&str, &str)] = &[
    ("cpu_max", CONVERTED),
    ("cpu_shares", CONVERTED),
    ("cpu_weight", CONVERTED),
    ("huge_page_name", CONVERTED),
    ("limited_swap", CONVERTED),
    ("memory_high", CONVERTED),
    ("qos_resources", "for who makes the cgroups of kubepods, in the JSON of a pod's resources"),
];
const CONVERTED: &str = "a step of pericarp_kubernetes_explain, whose answer has the result";

/// Types whose other methods C has no functions for, and why.
const TYPES: &[(&str, &str)] = &[
    ("Admission", JSON),
    ("Capabilities", JSON),
    ("CapabilitySet", JSON),
    ("Capacity", "a C program computes with the numbers of pericarp_node_capacity"),
    ("CgroupDriver", "paths of kubepods for who makes them; a pod's cgroup is said in JSON"),
    ("ContainerSpec", "JSON says it, and what makes or explains a container checks it"),
    ("CpuMax", JSON),
    ("Device", JSON),
    ("DeviceAccess", JSON),
    ("DeviceRule", JSON),
    ("Event", "pericarp_event_t has the container of every event in one place"),
    ("EventOptions", JSON),
    ("EventStream", "tokio is a Rust library; C waits for the descriptor"),
    ("ExecSpec", JSON),
    ("ExitStatus", "pericarp_exit_status_t has what they tell"),
    ("FilesystemOptions", JSON),
    ("Hook", JSON),
    ("Hooks", JSON),
    ("IdMap", JSON),
    ("IdMapping", JSON),
    ("IdMappings", "JSON says it and tells it; a C program computes with the numbers"),
    ("KubernetesPod", "JSON says it, and pericarp_kubernetes_explain tells all that follows"),
    ("MemoryPolicy", JSON),
    ("Mount", JSON),
    ("NetDevice", JSON),
    ("NodeOptions", "pericarp_node_options_t says it"),
    ("PodSpec", "JSON and pericarp_pod_options_t say it, and what makes a pod checks it"),
    ("Policy", JSON),
    ("PressureTrigger", JSON),
    ("ProcessFile", "pericarp_container_exec_oci takes what is in the file"),
    ("Quantity", "JSON says amounts as manifests do: \"500m\""),
    ("Requirements", JSON),
    ("Resize", JSON),
    ("RlimitResource", JSON),
    ("Rootfs", JSON),
    ("Scheduler", JSON),
    ("Seccomp", JSON),
    ("SeccompSyscall", JSON),
    ("Security", JSON),
    ("SharedFd", "pericarp_stdio_t has the descriptors themselves"),
    ("StatsOptions", JSON),
    ("Stdio", "JSON says it, and pericarp_stdio_t has the descriptors"),
    ("UserMode", JSON),
    ("Volume", JSON),
];
const JSON: &str = "JSON says it";

/// What the library has in public: names of types with their methods, and names of functions.
#[derive(Default)]
struct Public {
    methods: BTreeSet<String>,
    functions: BTreeSet<String>,
}

impl Public {
    fn of_type(&self, kind: &str) -> impl Iterator<Item = &String> {
        self.methods.iter().filter(move |method| method.split("::").next() == Some(kind))
    }
}

/// The texts of all source files of the library that may have something public in them.
fn sources(directory: &Path, texts: &mut Vec<String>) -> Result<(), Failed> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let below = path.strip_prefix(root().join("src"))?;
        if PRIVATE.iter().any(|private| below == Path::new(private)) {
            continue;
        }
        if path.is_dir() {
            sources(&path, texts)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(fs::read_to_string(path)?);
        }
    }
    Ok(())
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The names that a file has in public: of its `pub use` lines, and what it makes itself.
fn exported(text: &str, names: &mut BTreeSet<String>) {
    for list in text.split("\npub use ").skip(1).filter_map(|rest| rest.split(';').next()) {
        let last = |path: &str| {
            path.trim_matches(['{', '}', ' ', '\n']).rsplit("::").next().map(word).map(str::to_string)
        };
        names.extend(list.split([',', '{']).filter_map(last).filter(|name| !name.is_empty()));
    }
    for item in ["\npub struct ", "\npub enum ", "\npub fn "] {
        names.extend(text.split(item).skip(1).map(|rest| word(rest).to_string()));
    }
}

/// The type of a block of methods, unless the line begins none, or the methods are those of a trait.
fn type_of(head: &str) -> Option<&str> {
    let mut rest = head.strip_prefix("unsafe ").unwrap_or(head).strip_prefix("impl")?;
    if let Some(generics) = rest.strip_prefix('<') {
        rest = generics.split_once('>')?.1;
    }
    let path = rest.strip_prefix(' ')?.split(['<', ' ', '{']).next()?;
    let of_trait = rest.split('{').next().is_some_and(|head| head.contains(" for "));
    (!of_trait).then(|| path.rsplit("::").next().unwrap_or(path))
}

/// The name of a public method that begins with this line.
fn method_of(line: &str) -> Option<&str> {
    let mut rest = line.strip_prefix("pub ")?;
    for modifier in ["const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(modifier).unwrap_or(rest);
    }
    rest.strip_prefix("fn ").map(word)
}

/// All methods in a text, as type and name. The formatting is rustfmt's: a block ends where the indentation does.
fn methods_in(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let indentation = &line[..line.len() - line.trim_start().len()];
        if !["impl", "unsafe impl"].iter().any(|word| line.trim_start().starts_with(word)) {
            continue;
        }
        // A head that needs more than a line is joined.
        let head = lines[at..].iter().map(|line| line.trim_start()).take(6).collect::<Vec<_>>().join(" ");
        let Some(kind) = type_of(&head) else { continue };
        let end = format!("{indentation}}}");
        for line in lines[at + 1..].iter().take_while(|line| **line != end) {
            let inside = line.strip_prefix(indentation).and_then(|line| line.strip_prefix("    "));
            found.extend(inside.and_then(method_of).map(|name| (kind.to_string(), name.to_string())));
        }
    }
    found
}

fn public() -> Result<Public, Failed> {
    let mut names = BTreeSet::new();
    for file in PUBLIC {
        exported(&fs::read_to_string(root().join("src").join(file))?, &mut names);
    }
    let mut texts = Vec::new();
    sources(&root().join("src"), &mut texts)?;
    let mut public = Public::default();
    for (kind, name) in texts.iter().flat_map(|text| methods_in(text)) {
        if names.contains(&kind) {
            public.methods.insert(format!("{kind}::{name}"));
        }
    }
    let is_function = |name: &String| {
        let begins = format!("\npub fn {name}");
        let defined = |text: &String| text.split(&begins).skip(1).any(|rest| rest.starts_with(['(', '<']));
        texts.iter().any(defined)
    };
    public.functions = names.into_iter().filter(is_function).collect();
    Ok(public)
}

/// What the header names in its `Rust:` lines, with the function that does.
fn named() -> Result<BTreeMap<String, String>, Failed> {
    let mut named = BTreeMap::new();
    for function in functions()? {
        let rust = function.comment.split("Rust:").nth(1).unwrap_or_default().to_owned();
        let items = rust.split('`').skip(1).step_by(2).filter(|item| item.contains("::"));
        // `spec::kubernetes::KubernetesPod::explain` is a method of the type, `spec::oci::features` is a function.
        named.extend(items.map(|item| {
            let mut parts = item.rsplitn(3, "::");
            let (name, before) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let is_type = before.starts_with(|first: char| first.is_ascii_uppercase());
            let item = if is_type { format!("{before}::{name}") } else { name.to_string() };
            (item, function.name.clone())
        }));
    }
    Ok(named)
}

fn has(list: &[(&str, &str)], item: &str) -> bool {
    list.iter().any(|(known, _)| *known == item)
}

fn every_rust_method_has_a_c_function_or_a_reason() -> Outcome {
    let (public, named) = (public()?, named()?);
    let kind = |method: &str| method.split("::").next().unwrap_or_default().to_string();
    let methods = public.methods.iter().filter(|method| !has(METHODS, method) && !has(TYPES, &kind(method)));
    let functions = public.functions.iter().filter(|function| !has(FUNCTIONS, function));
    let missing: Vec<&String> = methods.chain(functions).filter(|item| !named.contains_key(*item)).collect();
    if !missing.is_empty() {
        return fail(format!("these have neither a C function nor a reason in this file: {missing:?}"));
    }
    PASS
}

fn the_header_names_methods_that_are_there() -> Outcome {
    let (public, named) = (public()?, named()?);
    let ours = |item: &str| match item.split_once("::") {
        Some((kind, _)) => public.of_type(kind).next().is_some(),
        None => true,
    };
    let there = |item: &str| public.methods.contains(item) || public.functions.contains(item);
    let stale: Vec<_> = named.iter().filter(|(item, _)| ours(item) && !there(item)).collect();
    // A reason is for something that is there and that C has not.
    let mut unneeded: Vec<&str> = Vec::new();
    for (item, _) in METHODS.iter().chain(FUNCTIONS) {
        if !there(item) || named.contains_key(*item) {
            unneeded.push(item);
        }
    }
    for (kind, _) in TYPES {
        if !public.of_type(kind).any(|method| !named.contains_key(method) && !has(METHODS, method)) {
            unneeded.push(kind);
        }
    }
    if !stale.is_empty() || !unneeded.is_empty() {
        return fail(format!("named, but no methods: {stale:?}; reasons that nothing needs: {unneeded:?}"));
    }
    PASS
}

/// The search itself: each way to write a method that the library has, or may have, and those that are no such.
fn every_kind_of_method_is_found() -> Outcome {
    let text = "
impl A {
    pub fn a(&self) {}
    pub const fn b() {}
    pub async fn c<T>(t: T) {}
    pub const unsafe fn d() {}
    pub(crate) fn no_a() {}
    fn no_b() {
        pub fn no_c() {}
    }
}

impl<'a> B<'a> {
    pub fn a(&self) {}
}

impl C<'_> {
    pub fn a(&self) {}
}

impl<T> crate::spec::D<T>
where
    T: Copy,
{
    pub fn a(&self) {}
}

impl Trait for A {
    pub fn no_d() {}
}

mod inner {
    impl E {
        pub fn a() {}
    }
}
";
    let found: Vec<String> =
        methods_in(text).into_iter().map(|(kind, name)| format!("{kind}::{name}")).collect();
    assert_eq!(found, ["A::a", "A::b", "A::c", "A::d", "B::a", "C::a", "D::a", "E::a"]);
    let public = public()?;
    assert!(public.methods.len() > 300, "only {} methods were found", public.methods.len());
    for kind in ["Node", "Pod", "PodIpc", "Container", "Process", "Events", "Terminal", "Fanout", "Bundle"] {
        assert!(public.of_type(kind).count() > 3, "no methods of {kind} were found");
    }
    PASS
}
