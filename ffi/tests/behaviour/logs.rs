//! What the library tells a logger. A process has one: each of these runs in a process of its own, which is this program
//! again, and what that saw is what is compared.
//!
//! What was tried: the outcome of `poststop` dropped in `container::create`: `failures_that_no_call_returns_are_told` has no
//! line. `Recovery::tell` not called: `what_a_recovery_found_broken_is_told` has none. Errors that are returned told as well:
//! `what_failed_before_anything_was_made_has_no_warnings` has one. `pericarp_log_set` that goes on when another logger is
//! there: `a_process_has_one_logger` is not refused. Levels not looked at in `ffi/src/log.rs`: three of C's fail.

use std::fs;
use std::process::{Command, Stdio};

use log::LevelFilter;
use pericarp::spec::{Hook, Hooks};
use pericarp::{ErrorKind, ExecSpec, ExitStatus};

use crate::api::{Api, Lines};
use crate::c::C;
use crate::rust::Rust;
use crate::world::*;

/// In the environment of such a process: the interface and the part.
pub const ALONE: &str = "PERICARP_BEHAVIOUR_ALONE";

const WARN: u32 = 2;
const INFO: u32 = 3;
const DEBUG: u32 = 4;

/// Each part is a behaviour of the same name.
macro_rules! alone {
    ($($name:ident),* $(,)?) => {
        const PARTS: &[(&str, fn(&World) -> Outcome)] = &[$((stringify!($name), parts::$name)),*];

        crate::behaviours![$($name),*];

        $(fn $name(world: &World) -> Outcome {
            in_a_process_of_its_own(world, stringify!($name))
        })*
    };
}

alone![
    pods_and_containers_are_told_of,
    levels_silence_and_nobody_is_called_after_a_removal,
    failures_that_no_call_returns_are_told,
    what_failed_before_anything_was_made_has_no_warnings,
    what_a_recovery_found_broken_is_told,
    a_process_has_one_logger,
];

fn in_a_process_of_its_own(world: &World, part: &str) -> Outcome {
    let mut program = Command::new(std::env::current_exe()?);
    program.env(ALONE, format!("{} {part}", world.api.word())).stdin(Stdio::null());
    let output = program.output()?;
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {complained}", output.status);
    said.lines().for_each(|line| world.saw(line));
    PASS
}

/// The main function of that process.
pub fn alone(what: &str) {
    let (interface, part) = what.split_once(' ').expect("an interface and a part");
    let api: &'static dyn Api = if interface == C.word() { &C } else { &Rust };
    let (_, run) = PARTS.iter().find(|(name, _)| *name == part).expect("a part");
    let world = World::new(api).expect("a node");
    if let Err(failed) = run(&world) {
        panic!("{}", failed.message().unwrap_or_default());
    }
    world.notes().iter().for_each(|note| println!("{note}"));
}

/// A place that is there for ever, since the library may write to it at any time.
fn lines() -> &'static Lines {
    Box::leak(Box::default())
}

/// What has come since the last time.
fn taken(lines: &Lines) -> Vec<(u32, String, String)> {
    std::mem::take(&mut *lines.lock().expect("no panic"))
}

/// The texts, all of which have that level and target.
fn texts(world: &World, lines: &Lines, level: u32, target: &str) -> Vec<String> {
    let taken = taken(lines);
    for (is, of, text) in &taken {
        assert_eq!((*is, of.as_str()), (level, target), "{text}");
        // Without the number of a process.
        let (before, after) = text.split_once("process ").unwrap_or((text, ""));
        world.saw(format!("{before} {}", after.trim_start_matches(|c: char| c.is_ascii_digit())));
    }
    taken.into_iter().map(|(_, _, text)| text).collect()
}

fn failing_at_its_end(count: usize) -> Hooks {
    let mut hooks = Hooks::default();
    hooks.poststop = vec![Hook::new("/bin/false"); count];
    hooks
}

mod parts {
    use super::*;

    pub fn pods_and_containers_are_told_of(world: &World) -> Outcome {
        let lines = lines();
        world.api.set_log(LevelFilter::Trace, Some(lines))?;
        let pod = world.pod("shop")?;
        let of = format!("pod default/shop ({})", pod.id());
        assert_eq!(texts(world, lines, INFO, "pericarp::pod"), [format!("{of} was made")]);
        let spec = script("web", "read line; exit 7 # in-an-argument").env("KEY", "in-the-environment");
        let container = pod.create_container(&spec.stdin(pericarp::Stdio::Pipe))?;
        let it = format!("container \"web\" of {of}");
        let made = format!("{it} was made, as process {}", container.pid());
        assert_eq!(texts(world, lines, INFO, "pericarp::container"), [made]);
        container.start()?;
        assert_eq!(texts(world, lines, INFO, "pericarp::container"), [format!("{it} was started")]);
        let process = container.exec(&ExecSpec::new(["/bin/true", "in-an-argument"]))?;
        let executed = format!("{it}: process {} was executed in it", process.pid());
        assert_eq!(texts(world, lines, DEBUG, "pericarp::container"), [executed]);
        process.wait()?;
        drop(container.take_stdin());
        assert_eq!(container.wait()?, ExitStatus::Exited(7));
        container.wait()?;
        assert_eq!(
            texts(world, lines, INFO, "pericarp::container"),
            [format!("{it} has ended: exited with 7")]
        );
        container.remove()?;
        assert_eq!(texts(world, lines, INFO, "pericarp::container"), [format!("{it} was removed")]);
        pod.run(&script("once", "exit 3"))?;
        let all = texts(world, lines, INFO, "pericarp::container");
        let ends: Vec<&str> = all.iter().filter_map(|text| text.rsplit(") ").next()).collect();
        let once = ["was started", "has ended: exited with 3", "was removed"];
        assert!(ends[0].starts_with("was made, as process ") && ends[1..] == once, "{all:?}");
        pod.remove()?;
        assert_eq!(texts(world, lines, INFO, "pericarp::pod"), [format!("{of} was removed")]);
        PASS
    }

