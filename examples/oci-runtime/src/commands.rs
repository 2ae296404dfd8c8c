//! The commands of the specification, and those that runc has besides.

use std::path::Path;

use pericarp::spec::{SharedFd, Stdio, StdioSet};
use pericarp::{Container, ContainerSpec, ErrorKind, Terminal};
use serde_json::json;

use crate::foreground::{Console, take_signals, wait};
use crate::log::Log;
use crate::notify::{self, Notify};
use crate::options::{Create, Format, Options, Run};
use crate::socket::send_pidfd;
use crate::store::{self, CONTAINER};
use crate::{Failure, Outcome};

pub fn create(options: &Options, create: &Create) -> Outcome {
    make(options, create, false).map(|_| 0)
}

/// Makes pod and container; on failure both are gone again. In the `foreground` a terminal is left for the caller.
fn make(options: &Options, create: &Create, foreground: bool) -> Outcome<Container> {
    store::check_id(&create.id)?;
    let node = store::node(options)?;
    let (pod_spec, mut spec) = store::specs(options, &create.id, &create.bundle)?;
    if !own_streams(spec.terminal, create.console_socket.as_deref(), foreground)? {
        spec.stdio = inherited_streams();
    }
    spec.preserved_fds = inherited(listening(&mut spec) + create.preserve_fds)?;
    spec.security.inherit_session_keyring = create.no_new_keyring;
    // Before anything is made that the failure would take from the one that is there.
    if store::find_in(&node, &create.id)?.is_some() {
        return Err(format!("container {:?} exists already", create.id).into());
    }
    notify::prepare(options, &create.id, &mut spec)?;
    let pod = node.create_pod(&pod_spec).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists if store::find_in(&node, &create.id).is_ok_and(|found| found.is_some()) => {
            Failure::from(format!("container {:?} exists already", create.id))
        }
        _ => {
            notify::forget(options, &create.id);
            error.into()
        }
    })?;
    let made = pod.create_container(&spec).map_err(Failure::from).and_then(|container| {
        hand_over(|| container.take_terminal(), create.console_socket.as_deref())?;
        send_pidfd(container.pidfd(), create.pidfd_socket.as_deref())?;
        write_pid(create.pid_file.as_deref(), container.pid())?;
        Ok(container)
    });
    if made.is_err() {
        // The first error is the one to tell.
        let _ = pod.remove();
        notify::forget(options, &create.id);
    }
    made
}

/// Sockets that this program was started for (sd_listen_fds(3)): the container has them before what is preserved, as if it
/// had been started for them.
fn listening(spec: &mut ContainerSpec) -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let Some(count) = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(std::process::id()))
    else {
        return 0;
    };
    spec.env.insert("LISTEN_FDS".into(), count.to_string());
    spec.env.insert("LISTEN_PID".into(), "1".into());
    if let Ok(names) = std::env::var("LISTEN_FDNAMES") {
        spec.env.insert("LISTEN_FDNAMES".into(), names);
    }
    count
}

/// Whether a process has streams of its own, a terminal, or those of this program.
pub fn own_streams(terminal: bool, console_socket: Option<&Path>, foreground: bool) -> Outcome<bool> {
    match (terminal, console_socket) {
        (true, None) if !foreground => {
            Err("a terminal needs --console-socket to say who gets it, except in the foreground".into())
        }
        (false, Some(_)) => Err("--console-socket needs a process with a terminal".into()),
        (terminal, _) => Ok(terminal),
    }
}

pub fn inherited_streams() -> StdioSet {
    let mut streams = StdioSet::default();
    (streams.stdin, streams.stdout, streams.stderr) = (Stdio::Inherit, Stdio::Inherit, Stdio::Inherit);
    streams
}

/// The descriptors from 3 on that this program was given for the container.
pub fn inherited(count: u32) -> Outcome<Vec<SharedFd>> {
    (0..count as i32).map(|number| Ok(SharedFd::inherited(3 + number)?)).collect()
}

