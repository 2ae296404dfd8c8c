//! Wrong specifications: each is refused, names the field, and leaves nothing.

use std::path::PathBuf;

use pericarp::spec::{
    Capabilities, Capability, CpuMax, IpcObjects, MountKind, NamespaceMode, PidMode, Propagation,
    RlimitResource, Security, ShmObjectSpec, Stdio, Upper, VolumeSource,
};
use pericarp::{ContainerSpec, Error, ErrorKind, Mount, PodSpec, Resources, Rootfs, Volume};

use crate::support::fixture::script;
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_wrong_container_names_its_field_and_leaves_nothing,
    a_wrong_pod_names_its_field_and_leaves_nothing,
    a_name_is_taken_once,
    unknown_keys_in_json_are_named,
    wrong_values_in_json_are_errors,
    right_json_is_read_as_it_was_written,
];

/// What a pod or node has on the machine: its state, its cgroups and the host's mounts.
pub fn belongings(fixture: &Fixture) -> String {
    let mut found = Vec::new();
    let mut walk = vec![fixture.options.state_dir.clone()];
    let name = fixture.options.state_dir.file_name().expect("a name").to_string_lossy().into_owned();
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    for line in table.lines().filter(|line| line.contains(" - cgroup2 ")) {
        walk.push(PathBuf::from(line.split(' ').nth(4).expect("a mount point")).join(&name));
    }
    while let Some(path) = walk.pop() {
        // Files of a cgroup appear with controllers; only directories are things that were made.
        if path.is_dir() {
            found.push(path.display().to_string());
            walk.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if path.starts_with("/run") {
            found.push(path.display().to_string());
        }
    }
    // Other tests mount things at the same time: only what is of this node, or of this test's files.
    let own = fixture.dir.path().display().to_string();
    let mounts = table.lines().filter(|line| line.contains(&name) || line.contains(&own));
    found.extend(mounts.map(|line| line.split(' ').skip(3).collect::<Vec<_>>().join(" ")));
    found.sort();
    found.join("\n")
}

type Change<T> = (&'static str, Box<dyn Fn(T) -> T>);

macro_rules! wrong {
    ($spec:ident: $($field:literal => $change:expr;)*) => { vec![$(($field, Box::new(|$spec| $change)),)*] };
    ($spec:ident mut: $($field:literal => $change:expr;)*) => {
        vec![$(($field, Box::new(|mut $spec| { $change; $spec })),)*]
    };
}

fn wrong_processes() -> Vec<Change<ContainerSpec>> {
    wrong! { spec:
        "args" => spec.args(Vec::<String>::new());
        "args[0]" => spec.args([""]);
        "args[0]" => spec.args(["/bin/s\0h"]);
        "args[2]" => spec.args(["/bin/sh", "", "a\0b"]);
        "env" => spec.env("", "x");
        "env" => spec.env("A=B", "x");
        "env" => spec.env("A\0", "x");
        "env[\"A\"]" => spec.env("A", "x\0");
        "cwd" => spec.cwd("relative");
        "cwd" => spec.cwd("");
        "cwd" => spec.cwd("/a/../b");
        "cwd" => spec.cwd("/a\0b");
        "cwd" => spec.cwd(format!("/{}", "x".repeat(4096)));
        "user" => spec.user(u32::MAX, 0);
        "user" => spec.user(0, u32::MAX);
        "user" => spec.additional_gids([1, u32::MAX]);
        "user.additionalGids" => spec.additional_gids(0..70_000);
        "umask" => spec.umask(0o10000);
        "rlimits[\"RLIMIT_NOFILE\"]" => spec.rlimit(RlimitResource::Nofile, 2, 1);
        "rlimits[\"RLIMIT_CORE\"]" => spec.rlimit(RlimitResource::Core, 0, 1).rlimit(RlimitResource::Core, 0, 1);
        "stopSignal" => spec.stop_signal(0);
        "stopSignal" => spec.stop_signal(65);
        "stopSignal" => spec.stop_signal(-15);
        "pid.target" => spec.pid(PidMode::Target("a".into()));
        "pid.target" => spec.pid(PidMode::Target("../b".into()));
        "stdio.stdin" => spec.stdin(Stdio::File("in".into()));
        "stdio.stdout" => spec.stdout(Stdio::File("/a/../b".into()));
        "stdio.stderr" => spec.stderr(Stdio::File("/a\0".into()));
        "labels and annotations" => spec.label("a\0", "b");
        "labels and annotations" => spec.annotation("a", "b\0");
    }
}

fn wrong_mounts() -> Vec<Change<ContainerSpec>> {
    let mut all: Vec<Change<ContainerSpec>> = wrong! { spec:
        "mounts[0].destination" => spec.mount(Mount::tmpfs("relative", 1));
        "mounts[0].destination" => spec.mount(Mount::tmpfs("", 1));
        "mounts[0].destination" => spec.mount(Mount::tmpfs("/a/../proc", 1));
        "mounts[0].destination" => spec.mount(Mount::tmpfs("/a\0", 1));
        "mounts[0]" => spec.mount(Mount::tmpfs("/", 1));
        "mounts[0]" => spec.mount(Mount::tmpfs("//./", 1));
        "mounts[0]" => spec.mount(Mount::tmpfs("/proc", 1));
        "mounts[0]" => spec.mount(Mount::bind("/proc", "/proc"));
        "mounts[0]" => spec.mount(Mount::rbind("/", "/proc/"));
        "mounts[0]" => spec.mount(Mount::tmpfs("/proc/sys", 1));
        "mounts[0]" => spec.mount(Mount::bind("/dev/null", "/./proc//kcore"));
        "mounts[0]" => spec.mount(Mount::of(MountKind::Proc, "/proc/self"));
        "mounts[0]" => spec.mount(Mount::of(MountKind::Sysfs, "/proc"));
        "mounts[1]" => spec.mount(Mount::tmpfs("/a", 1)).mount(Mount::bind("/etc", "/a"));
        "mounts[1]" => spec.mount(Mount::tmpfs("/a/b", 1)).mount(Mount::bind("/etc", "//a/./b/"));
        "mounts[0]" => spec.mount(Mount::tmpfs("/a", 0));
        "mounts[0].source" => spec.mount(Mount::bind("relative", "/a"));
        "mounts[0].source" => spec.mount(Mount::bind("/a/../b", "/a"));
        "mounts[0].source" => spec.mount(Mount::bind("/a\0", "/a"));
        "mounts[0].mode" => spec.mount(Mount::of(MountKind::Tmpfs { size: None, mode: Some(0o10000) }, "/a"));
        "mounts[0].mode" => spec.mount(Mount::of(MountKind::Tmpfs { size: Some(1), mode: Some(0o10000) }, "/a"));
        "mounts[0]" => spec.mount(Mount::volume("No", "/a"));
        "mounts[\"/a\"]" => spec.mount(Mount::volume("unknown", "/a"));
        "mounts[0].subPath" => spec.mount(Mount::volume_sub_path("data", "", "/a"));
        "mounts[0].subPath" => spec.mount(Mount::volume_sub_path("data", "/etc", "/a"));
        "mounts[0].subPath" => spec.mount(Mount::volume_sub_path("data", "../x", "/a"));
        "mounts[0].subPath" => spec.mount(Mount::volume_sub_path("data", "x/../..", "/a"));
        "mounts[0].subPath" => spec.mount(Mount::volume_sub_path("data", "x\0", "/a"));
        "mounts[0]" => spec.mount(Mount::of(MountKind::Sysfs, "/a").propagation(Propagation::Shared));
        "mounts[0]" => spec.mount(Mount::volume("data", "/a").propagation(Propagation::Slave));
        "mounts" => (0..1025).fold(spec, |spec, i| spec.mount(Mount::tmpfs(format!("/m{i}"), 1)));
    };
    all.push((
        "mounts[0]",
        Box::new(|mut spec| {
            let mut mount = Mount::bind("/etc", "/a");
            mount.readonly_recursive = true;
            spec.mounts.push(mount);
            spec
        }),
    ));
    all
}

fn overlay(lower: &[&str], upper: Upper) -> Rootfs {
    Rootfs::Overlay { lower: lower.iter().map(PathBuf::from).collect(), upper, readonly: false }
}

fn directories(upper: &str, work: &str) -> Upper {
    Upper::Directory { upper: upper.into(), work: work.into() }
}

fn wrong_others() -> Vec<Change<ContainerSpec>> {
    wrong! { spec mut:
        "name" => spec.name = String::new();
        "name" => spec.name = "A".into();
        "name" => spec.name = "..".into();
        "name" => spec.name = "a/b".into();
        "name" => spec.name = "a.b".into();
        "name" => spec.name = "a\0".into();
        "name" => spec.name = "x".repeat(64);
        "rootfs.path" => spec.rootfs = Rootfs::directory("relative");
        "rootfs.path" => spec.rootfs = Rootfs::directory("/a/..");
        "rootfs.lower" => spec.rootfs = overlay(&[], Upper::default());
        "rootfs.lower" => spec.rootfs = overlay(&["/"; 65], Upper::default());
        "rootfs.lower" => spec.rootfs = overlay(&["/", "relative"], Upper::default());
        "rootfs.upper.size" => spec.rootfs = overlay(&["/"], Upper::Tmpfs { size: Some(0) });
        "rootfs.upper.upper" => spec.rootfs = overlay(&["/"], directories("a", "/b"));
        "rootfs.upper.work" => spec.rootfs = overlay(&["/"], directories("/a", "b"));
        "rootfs.upper.work" => spec.rootfs = overlay(&["/"], directories("/a/b", "/a//b/"));
        "security.maskedPaths" => spec.security.masked_paths = vec!["relative".into()];
        "security" => spec.security.masked_paths = vec!["/".into()];
        "security" => spec.security.readonly_paths = vec!["//".into()];
        "security.maskedPaths" => spec.security.readonly_paths = vec!["/a/../../b".into()];
        "security" => spec.security.masked_paths = (0..1025).map(|i| format!("/m{i}").into()).collect();
        "security.capabilities.ambient" => {
            let mut capabilities = Capabilities::none();
            capabilities.ambient.insert(Capability::CAP_SYS_ADMIN);
            spec.security = Security::default().capabilities(capabilities);
        };
        "resources.pidsMax" => spec.resources.pids_max = Some(0.into());
        "resources.memory.max" => spec.resources.memory.max = Some(0.into());
        "resources.cpu.weight" => spec.resources.cpu.weight = Some(0);
        "resources.cpu.max.period" => {
            spec.resources.cpu.max = Some(CpuMax { quota: 5000.into(), period: 1 });
        };
        "resources.cpuset.cpus" => spec.resources.cpuset.cpus = Some("x".into());
    }
}

fn check_error(error: &Error, field: &str) {
    assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{field}: {error}");
    let subject = error.subject().unwrap_or_default();
    assert!(subject == field || subject.starts_with(&format!("{field} and ")), "{field}: {error}");
    assert_eq!((error.errno(), error.step()), (None, "check the specification"), "{field}: {error}");
}

fn a_wrong_container_names_its_field_and_leaves_nothing() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").volume(Volume::tmpfs("data", 1 << 16)))?;
    let before = belongings(&fixture);
    for (field, change) in wrong_processes().into_iter().chain(wrong_mounts()).chain(wrong_others()) {
        let spec = change(script("a", "true"));
        check_error(&pod.create_container(&spec).expect_err(field), field);
        check_error(&pod.explain(&spec).expect_err(field), field);
        check_error(&pod.run(&spec).expect_err(field), field);
        if field != "mounts[\"/a\"]" {
            // All but what depends on the pod is known without one.
            check_error(&spec.validate().expect_err(field), field);
        }
    }
    assert_eq!(belongings(&fixture), before);
    assert!(pod.run(&script("a", "true"))?.success());
    PASS
}

fn wrong_pods() -> Vec<Change<PodSpec>> {
    wrong! { spec mut:
        "name" => spec.name = String::new();
        "name" => spec.name = "A".into();
        "name" => spec.name = "../x".into();
        "name" => spec.name = "a/b".into();
        "name" => spec.name = "x".repeat(254);
        "name" => spec.name = "a\0".into();
        "namespace" => spec.namespace = "a.b".into();
        "namespace" => spec.namespace = String::new();
        "hostname" => spec.hostname = Some(String::new());
        "hostname" => spec.hostname = Some("a_b".into());
        "hostname" => spec.hostname = Some("x".repeat(65));
        "domainname" => spec.domainname = Some("a\nb".into());
        "hostname" => { spec.hostname = Some("a".into()); spec.namespaces.uts = NamespaceMode::Host };
        "namespaces.pid" => spec.namespaces.pid = PidMode::Target("a".into());
        "namespaces.network" => spec.namespaces.network = NamespaceMode::Path("relative".into());
        "namespaces.ipc" => spec.namespaces.ipc = NamespaceMode::Path("/a/../b".into());
        "namespaces.uts" => spec.namespaces.uts = NamespaceMode::Path("/a\0".into());
        "sysctls[\"kernel.core_pattern\"]" => drop(spec.sysctls.insert("kernel.core_pattern".into(), "x".into()));
        "sysctls[\"net.ipv4.ip_forward\"]" => drop(spec.sysctls.insert("net.ipv4.ip_forward".into(), "".into()));
        "sysctls[\"net.ipv4.ip_forward\"]" => drop(spec.sysctls.insert("net.ipv4.ip_forward".into(), "1\n2".into()));
        "sysctls[\"net/../kernel/hostname\"]" => drop(spec.sysctls.insert("net/../kernel/hostname".into(), "1".into()));
        "sysctls[\"net.ipv4.ip_forward\"]" => {
            spec.namespaces.network = NamespaceMode::Host;
            spec.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
        };
        "shmSize" => spec.shm_size = 0;
        "volumes[0]" => spec.volumes = vec![Volume::tmpfs("No", 1)];
        "volumes[0]" => spec.volumes = vec![Volume::tmpfs("..", 1)];
        "volumes[0]" => spec.volumes = vec![Volume::tmpfs("a", 0)];
        "volumes[1]" => spec.volumes = vec![Volume::tmpfs("a", 1), Volume::directory("a", "/etc")];
        "volumes[0]" => spec.volumes = vec![Volume::directory("a", "relative")];
        "volumes[0].mode" => {
            let source = VolumeSource::Tmpfs { size: 1, mode: 0o10000 };
            spec.volumes = vec![Volume { name: "a".into(), source }];
        };
        "resources.memory.high" => spec.resources.memory.high = Some(1.into());
        "ipc.shm[0].size" => {
            let object = ShmObjectSpec { name: "x".into(), size: 0, mode: 0o600, uid: 0, gid: 0 };
            spec.ipc = IpcObjects { shm: vec![object], ..Default::default() };
        };
        "ipc" => {
            let object = ShmObjectSpec { name: "x".into(), size: 1, mode: 0o600, uid: 0, gid: 0 };
            spec.ipc = IpcObjects { shm: vec![object], ..Default::default() };
            spec.namespaces.ipc = NamespaceMode::Host;
        };
        "labels and annotations" => drop(spec.labels.insert("a".into(), "\0".into()));
    }
}

fn a_wrong_pod_names_its_field_and_leaves_nothing() -> Outcome {
    let fixture = Fixture::new();
    let before = belongings(&fixture);
    for (field, change) in wrong_pods() {
        let spec = change(PodSpec::new("web"));
        check_error(&fixture.node.create_pod(&spec).expect_err(field), field);
        check_error(&spec.validate().expect_err(field), field);
    }
    assert_eq!(belongings(&fixture), before);
    PASS
}

fn a_name_is_taken_once() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let first = pod.create_container(&script("a", "exit 3"))?;
    let before = belongings(&fixture);
    let error = pod.create_container(&script("a", "true")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("\"a\""), "{error}");
    let error = fixture.node.create_pod(&PodSpec::new("web")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("web"), "{error}");
    // The one that has the name is as it was, and another namespace is another name.
    assert_eq!(belongings(&fixture), before);
    first.start()?;
    assert_eq!(first.wait()?.code(), 3);
    fixture.node.create_pod(&PodSpec::new("web").namespace("other"))?;
    PASS
}

