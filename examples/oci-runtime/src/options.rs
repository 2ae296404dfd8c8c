//! The command line, as runc's.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::Failure;

/// As runc's: the name of the program comes before it.
const VERSION: &str =
    concat!("version ", env!("CARGO_PKG_VERSION"), "\ncommit: ", env!("COMMIT"), "\nspec: 1.3.0");
pub const NO_CHECKPOINTS: &str =
    "checkpoints are not supported: this runtime neither makes nor restores them";

#[derive(Parser)]
#[command(name = "pericarp-oci", version = VERSION, about = "An OCI runtime over the library pericarp")]
pub struct Options {
    /// Where the state of containers is kept: /run/pericarp-oci, in a user namespace pericarp-oci in $XDG_RUNTIME_DIR
    #[arg(long, global = true)]
    root: Option<PathBuf>,
    /// Append errors to this file as well
    #[arg(long, global = true)]
    pub log: Option<PathBuf>,
    /// How errors are written there
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Accepted: nothing more is logged
    #[arg(long, global = true)]
    pub debug: bool,
    /// Refused: cgroups are made directly
    #[arg(long, global = true)]
    pub systemd_cgroup: bool,
    /// As podman says it: "cgroupfs"; "disabled" in a user namespace, where a container has a cgroup only below a delegated one;
    /// "systemd" is refused
    #[arg(long, global = true, default_value = "cgroupfs")]
    cgroup_manager: String,
    /// Whether this is root of a user namespace that somebody has made for it: "true", "false", or "auto" to find out
    #[arg(long, global = true, default_value = "auto", num_args = 0..=1, default_missing_value = "true")]
    rootless: String,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Subcommand)]
pub enum Command {
    /// Make a container, up to its program
    Create(Create),
    /// Run the program of a container that was made
    Start { id: String },
    /// Print the state of a container
    State { id: String },
    /// Send a signal to a container
    Kill {
        id: String,
        #[arg(default_value = "SIGTERM")]
        signal: String,
        /// To every process of it
        #[arg(short, long)]
        all: bool,
    },
    /// Remove a container that has ended
    Delete {
        id: String,
        /// End it first; that there is none is no error
        #[arg(short, long)]
        force: bool,
    },
    /// Make a container, run it and remove it
    Run(Run),
    /// Run a further program in a container
    Exec(Exec),
    /// List the processes of a container
    Ps {
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        format: Format,
        id: String,
        /// Options for ps(1), which then makes the table
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Stop all processes of a container where they are
    Pause { id: String },
    /// Let them go on
    Resume { id: String },
    /// Change limits of a container
    Update(Update),
    /// Print figures of a container, and when the OOM killer met it
    Events {
        id: String,
        /// Figures, once
        #[arg(long)]
        stats: bool,
        /// Time between two prints
        #[arg(long, default_value = "5s", value_parser = seconds)]
        interval: u64,
    },
    /// List containers
    List {
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// Only their ids
        #[arg(short, long)]
        quiet: bool,
    },
    /// Write an example of a configuration; with --rootless for root of a user namespace
    Spec {
        #[arg(short, long, default_value = ".")]
        bundle: PathBuf,
    },
    /// Print what this runtime can do
    Features,
    /// Refused: there are no checkpoints
    Checkpoint {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        words: Vec<String>,
    },
    /// Refused likewise
    Restore {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        words: Vec<String>,
    },
}

#[derive(Args)]
pub struct Create {
    /// The directory with config.json
    #[arg(short, long, default_value = ".")]
    pub bundle: PathBuf,
    /// The socket that gets the master of the terminal
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// The file that gets the process id
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// The socket that gets a descriptor of the process, see pidfd_open(2)
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// Refused: a container always gets a root of its own
    #[arg(long)]
    pub no_pivot: bool,
    /// Leave the caller's session keyring to the container, instead of a new one
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Further descriptors for the container, from 3 on
    #[arg(long, default_value_t = 0)]
    pub preserve_fds: u32,
    pub id: String,
}

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    pub create: Create,
    /// Return when it runs
    #[arg(short, long)]
    pub detach: bool,
    /// Do not remove it when it has ended
    #[arg(long)]
    pub keep: bool,
    /// Accepted: this program never reaps for others
    #[arg(long)]
    pub no_subreaper: bool,
}

#[derive(Args)]
pub struct Exec {
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// The socket that gets a descriptor of the process
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// The file with the process as JSON, instead of a command and what describes it
    #[arg(
        short,
        long,
        conflicts_with_all = ["cwd", "env", "user", "additional_gids", "cap", "no_new_privs", "apparmor",
            "process_label", "command"]
    )]
    pub process: Option<PathBuf>,
    #[arg(short, long)]
    pub detach: bool,
    #[arg(short, long)]
    pub tty: bool,
    #[arg(long)]
    pub cwd: Option<PathBuf>,
    #[arg(short, long)]
    pub env: Vec<String>,
    /// UID or UID:GID
    #[arg(short, long)]
    pub user: Option<String>,
    #[arg(short = 'g', long)]
    pub additional_gids: Vec<u32>,
    /// A capability to add
    #[arg(short, long)]
    pub cap: Vec<String>,
    #[arg(long)]
    pub no_new_privs: bool,
    #[arg(long)]
    pub apparmor: Option<String>,
    #[arg(long)]
    pub process_label: Option<String>,
    #[arg(long, default_value_t = 0)]
    pub preserve_fds: u32,
    /// Accepted: a container that is paused takes no program all the same
    #[arg(long)]
    pub ignore_paused: bool,
    /// Refused: the process is in the container's own cgroup
    #[arg(long)]
    pub cgroup: Vec<String>,
    pub id: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

