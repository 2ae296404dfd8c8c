//! Whole configurations, and each field that is converted or refused.

use super::*;
use crate::spec::{
    CgroupNamespace, DeviceRuleKind, Limit, MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode, MountKind,
    MountNamespace, NamespaceMode, PidMode, Propagation, Resources, Rootfs, SeccompProfile, TimeNamespace,
    UserMode,
};

/// What `runc spec` writes, shortened, with places to put something.
fn config(process: &str, linux: &str, more: &str) -> String {
    format!(
        r#"{{"ociVersion": "1.2.0", "root": {{"path": "/srv/root", "readonly": true}}, "hostname": "box",
        "process": {{"user": {{"uid": 1000, "gid": 100, "additionalGids": [5]}}, "args": ["sh", "-c", "true"],
            "env": ["PATH=/bin", "TERM=xterm", "PATH=/usr/bin"], "cwd": "/work" {process}}},
        "mounts": [{{"destination": "/proc", "type": "proc", "source": "proc"}},
            {{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]}}],
        "linux": {{"namespaces": [{{"type": "pid"}}, {{"type": "network"}}, {{"type": "ipc"}}, {{"type": "uts"}},
            {{"type": "mount"}}, {{"type": "cgroup"}}] {linux}}} {more}}}"#
    )
}

fn container(process: &str, linux: &str, more: &str) -> Result<ContainerSpec> {
    ContainerSpec::from_oci(&parse(&config(process, linux, more))?)
}

fn pod(linux: &str, more: &str) -> Result<PodSpec> {
    PodSpec::from_oci("web", &parse(&config("", linux, more))?)
}

