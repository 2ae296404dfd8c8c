//! A system call of the library fails: it says so with an error, or the call was best effort. It never panics, never
//! hangs, and leaves nothing behind.
//!
//! The host program runs under ptrace(2); its k-th system call, or that of its child which becomes init, is not done and
//! returns an error, for every k and several errors. Not touched are calls of the C library and of Rust's that have no
//! way to fail, and close(2) and the unlocking flock(2), which never fail in a way that means anything.

use std::collections::BTreeMap;
use std::path::Path;

use nix::errno::Errno;
use pericarp::spec::{IpcObjects, PidMode, UserMode};
use pericarp::{ErrorKind, Mount, PodSpec, Volume};

use crate::robust::left::Places;
use crate::robust::trace::{Call, Then, is_local, name, trace};
use crate::robust::{again, in_guest, tiny};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_pod_is_made_or_nothing_is_left_whatever_call_fails,
    a_pod_with_a_shared_pid_namespace_is_made_or_nothing_is_left_whatever_call_fails,
    a_pod_with_a_user_namespace_is_made_or_nothing_is_left_whatever_call_fails,
    a_container_is_made_and_started_or_nothing_is_left_whatever_call_fails,
    a_container_in_a_shared_pid_namespace_is_made_and_started_or_nothing_is_left_whatever_call_fails,
    a_pod_can_be_removed_again_whatever_call_failed_at_first,
];

/// Exit codes of the host program: what was asked for failed, or succeeded.
pub const FAILED: i32 = 3;
pub const SUCCEEDED: i32 = 4;
/// The host program marks where the part that is tested begins and ends by a call that nothing else makes.
pub const MARK: i64 = libc::SYS_getpgid;

/// The commands of the host programs.
pub fn payload(words: &[&str]) -> bool {
    let result = match words {
        ["faults-test", what, mode] => {
            again::body(match *what {
                "pods" => pods(mode),
                "containers" => containers(mode),
                _ => removals(),
            });
            return true;
        }
        ["faults-pod", state_dir, mode] => make_pod(state_dir, mode),
        ["faults-container", state_dir, rootfs] => make_container(state_dir, Path::new(rootfs)),
        ["faults-remove", state_dir] => remove_pod(state_dir),
        _ => return false,
    };
    match result {
        Ok(()) => std::process::exit(SUCCEEDED),
        Err(error) => {
            // Every error says which step failed.
            assert!(!error.step().is_empty() && !error.to_string().is_empty());
            println!("{error}");
            std::process::exit(FAILED)
        }
    }
}

pub fn mark() {
    nix::unistd::getpgid(None).expect("a process group");
}

fn spec(mode: &str) -> PodSpec {
    let ipc: IpcObjects = serde_json::from_str(
        r#"{"shm": [{"name": "ring", "size": 4096}], "mqueues": [{"name": "jobs", "maxMessages": 2, "messageSize": 64}],
            "sysvShm": [{"key": 7, "size": 4096}], "sysvSem": [{"key": 7, "values": [1]}], "sysvMsg": [{"key": 7}]}"#,
    )
    .expect("IPC objects");
    let pid = if mode == "shared" { PidMode::Pod } else { PidMode::Container };
    let user = if mode == "user" { UserMode::Auto { size: None } } else { UserMode::Host };
    PodSpec::new("pod")
        .volume(Volume::tmpfs("data", 1 << 20))
        .hostname_files(true)
        .ipc(ipc)
        .pid(pid)
        .user(user)
}

fn make_pod(state_dir: &str, mode: &str) -> pericarp::Result<()> {
    let node = again::node(state_dir);
    mark();
    let result = node.create_pod(&spec(mode));
    mark();
    result.map(drop)
}

/// In a pod that is there; what was made is removed again.
fn make_container(state_dir: &str, rootfs: &Path) -> pericarp::Result<()> {
    let node = again::node(state_dir);
    let pod = node.open_pod("pod").expect("open the pod");
    let spec = tiny::container("main", rootfs, "pause")
        .mount(Mount::volume("data", "/data"))
        .stdin(pericarp::Stdio::Pipe);
    mark();
    let container = pod.create_container(&spec);
    let started = container.as_ref().map(|container| container.start());
    mark();
    match (container.as_ref(), started) {
        (Ok(container), Ok(started)) => {
            container.remove().expect("remove the container");
            started
        }
        _ => container.map(drop),
    }
}

/// What failed at first must be possible at a second attempt, in this or in another program.
fn remove_pod(state_dir: &str) -> pericarp::Result<()> {
    let node = again::node(state_dir);
    let pod = node.open_pod("pod").expect("open the pod");
    mark();
    let result = pod.remove();
    mark();
    result
}

/// Runs the program with its k-th call failing. Returns which one that was, with the exit code and the output; `None`
/// when there are fewer.
fn fail_at(words: &[&str], k: usize, errno: Errno) -> Option<(String, i32, String)> {
    let (mut count, mut marks, mut failed) = (0, 0, None);
    let ended = trace(words, false, &mut |call: &Call| {
        if call.result.is_some() {
            return Then::Go;
        }
        marks += usize::from(call.number == MARK);
        let unlock = call.number == libc::SYS_flock && call.args[1] == libc::LOCK_UN as u64;
        if marks != 1
            || call.number == MARK
            || is_local(call.number)
            || call.number == libc::SYS_close
            || unlock
        {
            return Then::Go;
        }
        count += 1;
        if count != k {
            return Then::Go;
        }
        failed = Some(format!("{errno} of call {k}, {} of {:?}", name(call.number), call.who));
        Then::Fail(errno)
    });
    let failed = failed?;
    let code =
        ended.code.unwrap_or_else(|| panic!("{failed}: the host program was killed: {}", ended.stderr));
    assert!(
        [FAILED, SUCCEEDED].contains(&code) && !ended.stderr.contains("panicked"),
        "{failed}: the host program ended with {code}: {}",
        ended.stderr
    );
    Some((failed, code, ended.stderr))
}

