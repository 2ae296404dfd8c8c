//! Handles of what is gone.

use std::time::Duration;

use pericarp::spec::{IpcObjects, SharedMemorySpec, ShmObjectSpec};
use pericarp::{ContainerStatus, ErrorKind, ExitStatus, NamespaceKind};

use crate::world::*;

crate::behaviours![
    a_removed_pod_is_gone_for_every_call,
    a_removed_container_tells_how_it_ended,
    a_container_is_removed_with_all_its_processes,
    a_removed_name_is_another_container_s,
    removing_a_pod_ends_its_containers,
    of_many_who_remove_one_succeeds,
];

fn a_removed_pod_is_gone_for_every_call(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let (id, path) = (pod.id(), pod.cgroup_path());
    pod.remove()?;
    assert_eq!((pod.id(), pod.name(), pod.cgroup_path()), (id, "shop".to_string(), path));
    world.refused(pod.remove(), ErrorKind::NotFound);
    world.refused(pod.create_container(&sleeper("c")), ErrorKind::NotFound);
    world.refused(pod.run(&sleeper("c")), ErrorKind::NotFound);
    world.refused(pod.container("c"), ErrorKind::NotFound);
    world.refused(pod.containers(), ErrorKind::NotFound);
    world.refused(pod.status(), ErrorKind::NotFound);
    world.refused(pod.stop(Duration::ZERO), ErrorKind::NotFound);
    world.refused(pod.freeze(), ErrorKind::NotFound);
    world.refused(pod.thaw(), ErrorKind::NotFound);
    world.refused(pod.namespace_fd(NamespaceKind::Network), ErrorKind::NotFound);
    world.refused(pod.namespace_inode(NamespaceKind::Ipc), ErrorKind::NotFound);
    world.refused(pod.ipc_list(), ErrorKind::NotFound);
    world.refused(pod.ipc_create(&IpcObjects::default()), ErrorKind::NotFound);
    let object = ShmObjectSpec { name: "a".into(), size: 1, mode: 0o600, uid: 0, gid: 0 };
    world.refused(pod.create_shm_object(&object), ErrorKind::NotFound);
    let segment = SharedMemorySpec { key: 1, size: 1, mode: 0o600, uid: 0, gid: 0 };
    world.refused(pod.create_sysv_shm(&segment), ErrorKind::NotFound);
    world.refused(pod.remove_mqueue("a"), ErrorKind::NotFound);
    // What is told without asking the kernel stays.
    assert_eq!(pod.spec(), pericarp::PodSpec::new("shop"));
    world.saw(pod.explain(&sleeper("c"))?);
    PASS
}

fn a_removed_container_tells_how_it_ended(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let ended = started(&*pod, &script("ended", "exit 4"))?;
    ended.wait()?;
    ended.remove()?;
    assert_eq!(ended.wait()?, ExitStatus::Exited(4));
    assert_eq!(ended.status()?, ContainerStatus::Exited(Some(ExitStatus::Exited(4))));
    world.refused(ended.remove(), ErrorKind::NotFound);
    world.refused(ended.signal(libc::SIGTERM), ErrorKind::WrongState);
    world.refused(ended.start(), ErrorKind::WrongState);
    world.refused(pod.container("ended"), ErrorKind::NotFound);
    let ran = started(&*pod, &sleeper("ran"))?;
    ran.remove()?;
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    assert_eq!((ran.try_wait()?, ran.wait()?), (Some(killed), killed));
    assert!(pod.containers()?.is_empty());
    PASS
}

fn a_container_is_removed_with_all_its_processes(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = script("c", "(trap '' TERM; sleep 1000) & echo; wait").stdout(pericarp::Stdio::Pipe);
    let container = started(&*pod, &spec)?;
    let mut stdout = container.take_stdout().expect("a pipe");
    line(&mut stdout)?;
    container.remove()?;
    assert_eq!(std::io::read_to_string(stdout)?, "");
    assert!(std::fs::metadata(format!("{}/c", pod.cgroup_path())).is_err(), "its cgroup is left");
    PASS
}

fn a_removed_name_is_another_container_s(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let first = started(&*pod, &script("c", "exit 1"))?;
    first.wait()?;
    first.remove()?;
    let second = started(&*pod, &sleeper("c"))?;
    world.refused(first.remove(), ErrorKind::NotFound);
    first.kill()?;
    assert_eq!(first.wait()?, ExitStatus::Exited(1));
    assert_eq!(second.try_wait()?, None, "an old handle has ended a new container");
    PASS
}

fn removing_a_pod_ends_its_containers(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    let pidfd = container.pidfd().expect("it lives");
    pod.remove()?;
    assert!(readable(&pidfd, 0), "it lives on");
    world.refused(container.remove(), ErrorKind::NotFound);
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    assert_eq!(container.wait()?, killed);
    PASS
}

fn of_many_who_remove_one_succeeds(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| pod.remove())).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    let others = results.into_iter().filter_map(Result::err);
    assert!(others.into_iter().all(|failure| failure.kind == ErrorKind::NotFound));
    container.wait()?;
    PASS
}
