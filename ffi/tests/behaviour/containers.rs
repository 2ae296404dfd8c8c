//! Containers: from creation to the run of their programs.

use std::time::Duration;

use pericarp::spec::PidMode;
use pericarp::{ContainerSpec, ContainerStatus, ErrorKind, ExitStatus, Mount, PodSpec, Stdio};

use crate::world::*;

crate::behaviours![
    start_is_split_from_create,
    a_second_start_is_refused,
    only_who_made_a_container_starts_it,
    names_are_taken_in_one_pod,
    a_container_is_found_by_its_name,
    the_specification_is_kept,
    run_does_all_of_it,
    run_refuses_pipes,
    explain_tells_the_steps_and_does_none,
    the_processes_are_told,
    the_oom_killer_is_told_of_all_processes,
    the_pidfd_is_readable_when_it_has_ended,
    a_container_can_be_frozen,
    a_pod_can_be_frozen,
    closing_a_running_container_ends_nothing,
    closing_one_that_was_never_started_ends_it,
    closing_a_detached_one_ends_nothing,
];

fn start_is_split_from_create(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let file = world.path("ran");
    let container = pod.create_container(&script("c", "echo x").stdout(Stdio::File(file.clone())))?;
    assert_eq!((container.name(), container.pod().id()), ("c".to_string(), pod.id()));
    assert_eq!((container.status()?, container.try_wait()?), (ContainerStatus::Created, None));
    assert_eq!(std::fs::read_to_string(&file)?, "");
    container.start()?;
    assert_eq!(container.wait()?, ExitStatus::Exited(0));
    assert_eq!(std::fs::read_to_string(&file)?, "x\n");
    assert_eq!(container.status()?, ContainerStatus::Exited(Some(ExitStatus::Exited(0))));
    PASS
}

fn a_second_start_is_refused(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    assert_eq!(container.status()?, ContainerStatus::Running);
    world.refused(container.start(), ErrorKind::WrongState);
    container.kill()?;
    container.wait()?;
    world.refused(container.start(), ErrorKind::WrongState);
    PASS
}

fn only_who_made_a_container_starts_it(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let made = pod.create_container(&sleeper("c"))?;
    let other = world.reopen()?.open_pod("shop")?.container("c")?;
    world.refused(other.start(), ErrorKind::WrongState);
    assert_eq!(other.status()?, ContainerStatus::Created);
    made.again().start()?;
    assert_eq!(other.status()?, ContainerStatus::Running);
    PASS
}

fn names_are_taken_in_one_pod(world: &World) -> Outcome {
    let (one, two) = (world.pod("one")?, world.pod("two")?);
    let first = one.create_container(&sleeper("c"))?;
    world.refused(one.create_container(&sleeper("c")), ErrorKind::AlreadyExists);
    two.create_container(&sleeper("c"))?;
    first.remove()?;
    let second = one.create_container(&sleeper("c"))?;
    assert_eq!(one.containers()?.len(), 1, "what failed has left something");
    assert_ne!(first.pid(), second.pid());
    PASS
}

