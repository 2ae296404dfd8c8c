//! One list of behaviours, each run through the Rust and through the C interface: what it asserts holds in both, and
//! what it writes down, errors word by word, is the same.
//!
//! Needs root.

mod api;
mod c;
#[path = "../../../tests/suite/suite/support/leaks.rs"]
mod leaks;
mod rust;
mod world;

mod changes;
mod containers;
mod ending;
mod events;
mod ipc;
mod kubernetes;
mod logs;
mod nodes;
mod oci;
mod pods;
mod programs;
mod refusals;
mod removal;
mod stats;
mod streams;

use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use world::Behaviour;

/// A test of one behaviour through one interface.
fn trial(
    interface: &str,
    behaviour: &Arc<Behaviour>,
    run: impl Fn(&Behaviour) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let name = format!("{interface}::{}", behaviour.name);
    let behaviour = behaviour.clone();
    Trial::ignorable_test(name, move || {
        // SAFETY: it reads a number.
        if unsafe { libc::geteuid() } != 0 {
            let reason = "making pods needs root";
            eprintln!("SKIPPED: {reason}");
            return Ok(Completion::ignored_with(reason));
        }
        run(&behaviour).map(|()| Completion::Completed)
    })
}

fn main() {
    if let Ok(part) = std::env::var(logs::ALONE) {
        return logs::alone(&part);
    }
    let behaviours = [
        nodes::behaviours(),
        pods::behaviours(),
        containers::behaviours(),
        ending::behaviours(),
        events::behaviours(),
        removal::behaviours(),
        refusals::behaviours(),
        streams::behaviours(),
        ipc::behaviours(),
        stats::behaviours(),
        kubernetes::behaviours(),
        programs::behaviours(),
        changes::behaviours(),
        oci::behaviours(),
        logs::behaviours(),
    ];
    let tests: Vec<Trial> = behaviours
        .into_iter()
        .flatten()
        .map(Arc::new)
        .flat_map(|behaviour| {
            let through_rust = |behaviour: &Behaviour| behaviour.through_rust().map(drop);
            [trial("rust", &behaviour, through_rust), trial("c", &behaviour, Behaviour::through_c)]
        })
        .collect();
    let arguments = Arguments::from_args();
    if arguments.list {
        libtest_mimic::run(&arguments, tests).exit();
    }
    let before = leaks::Snapshot::take();
    let conclusion = libtest_mimic::run(&arguments, tests);
    let leaks = before.leaks();
    leaks.iter().for_each(|leak| eprintln!("LEAK: {leak}"));
    if !leaks.is_empty() {
        std::process::exit(101);
    }
    conclusion.exit();
}
