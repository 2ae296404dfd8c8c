//! Killing the host program at any system call is recoverable.
//!
//! The host program runs under ptrace(2) and is killed at its k-th system call, for every k, or at that of its child
//! which becomes init. Then another program recovers the node. Calls that only concern the memory, the threads and the
//! signals of the host program are not counted: to be killed there leaves the same as to be killed at the next call.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use pericarp::spec::{IpcObjects, PidMode, UserMode};
use pericarp::{ErrorKind, Mount, Node, PodSpec, Recovery, Volume};

use crate::robust::again;
use crate::robust::left::Places;
use crate::robust::trace::{Call, Then, Who, is_local, name, trace};
use crate::robust::{in_guest, tiny};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    death_at_any_system_call_of_a_pods_life_is_recoverable,
    death_at_any_system_call_of_a_pod_with_a_shared_pid_namespace_is_recoverable,
    death_at_any_system_call_of_an_ephemeral_pods_life_is_recoverable,
    death_at_any_system_call_of_the_life_of_a_pod_with_a_user_namespace_is_recoverable,
    death_at_any_system_call_while_a_node_is_made_or_removed_is_recoverable,
];

/// The commands of the host programs that are killed.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["recovery-life", state_dir, rootfs, kind] => life(state_dir, Path::new(rootfs), kind),
        ["recovery-test", "node"] => again::body(kill_making_a_node()),
        ["recovery-test", kind] => again::body(kill_everywhere(kind)),
        ["recovery-node", state_dir] => again::node(state_dir).remove().expect("remove the node"),
        _ => return false,
    }
    true
}

/// The whole life of a pod with everything that a pod can have, and of a container in it.
fn life(state_dir: &str, rootfs: &Path, kind: &str) {
    let node = again::node(state_dir);
    let pod = node.create_pod(&spec(kind)).expect("create the pod");
    let container = pod
        .create_container(&tiny::container("main", rootfs, "pause").mount(Mount::volume("data", "/data")))
        .expect("create the container");
    container.start().expect("start the container");
    container.stop(Duration::ZERO).expect("stop the container");
    container.remove().expect("remove the container");
    pod.remove().expect("remove the pod");
}

fn spec(kind: &str) -> PodSpec {
    // A small queue: the kernel takes those of dead pods off the user's RLIMIT_MSGQUEUE some time later.
    let ipc: IpcObjects = serde_json::from_str(
        r#"{"shm": [{"name": "ring", "size": 4096}], "mqueues": [{"name": "jobs", "maxMessages": 2, "messageSize": 64}],
            "sysvShm": [{"key": 7, "size": 4096}], "sysvSem": [{"key": 7, "values": [1, 2]}]}"#,
    )
    .expect("IPC objects");
    let spec = PodSpec::new("victim").volume(Volume::tmpfs("data", 1 << 20)).hostname_files(true).ipc(ipc);
    match kind {
        "shared-pid" => spec.pid(PidMode::Pod),
        "ephemeral" => spec.ephemeral(true),
        "user" => spec.pid(PidMode::Pod).user(UserMode::Auto { size: None }),
        _ => spec,
    }
}

fn death_at_any_system_call_of_a_pods_life_is_recoverable() -> Outcome {
    again::alone(&["recovery-test", "plain"])
}

fn death_at_any_system_call_of_a_pod_with_a_shared_pid_namespace_is_recoverable() -> Outcome {
    again::alone(&["recovery-test", "shared-pid"])
}

fn death_at_any_system_call_of_an_ephemeral_pods_life_is_recoverable() -> Outcome {
    again::alone(&["recovery-test", "ephemeral"])
}

fn death_at_any_system_call_of_the_life_of_a_pod_with_a_user_namespace_is_recoverable() -> Outcome {
    again::alone(&["recovery-test", "user"])
}

/// Runs the program until its k-th call, and tells at which one it was killed; `None` when it ended before.
fn kill_at(words: &[&str], k: usize) -> Option<String> {
    let mut count = 0;
    let mut killed = None;
    let ended = trace(words, false, &mut |call: &Call| {
        if call.result.is_some() || is_local(call.number) {
            return Then::Go;
        }
        count += 1;
        if count != k {
            return Then::Go;
        }
        let child = if call.who == Who::Trampoline { " of the child" } else { "" };
        killed = Some(format!("call {k}, {}{child}", name(call.number)));
        Then::Kill
    });
    assert!(killed.is_some() || ended.code == Some(0), "the program failed by itself: {}", ended.stderr);
    killed
}

/// One in how many calls is tried: all natively; in the guest, where each run takes seconds, as many as do not take
/// too long.
fn stride(test: &str, all: usize) -> usize {
    let stride = if in_guest() { all.div_ceil(40) | 1 } else { 1 };
    eprintln!("recovery ({test}): one in {stride} of some {all} system calls");
    stride
}

/// How many calls there are, when nobody is killed.
fn count_calls(words: &[&str]) -> usize {
    let mut count = 0;
    let ended = trace(words, false, &mut |call| {
        count += usize::from(call.result.is_none() && !is_local(call.number));
        Then::Go
    });
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    count
}

