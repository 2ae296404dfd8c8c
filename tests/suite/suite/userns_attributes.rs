//! Pods with a user namespace of their own: attributes of processes, devices, mount options, other namespaces. What
//! takes a privilege of the machine is done before init gives these up, and what cannot be had is told.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use pericarp::spec::{
    CgroupNamespace, Device, IdMap, IdMapping, IoPriority, IoPriorityClass, MountKind, PidMode, Propagation,
    Scheduler, SchedulerPolicy,
};
use pericarp::{ContainerSpec, ErrorKind, ExecSpec, Mount, PodSpec, Rootfs, Volume};

use crate::attributes::{Report, last_processor, offsets, report, time_namespaces};
use crate::exec::{said, sh, sleeper};
use crate::hooks::{root, with_machine};
use crate::netdev::{ip, isolated};
use crate::support::fixture::{output, payload as inside, say, script};
use crate::support::{Fixture, Outcome, PASS, skip};
use crate::userns::{FIRST, mapped, mighty, pod, pod_of};

crate::tests![
    attributes_of_the_process_are_taken,
    attributes_of_other_programs_are_taken,
    a_time_namespace_is_entered_by_other_programs,
    limits_of_other_programs_are_raised_as_on_the_host,
    device_nodes_belong_to_ids_inside,
    a_tmpfs_belongs_to_ids_inside,
    what_a_tmpfs_covers_is_copied_with_its_owners,
    other_filesystems_belong_to_ids_inside,
    a_mount_can_have_ids_of_its_own,
    propagation_that_cannot_be_had_is_refused,
    a_pid_namespace_can_be_given_by_its_path,
    the_cgroup_namespace_can_be_the_hosts_or_anothers,
    network_devices_move_in,
];

fn gather(container: &pericarp::Container, change: impl FnOnce(ExecSpec) -> ExecSpec) -> Report {
    let text = said(container, change(ExecSpec::new(["/payload", "payload", "attributes"])));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Mutation: with `privileged_attributes` after `enter_user`, the first container could not be made: EACCES at the
/// adjustment, whose file belongs to root of the machine.
fn attributes_of_the_process_are_taken() -> Outcome {
    let fixture = Fixture::new();
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse()?;
    let (more, one) = (own.max(500) + 1, last_processor());
    for (name, mode) in [("own", PidMode::Container), ("shared", PidMode::Pod), ("host", PidMode::Host)] {
        let pod = fixture.node.create_pod(&PodSpec::new(name).user(mapped()).pid(mode))?;
        for user in [0, 1000] {
            let nice = Scheduler::new(SchedulerPolicy::Batch).nice(-3);
            let seen = report(&pod, |spec| {
                spec.user(user, user)
                    .oom_score_adj(more)
                    .scheduler(nice)
                    .io_priority(IoPriorityClass::RealTime, 2)
                    .cpu_affinity(&one)
            });
            assert_eq!(seen.oom_score_adj, more.to_string(), "{name}");
            assert_eq!(
                (seen.policy, seen.nice, seen.io_priority),
                (libc::SCHED_BATCH, -3, 1 << 13 | 2),
                "{name}"
            );
            assert_eq!(seen.processors, one, "{name}");
        }
    }
    // Init forks on its way into the PID namespace, where others are born.
    let deadline = Scheduler::new(SchedulerPolicy::Deadline).deadline(1_000_000, 10_000_000, 10_000_000);
    let error = pod(&fixture).create_container(&script("a", "true").scheduler(deadline)).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some("scheduler")), "{error}");
    PASS
}

fn attributes_of_other_programs_are_taken() -> Outcome {
    let fixture = Fixture::new();
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse()?;
    let more = own.max(500) + 1;
    let container = sleeper(&pod(&fixture), |spec| spec.oom_score_adj(more));
    for user in [0, 1000] {
        let seen = gather(&container, |spec| {
            let mut spec = spec.user(user, user);
            spec.scheduler = Some(Scheduler::new(SchedulerPolicy::Batch).nice(-3));
            spec.io_priority = Some(IoPriority { class: IoPriorityClass::RealTime, priority: 2 });
            spec
        });
        assert_eq!(seen.oom_score_adj, more.to_string());
        assert_eq!((seen.policy, seen.nice, seen.io_priority), (libc::SCHED_BATCH, -3, 1 << 13 | 2));
    }
    PASS
}

