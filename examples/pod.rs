//! Runs a pod and its containers as a JSON file says: `pod FILE`. The format is in docs/pod-json.md.

#[path = "support/attached.rs"]
mod attached;
#[path = "support/signals.rs"]
mod signals;

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use pericarp::{Container, ContainerSpec, ErrorKind, Node, NodeOptions, Pod, PodSpec, Stdio};
use serde::Deserialize;
use signals::Signals;

const HELP: &str = "\
usage: pod [--explain] [--replace] FILE

Makes the pod that FILE describes, runs its containers, and removes the pod when all of them have ended.
docs/pod-json.md tells the format; examples/pod.json is an example.

  --explain  print each step that would be done for the containers, and do none of them
  --replace  if a pod of that name exists, remove it first
  --help     print this

With one container, standard input, output and error are this program's. With several, each line of output
has the container's name before it, and standard input is empty. SIGINT, SIGTERM and SIGHUP ask all
containers to end; after the grace period, or at the next signal, they are killed.

The exit status is 0 when all containers exited with 0, and otherwise that of the first in the file that
did not: 128 plus the number of the signal if one ended it. It is 125 when this program failed, 126 or 127
when the program of a container cannot be executed or is not there.

Needs root. State is kept in /run/pericarp.
";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    pod: PodSpec,
    containers: Vec<ContainerSpec>,
    /// Seconds between asking and killing.
    #[serde(default = "ten")]
    grace: u64,
}

fn ten() -> u64 {
    10
}

/// Reads the file. An error names the place in it ("containers[1].rootfs") as well as line and column.
fn read(path: &Path) -> Result<File> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    let mut json = serde_json::Deserializer::from_str(&text);
    let mut file: File =
        serde_path_to_error::deserialize(&mut json).map_err(|error| match error.path().iter().next() {
            Some(_) => format!("{shown}: {}: {}", error.path(), error.inner()),
            None => format!("{shown}: {}", error.inner()),
        })?;
    json.end().map_err(|error| format!("{shown}: {error}"))?;
    if file.containers.is_empty() {
        return Err(format!("{shown}: containers: is empty; there is nothing to run").into());
    }
    let alone = file.containers.len() == 1;
    file.containers.iter_mut().for_each(|spec| attach(spec, alone));
    Ok(file)
}

/// Connects the streams of which the file says nothing.
fn attach(spec: &mut ContainerSpec, alone: bool) {
    let streams = &mut spec.stdio;
    if alone && streams.stdin == Stdio::Null {
        streams.stdin = attached::attach(&io::stdin());
    }
    for (stream, ours) in [
        (&mut streams.stdout, attached::attach(&io::stdout())),
        (&mut streams.stderr, attached::attach(&io::stderr())),
    ] {
        if *stream == Stdio::Null {
            *stream = if alone { ours } else { Stdio::Pipe };
        }
    }
}

fn run(path: &Path, explain: bool, replace: bool) -> Result<u8> {
    let file = read(path)?;
    let signals = Signals::take()?;
    let node = Node::open(&NodeOptions::new())?;
    node.recover()?;
    if replace {
        match node.open_pod(&format!("{}/{}", file.pod.namespace, file.pod.name)) {
            Ok(old) => old.remove()?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    let pod = node.create_pod(&file.pod)?;
    let outcome = if explain { print_plans(&pod, &file) } else { in_pod(&pod, &file, &signals) };
    pod.remove()?;
    outcome
}

fn print_plans(pod: &Pod, file: &File) -> Result<u8> {
    for spec in &file.containers {
        print!("container {}\n{}", spec.name, pod.explain(spec)?);
    }
    Ok(0)
}

fn in_pod(pod: &Pod, file: &File, signals: &Signals) -> Result<u8> {
    // All are made before the first is started: a mistake in the last one is found before anything runs.
    let containers: Vec<Container> =
        file.containers.iter().map(|spec| pod.create_container(spec)).collect::<pericarp::Result<_>>()?;
    let mut threads = Vec::new();
    for container in &containers {
        container.start()?;
        let prefix = (containers.len() > 1).then(|| container.name());
        threads.extend(attached::pump(container, prefix));
    }
    attached::supervise(&containers, signals, Duration::from_secs(file.grace))?;
    let codes: Vec<i32> =
        containers.iter().map(|container| Ok(container.wait()?.code())).collect::<pericarp::Result<_>>()?;
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(codes.into_iter().find(|code| *code != 0).unwrap_or(0) as u8)
}

fn main() -> ExitCode {
    let (mut explain, mut replace, mut files) = (false, false, Vec::new());
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--explain" => explain = true,
            "--replace" => replace = true,
            "--help" | "-h" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            _ => files.push(word),
        }
    }
    let outcome = match &files[..] {
        [file] if !file.starts_with('-') => run(Path::new(file), explain, replace),
        _ => Err("wants one file (see --help)".into()),
    };
    outcome.map_or_else(
        |error| {
            eprintln!("pod: {error}");
            ExitCode::from(attached::own_exit_code(error.as_ref()))
        },
        ExitCode::from,
    )
}