fn kill_everywhere(kind: &str) -> Outcome {
    let fixture = Fixture::new();
    let rootfs = fixture.path("rootfs");
    tiny::make_rootfs(&rootfs);
    let places = Places::of(&fixture);
    let (state_dir, rootfs) = (again::word(&fixture), rootfs.to_string_lossy().into_owned());
    let words = ["recovery-life", &state_dir, &rootfs, kind];
    let all = count_calls(&words);
    assert!(all > 100, "a pod is not made with {all} system calls");
    let stride = stride(kind, all);
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for k in (1..).step_by(stride) {
        let Some(at) = kill_at(&words, k) else { break };
        let outcome = recover(&fixture.node, &places, kind, &at);
        *outcomes.entry(outcome).or_default() += 1;
    }
    eprintln!("recovery ({kind}): {outcomes:?}");
    // The calls are spread over the whole life: something was found half made, and something whole.
    assert!(outcomes.get("removed").is_some_and(|count| *count > 2), "{outcomes:?}");
    if kind != "ephemeral" {
        assert!(outcomes.get("adopted").is_some_and(|count| *count > 2), "{outcomes:?}");
    }
    PASS
}

/// Recovers the node until nobody is busy in it: a child that was on its way to init holds the dead program's locks
/// until it has executed that.
fn recovered(node: &Node, at: &str) -> Recovery {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let recovery = node.recover().unwrap_or_else(|error| panic!("killed at {at}: {error}"));
        if recovery.busy.is_empty() {
            return recovery;
        }
        assert!(Instant::now() < deadline, "killed at {at}: somebody is busy for ever: {recovery:?}");
        std::thread::yield_now();
    }
}

/// Recovers, and uses and removes what was adopted. Says what was found.
fn recover(node: &Node, places: &Places, kind: &str, at: &str) -> &'static str {
    let mut first = recovered(node, at);
    let deadline = Instant::now() + Duration::from_secs(60);
    // The same lock says that the program of ephemeral pods lives, and those are nobody else's to report.
    while kind == "ephemeral" && !places.half_made().is_empty() && Instant::now() < deadline {
        std::thread::yield_now();
        first = recovered(node, at);
    }
    assert_eq!(places.half_made(), [""; 0], "killed at {at}: recover left something; it did {first:?}");
    let second = recovered(node, at);
    assert_eq!(
        (second.removed, second.removed_containers),
        (vec![], vec![]),
        "killed at {at}: a second recover finds something; the first did {first:?}"
    );
    assert_eq!(second.adopted, first.adopted, "killed at {at}");
    let outcome = match &first.adopted[..] {
        [] if first.removed.is_empty() => "nothing",
        [] => "removed",
        [id] => {
            assert_ne!(kind, "ephemeral", "killed at {at}: an ephemeral pod outlived its program");
            let pod = node.open_pod("victim").unwrap_or_else(|error| panic!("killed at {at}: {error}"));
            assert_eq!(pod.id(), id);
            use_adopted(&pod).unwrap_or_else(|error| panic!("killed at {at}: {error}"));
            "adopted"
        }
        more => panic!("killed at {at}: {more:?} from one program"),
    };
    assert_eq!(places.look(), [""; 0], "killed at {at}: something is left; recover did {first:?}");
    // (Not ephemeral: the home of this program's own ephemeral pods would stay with it.)
    let again = node.create_pod(&spec(kind).ephemeral(false)).and_then(|pod| pod.remove());
    again.unwrap_or_else(|error| panic!("killed at {at}: the name cannot be used again: {error}"));
    outcome
}

/// The adopted pod is a pod as any other: its objects are there, its containers end, another runs in it.
fn use_adopted(pod: &pericarp::Pod) -> pericarp::Result<()> {
    let objects = pod.ipc().list()?;
    assert_eq!(
        objects.shm.len() + objects.mqueues.len() + objects.sysv_shm.len() + objects.sysv_sem.len(),
        4
    );
    for container in pod.containers()? {
        match container.stop(Duration::ZERO) {
            // Its parent is gone; whether the kernel still has the status is another test's concern.
            Err(error) if error.kind() == ErrorKind::StatusLost => {}
            result => drop(result?),
        }
        container.remove()?;
    }
    assert!(pod.run(&crate::support::fixture::payload("again", &["exit", "0"]))?.success());
    pod.remove()
}

fn death_at_any_system_call_while_a_node_is_made_or_removed_is_recoverable() -> Outcome {
    again::alone(&["recovery-test", "node"])
}

fn kill_making_a_node() -> Outcome {
    // Its own node, which is made and removed each time.
    let fixture = Fixture::new();
    let state_dir = format!("{}-b", fixture.options.state_dir.display());
    let words = ["recovery-node", &state_dir];
    let all = count_calls(&words);
    let stride = stride("node", all);
    let mut killed = 0;
    for k in (1..).step_by(stride) {
        let Some(at) = kill_at(&words, k) else { break };
        killed += 1;
        let node = again::node(&state_dir);
        let recovery = recovered(&node, &at);
        assert_eq!((recovery.adopted, recovery.removed), (vec![], vec![]), "killed at {at}");
        let pod =
            node.create_pod(&PodSpec::new("first")).unwrap_or_else(|error| panic!("killed at {at}: {error}"));
        let cgroup = pod.cgroup_path().parent().expect("the node's cgroup").to_path_buf();
        pod.remove()?;
        node.remove().unwrap_or_else(|error| panic!("killed at {at}: {error}"));
        assert!(!Path::new(&state_dir).exists() && !cgroup.exists(), "killed at {at}: something is left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        assert!(!mounts.contains(&state_dir), "killed at {at}: {mounts}");
    }
    assert!(killed > 10, "only {killed} places to be killed at");
    PASS
}
