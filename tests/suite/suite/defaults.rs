//! The mounts that every container gets unasked, and how to have others or none.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use pericarp::spec::MountKind;
use pericarp::{Mount, PodSpec};

use crate::support::fixture::{facts, output, payload as payload_spec, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    the_default_mounts_have_their_types_and_flags,
    dev_has_the_nodes_and_links_of_the_oci_default_and_nothing_else,
    the_device_nodes_work,
    a_pseudo_terminal_can_be_opened_and_only_ones_own_are_seen,
    sysfs_shows_the_pods_network,
    the_cgroup_filesystem_begins_at_the_container,
    shared_memory_has_64_mebibytes_unless_the_pod_says_otherwise,
    a_default_mount_is_replaced_by_one_of_the_same_destination,
    without_default_mounts_there_is_nothing_but_the_root,
];

/// Commands for processes in containers.
pub fn payload(words: &[&str]) -> bool {
    match words {
        ["defaults-dev"] => list_dev(),
        ["defaults-pty"] => open_pty(),
        _ => return false,
    }
    true
}

fn the_default_mounts_have_their_types_and_flags() -> Outcome {
    let fixture = Fixture::new();
    let facts = facts(&fixture.pod("web"), |spec| spec);
    for (path, fstype, flags) in [
        ("/proc", "proc", "rw nosuid nodev noexec"),
        ("/sys", "sysfs", "ro nosuid nodev noexec"),
        ("/sys/fs/cgroup", "cgroup2", "ro nosuid nodev noexec"),
        ("/dev", "tmpfs", "rw nosuid noexec"),
        ("/dev/pts", "devpts", "rw nosuid noexec"),
        ("/dev/shm", "tmpfs", "rw nosuid nodev noexec"),
        ("/dev/mqueue", "mqueue", "rw nosuid nodev noexec"),
    ] {
        let (options, found, _) = facts.mount(path).expect(path);
        let kept: Vec<_> = options.into_iter().filter(|option| !option.contains("atime")).collect();
        assert_eq!((found, kept.join(" ").as_str()), (fstype, flags), "{path}");
    }
    let (_, _, devpts) = facts.mount("/dev/pts").expect("devpts");
    assert!(["gid=5", "mode=620", "ptmxmode=666"].iter().all(|option| devpts.contains(option)), "{devpts:?}");
    let (_, _, dev) = facts.mount("/dev").expect("dev");
    assert!(dev.contains(&"mode=755") && dev.contains(&"size=65536k"), "{dev:?}");
    PASS
}

fn list_dev() {
    let mut lines: Vec<String> = std::fs::read_dir("/dev")
        .expect("read /dev")
        .flatten()
        .map(|entry| {
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            let data = std::fs::symlink_metadata(&path).expect("stat");
            let mode = data.mode() & 0o7777;
            if data.file_type().is_symlink() {
                format!("{name} -> {}", std::fs::read_link(&path).expect("read a link").display())
            } else if data.file_type().is_char_device() {
                let (major, minor) = (nix::sys::stat::major(data.rdev()), nix::sys::stat::minor(data.rdev()));
                format!("{name} c {major}:{minor} {mode:o} {}:{}", data.uid(), data.gid())
            } else {
                format!("{name} {} {mode:o}", if data.is_dir() { "directory" } else { "other" })
            }
        })
        .collect();
    lines.sort();
    println!("{}", lines.join("\n"));
}

fn dev_has_the_nodes_and_links_of_the_oci_default_and_nothing_else() -> Outcome {
    let fixture = Fixture::new();
    let text = say(&fixture.pod("web"), payload_spec("a", &["defaults-dev"]));
    let expected = [
        "fd -> /proc/self/fd",
        "full c 1:7 666 0:0",
        // The mode of the mount's root, not of the directory below it.
        "mqueue directory 1777",
        "null c 1:3 666 0:0",
        "ptmx -> pts/ptmx",
        "pts directory 755",
        "random c 1:8 666 0:0",
        "shm directory 1777",
        "stderr -> /proc/self/fd/2",
        "stdin -> /proc/self/fd/0",
        "stdout -> /proc/self/fd/1",
        "tty c 5:0 666 0:0",
        "urandom c 1:9 666 0:0",
        "zero c 1:5 666 0:0",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    PASS
}

fn the_device_nodes_work() -> Outcome {
    let fixture = Fixture::new();
    let command = "echo x >/dev/null && cat /dev/null; for d in zero urandom random; do head -c 5 /dev/$d | wc -c; done; \
                   head -c 3 /dev/zero | tr '\\0' z; echo; dd if=/dev/zero of=/dev/full count=1 2>&1 | grep -o 'No space left'";
    // As an ordinary user too: the nodes are for everyone.
    for (uid, name) in [(0, "a"), (1000, "b")] {
        let text = say(&fixture.pod(name), script(name, command).user(uid, uid));
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>(),
            ["5", "5", "5", "zzz", "No", "space", "left"]
        );
    }
    PASS
}

fn open_pty() {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    let pty = nix::pty::openpty(None, None).expect("open a pseudo-terminal");
    let name = std::fs::read_link(format!("/proc/self/fd/{}", pty.slave.as_raw_fd())).expect("its name");
    let (mut master, mut slave) = (std::fs::File::from(pty.master), std::fs::File::from(pty.slave));
    slave.write_all(b"through").expect("write to the slave");
    let mut buffer = [0; 7];
    master.read_exact(&mut buffer).expect("read from the master");
    let mut names: Vec<_> = std::fs::read_dir("/dev/pts")
        .expect("read /dev/pts")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    println!("{} {} {}", name.display(), String::from_utf8_lossy(&buffer), names.join(" "));
}

