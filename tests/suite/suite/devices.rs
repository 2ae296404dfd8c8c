//! Device nodes of a container, and which devices its processes may use.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use pericarp::spec::{Device, DeviceAccess, DeviceRule, DeviceRuleKind, MountKind, PidMode};
use pericarp::{ErrorKind, Mount, PodSpec, Rootfs};

use crate::rootfs::bare;
use crate::stdio::Shell;
use crate::support::fixture::{output, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    a_rule_allows_a_device_to_one_container_and_to_no_other,
    the_last_rule_about_an_access_decides,
    everything_can_be_allowed,
    no_rule_takes_the_default_devices_away,
    rules_are_replaced_while_a_container_runs,
    every_cgroup_with_processes_is_guarded,
    what_a_container_moves_below_stays_under_its_rules,
    nodes_are_as_they_were_asked_for,
    a_node_that_is_there_is_replaced_only_by_itself,
    a_node_of_the_host_is_mounted_if_it_is_that_device,
    a_tmpfs_on_dev_has_the_default_devices,
];

/// The kernel's log, which nobody may open unasked: 1:11. To open it for writing takes no privilege, and nothing is
/// written.
const OPEN_LOG: &str = "(: >/log) 2>/dev/null && echo opened || echo refused";

fn log(access: &str) -> DeviceRule {
    let access = access.parse().expect("an access");
    DeviceRule::allow(DeviceRuleKind::Char, Some(1), Some(11), access)
}

fn denied(mut rule: DeviceRule) -> DeviceRule {
    rule.allow = false;
    rule
}

fn a_rule_allows_a_device_to_one_container_and_to_no_other() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = |name| script(name, "").device(Device::char("/log", 1, 11));
    let mut plain = Shell::start(&pod, spec("plain"));
    let mut may = Shell::start(&pod, spec("may").device_rule(log("rw")));
    assert_eq!(may.run(OPEN_LOG), "opened\n");
    // Seen to fail without attaching the program: "opened", here and in the tests below.
    assert_eq!(plain.run(OPEN_LOG), "refused\n");
    // The kernel's other devices stay closed to it.
    assert_eq!(may.run("mknod /mem c 1 1 && (: </mem) 2>/dev/null || echo refused"), "refused\n");
    PASS
}

fn the_last_rule_about_an_access_decides() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let any = |access: &str| DeviceRule::allow(DeviceRuleKind::All, None, None, access.parse().unwrap());
    for (rules, said) in [
        (vec![log("rw"), denied(log("w"))], "refused\n"),
        (vec![denied(log("w")), log("rw")], "opened\n"),
        (vec![log("rw"), denied(any("rwm")), log("r")], "refused\n"),
        (vec![denied(any("rwm")), log("w")], "opened\n"),
        (vec![any("rwm"), denied(log("r"))], "opened\n"),
    ] {
        let mut spec = script("a", OPEN_LOG).device(Device::char("/log", 1, 11));
        spec.device_rules = rules.clone();
        assert_eq!(say(&pod, spec), said, "{rules:?}");
    }
    PASS
}

fn everything_can_be_allowed() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let all = DeviceRule::allow(DeviceRuleKind::All, None, None, DeviceAccess::ALL);
    // A major number without a driver: the kernel asks the rules first and the driver then (ENXIO).
    let look = "for f in /log /none /block; do (: >$f) 2>&1 | grep -o 'No such device'; done; true";
    let spec = script("a", look)
        .device(Device::char("/log", 1, 11))
        .device(Device::char("/none", 4000, 77))
        .device(Device::block("/block", 4000, 77));
    let refused = say(&pod, spec.clone());
    assert_eq!(refused, "");
    assert_eq!(say(&pod, spec.device_rule(all.clone())), "No such device\nNo such device\n");
    // It stands in the specification.
    let container = pod.create_container(&script("b", "true").device_rule(all.clone()))?;
    assert_eq!(pod.container("b")?.spec().device_rules, [all]);
    drop(container);
    PASS
}