fn resources(text: &str) -> Result<Resources> {
    container("", &format!(r#", "resources": {{{text}}}"#), "").map(|spec| spec.resources)
}

#[test]
fn a_usual_configuration_becomes_a_pod_and_a_container() {
    let spec = container("", "", "").unwrap();
    assert_eq!(spec.rootfs, Rootfs::directory("/srv/root").readonly());
    assert_eq!(spec.args, ["sh", "-c", "true"]);
    assert_eq!(spec.env["PATH"], "/usr/bin", "the last one counts");
    assert_eq!((spec.user.uid, spec.user.gid, &*spec.user.additional_gids), (1000, 100, &[5][..]));
    assert_eq!(spec.cwd, Path::new("/work"));
    assert!(!spec.default_mounts && spec.mounts.len() == 2);
    assert_eq!(spec.mounts[0].kind, MountKind::Proc);
    assert_eq!(spec.pid, Some(PidMode::Container));
    assert_eq!(spec.cgroup_namespace, CgroupNamespace::Container);
    // Nothing of the library's own defaults.
    assert_eq!(spec.security.seccomp, SeccompProfile::Unconfined);
    assert!(spec.security.masked_paths.is_empty() && spec.security.readonly_paths.is_empty());
    assert!(!spec.security.no_new_privileges);
    assert_eq!(spec.security.capabilities.bounding.bits(), 0);
    let pod = pod("", "").unwrap();
    assert_eq!((pod.hostname.as_deref(), &pod.cgroup), (Some("box"), &None));
    assert_eq!(pod.namespaces.network, NamespaceMode::Pod);
    pod.validate().unwrap();
}

#[test]
fn namespaces_are_new_given_or_the_hosts() {
    let listed = |list: &str| {
        let text = config("", "", "").replace(r#"{"type": "mount"}, {"type": "cgroup"}"#, list);
        let text =
            text.replace(r#"{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},"#, "");
        parse(&text.replace(r#""hostname": "box","#, "")).unwrap()
    };
    let few = listed(r#"{"type": "mount"}"#);
    let (pod, spec) = (PodSpec::from_oci("web", &few).unwrap(), ContainerSpec::from_oci(&few).unwrap());
    assert_eq!(pod.namespaces.network, NamespaceMode::Host);
    assert_eq!(pod.namespaces.uts, NamespaceMode::Host);
    assert_eq!((spec.pid, spec.cgroup_namespace), (Some(PidMode::Host), CgroupNamespace::Host));
    let given = listed(
        r#"{"type": "mount"}, {"type": "network", "path": "/run/n"}, {"type": "pid", "path": "/run/p"},
           {"type": "cgroup", "path": "/run/c"}, {"type": "time", "path": "/run/t"}"#,
    );
    let (pod, spec) = (PodSpec::from_oci("web", &given).unwrap(), ContainerSpec::from_oci(&given).unwrap());
    assert_eq!(pod.namespaces.network, NamespaceMode::Path("/run/n".into()));
    assert_eq!(spec.pid, Some(PidMode::Path("/run/p".into())));
    assert_eq!(spec.cgroup_namespace, CgroupNamespace::Path("/run/c".into()));
    assert_eq!(spec.time, TimeNamespace::Path("/run/t".into()));
    for (list, mode) in [
        (r#"{"type": "pid"}"#, MountNamespace::Host),
        (r#"{"type": "mount", "path": "/run/m"}"#, MountNamespace::Path("/run/m".into())),
        (r#"{"type": "mount", "path": ""}"#, MountNamespace::Container),
    ] {
        assert_eq!(ContainerSpec::from_oci(&listed(list)).unwrap().mount_namespace, mode);
    }
    let twice = listed(r#"{"type": "mount"}, {"type": "mount"}"#);
    let error = ContainerSpec::from_oci(&twice).unwrap_err().to_string();
    assert!(error.contains("twice"), "{error}");
}

#[test]
fn a_process_keeps_all_its_attributes() {
    let spec = container(
        r#", "terminal": true, "consoleSize": {"height": 24, "width": 80}, "noNewPrivileges": true, "oomScoreAdj": 500,
        "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 18446744073709551615}],
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 3},
        "scheduler": {"policy": "SCHED_BATCH", "nice": 5}, "apparmorProfile": "", "selinuxLabel": "",
        "execCPUAffinity": {"initial": "0", "final": "0-1"}"#,
        "",
        "",
    )
    .unwrap();
    assert!(spec.terminal && spec.security.no_new_privileges);
    assert_eq!(spec.console_size.map(|size| (size.width, size.height)), Some((80, 24)));
    let capabilities = &spec.security.capabilities;
    assert_eq!((capabilities.bounding.bits(), capabilities.ambient.bits()), (0x21, 0x20));
    assert_eq!(capabilities.inheritable.map(|set| set.bits()), Some(0x20));
    assert_eq!((spec.rlimits[0].soft, spec.rlimits[0].hard), (1, u64::MAX));
    assert_eq!(spec.oom_score_adj, Some(500));
    assert_eq!(spec.scheduler.unwrap().nice, 5);
    assert_eq!(spec.io_priority.unwrap().priority, 3);
    // For programs that are executed in the container, not for its own.
    assert_eq!(spec.cpu_affinity, None);
    let affinity = spec.exec_cpu_affinity.unwrap();
    assert_eq!((affinity.initial.as_deref(), affinity.at_exec.as_deref()), (Some("0"), Some("0-1")));
    assert_eq!(spec.security.apparmor_profile, None);
    let process = parse(&config("", "", "")).unwrap().process().clone().unwrap();
    let exec = crate::spec::ExecSpec::from_oci(&process).unwrap();
    assert!(!exec.inherit_env && exec.capabilities.is_none());
    assert_eq!(exec.user.unwrap().uid, 1000);
}

#[test]
fn what_linux_has_is_taken() {
    let spec = container(
        "",
        r#", "rootfsPropagation": "rslave", "personality": {"domain": "LINUX32"},
        "memoryPolicy": {"mode": "MPOL_PREFERRED_MANY", "nodes": "0,2", "flags": ["MPOL_F_RELATIVE_NODES"]},
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 8630, "uid": 1}],
        "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
        "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]},
        "resources": {"devices": [{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": -1, "access": "rw"}]}"#,
        r#", "annotations": {"a": "b"}"#,
    )
    .unwrap();
    let policy =
        MemoryPolicy::new(MemoryPolicyMode::PreferredMany, "0,2").flag(MemoryPolicyFlag::RelativeNodes);
    assert_eq!(spec.memory_policy, Some(policy));
    assert_eq!((spec.rootfs_propagation, spec.rootfs_propagation_recursive), (Propagation::Slave, true));
    assert_eq!((spec.devices[0].major, spec.devices[0].mode, spec.devices[0].uid), (10, 0o666, 1));
    assert_eq!(spec.device_rules[0].kind, DeviceRuleKind::All);
    assert_eq!((spec.device_rules[1].major, spec.device_rules[1].minor), (Some(10), None));
    let SeccompProfile::Custom(profile) = spec.security.seccomp else { panic!("no profile") };
    assert_eq!((profile.default_errno_ret, profile.syscalls[0].args[0].value), (Some(38), 1));
    assert_eq!(spec.annotations["a"], "b");
    let pod = pod(
        r#", "sysctl": {"net.ipv4.tcp_syncookies": "0"}, "cgroupsPath": "/a/b",
        "netDevices": {"eth7": {"name": "eth0"}}"#,
        "",
    )
    .unwrap();
    assert_eq!(pod.cgroup.as_deref(), Some("/a/b"));
    assert_eq!(pod.net_devices["eth7"].name.as_deref(), Some("eth0"));
    assert_eq!(pod.sysctls["net.ipv4.tcp_syncookies"], "0");
}

/// Shares and the weight of runc 1.3.2 and later.
#[test]
fn shares_become_weights_as_kubernetes_has_them() {
    for (shares, weight) in [
        (0, None),
        (2, Some(1)),
        (10, Some(4)),
        (102, Some(17)),
        (256, Some(35)),
        (512, Some(59)),
        (1024, Some(100)),
        (2048, Some(174)),
        (4096, Some(303)),
        (8192, Some(532)),
        (65536, Some(3023)),
        (262_144, Some(10_000)),
        (u64::MAX, Some(10_000)),
    ] {
        assert_eq!(cpu_weight(shares), weight, "{shares}");
    }
    let weights: Vec<u64> = (1..=300_000).filter_map(cpu_weight).collect();
    assert!(weights.is_sorted() && weights.iter().all(|weight| (1..=10_000).contains(weight)));
}

#[test]
fn limits_of_version_1_become_those_of_version_2() {
    let memory =
        resources(r#""memory": {"limit": 1000000, "swap": 1500000, "reservation": 4096}"#).unwrap().memory;
    assert_eq!((memory.max, memory.swap_max), (Some(Limit::At(1_000_000)), Some(Limit::At(500_000))));
    assert!(!memory.check_before_update);
    let checked = resources(r#""memory": {"limit": 1000000, "checkBeforeUpdate": true}"#).unwrap().memory;
    assert!(checked.check_before_update);
    assert_eq!(memory.low, Some(Limit::At(4096)));
    let memory = resources(r#""memory": {"limit": -1, "swap": -1}"#).unwrap().memory;
    assert_eq!((memory.max, memory.swap_max), (Some(Limit::MAX), Some(Limit::MAX)));
    for swap in ["", r#", "swap": 0"#] {
        let memory = resources(&format!(r#""memory": {{"limit": -1{swap}}}"#)).unwrap().memory;
        assert_eq!((memory.max, memory.swap_max), (Some(Limit::MAX), Some(Limit::MAX)), "as runc");
    }
    assert_eq!(resources(r#""memory": {"limit": 0, "swap": 0}"#).unwrap(), Resources::default());

    let cpu =
        resources(r#""cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 1000, "idle": 0}"#);
    let cpu = cpu.unwrap().cpu;
    assert_eq!((cpu.weight, cpu.burst, cpu.idle), (Some(100), Some(1000), Some(false)));
    assert_eq!(cpu.max.unwrap().quota, Limit::At(50_000));
    assert_eq!(resources(r#""cpu": {"quota": -1}"#).unwrap().cpu.max.unwrap().quota, Limit::MAX);

    assert_eq!(resources(r#""pids": {"limit": 10}"#).unwrap().pids_max, Some(Limit::At(10)));
    assert_eq!(resources(r#""pids": {"limit": -1}"#).unwrap().pids_max, Some(Limit::MAX));
    assert_eq!(resources(r#""pids": {"limit": 0}"#).unwrap().pids_max, None);

    let io = resources(
        r#""blockIO": {"weight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 7}, {"major": 8, "minor": 16, "rate": 0}]}"#,
    );
    let io = io.unwrap().io;
    assert_eq!((io.weight, io.device_weights[0].weight), (Some(1), 10_000));
    assert_eq!((io.max[0].rbps, io.max[0].wiops), (Some(Limit::At(5)), Some(Limit::At(7))));
    assert_eq!((io.max[1].minor, io.max[1].wiops), (16, Some(Limit::MAX)));

    let more = resources(
        r#""hugepageLimits": [{"pageSize": "2MB", "limit": 4096}], "rdma": {"mlx5_0": {"hcaHandles": 3}},
        "unified": {"memory.zswap.max": "0"}"#,
    );
    let more = more.unwrap();
    assert_eq!(more.hugetlb["2MB"], Limit::At(4096));
    assert_eq!(more.rdma["mlx5_0"].hca_handles, Some(Limit::At(3)));
    assert_eq!(more.unified["memory.zswap.max"], "0");
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    for (process, linux, more, text) in [
        ("", r#", "mountLabel": "x\",upperdir=\"/""#, "", "security.mountLabel"),
        ("", r#", "intelRdt": {"closID": "a"}"#, "", "linux.intelRdt"),
        ("", r#", "intelRdt": {"schemata": ["x"]}"#, "", "linux.intelRdt"),
        (
            "",
            r#", "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 2, "fileMode": 2438}]"#,
            "",
            "linux.devices[0].fileMode",
        ),
        (
            "",
            r#", "devices": [{"path": "/dev/x", "type": "b", "major": 1, "minor": 2, "fileMode": 8630}]"#,
            "",
            "linux.devices[0].fileMode",
        ),
        (
            "",
            r#", "devices": [{"path": "/dev/ptmx", "type": "c", "major": 1, "minor": 3}]"#,
            "",
            "linux.devices[0]",
        ),
        ("", r#", "memoryPolicy": {"mode": "MPOL_BIND"}"#, "", "memoryPolicy.nodes"),
        ("", r#", "timeOffsets": {"boottime": {"secs": 1}}"#, "", "linux.timeOffsets"),
        ("", r#", "rootfsPropagation": "sideways""#, "", "linux.rootfsPropagation"),
        (
            "",
            r#", "devices": [{"path": "/dev/x", "type": "c", "major": -1, "minor": 0}]"#,
            "",
            "linux.devices[0]",
        ),
        ("", r#", "resources": {"memory": {"swappiness": 10}}"#, "", "memory.swappiness"),
        ("", r#", "resources": {"memory": {"disableOOMKiller": true}}"#, "", "memory.disableOOMKiller"),
        ("", r#", "resources": {"memory": {"kernelTCP": 5}}"#, "", "memory.kernelTCP"),
        ("", r#", "resources": {"memory": {"limit": 5000, "swap": 4000}}"#, "", "memory.swap"),
        ("", r#", "resources": {"memory": {"swap": 4000}}"#, "", "memory.swap"),
        ("", r#", "resources": {"memory": {"limit": -2}}"#, "", "memory.limit"),
        ("", r#", "resources": {"memory": {"reservation": -2}}"#, "", "memory.reservation"),
        ("", r#", "resources": {"memory": {"limit": 5000, "swap": -2}}"#, "", "memory.swap"),
        ("", r#", "resources": {"pids": {"limit": -2}}"#, "", "pids.limit"),
        (
            "",
            r#", "resources": {"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}"#,
            "",
            "hugepageLimits",
        ),
        ("", r#", "resources": {"cpu": {"realtimeRuntime": 1}}"#, "", "cpu.realtimeRuntime"),
        ("", r#", "resources": {"cpu": {"idle": 2}}"#, "", "cpu.idle"),
        ("", r#", "resources": {"blockIO": {"weight": 5}}"#, "", "blockIO.weight"),
        ("", r#", "resources": {"blockIO": {"leafWeight": 50}}"#, "", "blockIO.leafWeight"),
        ("", r#", "resources": {"network": {"classID": 5}}"#, "", "resources.network"),
        ("", r#", "resources": {"devices": [{"allow": true, "access": "x"}]}"#, "", "devices[0].access"),
        (r#", "commandLine": "x""#, "", "", "process.commandLine"),
        (r#", "env": ["novalue"]"#, "", "", "process"),
        ("", "", r#", "windows": {"layerFolders": []}"#, "windows"),
        (
            "",
            "",
            r#", "hooks": {"poststop": [{"path": "/bin/true", "timeout": 0}]}"#,
            "hooks.poststop[0].timeout",
        ),
    ] {
        let error = container(process, linux, more).unwrap_err().to_string();
        assert!(error.contains(text), "{text}: {error}");
    }
    for (linux, text) in [
        (r#", "cgroupsPath": "system.slice:runc:x""#, "linux.cgroupsPath"),
        (r#", "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]"#, "linux.uidMappings"),
    ] {
        let error = pod(linux, "").unwrap_err().to_string();
        assert!(error.contains(text), "{text}: {error}");
    }
    let old = config("", "", "").replace("1.2.0", "0.9.0");
    assert!(ContainerSpec::from_oci(&parse(&old).unwrap()).unwrap_err().to_string().contains("ociVersion"));
}

#[test]
fn user_namespaces() {
    let with = |namespace: &str, more: &str, mount: &str| {
        let text = config("", more, "")
            .replace(r#"{"type": "pid"}"#, &format!(r#"{{"type": "pid"}}, {{"type": "user"{namespace}}}"#))
            .replace(r#""mounts": ["#, &format!(r#""mounts": [{mount}"#));
        parse(&text).unwrap()
    };
    let ids = r#", "uidMappings": [{"containerID": 0, "hostID": 70000, "size": 2000}],
        "gidMappings": [{"containerID": 0, "hostID": 80000, "size": 3000}]"#;
    let idmap = r#"{"destination": "/d", "type": "bind", "source": "/d", "options": ["bind", "idmap"]},"#;
    let spec = with("", ids, idmap);
    let pod = PodSpec::from_oci("web", &spec).unwrap();
    let mappings = IdMappings {
        uid_mappings: vec![IdMapping::new(0, 70000, 2000)],
        gid_mappings: vec![IdMapping::new(0, 80000, 3000)],
    };
    assert_eq!(pod.namespaces.user, UserMode::Mapped(mappings.clone()));
    // Files are as they were prepared, except where the mount says otherwise.
    assert!(pod.unmapped_mounts);
    let mount = &ContainerSpec::from_oci(&spec).unwrap().mounts[0];
    let of_mount = mount.idmap.clone().map(|ids| (ids.uid_mappings, ids.gid_mappings));
    assert_eq!(of_mount, Some((mappings.uid_mappings, mappings.gid_mappings)));
    let pod = PodSpec::from_oci("web", &with(r#", "path": "/proc/7/ns/user""#, "", "")).unwrap();
    assert_eq!((pod.namespaces.user, pod.unmapped_mounts), (UserMode::Path("/proc/7/ns/user".into()), true));
    for wrong in [with("", "", ""), with(r#", "path": "/proc/7/ns/user""#, ids, "")] {
        let error = PodSpec::from_oci("web", &wrong).unwrap_err().to_string();
        assert!(error.contains("linux.uidMappings"), "{error}");
    }
    assert!(ContainerSpec::from_oci(&with(r#", "path": "/x""#, "", idmap)).is_err());
    let plain = PodSpec::from_oci("web", &parse(&config("", "", "")).unwrap()).unwrap();
    assert_eq!((plain.namespaces.user, plain.unmapped_mounts), (UserMode::Host, false));
}

#[test]
fn a_device_may_have_its_type_in_its_mode_and_the_container_has_a_ptmx_of_its_own() {
    // The same mode alone, as stat(2) has it, and as Go does.
    for mode in [0o666, 0o20666, 0x420_0000 + 0o666] {
        let devices = format!(
            r#", "devices": [{{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": {mode}}},
            {{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}}]"#
        );
        let spec = container("", &devices, "").unwrap();
        assert_eq!((spec.devices.len(), spec.devices[0].mode), (1, 0o666), "{mode:o}");
    }
}

#[test]
fn names_are_set_in_a_namespace_that_is_given_and_never_in_the_hosts() {
    let with = |uts: &str| {
        let text = config("", "", r#", "domainname": "yp""#).replace(r#"{"type": "uts"},"#, uts);
        PodSpec::from_oci("web", &parse(&text).unwrap())
    };
    let pod = with(r#"{"type": "uts", "path": "/run/u"},"#).unwrap();
    assert_eq!((pod.hostname.as_deref(), pod.domainname.as_deref()), (Some("box"), Some("yp")));
    pod.validate().unwrap();
    assert!(with("").unwrap_err().to_string().contains("hostname"));
}

#[test]
fn labels_of_filesystems_are_those_of_the_pod_and_of_the_container() {
    for (json, label) in
        [(r#", "mountLabel": "a:b:c:s0:c1,c2""#, Some("a:b:c:s0:c1,c2")), (r#", "mountLabel": """#, None)]
    {
        let spec = parse(&config("", json, "")).unwrap();
        let container = ContainerSpec::from_oci(&spec).unwrap();
        assert_eq!(container.security.mount_label.as_deref(), label);
        assert_eq!(PodSpec::from_oci("web", &spec).unwrap().mount_label.as_deref(), label);
    }
}

#[test]
fn paths_of_a_bundle_are_relative_to_it() {
    let bundle = tempfile::tempdir().unwrap();
    let text = config("", "", "").replace("/srv/root", "../other/root").replace(
        r#""mounts": ["#,
        r#""mounts": [{"destination": "data/../x", "type": "bind", "source": "files", "options": ["rbind"]},"#,
    );
    std::fs::write(bundle.path().join("config.json"), &text).unwrap();
    let spec = ContainerSpec::from_bundle(bundle.path()).unwrap();
    let Rootfs::Directory { path, .. } = &spec.rootfs else { panic!("{:?}", spec.rootfs) };
    assert_eq!(*path, bundle.path().parent().unwrap().join("other/root"));
    assert_eq!(spec.mounts[0].destination, Path::new("/x"));
    let MountKind::Bind { source, recursive } = &spec.mounts[0].kind else { panic!("{:?}", spec.mounts[0]) };
    assert_eq!((source, *recursive), (&bundle.path().join("files"), true));
    let error = ContainerSpec::from_oci(&parse(&text).unwrap()).unwrap_err().to_string();
    assert!(error.contains("root.path") && error.contains("relative to a bundle"), "{error}");
    std::fs::write(bundle.path().join("config.json"), r#"{"ociVersion": 1}"#).unwrap();
    let error = ContainerSpec::from_bundle(bundle.path()).unwrap_err().to_string();
    assert!(
        error.contains("config.json") && error.contains("line 1") || error.contains("expected a string"),
        "{error}"
    );
    assert_eq!(ContainerSpec::from_bundle("/no/such").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn flags_of_the_scheduler_have_the_names_of_the_specification() {
    let flags = |words: &str| {
        let process = format!(
            r#", "scheduler": {{"policy": "SCHED_DEADLINE", "runtime": 1000000, "deadline": 2000000,
            "period": 3000000, "flags": [{words}]}}"#
        );
        container(&process, "", "").map(|spec| spec.scheduler.unwrap().flags)
    };
    use crate::spec::SchedulerFlag::*;
    let words = r#""SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN""#;
    assert_eq!(flags(words).unwrap(), [ResetOnFork, Reclaim, DeadlineOverrun]);
    assert!(flags(r#""SCHED_FLAG_NOTHING""#).is_err());
}