fn a_pseudo_terminal_can_be_opened_and_only_ones_own_are_seen() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    // The host has one open: it is in another instance of devpts.
    let _hosts = nix::pty::openpty(None, None)?;
    assert_eq!(say(&pod, payload_spec("a", &["defaults-pty"])), "/dev/pts/0 through 0 ptmx\n");
    assert_eq!(
        say(&pod, payload_spec("b", &["defaults-pty"]).user(1000, 1000)),
        "/dev/pts/0 through 0 ptmx\n"
    );
    PASS
}

fn sysfs_shows_the_pods_network() -> Outcome {
    let fixture = Fixture::new();
    let text = say(&fixture.pod("web"), script("a", "ls /sys/class/net; ls -A /sys/devices/virtual/net"));
    assert_eq!(text, "lo\nlo\n");
    PASS
}

/// CVE-2022-0492. Without the step that makes a cgroup namespace (`src/container/plan/build/mod.rs`): "0::/", then the path of
/// the container's cgroup on the host.
fn the_cgroup_filesystem_begins_at_the_container() -> Outcome {
    let fixture = Fixture::new();
    let command = "cat /proc/self/cgroup | grep ^0; head -n 1 /sys/fs/cgroup/cgroup.procs; \
                   ls /sys/fs/cgroup/cgroup.kill; ls -d /sys/fs/cgroup/*/ 2>/dev/null; \
                   echo 1 >/sys/fs/cgroup/cgroup.kill; mkdir /sys/fs/cgroup/x; ls /sys/fs/cgroup/../../fs/cgroup/.. | wc -l";
    let (_, text) = output(&fixture.pod("web"), script("a", command))?;
    assert!(text.starts_with("0::/\n1\n/sys/fs/cgroup/cgroup.kill\n"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    PASS
}

fn shared_memory_has_64_mebibytes_unless_the_pod_says_otherwise() -> Outcome {
    let fixture = Fixture::new();
    let command = "stat -c %a /dev/shm; stat -f -c '%b %s' /dev/shm";
    for (name, spec, bytes) in
        [("a", PodSpec::new("a"), 64 << 20), ("b", PodSpec::new("b").shm_size(1 << 20), 1 << 20)]
    {
        let pod = fixture.node.create_pod(&spec)?;
        let text = say(&pod, script(name, command));
        let words: Vec<u64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        assert_eq!((words[0], words[1] * words[2]), (1777, bytes), "{text}");
        let fill = "dd if=/dev/zero of=/dev/shm/x bs=65536 count=17 2>&1 | grep -c 'No space'";
        assert_eq!(output(&pod, script(name, fill))?.1.trim(), if name == "a" { "0" } else { "1" });
    }
    PASS
}

fn a_default_mount_is_replaced_by_one_of_the_same_destination() -> Outcome {
    let fixture = Fixture::new();
    let facts = facts(&fixture.pod("web"), |spec| {
        spec.mount(Mount::tmpfs("/dev/shm/", 1 << 20).readonly(true))
            .mount(Mount::of(MountKind::Proc, "/proc").readonly(true).nosuid(true))
            .mount(Mount::tmpfs("/sys", 1 << 16))
            .mount(Mount::tmpfs("/dev", 1 << 16).nosuid(true))
    });
    let (shm, _, superblock) = facts.mount("/dev/shm").expect("shm");
    assert!(shm.contains(&"ro") && superblock.contains(&"size=1024k"), "{:#?}", facts.mounts);
    let (proc, fstype, _) = facts.mount("/proc").expect("proc");
    assert!(fstype == "proc" && proc.contains(&"ro") && !proc.contains(&"noexec"), "{:#?}", facts.mounts);
    assert_eq!(facts.mount("/sys").expect("sys").1, "tmpfs");
    // What goes below a replaced mount is made in it: it keeps the place of the default one.
    assert_eq!(facts.mount("/sys/fs/cgroup").expect("cgroup").1, "cgroup2");
    assert_eq!(facts.mount("/dev/pts").expect("pts").1, "devpts");
    for path in ["/proc", "/sys", "/dev", "/dev/shm"] {
        let count = facts.mounts.iter().filter(|line| line.split(' ').nth(4) == Some(path)).count();
        assert_eq!(count, 1, "{path}");
    }
    PASS
}

fn without_default_mounts_there_is_nothing_but_the_root() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let text = say(
        &pod,
        script("a", "ls -A /proc /sys; ls /dev/pts /dev/shm 2>&1 | grep -v ptmx; exit 0")
            .default_mounts(false),
    );
    assert!(text.starts_with("/proc:\n\n/sys:\n"), "{text}");
    let spec = script("b", "cat /proc/self/mountinfo")
        .default_mounts(false)
        .mount(Mount::of(MountKind::Proc, "/proc"));
    let mut spec = spec;
    spec.security.masked_paths.clear();
    spec.security.readonly_paths.clear();
    let text = say(&pod, spec);
    let points: Vec<_> = text.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(points, ["/", "/proc"]);
    PASS
}