fn a_time_namespace_is_entered_by_other_programs() -> Outcome {
    if !time_namespaces() {
        return skip("this kernel has no time namespaces");
    }
    let fixture = Fixture::new();
    let host = Report::gather();
    let container = sleeper(&pod(&fixture), |spec| spec.time(offsets(5000, 7000)));
    let seen = gather(&container, |spec| spec);
    assert!((5000..5600).contains(&(seen.monotonic - host.monotonic)), "{seen:?} {host:?}");
    assert!((7000..7600).contains(&(seen.boottime - host.boottime)), "{seen:?} {host:?}");
    let inode = fs::metadata(format!("/proc/{}/ns/time", container.pid()))?.ino();
    assert_eq!((seen.time, seen.time == host.time), (inode, false));
    PASS
}

fn limits_of_other_programs_are_raised_as_on_the_host() -> Outcome {
    use pericarp::spec::RlimitResource::Nofile;
    let fixture = Fixture::new();
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    let container = sleeper(&pod(&fixture), |spec| spec.rlimit(Nofile, 70, 80));
    let look = "grep '^Max open files' /proc/self/limits";
    for (spec, expected) in [(sh(look), [70, 80]), (sh(look).rlimit(Nofile, 90, hard), [90, hard])] {
        let text = said(&container, spec);
        let seen: Vec<u64> = text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(seen, expected, "{text}");
    }
    PASS
}

fn device_nodes_belong_to_ids_inside() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let device = |path: &str, major, minor, uid, gid| {
        let mut device = Device::char(path, major, minor);
        (device.uid, device.gid, device.mode) = (uid, gid, 0o640);
        device
    };
    let look = "stat -c '%u:%g %a %t:%T' /dev/own /theirs; head -c 2 /dev/own | wc -c; head -c 3 /theirs 2>/dev/null | wc -c; \
                head -c 4 /dev/mine | wc -c; rm /dev/own && echo removed";
    let spec = || {
        script("a", look)
            .device(device("/dev/own", 1, 5, 1000, 1001))
            .device(device("/theirs", 1, 5, 7, 8))
            .device(Device::char("/dev/mine", 1, 5).source("/dev/zero"))
    };
    // Root inside may open both, and user 1000 its own.
    assert_eq!(say(&pod, spec()), "1000:1001 640 1:5\n7:8 640 1:5\n2\n3\n4\nremoved\n");
    let (_, text) = output(&pod, spec().user(1000, 1000))?;
    assert!(text.starts_with("1000:1001 640 1:5\n7:8 640 1:5\n2\n0\n4\n"), "{text}");
    assert!(!text.contains("removed"), "{text}");
    for (uid, gid, field) in [(65536, 0, "devices[\"/x\"].uid"), (0, 65536, "devices[\"/x\"].gid")] {
        let spec = script("a", "true").device(device("/x", 1, 5, uid, gid));
        let error = pod.create_container(&spec).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidSpec, Some(field)), "{error}");
    }
    // No node of a device that it may not have, by whatever privilege.
    let text = say(
        &pod,
        mighty(script(
            "b",
            "mknod /disk b 8 0 2>/dev/null || echo refused; mknod /z c 1 5 2>/dev/null || echo refused",
        )),
    );
    assert_eq!(text, "refused\nrefused\n");
    PASS
}

fn tmpfs(path: &str, options: &[&str]) -> Mount {
    let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
    Mount::from_options(path, "tmpfs", "tmpfs", &options).expect("options of a tmpfs")
}

fn a_tmpfs_belongs_to_ids_inside() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let spec = |options: &[&str]| {
        script("a", "stat -c '%u:%g %a' /t; touch /t/x && stat -c %u:%g /t/x").mount(tmpfs("/t", options))
    };
    assert_eq!(say(&pod, spec(&["uid=1000", "gid=1001", "mode=0750"])), "1000:1001 750\n0:0\n");
    assert_eq!(say(&pod, spec(&["mode=0700", "size=1m"])), "0:0 700\n0:0\n");
    let own = spec(&["uid=1000", "gid=1001", "mode=0700"]).user(1000, 1001);
    assert_eq!(say(&pod, own), "1000:1001 700\n1000:1001\n");
    for wrong in ["uid=65536", "gid=70000", "uid=-1", "gid=root"] {
        let error = pod.create_container(&spec(&[wrong])).unwrap_err();
        assert_eq!(
            (error.kind(), error.subject()),
            (ErrorKind::InvalidSpec, Some("mounts[\"/t\"].data")),
            "{error}"
        );
    }
    // The same words where ids are the host's.
    assert_eq!(
        say(&fixture.pod("plain"), spec(&["uid=1000", "gid=1001", "mode=0750"])),
        "1000:1001 750\n0:0\n"
    );
    PASS
}

