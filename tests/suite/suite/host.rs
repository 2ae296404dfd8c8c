//! The host program is a guest of nobody: what the documentation of the crate promises, clause by clause.
//!
//! The host program is this program once more, alone in its process, with settings that are not the usual ones.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::stat::{Mode, umask};
use pericarp::spec::{Capabilities, IpcObjects, NamespaceMode, PidMode, Security, Stdio};
use pericarp::{ContainerSpec, ContainerStatus, ErrorKind, ExitStatus, Mount, Node, PodSpec, Rootfs, Volume};

use crate::robust::again;
use crate::robust::snapshot::{Snapshot, open_on_exec, watch_mounts};
use crate::robust::tiny;
use crate::support::fixture::{payload as container_payload, rootfs};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    pods_of_every_mode_leave_the_host_program_as_it_was,
    failures_leave_the_host_program_as_it_was,
    a_node_that_is_made_and_removed_leaves_the_host_program_as_it_was,
    every_open_file_of_live_handles_is_closed_on_exec,
    dropping_every_handle_neither_ends_nor_blocks_anything,
    a_container_that_was_never_started_ends_with_its_last_handle,
    a_frozen_container_holds_up_no_drop,
];

/// The commands of the host programs.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["host-modes", state_dir, dir] => {
            unchanged(state_dir, Path::new(dir), || every_mode(state_dir, Path::new(dir)))
        }
        ["host-failures", state_dir, dir] => {
            unchanged(state_dir, Path::new(dir), || failures(state_dir, Path::new(dir)))
        }
        ["host-node", state_dir, dir] => {
            unchanged(state_dir, Path::new(dir), || {
                again::node(state_dir).remove().expect("remove the node")
            });
        }
        ["host-descriptors", state_dir] => descriptors(state_dir),
        ["host-leave", state_dir, what] => leave(state_dir, what),
        _ => return false,
    }
    true
}

fn pods_of_every_mode_leave_the_host_program_as_it_was() -> Outcome {
    let fixture = Fixture::new();
    again::run(&["host-modes", &again::word(&fixture), &fixture.path("dir").to_string_lossy()]);
    PASS
}

fn failures_leave_the_host_program_as_it_was() -> Outcome {
    let fixture = Fixture::new();
    again::run(&["host-failures", &again::word(&fixture), &fixture.path("dir").to_string_lossy()]);
    PASS
}

fn a_node_that_is_made_and_removed_leaves_the_host_program_as_it_was() -> Outcome {
    let fixture = Fixture::new();
    let fresh = format!("{}-fresh", fixture.options.state_dir.display());
    again::run(&["host-node", &fresh, &fixture.path("dir").to_string_lossy()]);
    assert!(!Path::new(&fresh).exists());
    PASS
}

/// Gives this program settings that nobody would choose by default, so that a library which "restores" the defaults
/// is seen, does the work, and compares everything.
fn unchanged(state_dir: &str, dir: &Path, work: impl FnOnce()) {
    watch_mounts(&[state_dir, &dir.to_string_lossy()]);
    tiny::make_rootfs(&dir.join("rootfs"));
    std::env::set_current_dir(dir).expect("change the directory");
    umask(Mode::from_bits_truncate(0o137));
    nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 4096, 8192)
        .expect("set a limit");
    std::fs::write("/proc/self/oom_score_adj", "321").expect("set the OOM score");
    // SAFETY: the handler does nothing at all, which is safe in any place.
    unsafe { nix::sys::signal::signal(Signal::SIGUSR1, nix::sys::signal::SigHandler::Handler(nothing)) }
        .expect("set a handler");
    // SAFETY: no handler is set.
    unsafe { nix::sys::signal::signal(Signal::SIGHUP, nix::sys::signal::SigHandler::SigIgn) }
        .expect("ignore a signal");
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGWINCH);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None).expect("block a signal");
    // Threads that the library has nothing to do with.
    let ready = Arc::new(Barrier::new(3));
    for number in 0..2 {
        let thread = std::thread::Builder::new().name(format!("idle-{number}"));
        let ready = ready.clone();
        let idle = move || {
            ready.wait();
            loop {
                std::thread::park();
            }
        };
        thread.spawn(idle).expect("start a thread");
    }
    ready.wait();
    let before = Snapshot::take();
    work();
    assert_eq!(before.changes(&[]), [""; 0], "the library changed the host program");
}

extern "C" fn nothing(_: i32) {}

/// While pods and containers live there are more open files, children and a line in the mount table; all else is as
/// it was.
fn same_so_far(before: &Snapshot) {
    let changes = before.changes(&["descriptor ", "children", "mounts"]);
    assert_eq!(changes, [""; 0], "the library changed the host program while containers run");
}