    pub fn levels_silence_and_nobody_is_called_after_a_removal(world: &World) -> Outcome {
        let (first, second) = (lines(), lines());
        let make_and_remove = || world.pod("shop")?.remove();
        for silent in [LevelFilter::Off, LevelFilter::Error, LevelFilter::Warn] {
            world.api.set_log(silent, Some(first))?;
            make_and_remove()?;
            assert_eq!(taken(first), [], "{silent}");
        }
        world.api.set_log(LevelFilter::Info, Some(first))?;
        make_and_remove()?;
        assert_eq!(taken(first).len(), 2);
        // In place of the first.
        world.api.set_log(LevelFilter::Info, Some(second))?;
        make_and_remove()?;
        assert_eq!((taken(first).len(), taken(second).len()), (0, 2));
        world.api.set_log(LevelFilter::Info, None)?;
        make_and_remove()?;
        assert_eq!((taken(first).len(), taken(second).len()), (0, 0));
        world.api.set_log(LevelFilter::Info, Some(first))?;
        make_and_remove()?;
        assert_eq!((taken(first).len(), taken(second).len()), (2, 0));
        PASS
    }

    pub fn failures_that_no_call_returns_are_told(world: &World) -> Outcome {
        let lines = lines();
        let pod = world.pod("shop")?;
        world.api.set_log(LevelFilter::Warn, Some(lines))?;
        // The removal returns the first failure.
        let container = pod.create_container(&sleeper("web").hooks(failing_at_its_end(2)))?;
        world.refused(container.remove(), ErrorKind::Hook);
        let told = texts(world, lines, WARN, "pericarp::container");
        let it = format!("container \"web\" of pod default/shop ({})", pod.id());
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("{it}: run the poststop hook /bin/false")), "{told:?}");
        // The creation returns its own.
        let mut hooks = failing_at_its_end(1);
        hooks.create_runtime = vec![Hook::new("/bin/false")];
        world.refused(pod.create_container(&sleeper("web").hooks(hooks)), ErrorKind::Exec);
        let told = texts(world, lines, WARN, "pericarp::container");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("{it}: run the hooks of its end: ")), "{told:?}");
        PASS
    }

    pub fn what_failed_before_anything_was_made_has_no_warnings(world: &World) -> Outcome {
        let lines = lines();
        let pod = world.pod("shop")?;
        let _web = pod.create_container(&sleeper("web"))?;
        world.api.set_log(LevelFilter::Trace, Some(lines))?;
        world.refused(world.pod("shop"), ErrorKind::AlreadyExists);
        world.refused(pod.create_container(&sleeper("web")), ErrorKind::AlreadyExists);
        let missing = sleeper("api").mount(pericarp::Mount::bind("/no/such/place", "/mnt"));
        world.refused(pod.create_container(&missing), ErrorKind::NotFound);
        assert_eq!(taken(lines), []);
        PASS
    }

    pub fn what_a_recovery_found_broken_is_told(world: &World) -> Outcome {
        let lines = lines();
        let (broken, whole) = (world.pod("broken")?, world.pod("whole")?);
        fs::remove_file(world.options.state_dir.join("pods").join(broken.id()).join("state.json"))?;
        let half = world.options.state_dir.join("pods").join(whole.id()).join("containers/half");
        fs::create_dir(half)?;
        world.api.set_log(LevelFilter::Warn, Some(lines))?;
        world.node.recover()?;
        let told = texts(world, lines, WARN, "pericarp::node");
        let gone = "was removed: it was half made, or its program or boot is gone";
        let expected = [
            format!("recovery: pod {} {gone}", broken.id()),
            format!("recovery: container {}/half was removed: it was half made", whole.id()),
        ];
        assert_eq!(told, expected);
        world.node.recover()?;
        assert_eq!(taken(lines), []);
        PASS
    }

    /// Whoever comes first has it, and C says so.
    pub fn a_process_has_one_logger(world: &World) -> Outcome {
        let (rust, c) = (lines(), lines());
        Rust.set_log(LevelFilter::Info, Some(rust))?;
        world.refused(C.set_log(LevelFilter::Info, Some(c)), ErrorKind::WrongState);
        // There is none of C's to remove, and that of Rust goes on.
        C.set_log(LevelFilter::Off, None)?;
        world.pod("shop")?.remove()?;
        assert_eq!((taken(rust).len(), taken(c).len()), (2, 0));
        PASS
    }
}
