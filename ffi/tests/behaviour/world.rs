//! What a behaviour has at hand: a node of its own through one of the interfaces, and a place to write down what it
//! saw, which must be the same through the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use libtest_mimic::Failed;
use pericarp::{CgroupParent, ContainerSpec, ErrorKind, ExitStatus, NodeOptions, PodSpec, Rootfs, Stdio};

use crate::api::*;
use crate::c::C;
use crate::leaks;
use crate::rust::Rust;

pub type Outcome = Result<(), Failed>;

/// It did as it should.
pub const PASS: Outcome = Ok(());

/// Something that both interfaces do.
pub struct Behaviour {
    pub name: String,
    run: fn(&World) -> Outcome,
    /// What was seen through Rust: the behaviour runs once through each interface.
    seen: OnceLock<Result<Vec<String>, String>>,
}

impl Behaviour {
    pub fn new(module: &str, name: &str, run: fn(&World) -> Outcome) -> Self {
        Behaviour { name: format!("{module}::{name}"), run, seen: OnceLock::new() }
    }

    fn seen_through(&self, api: &'static dyn Api) -> Result<Vec<String>, Failed> {
        let world = World::new(api)?;
        (self.run)(&world)?;
        Ok(world.notes())
    }

    pub fn through_rust(&self) -> Result<&[String], Failed> {
        let seen = self.seen.get_or_init(|| {
            let told = |failed: Failed| failed.message().unwrap_or("it failed").to_string();
            self.seen_through(&Rust).map_err(told)
        });
        Ok(seen.as_ref().map_err(|told| format!("through Rust: {told}"))?)
    }

    pub fn through_c(&self) -> Outcome {
        let seen = self.seen_through(&C)?;
        let expected = self.through_rust()?;
        if seen != expected {
            return Err(format!("C says other things than Rust\nRust: {expected:#?}\nC: {seen:#?}").into());
        }
        Ok(())
    }
}

/// `behaviours![a, b]` makes `pub fn behaviours()` of functions `fn a(world: &World) -> Outcome`.
#[macro_export]
macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        pub fn behaviours() -> Vec<$crate::world::Behaviour> {
            let module = module_path!().rsplit("::").next().unwrap_or_default();
            vec![$($crate::world::Behaviour::new(module, stringify!($name), $name)),*]
        }
    };
}

pub struct World {
    pub api: &'static dyn Api,
    pub node: Box<dyn NodeApi>,
    pub options: NodeOptions,
    name: String,
    dir: tempfile::TempDir,
    notes: Mutex<Vec<String>>,
}

impl World {
    pub fn new(api: &'static dyn Api) -> Result<World, Failed> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}{}", leaks::own(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let options = NodeOptions::new()
            .state_dir(Path::new("/run").join(&name))
            .id_claims(Path::new("/run").join(format!("{name}-ids")))
            .cgroup_parent(CgroupParent::Named(name.clone()));
        let node = api.open(&options)?;
        Ok(World { api, node, options, name, dir: tempfile::tempdir()?, notes: Mutex::default() })
    }

    /// A handle as another program would have it.
    pub fn reopen(&self) -> Res<Box<dyn NodeApi>> {
        self.api.open(&self.options)
    }

    pub fn pod(&self, name: &str) -> Res<Box<dyn PodApi>> {
        self.node.create_pod(&PodSpec::new(name))
    }

    /// A path in a folder of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn cgroup_name(&self) -> &str {
        &self.name
    }

    /// Writes down what was seen, without the names and ids that differ between any two runs.
    pub fn saw(&self, what: impl AsRef<str>) {
        let directory = self.dir.path().to_string_lossy();
        let text = what.as_ref().replace(&self.name, "NODE").replace(&*directory, "DIRECTORY");
        self.notes.lock().expect("no panic").push(without_ids(&text));
    }

    /// What was written down.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().expect("no panic").clone()
    }

    /// The call failed in this way; all that the error tells is written down.
    #[track_caller]
    pub fn refused<T>(&self, result: Res<T>, kind: ErrorKind) -> Failure {
        let Err(failure) = result else { panic!("it did not fail with {kind:?}") };
        assert_eq!(failure.kind, kind, "{failure}");
        self.saw(format!("{failure:?}"));
        failure
    }
}

impl Drop for World {
    /// Removes what the behaviour made, and checks that nothing is left.
    fn drop(&mut self) {
        let gone = |result: Res<()>| match result {
            Err(failure) if failure.kind != ErrorKind::NotFound => Some(failure.message),
            _ => None,
        };
        let mut complaints: Vec<String> = Vec::new();
        match self.node.pods() {
            Ok(pods) => complaints.extend(pods.iter().filter_map(|pod| gone(pod.remove()))),
            Err(failure) if failure.kind == ErrorKind::NotFound => {}
            Err(failure) => complaints.push(failure.message),
        }
        complaints.extend(gone(self.node.remove()));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if self.options.id_claims.exists() {
            complaints.push(format!("{} is left", self.options.id_claims.display()));
        }
        if self.options.state_dir.exists()
            || mounts.contains(&format!("{} ", self.options.state_dir.display()))
        {
            complaints.push(format!("{} is left", self.options.state_dir.display()));
        }
        if std::thread::panicking() {
            complaints.iter().for_each(|complaint| eprintln!("after the failure: {complaint}"));
        } else {
            assert!(complaints.is_empty(), "{complaints:?}");
        }
    }
}

/// The text with every UUID replaced.
fn without_ids(text: &str) -> String {
    let is_id = |part: &str| {
        part.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    let mut result = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if rest.get(..36).is_some_and(is_id) {
            result.push_str("ID");
            rest = &rest[36..];
        } else {
            result.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    result
}

/// The machine's own `/` under a throw-away layer.
pub fn rootfs() -> Rootfs {
    Rootfs::overlay(["/"])
}

/// A container that runs a shell script.
pub fn script(name: &str, script: &str) -> ContainerSpec {
    ContainerSpec::new(name, rootfs()).args(["/bin/sh", "-c", script])
}

/// A container that runs until it is killed: process 1 has no handler for other signals.
pub fn sleeper(name: &str) -> ContainerSpec {
    script(name, "while :; do sleep 1000; done")
}

/// Makes and starts it.
pub fn started(pod: &dyn PodApi, spec: &ContainerSpec) -> Res<Box<dyn ContainerApi>> {
    let container = pod.create_container(spec)?;
    container.start()?;
    Ok(container)
}

/// What a container that exits with 0 writes to its standard output.
pub fn say(pod: &dyn PodApi, spec: ContainerSpec) -> Result<String, Failed> {
    let container = pod.create_container(&spec.stdout(Stdio::Pipe))?;
    let stdout = container.take_stdout().expect("a pipe");
    container.start()?;
    let text = std::io::read_to_string(stdout)?;
    let status = container.wait()?;
    container.remove()?;
    assert_eq!(status, ExitStatus::Exited(0), "it said {text:?}");
    Ok(text)
}

/// Reads one line, which a container that has come so far writes.
pub fn line(stream: &mut impl std::io::Read) -> Result<String, Failed> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(String::from_utf8(line)?)
}

/// Whether a descriptor becomes readable in so many milliseconds.
pub fn readable(fd: &impl std::os::fd::AsRawFd, milliseconds: i32) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: it is one structure.
    let ready = unsafe { libc::poll(&mut poll, 1, milliseconds) };
    ready == 1 && poll.revents & libc::POLLIN != 0
}