/// Sends the master of the terminal to whoever listens on the socket.
pub fn hand_over(terminal: impl FnOnce() -> Option<Terminal>, socket: Option<&Path>) -> Outcome<()> {
    if let Some(socket) = socket
        && let Some(terminal) = terminal()
    {
        terminal.send_to(socket)?;
    }
    Ok(())
}

/// Written whole: whoever waits for the file never reads half a number.
pub fn write_pid(file: Option<&Path>, pid: i32) -> Outcome<()> {
    let Some(file) = file else { return Ok(()) };
    let name = file.file_name().ok_or_else(|| format!("--pid-file {} is no file", file.display()))?;
    let new = file.with_file_name(format!(".{}.new", name.to_string_lossy()));
    let written = std::fs::write(&new, pid.to_string()).and_then(|()| std::fs::rename(&new, file));
    written.map_err(|error| format!("write {}: {error}", file.display()).into())
}

pub fn start(options: &Options, id: &str) -> Outcome {
    let found = store::find(options, id)?;
    let container = found.container()?;
    let notify = Notify::listen(options, id)?;
    go(options, container)?;
    notify.map_or(Ok(()), |notify| notify.wait(container, container.pid()))?;
    Ok(0)
}

/// A failed hook after the start does not end the container (runtime-spec, "Lifecycle").
fn go(options: &Options, container: &Container) -> Outcome<()> {
    match container.start() {
        Err(error) if error.kind() == ErrorKind::Hook => Log::new(options).warning(&error.to_string()),
        result => result?,
    }
    Ok(())
}

pub fn state(options: &Options, id: &str) -> Outcome {
    println!("{:#}", store::find(options, id)?.state()?);
    Ok(0)
}

pub fn delete(options: &Options, id: &str, force: bool) -> Outcome {
    let node = store::node(options)?;
    let Some(found) = store::find_in(&node, id)? else {
        return match force {
            true => Ok(0),
            false => Err(format!("container {id:?} does not exist").into()),
        };
    };
    let status = found.status()?;
    if !force && status != "stopped" {
        return Err(format!("container {id:?} is {status}: end it first, or use --force").into());
    }
    remove(options, &found.pod)?;
    notify::forget(options, id);
    Ok(0)
}

/// Nor does one of the end keep it.
fn remove(options: &Options, pod: &pericarp::Pod) -> Outcome<()> {
    match pod.remove() {
        Err(error) if error.kind() == ErrorKind::Hook => Log::new(options).warning(&error.to_string()),
        result => result?,
    }
    Ok(())
}

pub fn run(options: &Options, run: &Run) -> Outcome {
    let container = make(options, &run.create, !run.detach)?;
    let status = run_made(options, run, &container);
    if status.is_err() {
        // The first error is the one to tell.
        let _ = container.pod().remove();
        notify::forget(options, &run.create.id);
    } else if !run.detach && !run.keep {
        remove(options, container.pod())?;
        notify::forget(options, &run.create.id);
    }
    status
}

fn run_made(options: &Options, run: &Run, container: &Container) -> Outcome {
    let notify = Notify::listen(options, &run.create.id)?;
    if run.detach {
        go(options, container)?;
        return notify.map_or(Ok(0), |notify| notify.wait(container, container.pid()).map(|()| 0));
    }
    let signals = take_signals()?;
    let console = container.take_terminal().map(Console::attach).transpose()?;
    go(options, container)?;
    if let Some(notify) = notify {
        // This program stays as long as the container, and passes signals on: it is the one to be watched.
        let (ready, log) = (container.clone(), Log::new(options));
        std::thread::spawn(move || {
            if let Err(error) = notify.wait(&ready, std::process::id() as i32) {
                log.warning(&format!("NOTIFY_SOCKET: {error}"));
            }
        });
    }
    let signalled = container.clone();
    wait(signals, console, |timeout| container.wait_timeout(timeout), move |signal| signalled.signal(signal))
}

