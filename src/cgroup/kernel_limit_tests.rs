//! Limits against the real kernel: needs root and a mount of cgroup v2. What the machine has no controller for must
//! fail with an error that says so; in a guest with all of cgroup v2 the same tests see the limits applied.

use super::controller::{Controller, ControllerSet};
use super::kernel_tests::{Node, json, read};
use super::*;
use crate::error::{Error, ErrorKind};
use crate::spec::Resources;

/// One limit after the other: what the file holds then, or the error that names the controller.
#[test]
fn every_limit_is_applied_or_refused_by_name() {
    let Some(node) = Node::new() else { return };
    let pod = node.pod();
    let has = |controller| node.tree.controllers().contains(controller);
    for (controller, resources, file, content) in [
        (Controller::Cpu, r#"{"cpu": {"weight": 79}}"#, "cpu.weight", "79"),
        (Controller::Cpu, r#"{"cpu": {"max": {"quota": 50000}}}"#, "cpu.max", "50000 100000"),
        (Controller::Cpu, r#"{"cpu": {"max": {"quota": 1000, "period": 1000}}}"#, "cpu.max", "1000 1000"),
        (
            Controller::Cpu,
            r#"{"cpu": {"max": {"quota": "max", "period": 1000000}}}"#,
            "cpu.max",
            "max 1000000",
        ),
        (
            Controller::Cpu,
            r#"{"cpu": {"max": {"quota": 17592186044415, "period": 1000000}}}"#,
            "cpu.max",
            "17592186044415 1000000",
        ),
        (Controller::Memory, r#"{"memory": {"max": 67108864}}"#, "memory.max", "67108864"),
        (Controller::Memory, r#"{"memory": {"max": "max"}}"#, "memory.max", "max"),
        (Controller::Memory, r#"{"memory": {"high": 4096}}"#, "memory.high", "4096"),
        (Controller::Memory, r#"{"memory": {"low": 33554432}}"#, "memory.low", "33554432"),
        (Controller::Memory, r#"{"memory": {"min": 16777216}}"#, "memory.min", "16777216"),
        (Controller::Memory, r#"{"memory": {"swapMax": 0}}"#, "memory.swap.max", "0"),
        (Controller::Memory, r#"{"memory": {"oomGroup": true}}"#, "memory.oom.group", "1"),
        (Controller::Pids, r#"{"pidsMax": 100}"#, "pids.max", "100"),
        (Controller::Pids, r#"{"pidsMax": 4194304}"#, "pids.max", "4194304"),
        (Controller::Pids, r#"{"pidsMax": "max"}"#, "pids.max", "max"),
        (Controller::Cpuset, r#"{"cpuset": {"cpus": "0"}}"#, "cpuset.cpus", "0"),
        (Controller::Cpuset, r#"{"cpuset": {"mems": "0"}}"#, "cpuset.mems", "0"),
        (Controller::Io, r#"{"io": {"weight": 200}}"#, "io.weight", "default 200"),
    ] {
        validate(&json(resources)).unwrap();
        let result = pod.create_child("web", &json(resources));
        let at_pod = node.tree.create_pod("limited", &json(resources));
        if has(controller) {
            for cgroup in [result.unwrap(), at_pod.unwrap()] {
                assert_eq!(read(&cgroup, file), content, "{resources}");
                cgroup.apply(&json(resources)).unwrap();
                cgroup.remove_tree().unwrap();
            }
            continue;
        }
        for error in [result.unwrap_err(), at_pod.unwrap_err(), pod.apply(&json(resources)).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let text = error.to_string();
            assert!(text.contains(file) && text.contains(&format!("the controller {controller}")), "{text}");
            assert!(text.contains("cgroup.controllers lacks"), "{text}");
        }
        assert_eq!(
            (pod.children().unwrap().len(), node.tree.list().unwrap().len()),
            (0, 1),
            "nothing was made"
        );
    }
}

/// Values that only the machine can judge.
#[test]
fn what_the_kernel_refuses_is_undone_and_named() {
    let Some(node) = Node::new() else { return };
    let refused = |resources: &str| -> Error {
        validate(&json(resources)).unwrap();
        let error = node.tree.create_pod("pod", &json(resources)).unwrap_err();
        assert_eq!(node.tree.list().unwrap(), [""; 0], "{resources}");
        error
    };
    if node.tree.controllers().contains(Controller::Cpuset) {
        for cpus in ["0-1023", "60000"] {
            let error = refused(&format!(r#"{{"cpuset": {{"cpus": "{cpus}"}}}}"#));
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let text = error.to_string();
            let start = format!("write {cpus} to cpuset.cpus of {}/pod: ", node.path.display());
            assert!(text.starts_with(&start), "{text}");
        }
        let text = refused(r#"{"cpuset": {"mems": "0-3"}}"#).to_string();
        assert!(text.starts_with("write 0-3 to cpuset.mems of /"), "{text}");

        // More than the pod has: the kernel takes it and grants less.
        let pod = node.tree.create_pod("pod", &json(r#"{"cpuset": {"cpus": "0"}}"#)).unwrap();
        let error = pod.create_child("web", &json(r#"{"cpuset": {"cpus": "0-1"}}"#)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(pod.children().unwrap(), [""; 0]);
        pod.remove_tree().unwrap();
    }
    if node.tree.controllers().contains(Controller::Io) {
        let error = refused(r#"{"io": {"max": [{"major": 4000, "minor": 7, "rbps": 1}]}}"#);
        assert_eq!((error.kind(), error.errno()), (ErrorKind::NotFound, Some(libc::ENODEV)));
        let text = error.to_string();
        assert!(text.starts_with("write 4000:7 rbps=1 to io.max of /"), "{text}");
    }
}

#[test]
fn containers_have_the_controllers_of_the_tree() {
    let Some(node) = Node::new() else { return };
    let pod = node.pod();
    let web = pod.create_child("web", &Resources::default()).unwrap();
    let controllers = ControllerSet::parse(&read(&web, "cgroup.controllers"));
    assert_eq!(controllers, node.tree.controllers());
    assert_eq!(read(&web, "cgroup.subtree_control"), "");

    // A pod that some other program opens knows the same.
    let opened = node.tree.open_pod("pod").unwrap().unwrap();
    let pids = json(r#"{"pidsMax": 10}"#);
    match opened.create_child("log", &pids) {
        Ok(log) => assert_eq!(read(&log, "pids.max"), "10"),
        Err(error) => assert!(error.to_string().contains("needs the controller pids, which"), "{error}"),
    }
    // Nothing is enabled in a container's cgroup.
    let error = web.create_child("nested", &pids).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