/// Lets each call fail in turn, each with the next of the errors; natively with all of them.
pub fn fail_everywhere(words: &[&str], mut check: impl FnMut(&str, i32)) {
    const ERRORS: [Errno; 3] = [Errno::ENOMEM, Errno::EPERM, Errno::EMFILE];
    let stride = if in_guest() { 7 } else { 1 };
    eprintln!("faults ({}): one in {stride} of the system calls", words[0]);
    let mut codes: BTreeMap<i32, usize> = BTreeMap::new();
    'all: for k in (1..).step_by(stride) {
        for (at, errno) in ERRORS.into_iter().enumerate() {
            if in_guest() && at != k % ERRORS.len() {
                continue;
            }
            let Some((failed, code, output)) = fail_at(words, k, errno) else { break 'all };
            *codes.entry(code).or_default() += 1;
            check(&format!("{failed} ({})", output.trim()), code);
        }
    }
    eprintln!("faults ({}): ended with {codes:?} ({FAILED} is an error)", words[0]);
    assert!(codes.get(&FAILED).is_some_and(|count| *count > 5), "hardly any call matters: {codes:?}");
}

fn pods(mode: &str) -> Outcome {
    let fixture = Fixture::new();
    let places = Places::of(&fixture);
    fail_everywhere(&["faults-pod", &again::word(&fixture), mode], |failed, code| {
        if code == SUCCEEDED {
            let pod = fixture.node.open_pod("pod").unwrap_or_else(|error| panic!("{failed}: {error}"));
            pod.remove().unwrap_or_else(|error| panic!("{failed}: {error}"));
        }
        assert_eq!(places.look(), [""; 0], "{failed}: something is left");
    });
    PASS
}

fn a_pod_is_made_or_nothing_is_left_whatever_call_fails() -> Outcome {
    again::alone(&["faults-test", "pods", "own"])
}

fn a_pod_with_a_shared_pid_namespace_is_made_or_nothing_is_left_whatever_call_fails() -> Outcome {
    again::alone(&["faults-test", "pods", "shared"])
}

fn a_pod_with_a_user_namespace_is_made_or_nothing_is_left_whatever_call_fails() -> Outcome {
    again::alone(&["faults-test", "pods", "user"])
}

fn containers(mode: &str) -> Outcome {
    let fixture = Fixture::new();
    let rootfs = fixture.path("rootfs");
    tiny::make_rootfs(&rootfs);
    let pod = fixture.node.create_pod(&spec(mode))?;
    let state = fixture.options.state_dir.join("pods").join(pod.id()).join("containers");
    let cgroups = || {
        let dir = std::fs::read_dir(pod.cgroup_path()).expect("the pod's cgroup");
        let dirs = dir.flatten().filter(|entry| entry.path().is_dir());
        dirs.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let before = cgroups();
    fail_everywhere(&["faults-container", &again::word(&fixture), &rootfs.to_string_lossy()], |failed, _| {
        assert_eq!(cgroups(), before, "{failed}: a cgroup is left");
        assert_eq!(std::fs::read_dir(&state).expect("its state").count(), 0, "{failed}: a state is left");
        assert!(pod.containers().expect("list").is_empty(), "{failed}");
    });
    let error = pod.container("main").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    PASS
}

fn a_container_is_made_and_started_or_nothing_is_left_whatever_call_fails() -> Outcome {
    again::alone(&["faults-test", "containers", "own"])
}

fn a_container_in_a_shared_pid_namespace_is_made_and_started_or_nothing_is_left_whatever_call_fails()
-> Outcome {
    again::alone(&["faults-test", "containers", "shared"])
}

fn a_pod_can_be_removed_again_whatever_call_failed_at_first() -> Outcome {
    again::alone(&["faults-test", "removals", ""])
}

fn removals() -> Outcome {
    let fixture = Fixture::new();
    let places = Places::of(&fixture);
    let rootfs = fixture.path("rootfs");
    tiny::make_rootfs(&rootfs);
    let make = || -> pericarp::Result<()> {
        let pod = fixture.node.create_pod(&spec("shared"))?;
        pod.create_container(&tiny::container("main", &rootfs, "pause"))?.start()
    };
    make()?;
    fail_everywhere(&["faults-remove", &again::word(&fixture)], |failed, code| {
        if code == FAILED {
            // What is whole is removed by its handle; what was already being removed is the recovery's.
            if let Ok(pod) = fixture.node.open_pod("pod") {
                match pod.remove() {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    result => result.unwrap_or_else(|error| panic!("{failed}: {error}")),
                }
            }
            fixture.node.recover().unwrap_or_else(|error| panic!("{failed}: {error}"));
        }
        assert_eq!(places.look(), [""; 0], "{failed}: something is left");
        make().unwrap_or_else(|error| panic!("{failed}: the name cannot be used again: {error}"));
    });
    PASS
}
