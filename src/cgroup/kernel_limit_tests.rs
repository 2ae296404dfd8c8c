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
        (Controller::Cpu, r#"{"cpu": {"idle": true}}"#, "cpu.idle", "1"),
        (Controller::Cpu, r#"{"cpu": {"idle": false}}"#, "cpu.idle", "0"),
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
                cgroup.update(&json(resources)).unwrap();
                cgroup.remove_tree().unwrap();
            }
            continue;
        }
        for error in [result.unwrap_err(), at_pod.unwrap_err(), pod.update(&json(resources)).unwrap_err()] {
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

/// The first disk of the machine.
fn a_disk() -> Option<String> {
    let disks = std::fs::read_dir("/sys/block").ok()?.flatten();
    let mut names: Vec<_> = disks.map(|disk| disk.file_name().into_string().unwrap()).collect();
    names.retain(|name| ["vd", "sd", "nvme", "nullb"].iter().any(|kind| name.starts_with(kind)));
    names.sort();
    Some(std::fs::read_to_string(format!("/sys/block/{}/dev", names.first()?)).unwrap().trim().to_string())
}

/// Limits that need more than a number: a quota to save up, a device of the machine.
#[test]
fn limits_that_depend_on_others_are_applied_or_refused_by_name() {
    let Some(node) = Node::new() else { return };
    let pod = node.pod();
    let has = |controller| node.tree.controllers().contains(controller);
    let disk = a_disk().unwrap_or_else(|| "8:0".to_string());
    let (major, minor) = disk.split_once(':').unwrap();
    let io =
        |what: &str| format!(r#"{{"io": {{"{what}": [{{"major": {major}, "minor": {minor}, LIMIT}}]}}}}"#);
    let max = io("max").replace("LIMIT", r#""rbps": 1048576, "wbps": "max", "riops": 7, "wiops": 9"#);
    let latency = io("latency").replace("LIMIT", r#""target": 2000"#);
    let burst = r#"{"cpu": {"max": {"quota": 50000}, "burst": 20000}}"#.to_string();
    for (controller, resources, file, content) in [
        (Controller::Cpu, burst, "cpu.max.burst", "20000".to_string()),
        (Controller::Io, max, "io.max", format!("{disk} rbps=1048576 wbps=max riops=7 wiops=9")),
        (Controller::Io, latency, "io.latency", format!("{disk} target=2000")),
    ] {
        validate(&json(&resources)).unwrap();
        match pod.create_child("web", &json(&resources)) {
            Ok(cgroup) => {
                assert!(has(controller));
                assert_eq!(read(&cgroup, file), content, "{resources}");
                cgroup.remove_tree().unwrap();
            }
            // Not every kernel has each way to limit devices, and not every machine a disk.
            Err(error) if has(controller) && controller == Controller::Io => {
                let text = error.to_string();
                assert!(text.contains(file), "{text}");
                assert!(text.contains("CONFIG_BLK_CGROUP_IO") || a_disk().is_none(), "{text}");
            }
            Err(error) => {
                assert!(!has(controller), "{error}");
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                let text = error.to_string();
                assert!(text.contains(&format!("the controller {controller}")), "{text}");
                // Burst is written after the quota, which is refused first.
                assert!(text.contains(file) || file == "cpu.max.burst" && text.contains("cpu.max"), "{text}");
            }
        }
        assert_eq!(pod.children().unwrap(), [""; 0], "nothing was made, or all was removed");
    }
    // No machine has that adapter.
    let rdma = r#"{"rdma": {"no-such-adapter": {"hcaHandles": 2}}}"#;
    validate(&json(rdma)).unwrap();
    let error = pod.create_child("web", &json(rdma)).unwrap_err();
    let text = error.to_string();
    if node.tree.optional().contains(&"rdma") {
        assert!(text.starts_with("write no-such-adapter hca_handle=2 to rdma.max of /"), "{text}");
    } else {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(text.contains("rdma.max") && text.contains("the controller rdma"), "{text}");
    }
    assert_eq!(pod.children().unwrap(), [""; 0]);
}

/// Controllers that are enabled for those who ask, on the way down to them and nowhere else.
#[test]
fn optional_controllers_are_enabled_on_demand() {
    let Some(node) = Node::new() else { return };
    let huge = json(r#"{"hugetlb": {"2MB": 4194304}}"#);
    let pod = node.pod();
    assert!(!read(&pod, "cgroup.controllers").contains("hugetlb"));
    if !node.tree.optional().contains(&"hugetlb") {
        let error = pod.create_child("web", &huge).unwrap_err().to_string();
        assert!(error.contains("hugetlb.2MB.max") && error.contains("the controller hugetlb"), "{error}");
        eprintln!("SKIPPED: no controller hugetlb");
        return;
    }
    let web = pod.create_child("web", &huge).unwrap();
    assert_eq!(read(&web, "hugetlb.2MB.max"), "4194304");
    assert_eq!(read(&web, "hugetlb.2MB.rsvd.max"), "4194304");
    let opened = node.tree.open_pod("pod").unwrap().unwrap();
    opened.open_child("web").unwrap().unwrap().update(&json(r#"{"hugetlb": {"2MB": "max"}}"#)).unwrap();
    assert_eq!(read(&web, "hugetlb.2MB.max"), "max");
    assert_eq!(read(&web, "hugetlb.2MB.rsvd.max"), "max");
    let error = pod.create_child("log", &json(r#"{"hugetlb": {"3MB": 0}}"#)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(pod.children().unwrap(), ["web"], "what was refused was not made");
}

#[test]
fn an_update_is_all_or_nothing() {
    let Some(node) = Node::new() else { return };
    let web = node.pod().create_child("web", &json(r#"{"unified": {"cgroup.max.depth": "7"}}"#)).unwrap();
    web.update(&json(r#"{"unified": {"cgroup.max.depth": "5"}}"#)).unwrap();
    assert_eq!(read(&web, "cgroup.max.depth"), "5");
    // Refused after the first was written.
    let both = r#"{"unified": {"cgroup.max.depth": "3", "cgroup.max.descendants": "many"}}"#;
    let error = web.update(&json(both)).unwrap_err();
    assert!(error.to_string().contains("write many to cgroup.max.descendants"), "{error}");
    assert_eq!(read(&web, "cgroup.max.depth"), "5");
    assert_eq!(read(&web, "cgroup.max.descendants"), "max");
    if node.tree.controllers().contains(Controller::Memory) {
        web.update(&json(r#"{"memory": {"max": 67108864}}"#)).unwrap();
        let refused = r#"{"memory": {"max": 33554432}, "unified": {"memory.none": "1"}}"#;
        let error = web.update(&json(refused)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(read(&web, "memory.max"), "67108864");
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
