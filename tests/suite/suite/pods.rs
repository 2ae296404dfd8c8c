//! Pods as things: their ids and names, what is remembered of them, and how they go.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pericarp::spec::IpcObjects;
use pericarp::{
    CgroupParent, ContainerStatus, Error, ErrorKind, ExitStatus, NamespaceKind, Node, NodeOptions, PodSpec,
    Volume,
};

use crate::support::fixture::{payload, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    an_id_is_a_random_uuid_that_never_comes_again,
    a_name_is_unique_in_its_namespace_and_free_after_removal,
    what_was_asked_for_is_kept_to_the_letter,
    a_pod_is_found_by_its_id_its_name_and_its_namespace,
    a_pod_may_be_named_like_an_id,
    a_removed_pod_is_not_found_by_any_handle,
    removal_ends_all_containers_and_takes_every_trace,
    of_eight_threads_exactly_one_makes_a_pod_of_a_name,
    a_reader_never_sees_half_a_pod,
    corrupt_state_is_told_with_its_file_and_recovered,
    a_state_directory_that_others_can_write_to_is_refused,
    a_node_is_not_removed_while_it_has_pods,
];

fn an_id_is_a_random_uuid_that_never_comes_again() -> Outcome {
    let fixture = Fixture::new();
    let mut ids = BTreeSet::new();
    for _ in 0..10 {
        let pod = fixture.pod("web");
        let id = pod.id().to_string();
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
        assert!(id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-')), "{id}");
        // Version 4, the variant of RFC 9562.
        assert_eq!(&id[14..15], "4", "{id}");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
        pod.remove()?;
        assert_eq!(fixture.node.open_pod(&id).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(ids.insert(id), "an id came twice");
    }
    PASS
}

fn a_name_is_unique_in_its_namespace_and_free_after_removal() -> Outcome {
    let fixture = Fixture::new();
    let first = fixture.pod("web");
    let error = fixture.node.create_pod(&PodSpec::new("web")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("default/web"), "{error}");
    // The refused pod took nothing from the one that is there, and left nothing.
    assert_eq!(cgroups(&first), [first.id().to_string()].into());
    assert!(first.run(&script("a", "true"))?.success());

    let elsewhere = fixture.node.create_pod(&PodSpec::new("web").namespace("shop"))?;
    assert_ne!(elsewhere.id(), first.id());
    let second_handle = fixture.reopen();
    assert_eq!(second_handle.create_pod(&PodSpec::new("web")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    first.remove()?;
    let again = second_handle.create_pod(&PodSpec::new("web"))?;
    assert_ne!(again.id(), first.id());
    assert_eq!(fixture.node.open_pod("web")?.id(), again.id());
    assert_eq!(fixture.node.open_pod("shop/web")?.id(), elsewhere.id());
    // The handle of the first pod of that name does not mean the second one.
    assert_eq!(first.remove().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fixture.node.open_pod("web")?.id(), again.id());
    PASS
}

fn what_was_asked_for_is_kept_to_the_letter() -> Outcome {
    let fixture = Fixture::new();
    let odd = "line one\nline two \"quoted\" \\ \u{1f331} \u{7f}";
    let spec = PodSpec::new("web.shop-1")
        .namespace("team-a")
        .label("app", "shop")
        .label("empty", "")
        .label("kubernetes.io/ключ", odd)
        .annotation("note", odd.repeat(1000))
        .hostname("Web-1.shop")
        .domainname("shop.example")
        .hostname_files(true)
        .sysctl("net.ipv4.ip_unprivileged_port_start", "0")
        .shm_size(1 << 20)
        .volume(Volume::tmpfs("scratch", 1 << 20));
    let before = std::time::SystemTime::now();
    let made = fixture.node.create_pod(&spec)?;
    let opened = fixture.reopen().open_pod("team-a/web.shop-1")?;
    for pod in [&made, &opened] {
        assert_eq!(*pod.spec(), spec);
        assert_eq!(
            (pod.id(), pod.name(), pod.namespace(), pod.created_at()),
            (made.id(), "web.shop-1", "team-a", made.created_at())
        );
        assert!(pod.created_at() >= before && pod.created_at() <= std::time::SystemTime::now());
    }
    let container =
        script("a", "true").label("tier", "front").annotation("note", odd).env("KEY", "=\n").args(["true"]);
    made.create_container(&container)?;
    assert_eq!(*opened.container("a")?.spec(), container);
    PASS
}

fn a_pod_is_found_by_its_id_its_name_and_its_namespace() -> Outcome {
    let fixture = Fixture::new();
    let here = fixture.pod("web");
    let there = fixture.node.create_pod(&PodSpec::new("web").namespace("shop"))?;
    for (words, pod) in [
        (here.id(), &here),
        ("web", &here),
        ("default/web", &here),
        (there.id(), &there),
        ("shop/web", &there),
    ] {
        assert_eq!(fixture.node.open_pod(words)?.id(), pod.id(), "{words}");
    }
    let ids: BTreeSet<String> = fixture.node.pods()?.iter().map(|pod| pod.id().to_string()).collect();
    assert_eq!(ids, [here.id().to_string(), there.id().to_string()].into());
    let upper = here.id().to_uppercase();
    let up = format!("../pods/{}", here.id());
    for words in [
        "",
        "/",
        "shop",
        "none",
        "none/web",
        "default/",
        "/web",
        "shop/web/",
        "default/shop/web",
        "..",
        "../lock",
        ".",
        "shop/..",
        "web\0",
        "WEB",
        "0a6c1f5e-26a4-4b0f-9d3c-0d9d8a3a1b4c",
        &upper,
        &up,
        &"x".repeat(5000),
    ] {
        let error = fixture.node.open_pod(words).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{words:?}: {error}");
    }
    PASS
}

/// A UUID is a valid DNS label, and some users name their pods by UUIDs of their own.
fn a_pod_may_be_named_like_an_id() -> Outcome {
    let fixture = Fixture::new();
    for name in ["0a6c1f5e-26a4-4b0f-9d3c-0d9d8a3a1b4c", "0a6c1f5e26a44b0f9d3c0d9d8a3a1b4c"] {
        let pod = fixture.pod(name);
        assert_eq!(fixture.node.open_pod(name)?.id(), pod.id());
        assert_eq!(fixture.node.open_pod(pod.id())?.id(), pod.id());
    }
    // An id means the pod that has it, whatever another one calls itself.
    let victim = fixture.pod("victim");
    let impostor = fixture.pod(victim.id());
    assert_eq!(fixture.node.open_pod(victim.id())?.id(), victim.id());
    assert_eq!(fixture.node.open_pod(&format!("default/{}", victim.id()))?.id(), impostor.id());
    PASS
}

fn a_removed_pod_is_not_found_by_any_handle() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let (clone, opened) = (pod.clone(), fixture.reopen().open_pod("web")?);
    let running = pod.create_container(&payload("running", &["sleep"]))?;
    running.start()?;
    let waiting = pod.create_container(&payload("waiting", &["sleep"]))?;
    opened.remove()?;
    for handle in [&pod, &clone, &opened] {
        let results: Vec<(&str, Result<(), Error>)> = vec![
            ("remove", handle.remove()),
            ("create_container", handle.create_container(&script("a", "true")).map(drop)),
            ("run", handle.run(&script("a", "true")).map(drop)),
            ("container", handle.container("running").map(drop)),
            ("containers", handle.containers().map(drop)),
            ("status", handle.status().map(drop)),
            ("stop", handle.stop(Duration::ZERO)),
            ("freeze", handle.freeze()),
            ("thaw", handle.thaw()),
            ("namespace_fd", handle.namespace_fd(NamespaceKind::Network).map(drop)),
            ("namespace_inode", handle.namespace_inode(NamespaceKind::Uts).map(drop)),
            ("list", handle.ipc().list().map(drop)),
            ("create", handle.ipc().create(&IpcObjects::default())),
        ];
        for (call, result) in results {
            let error = result.expect_err(call);
            assert_eq!(error.kind(), ErrorKind::NotFound, "{call}: {error}");
        }
    }
    // A container ended with its pod, and whoever has its handle can still ask how.
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    assert_eq!(running.wait()?, killed);
    assert_eq!(running.status()?, ContainerStatus::Exited(Some(killed)));
    assert_eq!(running.signal(libc::SIGTERM).unwrap_err().kind(), ErrorKind::WrongState);
    assert_eq!(waiting.start().unwrap_err().kind(), ErrorKind::WrongState);
    assert_eq!(running.remove().unwrap_err().kind(), ErrorKind::NotFound);
    PASS
}

fn removal_ends_all_containers_and_takes_every_trace() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // One that does not listen to SIGTERM and has children, one that never started, one that has ended.
    let stubborn = pod.create_container(
        &script("stubborn", "trap '' TERM; sleep 1000 & sleep 1000 & echo up; wait; wait")
            .stdout(pericarp::Stdio::Pipe),
    )?;
    let mut out = stubborn.take_stdout().expect("a pipe");
    stubborn.start()?;
    let mut up = [0; 3];
    std::io::Read::read_exact(&mut out, &mut up)?;
    let waiting = pod.create_container(&payload("waiting", &["sleep"]))?;
    let ended = pod.create_container(&script("ended", "exit 3"))?;
    ended.start()?;
    ended.wait()?;
    let pids: Vec<i32> = stubborn.processes()?.into_iter().chain([waiting.pid()]).collect();
    assert_eq!(pids.len(), 4);
    let (cgroup, state) = (pod.cgroup_path(), fixture.options.state_dir.join("pods").join(pod.id()));
    assert!(cgroup.exists() && state.exists());

    pod.remove()?;
    for pid in pids {
        let alive = fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| !status.contains("State:\tZ") && !status.contains("State:\tX"));
        assert!(!alive, "process {pid} is still there");
    }
    // Own children are not left as zombies.
    for container in [&stubborn, &waiting] {
        assert!(!fs::exists(format!("/proc/{}", container.pid()))?, "a zombie is left");
    }
    assert_eq!(stubborn.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
    assert_eq!(ended.wait()?, ExitStatus::Exited(3));
    assert!(!cgroup.exists(), "{} is left", cgroup.display());
    for (dir, left) in names_below(&fixture) {
        assert!(left.is_empty(), "{dir} still has {left:?}");
    }
    assert!(fixture.node.pods()?.is_empty());
    let recovery = fixture.node.recover()?;
    assert_eq!(recovery, Default::default(), "there was something to recover");
    PASS
}

fn of_eight_threads_exactly_one_makes_a_pod_of_a_name() -> Outcome {
    let fixture = Fixture::new();
    // Threads with a handle of their own do what different programs would do.
    let nodes: Vec<Node> =
        (0..8).map(|i| if i % 2 == 0 { fixture.node.clone() } else { fixture.reopen() }).collect();
    for round in 0..5 {
        let start = Barrier::new(nodes.len());
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = nodes
                .iter()
                .map(|node| {
                    scope.spawn(|| {
                        start.wait();
                        node.create_pod(&PodSpec::new("web"))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "round {round}: {lost:?}");
        for error in lost.into_iter().map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        }
        let winner = won.into_iter().next().expect("one")?;
        assert_eq!(fixture.node.open_pod("web")?.id(), winner.id());
        assert_eq!(fixture.node.pods()?.len(), 1);
        assert_eq!(cgroups(&winner), [winner.id().to_string()].into());
        assert!(winner.run(&script("a", "true"))?.success());
        winner.remove()?;
    }
    assert_eq!(fixture.node.recover()?, Default::default(), "the losers left something");
    PASS
}

/// Pods come and go while others look: what they get is whole, or is not there.
fn a_reader_never_sees_half_a_pod() -> Outcome {
    let fixture = Fixture::new();
    let spec = PodSpec::new("web").label("app", "shop").volume(Volume::tmpfs("scratch", 4096));
    let done = AtomicBool::new(false);
    let rounds = if std::env::var_os("PERICARP_VM").is_some() { 30 } else { 150 };
    let look = |node: Node| -> Result<(u32, u32), Error> {
        let (mut seen, mut missed) = (0, 0);
        let gone = |error: &Error| error.kind() == ErrorKind::NotFound;
        while !done.load(Ordering::Relaxed) {
            // A list has no reason to fail: a pod that goes meanwhile is not in it.
            for pod in node.pods()? {
                assert_eq!(*pod.spec(), spec);
                match pod.status() {
                    Err(error) if gone(&error) => {}
                    status => drop(status?),
                }
            }
            match node.open_pod("web") {
                Err(error) if gone(&error) => missed += 1,
                pod => {
                    assert_eq!(*pod?.spec(), spec);
                    seen += 1;
                }
            }
        }
        Ok((seen, missed))
    };
    std::thread::scope(|scope| -> Outcome {
        let readers: Vec<_> =
            [fixture.reopen(), fixture.node.clone()].map(|node| scope.spawn(|| look(node))).into();
        let write = || -> Result<(), Error> {
            for round in 0..rounds {
                let pod = fixture.node.create_pod(&spec)?;
                if round % 10 == 0 {
                    pod.create_container(&payload("a", &["sleep"]))?.start()?;
                }
                pod.remove()?;
            }
            Ok(())
        };
        let written = write();
        done.store(true, Ordering::Relaxed);
        let mut total = (0, 0);
        for reader in readers {
            let (seen, missed) = reader.join().expect("a reader")?;
            total = (total.0 + seen, total.1 + missed);
        }
        written?;
        assert!(total.0 > 0 && total.1 > 0, "the readers looked at no change: {total:?}");
        PASS
    })
}

fn corrupt_state_is_told_with_its_file_and_recovered() -> Outcome {
    let fixture = Fixture::new();
    let good = fixture.pod("good");
    let whole =
        fs::read_to_string(fixture.options.state_dir.join("pods").join(good.id()).join("state.json"))?;
    for (what, content) in [
        ("nothing", String::new()),
        ("half of it", whole[..whole.len() / 2].to_string()),
        ("no JSON", "\u{0}garbage".to_string()),
        ("another type", "[]".to_string()),
        ("a field too many", whole.replacen('{', "{\"surprise\":1,", 1)),
        ("a wrong type", whole.replacen("\"createdAt\":", "\"createdAt\":-", 1)),
        ("a later version", whole.replacen("\"version\":2", "\"version\":3", 1)),
        ("deep nesting", "[".repeat(1 << 20)),
        ("another pod's", whole.clone()),
    ] {
        assert!(content != whole || what == "another pod's", "{what}: the text was not changed");
        let pod = fixture.pod("bad");
        let container = pod.create_container(&payload("a", &["sleep"]))?;
        container.start()?;
        let file = fixture.options.state_dir.join("pods").join(pod.id()).join("state.json");
        let own = fs::read_to_string(&file)?;
        fs::write(&file, &content)?;
        for error in [
            fixture.node.open_pod("bad").map(drop),
            fixture.node.open_pod(pod.id()).map(drop),
            fixture.node.pods().map(drop),
        ]
        .map(Result::unwrap_err)
        {
            assert_eq!(error.kind(), ErrorKind::CorruptState, "{what}: {error}");
            let text = error.to_string();
            assert!(text.contains("state.json") && text.contains(pod.id()), "{what}: {text}");
        }
        assert_eq!(fixture.node.open_pod("good")?.id(), good.id(), "other pods are not concerned");
        if what == "a later version" {
            // A newer library may be at work there: what is to be done with such a pod is its business.
            let recovery = fixture.node.recover()?;
            assert_eq!((recovery.foreign, recovery.removed), (vec![pod.id().to_string()], vec![]));
            fs::write(&file, own)?;
            fixture.node.open_pod("bad")?.remove()?;
            continue;
        }
        // Recovery ends what nobody can manage any more.
        let recovery = fixture.node.recover()?;
        assert_eq!(recovery.removed, [pod.id()], "{what}");
        assert_eq!(recovery.adopted, [good.id()], "{what}");
        assert_eq!(container.wait()?, ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
        assert!(!pod.cgroup_path().exists(), "{what}");
        assert_eq!(fixture.node.pods()?.len(), 1);
    }
    PASS
}

fn a_state_directory_that_others_can_write_to_is_refused() -> Outcome {
    let fixture = Fixture::new();
    let open = |path: &std::path::Path| {
        let name = fixture.options.state_dir.file_name().expect("a name").to_string_lossy().into_owned();
        Node::open(&NodeOptions::new().state_dir(path).cgroup_parent(CgroupParent::Named(name))).map(drop)
    };
    let dir = fixture.path("state");
    fs::create_dir(&dir)?;
    for mode in [0o777, 0o1777, 0o770, 0o702, 0o720] {
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode))?;
        let error = open(&dir).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptState, "{mode:o}: {error}");
        assert!(error.to_string().contains(&*dir.to_string_lossy()), "{error}");
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
    chown(&dir, Some(1000), Some(1000))?;
    assert_eq!(open(&dir).unwrap_err().kind(), ErrorKind::CorruptState);
    chown(&dir, Some(0), Some(0))?;
    // Nothing was put there, and nobody is led elsewhere by a link.
    assert_eq!(fs::read_dir(&dir)?.count(), 0);
    let link = fixture.path("link");
    symlink(&dir, &link)?;
    assert!(open(&link).is_err(), "a symbolic link was followed");
    assert_eq!(fs::read_dir(&dir)?.count(), 0);
    assert_eq!(open("relative".as_ref()).unwrap_err().kind(), ErrorKind::InvalidSpec);
    fs::write(fixture.path("file"), "")?;
    assert!(open(&fixture.path("file")).is_err(), "a file was taken for a directory");
    // What the library makes itself is for root alone.
    for entry in [&fixture.options.state_dir, &fixture.options.state_dir.join("pods")] {
        let mode = fs::metadata(entry)?.permissions().mode();
        assert_eq!(mode & 0o022, 0, "{} has mode {mode:o}", entry.display());
    }
    PASS
}

fn a_node_is_not_removed_while_it_has_pods() -> Outcome {
    let mut fixture = Fixture::new();
    for spec in [PodSpec::new("kept"), PodSpec::new("short").ephemeral(true)] {
        let pod = fixture.node.create_pod(&spec)?;
        let container = pod.create_container(&payload("a", &["sleep"]))?;
        container.start()?;
        for node in [&fixture.node, &fixture.reopen()] {
            let error = node.remove().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongState, "{error}");
            assert!(error.to_string().contains(pod.id()), "{error}");
        }
        // A refusal changes nothing: the pod is there, found, and works.
        assert_eq!(container.status()?, ContainerStatus::Running);
        assert_eq!(fixture.node.open_pod(pod.name())?.id(), pod.id());
        assert_eq!(fixture.node.pods()?.len(), 1);
        assert_eq!(say(&pod, script("b", "echo works")), "works\n");
        assert_eq!(fixture.node.create_pod(&spec).unwrap_err().kind(), ErrorKind::AlreadyExists);
        pod.remove()?;
    }
    fixture.node.remove()?;
    assert!(!fixture.options.state_dir.exists());
    // And it can be opened anew, by the same program.
    let again = fixture.reopen();
    let pod = again.create_pod(&PodSpec::new("web"))?;
    assert!(pod.run(&script("a", "true"))?.success());
    pod.remove()?;
    again.remove()?;
    // The fixture removes a node at its end.
    fixture.node = fixture.reopen();
    PASS
}

/// The directories of the node's cgroup.
fn cgroups(pod: &pericarp::Pod) -> BTreeSet<String> {
    let path = pod.cgroup_path();
    let parent = path.parent().expect("a parent");
    let entries = fs::read_dir(parent).expect("read the cgroup").flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// What is in each directory of the state directory that belongs to pods. `names` keeps its namespaces.
fn names_below(fixture: &Fixture) -> Vec<(String, Vec<String>)> {
    ["new", "pods", "garbage", "names/default"]
        .into_iter()
        .map(|dir| {
            let path = fixture.options.state_dir.join(dir);
            let entries = fs::read_dir(path).expect("read a state directory").flatten();
            (dir.to_string(), entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        })
        .collect()
}