fn unknown_keys_in_json_are_named() -> Outcome {
    let container = |rest: &str| {
        format!(r#"{{"name": "a", "args": ["x"], "rootfs": {{"directory": {{"path": "/"}}}}{rest}}}"#)
    };
    let rootfs = |rootfs: &str| format!(r#"{{"name": "a", "args": ["x"], "rootfs": {rootfs}}}"#);
    let mount = |mount: &str| container(&format!(r#", "mounts": [{mount}]"#));
    for json in [
        container(r#", "bogus": 1"#),
        container(r#", "user": {"bogus": 1}"#),
        container(r#", "stdio": {"bogus": "null"}"#),
        container(r#", "rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1, "bogus": 1}]"#),
        container(r#", "security": {"bogus": true}"#),
        container(r#", "security": {"capabilities": {"bounding": [], "bogus": []}}"#),
        container(r#", "resources": {"memory": {"bogus": 1}}"#),
        mount(r#"{"destination": "/a", "type": "bind", "source": "/b", "bogus": 1}"#),
        mount(r#"{"destination": "/a", "type": "bind", "source": "/b", "readonly": true, "bogus": null}"#),
        mount(r#"{"destination": "/a", "type": "tmpfs", "bogus": 1}"#),
        mount(r#"{"destination": "/proc", "type": "proc", "bogus": {}}"#),
        rootfs(r#"{"directory": {"path": "/", "bogus": true}}"#),
        rootfs(r#"{"overlay": {"lower": ["/"], "bogus": true}}"#),
        rootfs(r#"{"overlay": {"lower": ["/"], "upper": {"tmpfs": {"bogus": 1}}}}"#),
        rootfs(
            r#"{"overlay": {"lower": ["/"], "upper": {"directory": {"upper": "/a", "work": "/b", "bogus": 1}}}}"#,
        ),
    ] {
        let error = serde_json::from_str::<ContainerSpec>(&json).expect_err(&json).to_string();
        assert!(error.contains("unknown field `bogus`"), "{json}: {error}");
    }
    // Keys of one kind of mount are unknown to another: they would be of no effect.
    for (json, key) in [
        (r#"{"destination": "/a", "type": "tmpfs", "source": "/b"}"#, "source"),
        (r#"{"destination": "/a", "type": "bind", "source": "/b", "size": 1}"#, "size"),
        (r#"{"destination": "/a", "type": "sysfs", "recursive": true}"#, "recursive"),
        (r#"{"destination": "/a", "type": "volume", "name": "x", "subpath": "y"}"#, "subpath"),
        (r#"{"destination": "/a", "type": "bind", "source": "/b", "readOnly": true}"#, "readOnly"),
    ] {
        let error = serde_json::from_str::<Mount>(json).expect_err(json).to_string();
        assert!(error.contains(&format!("unknown field `{key}`")), "{json}: {error}");
    }
    for json in [
        r#"{"name": "a", "bogus": 1}"#,
        r#"{"name": "a", "namespaces": {"bogus": "host"}}"#,
        r#"{"name": "a", "volumes": [{"name": "v", "source": {"tmpfs": {"size": 1}}, "bogus": 1}]}"#,
        r#"{"name": "a", "volumes": [{"name": "v", "source": {"tmpfs": {"size": 1, "bogus": 1}}}]}"#,
        r#"{"name": "a", "volumes": [{"name": "v", "source": {"directory": {"path": "/", "bogus": 1}}}]}"#,
        r#"{"name": "a", "ipc": {"shm": [{"name": "x", "size": 1, "bogus": 1}]}}"#,
        r#"{"name": "a", "resources": {"cpu": {"max": {"quota": 1000, "bogus": 1}}}}"#,
    ] {
        let error = serde_json::from_str::<PodSpec>(json).expect_err(json).to_string();
        assert!(error.contains("unknown field `bogus`"), "{json}: {error}");
    }
    PASS
}

fn wrong_values_in_json_are_errors() -> Outcome {
    for json in [
        r#"{"destination": "/a", "type": "bogus"}"#,
        r#"{"destination": "/a"}"#,
        r#"{"destination": "/a", "type": "bind"}"#,
        r#"{"type": "tmpfs"}"#,
        r#"{"destination": "/a", "type": "tmpfs", "size": -1}"#,
        r#"{"destination": "/a", "type": "tmpfs", "readonly": 1}"#,
        r#"{"destination": "/a", "type": "tmpfs", "propagation": "bogus"}"#,
        r#"{"destination": "/a", "destination": "/b", "type": "tmpfs"}"#,
    ] {
        assert!(serde_json::from_str::<Mount>(json).is_err(), "{json}");
    }
    for json in [
        r#"{"name": "a", "args": ["x"], "rootfs": {"bogus": {}}}"#,
        r#"{"name": "a", "args": ["x"]}"#,
        r#"{"name": "a", "args": ["x"], "rootfs": {"directory": {"path": "/"}}, "user": {"uid": -1}}"#,
        r#"{"name": "a", "args": ["x"], "rootfs": {"directory": {"path": "/"}}, "user": {"uid": 4294967296}}"#,
        r#"{"name": "a", "args": ["x"], "rootfs": {"directory": {"path": "/"}}, "stdio": {"stdin": {"fd": 0}}}"#,
    ] {
        assert!(serde_json::from_str::<ContainerSpec>(json).is_err(), "{json}");
    }
    PASS
}

fn right_json_is_read_as_it_was_written() -> Outcome {
    let spec = ContainerSpec::new("a", overlay(&["/a", "/b"], directories("/u", "/w")).readonly())
        .args(["x", ""])
        .mount(Mount::rbind("/s", "/d").readonly_recursive(true).propagation(Propagation::Slave))
        .mount(Mount::tmpfs("/t", 5).nosuid(true).nodev(true).noexec(true))
        .mount(Mount::of(MountKind::Tmpfs { size: None, mode: Some(0o700) }, "/u"))
        .mount(Mount::volume_sub_path("v", "s", "/v"))
        .mount(Mount::of(MountKind::Proc, "/proc"))
        .mount(Mount::of(MountKind::Devpts, "/p"))
        .pid(PidMode::Target("b".into()))
        .user(1, 2)
        .additional_gids([3])
        .rlimit(RlimitResource::Nofile, 1, u64::MAX)
        .stdin(Stdio::File("/x".into()))
        .resources(Resources::default());
    let json = serde_json::to_string(&spec)?;
    assert_eq!(serde_json::from_str::<ContainerSpec>(&json)?, spec, "{json}");
    // The form that is documented, and the least that is needed.
    let mount: Mount = serde_json::from_str(
        r#"{"destination": "/d", "type": "bind", "source": "/s", "recursive": true, "readonly": true, "readonlyRecursive": true,
            "propagation": "slave"}"#,
    )?;
    assert_eq!(mount, spec.mounts[0]);
    let least: Mount = serde_json::from_str(r#"{"type": "tmpfs", "destination": "/u", "mode": 448}"#)?;
    assert_eq!(least, spec.mounts[2]);
    let least: ContainerSpec =
        serde_json::from_str(r#"{"name": "a", "args": ["x"], "rootfs": {"overlay": {"lower": ["/"]}}}"#)?;
    assert_eq!(least, ContainerSpec::new("a", Rootfs::overlay(["/"])).args(["x"]));
    PASS
}
