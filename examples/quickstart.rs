//! Two pods on this machine, in a second and with nothing to download: `cargo run --release --example quickstart`, as
//! root.
//!
//! Pod `shop` has two containers, a web server and a client that fetches a page from it over localhost. Both also
//! count on one number in shared memory under one semaphore. Pod `other` shows that it sees nothing of that. Then all
//! is removed, and counted. The root filesystem of every container is an overlay of this machine's own `/`, and the
//! program in it is this one, started as one of `support/roles.rs`.

#[path = "support/ipc.rs"]
mod ipc;
#[path = "support/roles.rs"]
mod roles;
#[path = "support/signals.rs"]
mod signals;
#[path = "support/traces.rs"]
mod traces;

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pericarp::spec::{IpcObjects, SemaphoreSetSpec, ShmObjectSpec, Stdio};
use pericarp::{
    CgroupParent, Container, ContainerSpec, Mount, NamespaceKind, Node, NodeOptions, Pod, PodSpec, Rootfs,
};
use roles::{Fetched, PORT, Seen, TIMES};
use signals::{Signals, Woken};
use traces::Traces;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Two pods, from the first call to the last. Whatever fails, `main` removes all that was made.
fn tour(node: &Node, state_dir: &Path, signals: &Signals) -> Result<Traces> {
    // A pod is what containers share: here a network, a host name, a semaphore that is 1 and 4 KiB of shared memory.
    // It exists without any process.
    let started = Instant::now();
    let shop = node.create_pod(&PodSpec::new("shop").hostname_files(true).ipc(objects(1)))?;
    say("pod shop", "network, IPC and host name of its own; no process", Some(started))?;

    // A container is made first and started then. Its streams are pipes here.
    let started = Instant::now();
    let ticket = std::process::id().to_string();
    let server = shop.create_container(&container("server")?.env("TICKET", &ticket))?;
    server.start()?;
    say("  server", "created and started", Some(started))?;

    let started = Instant::now();
    let client = shop.create_container(&container("client")?)?;
    client.start()?;
    say("  client", "created and started", Some(started))?;
    let fetched: Fetched = finish(&client, signals).map_err(|error| blame(&server, error))?;
    check(fetched.page == format!("hello from shop, ticket {ticket}"), "the client got the server's page")?;
    let mut name = String::new();
    BufReader::new(server.take_stdout().ok_or("no pipe")?).read_line(&mut name)?;
    say("", &format!("fetched http://localhost:{PORT}/ from {}:", name.trim()), Some(started))?;
    say("", &format!("  {:?}", fetched.page), None)?;

    // The host can look into the pod's shared memory, too.
    let mut visits = [0; 8];
    std::fs::File::from(shop.ipc().open_shm_object(ipc::NAME, false)?).read_exact_at(&mut visits, 0)?;
    let visits = u64::from_ne_bytes(visits);
    check(visits == 2 * TIMES, &format!("both counted to {}, but it is {visits}", 2 * TIMES))?;
    say("", &format!("both counted in shared memory under one semaphore: {visits}"), None)?;

    // A second pod has objects of the same names, but its own.
    let started = Instant::now();
    let other = node.create_pod(&PodSpec::new("other").ipc(objects(7)))?;
    let neighbour = other.create_container(&container("neighbour")?)?;
    neighbour.start()?;
    let seen: Seen = finish(&neighbour, signals)?;
    say("pod other", "made, with a container that looked round", Some(started))?;
    check(!seen.port_is_open, "the server's port is closed in the other pod")?;
    check(seen.semaphore == 7 && seen.visits == 0, "the other pod has IPC objects of its own")?;
    check(seen.hostname == "other" && seen.processes == 1, "the other pod has its own name and processes")?;
    say("", &format!("port {PORT} is closed; semaphore {}, number {}", seen.semaphore, seen.visits), None)?;
    say("", &format!("host name {:?}, processes {}", seen.hostname, seen.processes), None)?;

    let cgroup = shop.cgroup_path().parent().ok_or("the cgroup has no parent")?.to_path_buf();
    Ok(Traces::of(state_dir, &cgroup, namespaces(&[&shop, &other])?))
}

/// The semaphore with that value, and the shared memory, for `PodSpec::ipc`: they are there before any container.
fn objects(value: u16) -> IpcObjects {
    let semaphore = SemaphoreSetSpec { key: ipc::KEY, values: vec![value], mode: 0o600, uid: 0, gid: 0 };
    let memory = ShmObjectSpec { name: ipc::NAME.into(), size: ipc::SIZE, mode: 0o600, uid: 0, gid: 0 };
    IpcObjects { shm: vec![memory], sysv_sem: vec![semaphore], ..IpcObjects::default() }
}

