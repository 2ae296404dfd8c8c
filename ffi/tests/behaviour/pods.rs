//! Pods: what they are and who finds them.

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use pericarp::spec::{IpcObjects, NamespaceMode, PidMode, ShmObjectSpec};
use pericarp::{ErrorKind, NamespaceKind, PodSpec, Volume};

use crate::api::{PodApi, Simple};
use crate::world::*;

crate::behaviours![
    a_pod_is_made_listed_opened_and_removed,
    a_pod_is_found_by_id_and_by_name,
    a_pod_that_is_not_there_is_not_found,
    names_are_taken_in_one_namespace,
    the_specification_is_kept,
    simple_pods_are_what_was_asked_for,
    the_namespaces_are_those_of_its_containers,
    a_shared_pid_namespace_is_the_pod_s,
    the_host_s_namespaces_are_not_the_pod_s,
    a_namespace_stays_while_its_descriptor_is_open,
    an_ephemeral_pod_is_this_program_s,
    the_time_and_the_cgroup_are_told,
    the_status_of_all_containers_is_told,
    closing_a_pod_ends_nothing,
];

fn a_pod_is_made_listed_opened_and_removed(world: &World) -> Outcome {
    assert!(world.node.pods()?.is_empty());
    let pod = world.pod("shop")?;
    assert_eq!((pod.name(), pod.namespace()), ("shop".to_string(), "default".to_string()));
    let pods = world.node.pods()?;
    assert_eq!(pods.iter().map(|pod| pod.id()).collect::<Vec<_>>(), [pod.id()]);
    assert_eq!(pod.node().open_pod("shop")?.id(), pod.id());
    pod.remove()?;
    assert!(world.node.pods()?.is_empty());
    PASS
}

fn a_pod_is_found_by_id_and_by_name(world: &World) -> Outcome {
    let one = world.pod("shop")?;
    let two = world.node.create_pod(&PodSpec::new("shop").namespace("blue"))?;
    for (word, pod) in [
        (one.id(), &one),
        (two.id(), &two),
        ("shop".to_string(), &one),
        ("default/shop".to_string(), &one),
        ("blue/shop".to_string(), &two),
    ] {
        assert_eq!(world.node.open_pod(&word)?.id(), pod.id(), "{word}");
    }
    PASS
}

fn a_pod_that_is_not_there_is_not_found(world: &World) -> Outcome {
    world.pod("shop")?;
    let none = "00000000-0000-4000-8000-000000000000";
    for word in ["nobody", "blue/shop", "", "/", "../pods", "shop/", none] {
        world.refused(world.node.open_pod(word), ErrorKind::NotFound);
    }
    PASS
}

fn names_are_taken_in_one_namespace(world: &World) -> Outcome {
    let first = world.pod("shop")?;
    world.refused(world.pod("shop"), ErrorKind::AlreadyExists);
    let other = world.node.create_pod(&PodSpec::new("shop").namespace("blue"))?;
    first.remove()?;
    let second = world.pod("shop")?;
    assert!(second.id() != first.id() && second.id() != other.id());
    assert_eq!(world.node.pods()?.len(), 2, "what failed has left something");
    PASS
}

fn the_specification_is_kept(world: &World) -> Outcome {
    let ipc = IpcObjects {
        shm: vec![ShmObjectSpec { name: "ring".into(), size: 4096, mode: 0o640, uid: 1, gid: 2 }],
        ..IpcObjects::default()
    };
    let spec = PodSpec::new("shop")
        .label("tier", "front")
        .label("note", "Ümläut \"quoted\"")
        .annotation("example.org/url", "https://example.org/?a=b&c")
        .hostname("till")
        .domainname("example.org")
        .hostname_files(true)
        .sysctl("net.ipv4.ip_unprivileged_port_start", "80")
        .shm_size(1 << 20)
        .volume(Volume::tmpfs("data", 1 << 16))
        .ipc(ipc);
    let pod = world.node.create_pod(&spec)?;
    assert_eq!(pod.spec(), spec);
    assert_eq!(world.node.open_pod("shop")?.spec(), spec);
    assert_eq!(pod.label("tier").as_deref(), Some("front"));
    assert_eq!(pod.label("note").as_deref(), Some("Ümläut \"quoted\""));
    assert_eq!(pod.label("none"), None);
    assert_eq!(say(&*pod, script("c", "uname -n; stat -c %s /dev/shm/ring"))?, "till\n4096\n");
    PASS
}

fn simple_pods_are_what_was_asked_for(world: &World) -> Outcome {
    let simple = |name: &str| Simple { name: name.to_string(), ..Simple::default() };
    assert_eq!(world.node.create_simple_pod(&simple("plain"))?.spec(), PodSpec::new("plain"));
    let all = Simple {
        namespace: Some("blue".to_string()),
        hostname: Some("till".to_string()),
        shm_size: Some(1 << 20),
        ephemeral: true,
        hostname_files: true,
        host_network: true,
        host_ipc: true,
        shared_pid: true,
        ..simple("all")
    };
    let spec = PodSpec::new("all")
        .namespace("blue")
        .hostname("till")
        .shm_size(1 << 20)
        .ephemeral(true)
        .hostname_files(true)
        .network(NamespaceMode::Host)
        .ipc_namespace(NamespaceMode::Host)
        .pid(PidMode::Pod);
    assert_eq!(world.node.create_simple_pod(&all)?.spec(), spec);
    let host = Simple { host_uts: true, host_pid: true, ..simple("host") };
    let spec = PodSpec::new("host").uts(NamespaceMode::Host).pid(PidMode::Host);
    assert_eq!(world.node.create_simple_pod(&host)?.spec(), spec);
    let wrong = Simple { hostname: Some("a b".to_string()), ..simple("wrong") };
    world.refused(world.node.create_simple_pod(&wrong), ErrorKind::InvalidSpec);
    PASS
}