fn what_a_tmpfs_covers_is_copied_with_its_owners() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let source = root(&fixture).join("x");
    fs::create_dir_all(&source)?;
    fs::write(source.join("root"), "r\n")?;
    fs::write(source.join("theirs"), "t\n")?;
    chown(source.join("theirs"), Some(1000), Some(1001))?;
    chown(&source, Some(5), Some(6))?;
    let look = "stat -c %u:%g /x /x/root /x/theirs; cat /x/theirs; echo n >/x/new && rm /x/root && echo gone";
    let spec = with_machine(ContainerSpec::new("a", Rootfs::directory(fixture.path("root"))))
        .args(["/bin/sh", "-c", look])
        .mount(tmpfs("/x", &["tmpcopyup"]));
    assert_eq!(say(&pod, spec), "5:6\n0:0\n1000:1001\nt\ngone\n");
    assert!(source.join("root").exists() && !source.join("new").exists());
    PASS
}

fn other_filesystems_belong_to_ids_inside() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let kind = || MountKind::Filesystem { fstype: "tmpfs".to_string(), source: None };
    let mount = |unmapped: bool| {
        let mut mount = Mount::of(kind(), "/fs");
        mount.data = vec!["uid=7".to_string(), "mode=755".to_string()];
        let pod = pod_of(&fixture, |mut spec| {
            spec.name = format!("unmapped-{unmapped}");
            spec.unmapped_mounts(unmapped)
        });
        output(&pod, script("a", "stat -c %u:%g /fs").mount(mount))
    };
    assert_eq!(mount(true)?.1, "65534:65534\n");
    // A tmpfs has mapped ids since Linux 6.3.
    match mount(false) {
        Ok((_, text)) => assert_eq!(text, "7:0\n"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("unmappedMounts"), "{error}");
        }
    }
    // What never has them.
    let error = pod.create_container(
        &script("a", "true")
            .mount(Mount::of(MountKind::Filesystem { fstype: "ramfs".to_string(), source: None }, "/fs")),
    );
    assert_eq!(error.map(drop).unwrap_err().kind(), ErrorKind::Unsupported);
    PASS
}

fn a_mount_can_have_ids_of_its_own() -> Outcome {
    let fixture = Fixture::new();
    let (source, volume) = (fixture.path("source"), fixture.path("volume"));
    for dir in [&source, &volume] {
        fs::create_dir(dir)?;
        fs::write(dir.join("file"), "x\n")?;
        chown(dir.join("file"), Some(50), Some(51))?;
    }
    let pod = pod_of(&fixture, |spec| spec.volume(Volume::directory("data", &volume)));
    // Files of 50 are those of 1050 inside, which is another id on the machine.
    let idmap = IdMap {
        uid_mappings: vec![IdMapping::new(50, FIRST + 1050, 1)],
        gid_mappings: vec![IdMapping::new(51, FIRST + 2000, 1)],
        ..IdMap::default()
    };
    let mut own = Mount::bind(&source, "/own");
    own.idmap = Some(idmap.clone());
    let spec =
        script("a", "stat -c %u:%g /own/file /usual/file").mount(own).mount(Mount::bind(&source, "/usual"));
    assert_eq!(say(&pod, spec), "1050:2000\n50:51\n");
    // A volume of the machine's files has the pod's already.
    let mut again = Mount::volume("data", "/data");
    again.idmap = Some(idmap);
    let error = pod.create_container(&script("a", "true").mount(again)).unwrap_err();
    assert!(
        error.to_string().contains("volume \"data\"") && error.to_string().contains("unmappedMounts"),
        "{error}"
    );
    PASS
}