pub fn pause(options: &Options, id: &str) -> Outcome {
    store::find(options, id)?.container()?.freeze()?;
    Ok(0)
}

pub fn resume(options: &Options, id: &str) -> Outcome {
    store::find(options, id)?.container()?.thaw()?;
    Ok(0)
}

/// The processes of a container: their numbers, or a table, or what ps(1) says of them with options for it.
pub fn ps(options: &Options, id: &str, format: Format, words: &[String]) -> Outcome {
    let found = store::find(options, id)?;
    let pids = found.container()?.processes()?;
    match (format, words) {
        (Format::Json, _) => println!("{}", json!(pids)),
        (Format::Table, []) => table(&pids),
        (Format::Table, words) => print!("{}", lines_of(&pids, &said_by_ps(words)?)?),
    }
    Ok(0)
}

fn table(pids: &[i32]) {
    println!("{:>8} {:>8} CMD", "UID", "PID");
    for pid in pids {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().next());
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        println!("{:>8} {pid:>8} {}", uid.unwrap_or("?"), command.trim());
    }
}

fn said_by_ps(words: &[String]) -> Outcome<String> {
    let output =
        std::process::Command::new("ps").args(words).output().map_err(|error| format!("ps: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Err(format!("ps {}: {}: {said}", words.join(" "), output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The head, and the lines whose column `PID` has one of these.
fn lines_of(pids: &[i32], said: &str) -> Outcome<String> {
    let mut lines = said.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_ascii_whitespace().position(|title| title == "PID");
    let column = column.ok_or("ps was given options with which it has no column PID to choose by")?;
    let ours = lines.filter(|line| {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    });
    Ok(std::iter::once(head).chain(ours).map(|line| format!("{line}\n")).collect())
}

pub fn list(options: &Options, format: Format, quiet: bool) -> Outcome {
    let all = store::all(options)?;
    if quiet {
        all.iter().for_each(|found| println!("{}", found.id()));
        return Ok(0);
    }
    let states = all.iter().map(|found| found.state()).collect::<Outcome<Vec<_>>>()?;
    if format == Format::Json {
        println!("{}", json!(states));
        return Ok(0);
    }
    println!("{:<20} {:>8} {:<8} {:<30} BUNDLE", "ID", "PID", "STATUS", "CREATED");
    for state in states {
        let text = |key: &str| state[key].as_str().unwrap_or_default().to_string();
        let (id, status, created, bundle) = (text("id"), text("status"), text("created"), text("bundle"));
        println!("{id:<20} {:>8} {status:<8} {created:<30} {bundle}", state["pid"]);
    }
    Ok(0)
}

/// An example of a configuration, which runs a shell; for the root of a user namespace without limits, of which it may have
/// none.
pub fn spec(bundle: &Path, rootless: bool) -> Outcome {
    let path = bundle.join("config.json");
    if path.exists() {
        return Err(format!("{} exists already", path.display()).into());
    }
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    // Terminals belong to the group tty, where there is one.
    let mut terminals = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !rootless && has_group(5) {
        terminals.push("gid=5");
    }
    let mut config = json!({
        "ociVersion": store::SPEC_VERSION,
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": CONTAINER,
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": terminals },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" },
            ],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    if rootless {
        config["linux"]["resources"] = json!({});
    }
    std::fs::write(&path, format!("{config:#}\n"))
        .map_err(|error| format!("write {}: {error}", path.display()))?;
    Ok(0)
}

/// Whether this user namespace has a group of that number.
fn has_group(gid: u32) -> bool {
    let map = std::fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    map.lines().any(|line| {
        let numbers: Vec<u32> = line.split_ascii_whitespace().flat_map(str::parse).collect();
        matches!(numbers[..], [first, _, size] if gid >= first && gid - first < size)
    })
}

/// What this runtime can do (runtime-spec, "Features").
pub fn features() -> Outcome {
    println!("{:#}", pericarp::spec::oci::features());
    Ok(0)
}