/// Pods of all kinds, with all calls there are.
fn every_mode(state_dir: &str, dir: &Path) {
    let before = Snapshot::take();
    let node = again::node(state_dir);
    let volume = dir.join("volume");
    std::fs::create_dir_all(&volume).expect("make the directory of a volume");
    let base = || {
        PodSpec::new("pod")
            .volume(Volume::tmpfs("memory", 1 << 20))
            .volume(Volume::directory("disk", &volume))
            .hostname_files(true)
            .sysctl("net.ipv4.ip_unprivileged_port_start", "0")
    };
    let pods = [
        base().domainname("example"),
        base().pid(PidMode::Pod),
        base().pid(PidMode::Host),
        base().ephemeral(true),
        base().ephemeral(true).pid(PidMode::Pod),
        PodSpec::new("pod")
            .network(NamespaceMode::Host)
            .ipc_namespace(NamespaceMode::Host)
            .uts(NamespaceMode::Host),
        PodSpec::new("pod").network(NamespaceMode::Path("/proc/self/ns/net".into())),
    ];
    for spec in pods {
        let host_ipc = spec.namespaces.ipc == NamespaceMode::Host;
        let with_volumes = !spec.volumes.is_empty();
        let pod = node.create_pod(&spec).unwrap_or_else(|error| panic!("{spec:?}: {error}"));
        if !host_ipc {
            use_ipc(&pod);
        }
        let rootfs = dir.join("rootfs");
        let mut main = tiny::container("main", &rootfs, "pause").stdin(Stdio::Pipe).stdout(Stdio::Pipe);
        if with_volumes {
            main = main
                .mount(Mount::volume("memory", "/memory"))
                .mount(Mount::volume("disk", "/disk").readonly(true));
        }
        let main = pod.create_container(&main).expect("create");
        same_so_far(&before);
        main.start().expect("start");
        let target = PidMode::Target("main".into());
        for spec in [
            tiny::container("second", &rootfs, "exit"),
            tiny::container("second", &rootfs, "exit").user(1000, 1000).umask(0o077),
            tiny::container("second", &rootfs, "exit").pid(target),
            tiny::container("second", &rootfs, "exit")
                .security(Security::default().no_new_privileges(false).capabilities(Capabilities::default())),
        ] {
            let status = pod.run(&spec).unwrap_or_else(|error| panic!("{spec:?}: {error}"));
            assert_eq!(status, ExitStatus::Exited(0));
        }
        main.freeze().expect("freeze");
        main.thaw().expect("thaw");
        same_so_far(&before);
        pod.status().expect("ask for the status");
        pod.explain(main.spec()).expect("explain");
        let _ = pod.namespace_fd(pericarp::NamespaceKind::Network);
        assert!(!main.stop(Duration::ZERO).expect("stop").success());
        main.remove().expect("remove the container");
        node.pods().expect("list the pods");
        node.recover().expect("recover");
        pod.remove().expect("remove the pod");
        same_so_far(&before);
    }
}

fn use_ipc(pod: &pericarp::Pod) {
    let objects: IpcObjects = serde_json::from_str(
        r#"{"shm": [{"name": "ring", "size": 4096}], "mqueues": [{"name": "jobs", "maxMessages": 2, "messageSize": 64}],
            "sysvShm": [{"key": 7, "size": 4096}], "sysvSem": [{"key": 7, "values": [1]}], "sysvMsg": [{"key": 7}]}"#,
    )
    .expect("IPC objects");
    pod.ipc().create(&objects).expect("create IPC objects");
    drop(pod.ipc().open_shm_object("ring", true).expect("open shared memory"));
    pod.ipc().remove_sysv_shm(7).expect("remove shared memory");
    assert_eq!(pod.ipc().list().expect("list IPC objects").mqueues.len(), 1);
}

