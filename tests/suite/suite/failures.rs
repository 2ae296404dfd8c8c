//! What fails half-way: the first error is told with its step in words, and nothing is left of what was made.

use std::fs;

use pericarp::spec::{NamespaceMode, PidMode, Upper};
use pericarp::{ContainerSpec, Error, ErrorKind, Mount, PodSpec, Rootfs, Volume};

use crate::errors::belongings;
use crate::support::fixture::{payload, rootfs, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_container_that_fails_late_leaves_nothing,
    a_failed_step_is_a_line_of_the_explanation,
    a_limit_without_its_controller_is_an_error_that_names_it,
    a_program_that_is_missing_leaves_nothing_after_run,
    a_pod_that_fails_late_leaves_nothing_and_its_name_is_free,
    explaining_touches_nothing,
    an_explanation_has_each_step_once_and_in_order,
    a_removed_pod_takes_no_container,
];

/// Containers that fail at a step of init, with a word of that step.
fn failing(fixture: &Fixture) -> Vec<(ContainerSpec, &'static str)> {
    let overlay = |upper: &str, work: &str| Rootfs::Overlay {
        lower: vec!["/".into()],
        upper: Upper::Directory { upper: fixture.path(upper), work: fixture.path(work) },
        readonly: false,
    };
    fs::create_dir_all(fixture.path("upper/work")).expect("make a directory");
    fs::create_dir_all(fixture.path("other")).expect("make a directory");
    fs::write(fixture.path("file"), "").expect("write a file");
    let with = |rootfs| ContainerSpec::new("a", rootfs).args(["/bin/true"]);
    vec![
        // The work directory below the upper one, missing, or a file: overlayfs refuses.
        (with(overlay("upper", "upper/work")), "mount the overlay"),
        (with(overlay("upper", "missing")), "mount the overlay"),
        (with(overlay("upper", "file")), "mount the overlay"),
        (script("a", "").mount(Mount::bind(fixture.path("file"), "/etc")), "/etc"),
        (script("a", "").mount(Mount::bind(fixture.path("other"), "/etc/passwd")), "/etc/passwd"),
        (script("a", "").mount(Mount::tmpfs("/etc/passwd/x", 1 << 16)), "mount a tmpfs on /etc/passwd/x"),
        (
            script("a", "").mount(Mount::tmpfs(format!("/{}", "x".repeat(300)), 1 << 16)),
            "mount a tmpfs on /xxx",
        ),
        (script("a", "").cwd("/etc/passwd"), "working directory"),
    ]
}

fn a_container_that_fails_late_leaves_nothing() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let specs = failing(&fixture);
    let before = belongings(&fixture);
    for (spec, word) in &specs {
        let error = pod.create_container(spec).expect_err(word);
        assert!(error.errno().is_some() && error.step().contains(word), "{word}: {error}");
        assert!(error.to_string().starts_with("create container \"a\" of pod web: "), "{error}");
        assert_eq!(pod.container("a").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(belongings(&fixture), before, "{word}");
    }
    // Nor in a pod with a PID namespace, whose containers fork once more.
    let shared = fixture.node.create_pod(&PodSpec::new("shared").pid(PidMode::Pod))?;
    let before = belongings(&fixture);
    for (spec, word) in &specs {
        shared.create_container(spec).expect_err(word);
    }
    assert_eq!(belongings(&fixture), before);
    // The name is free.
    assert!(pod.run(&script("a", "true"))?.success());
    PASS
}

fn a_failed_step_is_a_line_of_the_explanation() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    for (spec, word) in failing(&fixture) {
        let explanation = pod.explain(&spec)?.to_string();
        let error = pod.create_container(&spec).expect_err(word);
        let told = explanation.lines().filter(|line| line.trim_start().ends_with(error.step())).count();
        assert_eq!(told, 1, "{:?} in {explanation}", error.step());
    }
    // Also the last step, which fails at the start.
    let spec = ContainerSpec::new("a", rootfs()).args(["/no/such/program", "x"]);
    let explanation = pod.explain(&spec)?.to_string();
    let error = pod.run(&spec).unwrap_err();
    assert!(explanation.trim_end().ends_with(error.step()), "{:?} in {explanation}", error.step());
    PASS
}

fn a_limit_without_its_controller_is_an_error_that_names_it() -> Outcome {
    let fixture = Fixture::new();
    // The journal would say that there were containers.
    let pod = fixture.node.create_pod(&PodSpec::new("web").journal(false))?;
    type Set = fn(&mut pericarp::Resources);
    let limits: [(&str, Set); 5] = [
        ("cpu", |resources| resources.cpu.weight = Some(50)),
        ("memory", |resources| resources.memory.max = Some((64 << 20).into())),
        ("pids", |resources| resources.pids_max = Some(50.into())),
        ("cpuset", |resources| resources.cpuset.cpus = Some("0".into())),
        ("io", |resources| resources.io.weight = Some(50)),
    ];
    let there = fixture.node.controllers();
    for (controller, set) in limits {
        let mut spec = script("a", "true");
        set(&mut spec.resources);
        let before = belongings(&fixture);
        match pod.run(&spec) {
            // A controller may be there without this file of it (io.weight needs a scheduler).
            Ok(status) => {
                assert!(status.success() && there.iter().any(|name| name == controller), "{controller}")
            }
            Err(error) => {
                check_unsupported(&error, controller);
                assert!(controller == "io" || !there.iter().any(|name| name == controller), "{error}");
            }
        }
        assert_eq!(belongings(&fixture), before, "{controller}");
    }
    PASS
}