fn no_rule_takes_the_default_devices_away() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // As the configurations of container engines begin.
    let none = DeviceRule::deny(DeviceRuleKind::All, None, None, DeviceAccess::ALL);
    let look = "echo x >/dev/null && head -c 1 /dev/zero | wc -c && mknod /n c 1 5 && head -c 1 /n | wc -c";
    assert_eq!(say(&pod, script("a", look).device_rule(none)), "1\n1\n");
    PASS
}

/// The number of device programs that are attached to a cgroup itself, see bpf(2), `BPF_PROG_QUERY`.
fn programs(cgroup: &Path) -> u32 {
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        target_fd: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        prog_cnt: u32,
        rest: u32,
    }
    const BPF_PROG_QUERY: libc::c_int = 16;
    const BPF_CGROUP_DEVICE: u32 = 6;
    let dir = fs::File::open(cgroup).expect("open a cgroup");
    let mut query =
        Query { target_fd: dir.as_raw_fd() as u32, attach_type: BPF_CGROUP_DEVICE, ..Query::default() };
    // SAFETY: the structure is ours and has the size that is given.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) };
    assert_eq!(result, 0, "BPF_PROG_QUERY: {}", std::io::Error::last_os_error());
    query.prog_cnt
}

/// A program beside the old one instead of in its place could allow nothing more.
fn rules_are_replaced_while_a_container_runs() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec = |name| script(name, "").device(Device::char("/log", 1, 11));
    let (mut shell, mut other) = (Shell::start(&pod, spec("main")), Shell::start(&pod, spec("other")));
    let container = pod.container("main")?;
    for (rules, said) in [
        (vec![log("rw")], "opened\n"),
        (vec![log("rw"), denied(log("w"))], "refused\n"),
        (vec![log("w")], "opened\n"),
        (vec![], "refused\n"),
    ] {
        container.update_device_rules(&rules)?;
        assert_eq!(shell.run(OPEN_LOG), said, "{rules:?}");
        assert_eq!(programs(&pod.cgroup_path().join("main")), 1, "{rules:?}");
    }
    // What is open stays open, and the default devices are there.
    container.update_device_rules(&[log("w")])?;
    assert_eq!(shell.run("exec 9>/log && echo opened"), "opened\n");
    container.update_device_rules(&[DeviceRule::deny(DeviceRuleKind::All, None, None, DeviceAccess::ALL)])?;
    assert_eq!(shell.run(&format!("head -c 1 /dev/zero | wc -c; : >&9; {OPEN_LOG}")), "1\nrefused\n");
    assert_eq!(other.run(OPEN_LOG), "refused\n");
    let error = container.update_device_rules(&[DeviceRule::allow(
        DeviceRuleKind::Char,
        Some(1 << 12),
        None,
        DeviceAccess::ALL,
    )]);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidSpec);
    PASS
}

fn every_cgroup_with_processes_is_guarded() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").pid(PidMode::Pod))?;
    let _plain = Shell::start(&pod, script("plain", ""));
    let _own = Shell::start(&pod, script("own", "").device_rule(log("rw")));
    let mut seen = Vec::new();
    for entry in fs::read_dir(pod.cgroup_path())? {
        let path = entry?.path();
        if path.is_dir() {
            assert!(!fs::read_to_string(path.join("cgroup.procs"))?.is_empty(), "{}", path.display());
            assert_eq!(programs(&path), 1, "{}", path.display());
            seen.push(path.file_name().expect("a name").to_string_lossy().into_owned());
        }
    }
    seen.sort();
    assert_eq!(seen, ["_init", "own", "plain"]);
    // And none at the pod, where it could not be loosened.
    assert_eq!(programs(&pod.cgroup_path()), 0);
    PASS
}