/// A container over this machine's own files, whose changes are thrown away, with this program in one of its roles.
fn container(role: &str) -> Result<ContainerSpec> {
    let program = std::env::current_exe()?;
    Ok(ContainerSpec::new(role, Rootfs::overlay(["/"]))
        .mount(Mount::bind(program, "/quickstart").readonly(true))
        .args(["/quickstart".to_string(), format!("as-{role}")])
        .stdout(Stdio::Pipe))
}

/// Waits until a container has ended, and reads what it said.
fn finish<T: serde::de::DeserializeOwned>(container: &Container, signals: &Signals) -> Result<T> {
    let process = container.pidfd().ok_or("the container has no process")?;
    match signals.wait(&[process], Some(Duration::from_secs(60)))? {
        Woken::Ended => {}
        Woken::Signal(name) => return Err(format!("interrupted by {name}").into()),
        Woken::TimedOut => return Err(format!("{} did not end in 60 s", container.name()).into()),
    }
    let mut said = String::new();
    container.take_stdout().ok_or("no pipe")?.read_to_string(&mut said)?;
    let status = container.wait()?;
    check(status.success(), &format!("{} {status}: {}", container.name(), said.trim()))?;
    Ok(serde_json::from_str(&said)?)
}

/// When the client failed because the server did, says so.
fn blame(server: &Container, error: Box<dyn Error>) -> Box<dyn Error> {
    let (Ok(Some(status)), Some(mut pipe)) = (server.try_wait(), server.take_stdout()) else { return error };
    let mut said = String::new();
    let _ = pipe.read_to_string(&mut said);
    format!("{error}; server {status}: {}", said.trim()).into()
}

/// The namespaces of pods, as `/proc` names them.
fn namespaces(pods: &[&Pod]) -> Result<BTreeSet<String>> {
    let kinds = [("net", NamespaceKind::Network), ("ipc", NamespaceKind::Ipc), ("uts", NamespaceKind::Uts)];
    let mut all = BTreeSet::new();
    for pod in pods {
        for (word, kind) in kinds {
            all.insert(format!("{word}:[{}]", pod.namespace_inode(kind)?));
        }
    }
    Ok(all)
}

/// Removes the pods, which ends their containers, and the node.
fn clean_up(node: &Node) -> pericarp::Result<()> {
    node.pods()?.iter().try_for_each(Pod::remove)?;
    node.remove()
}

fn check(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(format!("this does not hold: {what}").into()) }
}

/// One line: a label, a text, and how long it took since then.
fn say(label: &str, text: &str, since: Option<Instant>) -> io::Result<()> {
    let time = since.map_or(String::new(), |since| format!("{:8.2} ms", since.elapsed().as_secs_f64() * 1e3));
    writeln!(io::stdout(), "{}", format!("{label:<11}{text:<60}{time}").trim_end())
}

/// The quickstart as a whole: opens a node, makes the tour, removes all and counts what is left.
fn run(signals: &Signals) -> Result<()> {
    let name = format!("pericarp-quickstart-{}", std::process::id());
    let state_dir = PathBuf::from("/run").join(&name);
    let started = Instant::now();
    let options = NodeOptions::new().state_dir(&state_dir).cgroup_parent(CgroupParent::Named(name));
    let node = Node::open(&options)?;
    let toured = say("node", &format!("opened in {}", state_dir.display()), Some(started))
        .map_err(Into::into)
        .and_then(|()| tour(&node, &state_dir, signals));
    let before = toured.as_ref().ok().map(Traces::alive);
    let started = Instant::now();
    let cleaned = clean_up(&node);
    let traces = toured?;
    cleaned?;
    say("removed", "both pods with all containers, and the node", Some(started))?;
    drop(node);
    let (Some(before), after) = (before, traces.left()) else { return Err("nothing was counted".into()) };
    for (what, before, after) in [
        ("processes", before.processes, after.processes),
        ("mounts", before.mounts, after.mounts),
        ("cgroups", before.cgroups, after.cgroups),
        ("namespaces", before.namespaces, after.namespaces),
    ] {
        say("", &format!("{what:<11}{before:>3} before, {after} left"), None)?;
        check(before > 0 && after == 0, &format!("{what}: some before, none left"))?;
    }
    check(!state_dir.exists(), &format!("{} is gone", state_dir.display()))?;
    Ok(writeln!(io::stdout(), "All checks held.")?)
}

fn main() -> ExitCode {
    if let Some(code) = std::env::args().nth(1).and_then(|role| roles::play(&role)) {
        return code;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("quickstart: making pods needs root; run this command as root");
        return ExitCode::FAILURE;
    }
    match Signals::take().map_err(Into::into).and_then(|signals| run(&signals)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}