fn check_unsupported(error: &Error, controller: &str) {
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains(controller), "{controller}: {error}");
}

fn a_program_that_is_missing_leaves_nothing_after_run() -> Outcome {
    let fixture = Fixture::new();
    // The journal would say that there was a container.
    let pod = fixture.node.create_pod(&PodSpec::new("web").journal(false))?;
    let before = belongings(&fixture);
    let error = pod.run(&ContainerSpec::new("a", rootfs()).args(["/no/such/program"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exec);
    assert!(error.to_string().contains("execute \"/no/such/program\""), "{error}");
    assert_eq!(belongings(&fixture), before);
    PASS
}

fn a_pod_that_fails_late_leaves_nothing_and_its_name_is_free() -> Outcome {
    let fixture = Fixture::new();
    // The directory of the namespace's names stays, once there was a name in it.
    fixture.pod("first");
    let before = belongings(&fixture);
    let missing = fixture.path("missing");
    let base = || PodSpec::new("web").volume(Volume::tmpfs("first", 1 << 16));
    for (spec, word) in [
        (base().volume(Volume::directory("d", &missing)), missing.display().to_string()),
        (base().volume(Volume::directory("d", "/etc/passwd")), "/etc/passwd".into()),
        (base().network(NamespaceMode::Path(missing.clone())), missing.display().to_string()),
        (base().network(NamespaceMode::Path("/proc/self/ns/uts".into())), "network".into()),
        (base().ipc_namespace(NamespaceMode::Path("/etc/passwd".into())), "/etc/passwd".into()),
        (base().sysctl("net.ipv4.no_such_parameter", "1"), "no_such_parameter".into()),
        (base().sysctl("net.ipv4.ip_forward", "no number").pid(PidMode::Pod), "ip_forward".into()),
    ] {
        let error = fixture.node.create_pod(&spec).expect_err(&word);
        assert!(error.to_string().contains(&word), "{word}: {error}");
        assert!(error.to_string().starts_with("create pod default/web: "), "{error}");
        assert_eq!(belongings(&fixture), before, "{word}");
    }
    assert_eq!(fixture.node.pods()?.len(), 1);
    fixture.pod("web");
    PASS
}

fn explaining_touches_nothing() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").volume(Volume::tmpfs("v", 1 << 16)))?;
    let before = belongings(&fixture);
    // None of these paths exists: nobody asked.
    let missing = fixture.path("missing");
    let spec = ContainerSpec::new("a", Rootfs::directory(&missing))
        .args(["/no/program"])
        .mount(Mount::bind(missing.join("source"), "/m"))
        .mount(Mount::volume("v", "/v"))
        .stdout(pericarp::Stdio::File(missing.join("log")));
    let explanation = pod.explain(&spec)?.to_string();
    for word in ["missing", "/m", "volume \"v\"", "standard output", "execute \"/no/program\""] {
        assert!(explanation.contains(word), "{word} in {explanation}");
    }
    assert_eq!(explanation, pod.explain(&spec)?.to_string());
    assert_eq!(belongings(&fixture), before);
    assert!(!missing.exists() && pod.containers()?.is_empty());
    // It can be had for a container that exists, too.
    pod.create_container(&payload("a", &["sleep"]))?;
    pod.explain(&payload("a", &["sleep"]))?;
    PASS
}

fn an_explanation_has_each_step_once_and_in_order() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = script("a", "true").cwd("/work").user(1000, 1000).mount(Mount::tmpfs("/t", 1 << 16));
    let explanation = pod.explain(&spec)?.to_string();
    let steps = [
        "join the network namespace",
        "join the IPC namespace",
        "join the UTS namespace",
        "make a cgroup namespace",
        "make a session",
        "mount the overlay",
        "mount proc on /proc",
        "mount sysfs on /sys",
        "mount cgroup2 on /sys/fs/cgroup",
        "mount a tmpfs on /dev",
        "make the device node /dev/null, 1:3",
        "mount devpts on /dev/pts",
        "mount the pod's shm on /dev/shm",
        "mount the pod's mqueue on /dev/mqueue",
        "mount a tmpfs on /t",
        "mask /proc/kcore",
        "make /proc/sys read-only",
        "make the directory /work",
        "pivot into the root filesystem",
        "become user 1000, group 1000",
        "give up new privileges",
        "change the working directory to /work",
        "wait for the start",
        "load the system call filter",
        "execute \"/bin/sh\"",
    ];
    let (_, init) = explanation.split_once("done by init:").expect("two parts");
    let mut rest = init;
    for step in steps {
        let lines = init.lines().filter(|line| {
            let text = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
            text == step || text.starts_with(&format!("{step}, ")) || text.starts_with(&format!("{step} ("))
        });
        assert_eq!(lines.count(), 1, "{step:?} in {explanation}");
        let Some((_, after)) = rest.split_once(step) else {
            panic!("{step:?} comes too early in {explanation}")
        };
        rest = after;
    }
    PASS
}

fn a_removed_pod_takes_no_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    pod.remove()?;
    let before = belongings(&fixture);
    let error = pod.create_container(&script("a", "true")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(pod.remove().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(pod.containers().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(belongings(&fixture), before);
    PASS
}