fn propagation_that_cannot_be_had_is_refused() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let source = fixture.path("source");
    fs::create_dir(&source)?;
    for (propagation, why) in
        [(Propagation::Shared, "propagates out of it"), (Propagation::Unbindable, "cannot get into")]
    {
        let mount = Mount::bind(&source, "/x").propagation(propagation);
        let error = pod.create_container(&script("a", "true").mount(mount)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        assert!(error.to_string().contains(why), "{error}");
    }
    PASS
}

/// Such a namespace belongs to the user namespace of the machine: init joins it before it gives up what that takes.
fn a_pid_namespace_can_be_given_by_its_path() -> Outcome {
    let fixture = Fixture::new();
    let host = sleeper(&fixture.pod("plain"), |spec| spec);
    let path = PathBuf::from(format!("/proc/{}/ns/pid", host.pid()));
    let pod = pod(&fixture);
    let look =
        "tr '\\0' ' ' </proc/1/cmdline; stat -c %u /proc/1; kill -0 1 2>/dev/null || echo refused; id -u";
    let text = say(&pod, script("guest", look).pid(PidMode::Path(path.clone())));
    assert_eq!(text, "/payload payload sleep 65534\nrefused\n0\n");
    let container = pod.create_container(&inside("guest", &["sleep"]).pid(PidMode::Path(path)))?;
    container.start()?;
    let inode = |pid: i32, kind: &str| fs::metadata(format!("/proc/{pid}/ns/{kind}")).map(|file| file.ino());
    assert_eq!(inode(container.pid(), "pid")?, inode(host.pid(), "pid")?);
    assert_ne!(inode(container.pid(), "user")?, inode(host.pid(), "user")?);
    let process = container.exec(&sh("sleep 1000"))?;
    assert_eq!(inode(process.pid(), "pid")?, inode(host.pid(), "pid")?);
    assert_eq!(inode(process.pid(), "user")?, inode(container.pid(), "user")?);
    process.kill()?;
    process.wait()?;
    container.remove()?;
    PASS
}

fn the_cgroup_namespace_can_be_the_hosts_or_anothers() -> Outcome {
    let fixture = Fixture::new();
    let pod = pod(&fixture);
    let read = |name: &str| script(name, "grep ^0: /proc/self/cgroup; readlink /proc/self/ns/cgroup");
    let own = fs::read_link("/proc/self/ns/cgroup")?.display().to_string();
    let text = say(&pod, read("own"));
    assert!(text.starts_with("0::/\n") && !text.contains(&own), "{text}");
    let text = say(&pod, read("main").cgroup_namespace(CgroupNamespace::Host));
    assert!(text.contains(&format!("/{}/main\n", pod.id())) && text.contains(&own), "{text}");
    let other: ContainerSpec = inside("other", &["sleep"]);
    let other = pod.create_container(&other)?;
    other.start()?;
    let path = PathBuf::from(format!("/proc/{}/ns/cgroup", other.pid()));
    let text = say(&pod, read("main").cgroup_namespace(CgroupNamespace::Path(path.clone())));
    assert!(text.contains(&*fs::read_link(path)?.to_string_lossy()), "{text}");
    PASS
}

fn network_devices_move_in() -> Outcome {
    isolated(|| {
        let fixture = Fixture::new();
        let spec = PodSpec::new("web")
            .user(mapped())
            .net_device("v0", pericarp::spec::NetDevice::new().name("eth0"))
            .sysctl("net.ipv4.conf.eth0.log_martians", "1");
        let pod = fixture.node.create_pod(&spec)?;
        assert!(!ip("link").contains("v0"));
        let text = say(&pod, script("a", "ip addr show eth0; cat /proc/sys/net/ipv4/conf/eth0/log_martians"));
        assert!(text.contains("inet 10.9.8.7/24") && text.ends_with("\n1\n"), "{text}");
        pod.remove()?;
        // A pod that cannot be made gives it back.
        let spec = PodSpec::new("web")
            .user(mapped())
            .net_device("v1", pericarp::spec::NetDevice::new())
            .sysctl("net.ipv4.conf.v1.no_such", "1");
        assert_eq!(fixture.node.create_pod(&spec).unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(ip("addr show v1").contains("10.9.9.7/24"));
        PASS
    })
}