fn a_container_is_found_by_its_name(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    let found = world.node.open_pod("shop")?.container("c")?;
    assert_eq!((found.pid(), found.name()), (container.pid(), "c".to_string()));
    for name in ["d", "", "..", "c/../c", "C"] {
        world.refused(pod.container(name), ErrorKind::NotFound);
    }
    found.kill()?;
    assert_eq!(container.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    PASS
}

fn the_specification_is_kept(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec: ContainerSpec = script("c", "exit 0")
        .env("GREETING", "hällo \"you\"\n")
        .cwd("/tmp")
        .user(1000, 1001)
        .additional_gids([5, 6])
        .umask(0o77)
        .mount(Mount::bind("/etc", "/mnt").readonly(true))
        .mount(Mount::tmpfs("/work", 1 << 16))
        .stop_signal(libc::SIGINT)
        .label("a", "b")
        .annotation("c", "d");
    let container = pod.create_container(&spec)?;
    assert_eq!(container.spec(), spec);
    assert_eq!(pod.container("c")?.spec(), spec);
    // Streams given as descriptors are not remembered.
    let null = std::fs::File::open("/dev/null")?;
    let with_file = script("d", "exit 0").stdin(Stdio::fd(null));
    let container = pod.create_container(&with_file)?;
    assert_eq!(container.spec().args, with_file.args);
    PASS
}

fn run_does_all_of_it(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    for code in [0, 1, 37, 255] {
        assert_eq!(pod.run(&script("c", &format!("exit {code}")))?, ExitStatus::Exited(code));
    }
    let killed = pod.run(&script("c", "kill -9 $$; sleep 1000").pid(PidMode::Host));
    assert_eq!(killed?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    assert!(pod.containers()?.is_empty());
    let nothing = ContainerSpec::new("c", rootfs()).args(["/no/such/program"]);
    world.refused(pod.run(&nothing), ErrorKind::Exec);
    assert!(pod.containers()?.is_empty());
    PASS
}

fn run_refuses_pipes(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    world.refused(pod.run(&script("c", "exit 0").stdout(Stdio::Pipe)), ErrorKind::InvalidSpec);
    PASS
}

fn explain_tells_the_steps_and_does_none(world: &World) -> Outcome {
    let pod = world.node.create_pod(&PodSpec::new("shop").hostname_files(true))?;
    let spec = script("c", "exit 0").mount(Mount::tmpfs("/work", 1 << 16)).user(7, 7).env("A", "b");
    let plan = pod.explain(&spec)?;
    assert!(plan.lines().count() > 20 && plan.contains("/work"), "{plan}");
    world.saw(&plan);
    assert!(pod.containers()?.is_empty());
    world.refused(pod.explain(&script("", "exit 0")), ErrorKind::InvalidSpec);
    world.refused(pod.explain(&sleeper("c").cwd("relative")), ErrorKind::InvalidSpec);
    PASS
}

fn the_processes_are_told(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = script("c", "sleep 1000 & sleep 1000 & echo; wait").stdout(Stdio::Pipe);
    let container = started(&*pod, &spec)?;
    line(&mut container.take_stdout().expect("a pipe"))?;
    let processes = container.processes()?;
    assert_eq!(processes.len(), 3, "{processes:?}");
    assert!(processes.contains(&container.pid()) && processes.is_sorted());
    container.kill()?;
    container.wait()?;
    container.remove()?;
    assert_eq!(pod.create_container(&sleeper("d"))?.processes()?.len(), 1);
    PASS
}

fn the_oom_killer_is_told_of_all_processes(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    let score = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
    let own: i32 = score("self")?.trim().parse()?;
    container.set_oom_score_adj(own + 7)?;
    for pid in container.processes()? {
        assert_eq!(score(&pid.to_string())?.trim(), (own + 7).to_string());
    }
    world.refused(container.set_oom_score_adj(1001), ErrorKind::InvalidSpec);
    container.kill()?;
    container.wait()?;
    world.refused(container.set_oom_score_adj(own + 8), ErrorKind::WrongState);
    PASS
}

fn the_pidfd_is_readable_when_it_has_ended(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &script("c", "read line; exit 3").stdin(Stdio::Pipe))?;
    let pidfd = container.pidfd().expect("it lives");
    assert!(!readable(&pidfd, 0));
    drop(container.take_stdin());
    assert!(readable(&pidfd, 60_000), "it did not end");
    assert_eq!(container.try_wait()?, Some(ExitStatus::Exited(3)));
    // Who opens it now has no process to get a descriptor of, and still learns how it ended.
    let late = pod.container("c")?;
    assert!(late.pidfd().is_none());
    assert_eq!(late.wait()?, ExitStatus::Exited(3));
    world.refused(late.signal(libc::SIGTERM), ErrorKind::WrongState);
    PASS
}

fn a_container_can_be_frozen(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = script("c", "read line; echo $line").stdin(Stdio::Pipe).stdout(Stdio::Pipe);
    let container = pod.create_container(&spec)?;
    let (mut stdin, mut stdout) =
        (container.take_stdin().expect("a pipe"), container.take_stdout().expect("a pipe"));
    container.freeze()?;
    world.refused(container.start(), ErrorKind::WrongState);
    container.thaw()?;
    container.start()?;
    container.freeze()?;
    let events = std::fs::read_to_string(format!("{}/c/cgroup.events", pod.cgroup_path()))?;
    assert!(events.contains("frozen 1"), "{events}");
    std::io::Write::write_all(&mut stdin, b"hello\n")?;
    assert_eq!(container.wait_timeout(Some(Duration::from_millis(50)))?, None, "it ran although frozen");
    container.thaw()?;
    assert_eq!(line(&mut stdout)?, "hello");
    assert_eq!(container.wait()?, ExitStatus::Exited(0));
    PASS
}

fn a_pod_can_be_frozen(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    pod.freeze()?;
    world.refused(pod.create_container(&sleeper("d")), ErrorKind::WrongState);
    let other = sleeper("d").stdin(Stdio::Pipe);
    world.refused(pod.create_container(&other), ErrorKind::WrongState);
    assert_eq!(container.status()?, ContainerStatus::Running);
    pod.thaw()?;
    started(&*pod, &sleeper("d"))?;
    // What is frozen can be killed.
    pod.freeze()?;
    container.kill()?;
    container.wait()?;
    pod.thaw()?;
    PASS
}

fn closing_a_running_container_ends_nothing(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = started(&*pod, &sleeper("c"))?;
    let pid = container.pid();
    let another = container.again();
    drop(container);
    drop(another);
    let found = pod.container("c")?;
    assert_eq!((found.pid(), found.status()?), (pid, ContainerStatus::Running));
    PASS
}

fn closing_one_that_was_never_started_ends_it(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = pod.create_container(&sleeper("c"))?;
    let pidfd = container.pidfd().expect("it lives");
    let another = container.again();
    drop(container);
    assert!(!readable(&pidfd, 0), "it ended although there is another handle");
    drop(another);
    assert!(readable(&pidfd, 60_000), "nobody can start it, and still it lives");
    PASS
}

fn closing_a_detached_one_ends_nothing(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let container = pod.create_container(&sleeper("c").detached(true))?;
    let pidfd = container.pidfd().expect("it lives");
    drop(container);
    assert!(!readable(&pidfd, 0), "it ended with its handle");
    let found = pod.container("c")?;
    found.start()?;
    assert_eq!(found.status()?, ContainerStatus::Running);
    assert!(!readable(&pidfd, 0));
    PASS
}