#[derive(Args)]
pub struct Update {
    /// A file with the limits as JSON (`linux.resources`); `-` for standard input
    #[arg(short, long)]
    pub resources: Option<String>,
    /// Bytes, or as 64m; -1 for no limit
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    pub memory: Option<i64>,
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    pub memory_reservation: Option<i64>,
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    pub memory_swap: Option<i64>,
    #[arg(long, visible_alias = "cpu-share")]
    pub cpu_shares: Option<u64>,
    #[arg(long, allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    #[arg(long)]
    pub cpu_period: Option<u64>,
    #[arg(long)]
    pub cpu_burst: Option<u64>,
    #[arg(long)]
    pub cpu_idle: Option<i64>,
    #[arg(long)]
    pub cpuset_cpus: Option<String>,
    #[arg(long)]
    pub cpuset_mems: Option<String>,
    #[arg(long, allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    #[arg(long)]
    pub blkio_weight: Option<u16>,
    pub id: String,
}

/// Whether root here is not that of the machine.
pub fn within_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut numbers = map.split_ascii_whitespace();
    // The machine's has all ids, as what they are; see user_namespaces(7).
    !["0", "0", "4294967295"].into_iter().all(|number| numbers.next() == Some(number))
}

impl Options {
    /// Whether it was said that this is a user namespace.
    pub fn says_rootless(&self) -> bool {
        self.rootless == "true"
    }

    /// The state directory.
    pub fn root(&self) -> Result<PathBuf, Failure> {
        match &self.root {
            Some(root) => Ok(std::path::absolute(root)?),
            None if within_user_namespace() => {
                let place = std::env::var_os("XDG_RUNTIME_DIR").filter(|place| !place.is_empty());
                let place = place
                    .ok_or("XDG_RUNTIME_DIR is not set, which says where state is kept; or give --root")?;
                Ok(PathBuf::from(place).join("pericarp-oci"))
            }
            None => Ok("/run/pericarp-oci".into()),
        }
    }

    /// What is asked for and cannot be had is an error.
    pub fn refuse_what_is_not_there(&self) -> Result<(), Failure> {
        if self.systemd_cgroup {
            return Err(refusal(
                "--systemd-cgroup",
                "cgroups are made directly; configure the cgroup manager cgroupfs",
            ));
        }
        match self.cgroup_manager.as_str() {
            "cgroupfs" => {}
            "disabled" if within_user_namespace() => {}
            "disabled" => {
                return Err(refusal(
                    "--cgroup-manager disabled",
                    "containers of the machine's root are in cgroups, which guard its devices",
                ));
            }
            other => {
                return Err(refusal(
                    &format!("--cgroup-manager {other:?}"),
                    "cgroups are made directly: say cgroupfs",
                ));
            }
        }
        // Whoever writes a configuration need not be who runs it.
        let within = match self.command {
            Command::Spec { .. } => self.rootless == "true",
            _ => within_user_namespace(),
        };
        match (self.rootless.as_str(), within) {
            ("auto", _) | ("true", true) | ("false", false) => {}
            ("true", false) => {
                return Err(refusal(
                    "--rootless true",
                    "this is the machine's user namespace; an ordinary user makes one first (as podman does, or \
                     \"unshare --map-root-user --mount\")",
                ));
            }
            ("false", true) => {
                return Err(refusal("--rootless false", "this is not the machine's user namespace"));
            }
            (other, _) => return Err(refusal(&format!("--rootless {other:?}"), "say true, false or auto")),
        }
        if let Command::Create(create) | Command::Run(Run { create, .. }) = &self.command
            && create.no_pivot
        {
            return Err(refusal(
                "--no-pivot",
                "a container always gets a root of its own; anything else can be left",
            ));
        }
        if let Command::Exec(exec) = &self.command
            && exec.cgroup.iter().any(|cgroup| !["", "/"].contains(&cgroup.as_str()))
        {
            return Err(refusal(
                "--cgroup",
                "a process is always in the container's own cgroup; leave it out",
            ));
        }
        Ok(())
    }
}

/// `5s`, `1m` or a number of seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    match number.parse::<u64>() {
        Ok(number) if number > 0 => Ok(number * unit),
        _ => Err(format!("{text:?} is no time such as 5s")),
    }
}

/// A number of bytes, with a unit of 1024 if there is one: `67108864`, `64m`, `64MiB`; or -1.
fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no number of bytes such as 64m");
    let lower = text.to_lowercase();
    if lower == "-1" {
        return Ok(-1);
    }
    let number = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &lower[number.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let number: i64 = number.trim_end().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes >= 0).ok_or_else(wrong)
}

fn refusal(what: &str, why: &str) -> Failure {
    format!("{what} is refused: {why}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        for (text, number) in [
            ("0", 0),
            ("-1", -1),
            ("4096", 4096),
            ("64m", 64 << 20),
            ("1G", 1 << 30),
            ("2 KiB", 2048),
            ("3b", 3),
        ] {
            assert_eq!(bytes(text), Ok(number), "{text}");
        }
        for text in ["", "m", "-2", "-1m", "1.5g", "1x", "9223372036854775807k", "1mm"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_whole() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }
}