fn what_a_container_moves_below_stays_under_its_rules() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut shell = Shell::start(&pod, script("a", "").device(Device::char("/log", 1, 11)));
    let below = pod.cgroup_path().join("a/below");
    fs::create_dir(&below)?;
    fs::write(below.join("cgroup.procs"), shell.container.pid().to_string())?;
    let said = shell.run(&format!("cat /proc/self/cgroup | grep -c below; {OPEN_LOG}"));
    assert_eq!(said, "1\nrefused\n");
    PASS
}

fn nodes_are_as_they_were_asked_for() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let spec =
        script("a", "stat -c '%F %t:%T %a %u:%g' /dev/net/tun /dev/disk /opt/a/b/pipe; stat -c %a /opt/a")
            .umask(0o077)
            .device(Device::char("/dev/net/tun", 10, 200).mode(0o600).owner(5, 6))
            .device(Device::block("/dev/disk", 259, 70_000).mode(0o640))
            .device(Device::fifo("/opt/a/b/pipe"));
    let said =
        "character special file a:c8 600 5:6\nblock special file 103:11170 640 0:0\nfifo 0:0 666 0:0\n755\n";
    assert_eq!(say(&pod, spec), said);
    PASS
}

fn a_node_that_is_there_is_replaced_only_by_itself() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let null = Device::char("/dev/null", 1, 3).mode(0o600).owner(7, 8);
    assert_eq!(say(&pod, script("a", "stat -c '%t:%T %a %u:%g' /dev/null").device(null)), "1:3 600 7:8\n");
    let root = fixture.path("root");
    fs::create_dir(&root)?;
    fs::write(root.join("file"), "precious\n")?;
    mknod(&root.join("zero"), SFlag::S_IFCHR, Mode::from_bits_retain(0o600), makedev(1, 5))?;
    symlink("/dev/null", root.join("link"))?;
    for path in ["/dev/zero", "/file", "/zero", "/link"] {
        let spec = bare("b", Rootfs::directory(&root), "true").device(Device::char(path, 1, 3));
        let error = pod.create_container(&spec).expect_err(path);
        assert_eq!((error.kind(), error.errno()), (ErrorKind::AlreadyExists, Some(libc::EEXIST)), "{error}");
        assert!(error.to_string().contains(path), "{error}");
    }
    assert_eq!(fs::read_to_string(root.join("file"))?, "precious\n");
    let zero = fs::metadata(root.join("zero"))?;
    assert_eq!((zero.rdev(), zero.mode() & 0o777), (makedev(1, 5), 0o600));
    PASS
}

fn a_node_of_the_host_is_mounted_if_it_is_that_device() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let node = |major, minor, source: &Path| Device::char("/dev/mine", major, minor).source(source);
    let spec = |device| {
        script("a", "head -c 2 /dev/mine | wc -c; grep -c ' /dev/mine ' /proc/mounts").device(device)
    };
    assert_eq!(say(&pod, spec(node(1, 5, Path::new("/dev/zero")))), "2\n1\n");
    let file = fixture.path("file");
    fs::write(&file, "")?;
    for device in [
        node(1, 3, Path::new("/dev/zero")),
        node(1, 5, &file),
        Device::block("/dev/mine", 1, 5).source("/dev/zero"),
    ] {
        let error = pod.create_container(&spec(device)).unwrap_err();
        assert!(error.to_string().contains("is not that device"), "{error}");
    }
    PASS
}

fn a_tmpfs_on_dev_has_the_default_devices() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let kind = MountKind::Tmpfs { size: Some(1 << 20), mode: Some(0o755) };
    let dev = Mount::of(kind, "/dev").nosuid(true).readonly(true);
    let look = "ls -A /dev | tr '\\n' ' '; echo x >/dev/null && head -c 1 /dev/zero | wc -c; touch /dev/x || echo y >/dev/shm/y";
    let (status, text) = output(&pod, script("a", look).mount(dev).device(Device::fifo("/dev/own")))?;
    let names = "fd full mqueue null own ptmx pts random shm stderr stdin stdout tty urandom zero 1\n";
    assert!(status.success() && text.starts_with(names) && text.contains("Read-only"), "{text}");
    PASS
}
