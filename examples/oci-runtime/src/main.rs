//! `pericarp-oci`: an OCI runtime program (runtime-spec, "Runtime and Lifecycle") over the library pericarp.
//!
//! It is called by containerd's shims, by conmon for CRI-O and podman, or by hand, with the command line that runc
//! has. Each container is a pod of its own with one container in it: containers that share namespaces name them by path,
//! and the pod is made with those. A container outlives the program that made it.

mod commands;
mod events;
mod exec;
mod foreground;
mod kill;
mod log;
mod notify;
mod options;
mod socket;
mod store;
mod update;

use clap::Parser;

use options::{Command, Options};

/// Why a command failed, in words.
pub type Failure = Box<dyn std::error::Error>;
/// What a command gives: the exit status of this program, if it is nothing else.
pub type Outcome<T = u8> = Result<T, Failure>;

fn main() -> std::process::ExitCode {
    let options = Options::parse();
    let log = log::Log::new(&options);
    let outcome = options.refuse_what_is_not_there().and_then(|()| run(&options));
    match outcome {
        Ok(status) => status.into(),
        Err(error) => {
            log.error(error.as_ref());
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome {
    match &options.command {
        Command::Create(create) => commands::create(options, create),
        Command::Start { id } => commands::start(options, id),
        Command::State { id } => commands::state(options, id),
        Command::Kill { id, signal, all } => kill::kill(options, id, signal, *all),
        Command::Delete { id, force } => commands::delete(options, id, *force),
        Command::Run(run) => commands::run(options, run),
        Command::Exec(exec) => exec::exec(options, exec),
        Command::Ps { id, format, options: words } => commands::ps(options, id, *format, words),
        Command::Pause { id } => commands::pause(options, id),
        Command::Resume { id } => commands::resume(options, id),
        Command::Update(update) => update::update(options, update),
        Command::Events { id, stats, interval } => events::events(options, id, *stats, *interval),
        Command::List { format, quiet } => commands::list(options, *format, *quiet),
        Command::Spec { bundle } => commands::spec(bundle, options.says_rootless()),
        Command::Features => commands::features(),
        Command::Checkpoint { .. } | Command::Restore { .. } => Err(options::NO_CHECKPOINTS.into()),
    }
}
