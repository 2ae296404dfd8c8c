//! A pod without any privilege: `cargo run --release --example rootless`, as an ordinary user.
//!
//! Two containers of one pod meet over localhost and see each other's shared memory. Their root filesystem is this
//! machine's own `/`, which they cannot write to; `XDG_RUNTIME_DIR` must be set, as a login does. With `--subordinate`
//! they have users of their own, from `/etc/subuid` and `/etc/subgid`.

use std::error::Error;
use std::io::Read;
use std::time::Duration;

use pericarp::spec::Stdio;
use pericarp::{Container, ContainerSpec, Node, NodeOptions, NodeUser, Pod, PodSpec, Rootfs};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let user = match std::env::args().nth(1).as_deref() {
        None => NodeUser::SingleId,
        Some("--subordinate") => NodeUser::SubordinateIds,
        Some(other) => return Err(format!("unknown argument {other}; there is --subordinate").into()),
    };
    let node = Node::open(&NodeOptions::for_user(user)?)?;
    // What a program of this user left that was killed.
    node.recover()?;
    // It ends with this program: nothing but root of the machine could keep its namespaces without a process.
    let pod = node.create_pod(&PodSpec::new("mine").ephemeral(true))?;
    let shown = show(&pod);
    pod.remove()?;
    node.remove()?;
    shown
}

fn show(pod: &Pod) -> Result<()> {
    let keeper = start(pod, "keeper", "echo from the keeper > /dev/shm/note; hostname; exec sleep 60")?;
    println!(
        "{}",
        say(pod, "whoami", "echo root here: $(id -u), outside: $(cut -c11-21 /proc/self/uid_map)")?
    );
    println!(
        "{}",
        say(pod, "reader", "until cat /dev/shm/note 2>/dev/null; do :; done; echo on $(hostname)")?
    );
    println!("{}", say(pod, "prober", "mknod /dev/shm/disk b 8 0 2>&1; touch /mark 2>&1; true")?);
    println!("the keeper {}", keeper.stop(Duration::from_millis(200))?);
    keeper.remove()?;
    Ok(())
}

fn start(pod: &Pod, name: &str, script: &str) -> Result<Container> {
    let rootfs = Rootfs::directory("/").readonly();
    let spec = ContainerSpec::new(name, rootfs).args(["/bin/sh", "-c", script]).stdout(Stdio::Pipe);
    let container = pod.create_container(&spec)?;
    container.start()?;
    Ok(container)
}

/// What a container writes until it ends.
fn say(pod: &Pod, name: &str, script: &str) -> Result<String> {
    let container = start(pod, name, script)?;
    let mut text = String::new();
    container.take_stdout().ok_or("no pipe")?.read_to_string(&mut text)?;
    let status = container.wait()?;
    container.remove()?;
    if status.success() {
        Ok(text.trim_end().to_string())
    } else {
        Err(format!("{name} {status}: {text}").into())
    }
}
