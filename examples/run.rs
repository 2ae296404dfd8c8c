//! Runs one program in a container, in a pod of its own that ends with it: `run [OPTIONS] ROOTFS PROGRAM [ARGUMENTS]`.

#[path = "support/attached.rs"]
mod attached;
#[path = "support/signals.rs"]
mod signals;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use pericarp::{ContainerSpec, Mount, Node, NodeOptions, Pod, PodSpec, Rootfs};
use signals::Signals;

const HELP: &str = "\
usage: run [OPTIONS] [--] ROOTFS PROGRAM [ARGUMENTS...]

Runs PROGRAM in a container with a pod of its own: network with nothing but localhost, IPC, host name,
processes. ROOTFS is a directory that becomes the container's root. `/` means this machine's own files,
as an overlay whose changes are thrown away.

  --overlay            throw the changes of any ROOTFS away, as for `/`
  --readonly           the root filesystem cannot be changed at all
  --hostname NAME      the host name (run)
  --env KEY=VALUE      set a variable; nothing but PATH is there unasked
  --bind SRC:DST[:ro]  the file or directory SRC of this machine is at DST in the container
  --user UID:GID       numbers only (0:0)
  --explain            print each step that would be done, and do none of them
  --help               print this

Standard input, output and error are this program's. SIGINT, SIGTERM and SIGHUP ask the container to end
with SIGTERM; after 10 s, or at the next signal, it is killed.

The exit status is that of PROGRAM, or 128 plus the number of the signal that ended it; 125 when this
program failed, 126 when PROGRAM cannot be executed, 127 when there is no PROGRAM.

Needs root. State is kept in /run/pericarp.
";

const GRACE: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Default)]
struct Options {
    rootfs: String,
    args: Vec<String>,
    overlay: bool,
    readonly: bool,
    hostname: Option<String>,
    env: Vec<(String, String)>,
    binds: Vec<Mount>,
    user: (u32, u32),
    explain: bool,
}

impl Options {
    /// The options of a command line; `None` when help is asked for.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Options>> {
        let mut options = Options::default();
        let mut rest: Vec<String> = Vec::new();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value (see --help)"));
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--overlay" => options.overlay = true,
                "--readonly" => options.readonly = true,
                "--explain" => options.explain = true,
                "--hostname" => options.hostname = Some(value()?),
                "--env" => {
                    let text = value()?;
                    let (key, value) = text.split_once('=').ok_or("--env wants KEY=VALUE")?;
                    options.env.push((key.into(), value.into()));
                }
                "--bind" => options.binds.push(bind(&value()?)?),
                "--user" => options.user = user(&value()?).ok_or("--user wants UID:GID, as numbers")?,
                "--" => break,
                option if option.starts_with('-') => {
                    return Err(format!("no such option: {option} (see --help)").into());
                }
                // The first word that is no option is the root filesystem; all that follow are the program's.
                _ => {
                    rest.push(word);
                    break;
                }
            }
        }
        rest.extend(words);
        if rest.len() < 2 {
            return Err("wants a root filesystem and a program (see --help)".into());
        }
        options.rootfs = rest.remove(0);
        options.args = rest;
        Ok(Some(options))
    }

    fn container(&self) -> Result<ContainerSpec> {
        let path = absolute(&self.rootfs)?;
        let mut rootfs = match self.overlays()? {
            true => Rootfs::overlay([path]),
            false => Rootfs::directory(path),
        };
        if self.readonly {
            rootfs = rootfs.readonly();
        }
        let mut spec = ContainerSpec::new("main", rootfs)
            .args(self.args.clone())
            .user(self.user.0, self.user.1)
            .stdin(attached::attach(&io::stdin()))
            .stdout(attached::attach(&io::stdout()))
            .stderr(attached::attach(&io::stderr()));
        spec.env.extend(self.env.iter().cloned());
        spec.mounts.extend(self.binds.iter().cloned());
        Ok(spec)
    }

    fn overlays(&self) -> Result<bool> {
        Ok(self.overlay || absolute(&self.rootfs)?.parent().is_none())
    }

    fn pod(&self) -> Result<PodSpec> {
        // Files for the host name would be made in a directory that is not ours to change.
        let spec = PodSpec::new("run").ephemeral(true).hostname_files(self.overlays()?);
        Ok(match &self.hostname {
            Some(hostname) => spec.hostname(hostname),
            None => spec,
        })
    }
}

fn absolute(path: &str) -> Result<PathBuf> {
    std::fs::canonicalize(path).map_err(|error| format!("{path}: {error}").into())
}

fn bind(text: &str) -> Result<Mount> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [source, destination] => Ok(Mount::bind(absolute(source)?, destination)),
        [source, destination, "ro"] => Ok(Mount::bind(absolute(source)?, destination).readonly(true)),
        _ => Err("--bind wants SRC:DST or SRC:DST:ro".into()),
    }
}

fn user(text: &str) -> Option<(u32, u32)> {
    let (uid, gid) = text.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

fn run(options: &Options) -> Result<u8> {
    let (pod_spec, spec) = (options.pod()?, options.container()?);
    let signals = Signals::take()?;
    let node = Node::open(&NodeOptions::new())?;
    // An ephemeral pod ends with its program. If that was killed, processes and cgroups stay until somebody tidies up.
    node.recover()?;
    let pod = node.create_pod(&pod_spec)?;
    let outcome = if options.explain { explain(&pod, &spec) } else { in_pod(&pod, &spec, &signals) };
    pod.remove()?;
    outcome
}

fn explain(pod: &Pod, spec: &ContainerSpec) -> Result<u8> {
    print!("{}", pod.explain(spec)?);
    Ok(0)
}

fn in_pod(pod: &Pod, spec: &ContainerSpec, signals: &Signals) -> Result<u8> {
    let container = pod.create_container(spec)?;
    container.start()?;
    let threads = attached::pump(&container, None);
    attached::supervise(std::slice::from_ref(&container), signals, GRACE)?;
    let status = container.wait()?;
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(status.code() as u8)
}

fn main() -> ExitCode {
    let outcome = match Options::parse(std::env::args().skip(1)) {
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Some(options)) => run(&options),
        Err(error) => Err(error),
    };
    outcome.map_or_else(
        |error| {
            eprintln!("run: {error}");
            ExitCode::from(attached::own_exit_code(error.as_ref()))
        },
        ExitCode::from,
    )
}
