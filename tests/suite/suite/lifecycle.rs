//! From creation to removal.

use std::time::Duration;

use pericarp::{ContainerStatus, ErrorKind, ExitStatus, PodSpec};

use crate::support::fixture::{facts, payload, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_container_runs_and_its_exit_code_is_told,
    start_is_split_from_create,
    the_death_by_a_signal_is_told,
    a_pod_without_containers_has_no_process,
];

fn a_container_runs_and_its_exit_code_is_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    assert_eq!(pod.run(&payload("a", &["exit", "0"]))?, ExitStatus::Exited(0));
    assert_eq!(pod.run(&payload("a", &["exit", "37"]))?, ExitStatus::Exited(37));
    assert_eq!(say(&pod, script("a", "echo hello; echo there >&2")), "hello\nthere\n");
    assert_eq!(facts(&pod, |spec| spec).pid, 1);
    PASS
}

fn start_is_split_from_create() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let file = fixture.path("ran");
    let spec = script("a", "echo x").stdout(pericarp::Stdio::File(file.clone()));
    let container = pod.create_container(&spec)?;
    assert_eq!(container.status()?, ContainerStatus::Created);
    assert_eq!(container.try_wait()?, None);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(std::fs::read_to_string(&file)?, "");
    container.start()?;
    assert_eq!(container.wait()?, ExitStatus::Exited(0));
    assert_eq!(std::fs::read_to_string(&file)?, "x\n");
    assert_eq!(container.status()?, ContainerStatus::Exited(Some(ExitStatus::Exited(0))));
    assert_eq!(container.start().unwrap_err().kind(), ErrorKind::WrongState);
    container.remove()?;
    assert_eq!(pod.container("a").unwrap_err().kind(), ErrorKind::NotFound);
    PASS
}

fn the_death_by_a_signal_is_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let container = pod.create_container(&payload("a", &["sleep"]))?;
    container.start()?;
    container.signal(libc::SIGKILL)?;
    assert_eq!(container.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    PASS
}

fn a_pod_without_containers_has_no_process() -> Outcome {
    let fixture = Fixture::new();
    let before = processes();
    let pods: Vec<_> =
        (0..5).map(|i| fixture.node.create_pod(&PodSpec::new(format!("p{i}")))).collect::<Result<_, _>>()?;
    assert_eq!(pods.len(), 5);
    let path = pods[0].cgroup_path();
    assert_eq!(std::fs::read_to_string(path.join("cgroup.procs"))?, "");
    let own = fixture.options.state_dir.file_name().expect("a name").to_string_lossy().into_owned();
    let new: Vec<_> = processes().into_iter().filter(|pid| !before.contains(pid)).collect();
    let ours = new.iter().filter(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|cgroup| cgroup.contains(&own))
    });
    assert_eq!(ours.count(), 0);
    PASS
}

fn processes() -> Vec<String> {
    std::fs::read_dir("/proc")
        .expect("read /proc")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect()
}