/// The number in `readlink /proc/self/ns/KIND`.
fn seen_inside(pod: &dyn PodApi, kind: &str) -> Result<u64, libtest_mimic::Failed> {
    let link = say(pod, script("see", &format!("readlink /proc/self/ns/{kind}")))?;
    Ok(link.trim().trim_start_matches(kind).trim_matches([':', '[', ']']).parse()?)
}

fn the_namespaces_are_those_of_its_containers(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    for (kind, word) in
        [(NamespaceKind::Network, "net"), (NamespaceKind::Ipc, "ipc"), (NamespaceKind::Uts, "uts")]
    {
        let inode = pod.namespace_inode(kind)?;
        assert_eq!(inode, seen_inside(&*pod, word)?, "{word}");
        let own = std::fs::metadata(format!("/proc/self/ns/{word}"))?.ino();
        assert_ne!(inode, own, "{word} is the host's");
        let file = std::fs::File::from(pod.namespace_fd(kind)?);
        assert_eq!(file.metadata()?.ino(), inode);
        // SAFETY: it asks about an open file.
        let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC);
    }
    PASS
}

fn a_shared_pid_namespace_is_the_pod_s(world: &World) -> Outcome {
    let pod = world.node.create_pod(&PodSpec::new("shop").pid(PidMode::Pod))?;
    assert_eq!(pod.namespace_inode(NamespaceKind::Pid)?, seen_inside(&*pod, "pid")?);
    PASS
}

fn the_host_s_namespaces_are_not_the_pod_s(world: &World) -> Outcome {
    let spec = PodSpec::new("shop")
        .network(NamespaceMode::Host)
        .ipc_namespace(NamespaceMode::Host)
        .uts(NamespaceMode::Host);
    let pod = world.node.create_pod(&spec)?;
    for kind in [NamespaceKind::Network, NamespaceKind::Ipc, NamespaceKind::Uts, NamespaceKind::Pid] {
        world.refused(pod.namespace_fd(kind), ErrorKind::NotFound);
        world.refused(pod.namespace_inode(kind), ErrorKind::NotFound);
    }
    assert_eq!(seen_inside(&*pod, "net")?, std::fs::metadata("/proc/self/ns/net")?.ino());
    PASS
}

fn a_namespace_stays_while_its_descriptor_is_open(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let file = std::fs::File::from(pod.namespace_fd(NamespaceKind::Network)?);
    let inode = pod.namespace_inode(NamespaceKind::Network)?;
    pod.remove()?;
    world.refused(pod.namespace_fd(NamespaceKind::Network), ErrorKind::NotFound);
    assert_eq!(file.metadata()?.ino(), inode);
    PASS
}

fn an_ephemeral_pod_is_this_program_s(world: &World) -> Outcome {
    let pod = world.node.create_pod(&PodSpec::new("shop").ephemeral(true))?;
    assert_eq!(world.node.open_pod("shop")?.id(), pod.id());
    assert_eq!(world.node.pods()?.len(), 1);
    let other = world.reopen()?;
    world.refused(other.open_pod("shop"), ErrorKind::NotFound);
    assert!(other.pods()?.is_empty());
    assert_eq!(say(&*pod, script("c", "uname -n"))?, "shop\n");
    PASS
}

fn the_time_and_the_cgroup_are_told(world: &World) -> Outcome {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_nanos() as u64);
    let before = now()?;
    let pod = world.pod("shop")?;
    assert!((before..=now()?).contains(&pod.created_at()));
    assert!(std::fs::metadata(pod.cgroup_path())?.is_dir());
    world.saw(pod.cgroup_path());
    let inside = say(&*pod, script("c", "cat /proc/self/cgroup"))?;
    assert!(inside.lines().any(|line| line == "0::/"), "{inside}");
    PASS
}

fn the_status_of_all_containers_is_told(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    world.saw(pod.status()?.to_string());
    let waits = pod.create_container(&sleeper("waits"))?;
    let runs = started(&*pod, &sleeper("runs"))?;
    let ended = started(&*pod, &script("ended", "exit 7"))?;
    let killed = started(&*pod, &sleeper("killed"))?;
    ended.wait()?;
    killed.signal(libc::SIGKILL)?;
    killed.wait()?;
    let status = pod.status()?;
    let expected = serde_json::json!({"containers": {
        "waits": {"state": "created"},
        "runs": {"state": "running"},
        "ended": {"state": "exited", "exitCode": 7},
        "killed": {"state": "exited", "signal": 9, "coreDumped": false},
    }});
    assert_eq!(status, expected);
    let mut names: Vec<String> = pod.containers()?.iter().map(|container| container.name()).collect();
    names.sort();
    assert_eq!(names, ["ended", "killed", "runs", "waits"]);
    drop((waits, runs));
    PASS
}

fn closing_a_pod_ends_nothing(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let another = pod.again();
    let container = started(&*pod, &sleeper("c"))?;
    drop(pod);
    assert_eq!(container.pod().id(), another.id());
    drop(another);
    assert_eq!(container.try_wait()?, None);
    assert_eq!(world.node.open_pod("shop")?.container("c")?.pid(), container.pid());
    PASS
}