/// Everything that goes wrong half way.
fn failures(state_dir: &str, dir: &Path) {
    let before = Snapshot::take();
    let node = again::node(state_dir);
    let missing = dir.join("missing");
    let wrong: IpcObjects =
        serde_json::from_str(r#"{"mqueues": [{"name": "jobs", "maxMessages": 4000000000}]}"#)
            .expect("IPC objects");
    for spec in [
        PodSpec::new("Not A Name"),
        PodSpec::new("pod").volume(Volume::directory("disk", &missing)),
        PodSpec::new("pod").network(NamespaceMode::Path(missing.clone())),
        PodSpec::new("pod").ipc_namespace(NamespaceMode::Path("/proc/self/ns/net".into())),
        PodSpec::new("pod").sysctl("net.ipv4.there_is_no_such_thing", "1"),
        PodSpec::new("pod").ipc(wrong),
    ] {
        let error = node.create_pod(&spec).err().unwrap_or_else(|| panic!("{spec:?} was made"));
        assert!(!error.step().is_empty(), "{error}");
        same_so_far(&before);
    }
    for kind in [PidMode::Container, PidMode::Pod] {
        let pod = node.create_pod(&PodSpec::new("pod").pid(kind)).expect("create a pod");
        assert_eq!(node.create_pod(&PodSpec::new("pod")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let rootfs = dir.join("rootfs");
        let good = || tiny::container("bad", &rootfs, "exit");
        for spec in [
            ContainerSpec::new("bad", Rootfs::directory(&missing)).args(["/exit"]),
            ContainerSpec::new("bad", Rootfs::overlay([&missing])).args(["/exit"]),
            good().mount(Mount::bind(&missing, "/mnt")),
            good().mount(Mount::volume("none", "/mnt")),
            // The target is a file and the source a directory: that fails in init, half way.
            good().mount(Mount::bind("/", "/exit")),
            good().pid(PidMode::Target("none".into())),
            good().stdout(Stdio::File(missing.join("below"))),
        ] {
            let error = pod.create_container(&spec).err().unwrap_or_else(|| panic!("{spec:?} was made"));
            assert!(!error.step().is_empty(), "{error}");
            same_so_far(&before);
        }
        let error = pod.run(&tiny::container("bad", &rootfs, "no-such-program")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exec, "{error}");
        same_so_far(&before);
        pod.remove().expect("remove the pod");
        assert_eq!(pod.remove().unwrap_err().kind(), ErrorKind::NotFound);
    }
}

fn every_open_file_of_live_handles_is_closed_on_exec() -> Outcome {
    let fixture = Fixture::new();
    again::run(&["host-descriptors", &again::word(&fixture)]);
    PASS
}

fn descriptors(state_dir: &str) {
    // What whoever started the tests left open.
    let inherited = open_on_exec();
    let node = again::node(state_dir);
    let pod = node.create_pod(&PodSpec::new("pod").pid(PidMode::Pod)).expect("create a pod");
    let ephemeral = node.create_pod(&PodSpec::new("brief").ephemeral(true)).expect("create a pod");
    let piped =
        container_payload("main", &["sleep"]).stdin(Stdio::Pipe).stdout(Stdio::Pipe).stderr(Stdio::Pipe);
    let waiting = pod.create_container(&piped).expect("create");
    let running = ephemeral.create_container(&piped).expect("create");
    running.start().expect("start");
    let opened = pod.container("main").expect("open");
    let network = pod.namespace_fd(pericarp::NamespaceKind::Network).expect("open");
    let shm = pod
        .ipc()
        .create_shm_object(&serde_json::from_str(r#"{"name": "ring", "size": 4096}"#).expect("an object"))
        .expect("create");
    let streams = (waiting.take_stdin(), running.take_stdout());
    assert_eq!(open_on_exec(), inherited, "files of the library stay open through execve");
    drop((network, shm, streams, opened));
    ephemeral.remove().expect("remove");
    pod.remove().expect("remove");
}

fn dropping_every_handle_neither_ends_nor_blocks_anything() -> Outcome {
    let fixture = Fixture::new();
    let pid: i32 = again::run(&["host-leave", &again::word(&fixture), "running"]).trim().parse()?;
    // The program that made it has dropped its handles and has ended; a container is no part of it.
    let pod = fixture.node.open_pod("left")?;
    let container = pod.container("main")?;
    assert_eq!((container.pid(), container.status()?), (pid, ContainerStatus::Running));
    assert!(Path::new("/proc").join(pid.to_string()).exists());
    container.signal(0)?;
    let _ = container.stop(Duration::ZERO);
    assert_eq!(container.processes()?, [0; 0]);
    PASS
}

fn a_frozen_container_holds_up_no_drop() -> Outcome {
    let fixture = Fixture::new();
    again::run(&["host-leave", &again::word(&fixture), "frozen"]);
    let pod = fixture.node.open_pod("left")?;
    assert_eq!(pod.container("main")?.status()?, ContainerStatus::Running);
    pod.remove()?;
    PASS
}

fn a_container_that_was_never_started_ends_with_its_last_handle() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("pod");
    let first = pod.create_container(&container_payload("main", &["sleep"]))?;
    let second = first.clone();
    let opened = pod.container("main")?;
    drop(first);
    // There is one more handle that could start it.
    assert_eq!(opened.status()?, ContainerStatus::Created);
    drop(second);
    // Nobody can start it any more: init hears that from its socket, and ends by itself.
    let ended = again::in_time("the container without handles", move || opened.wait());
    assert_eq!(ended?, ExitStatus::Exited(127));
    PASS
}

/// Starts a container and ends, with all handles dropped one by one before.
fn leave(state_dir: &str, what: &str) {
    let node: Node = again::node(state_dir);
    let pod = node.create_pod(&PodSpec::new("left")).expect("create a pod");
    let spec = ContainerSpec::new("main", rootfs()).args(["/bin/sleep", "1000000"]).stdin(Stdio::Pipe);
    let container = pod.create_container(&spec).expect("create");
    container.start().expect("start");
    if what == "frozen" {
        container.freeze().expect("freeze");
    }
    println!("{}", container.pid());
    let pidfd = nix::unistd::dup(container.pidfd().expect("it runs")).expect("duplicate the descriptor");
    drop(node);
    drop(pod);
    drop(container);
    // It has not ended: its descriptor is not readable.
    let mut poll = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&pidfd), nix::poll::PollFlags::POLLIN)];
    assert_eq!(
        nix::poll::poll(&mut poll, nix::poll::PollTimeout::ZERO).expect("poll"),
        0,
        "the drop ended it"
    );
}
