//! Whether a container is isolated as it is said to be: a comparison with a floor that leaves work out says nothing.
//!
//! The script runs in a container; the judgement is made here, on what it printed.

use std::path::Path;

use crate::contender::{Contender, Program, Result};
use crate::full;

const SCRIPT: &str = r#"
b=/bin/busybox
for n in mnt pid net ipc uts cgroup; do echo "ns-$n $($b readlink /proc/self/ns/$n)"; done
echo "pid $$"
$b sed -n 's/^\(Cap...\|NoNewPrivs\|Seccomp\):[[:space:]]*/\1 /p' /proc/self/status
echo "lo $($b cat /sys/class/net/lo/flags)"
echo "cgroup $($b grep ^0:: /proc/self/cgroup)"
$b unshare -U $b true 2>/dev/null; echo "unshare-user $?"
for d in null zero full random urandom tty; do [ -c /dev/$d ] && echo "device-$d yes"; done
for l in fd stdin stdout stderr ptmx; do [ -L /dev/$l ] && echo "link-$l yes"; done
(echo bench > /proc/sys/kernel/domainname) 2>/dev/null; echo "write-sysctl $?"
[ -e /dev/shm/seen ] && [ -e /dev/mqueue/seen ] && echo "shared yes"
: > /dev/shm/seen; : > /dev/mqueue/seen
f=3; while [ $f -lt 100 ]; do [ -e /proc/$$/fd/$f ] && echo "leaked-descriptor $f"; f=$((f+1)); done
$b sed 's/^/mount /' /proc/self/mountinfo
"#;

/// Mount point, type, and options that must be among those of the mount or of its file system.
const MOUNTS: [(&str, &str, &[&str]); 8] = [
    ("/", "", &[]),
    ("/proc", "proc", &["nosuid", "nodev", "noexec"]),
    ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
    ("/sys/fs/cgroup", "cgroup2", &["ro", "nosuid", "nodev", "noexec"]),
    ("/dev", "tmpfs", &["nosuid", "mode=755"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec", "ptmxmode=666"]),
    ("/dev/shm", "tmpfs", &["nosuid", "nodev", "noexec", "size=65536k"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "nodev", "noexec"]),
];

/// Hidden or read-only in a container, where this machine has them.
const COVERED: [&str; 16] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Looks at two containers of the standing pod; `Ok(false)` when the contender cannot show them.
pub fn verify(contender: &mut dyn Contender) -> Result<bool> {
    let Some(first) = contender.shell(Program::Busybox, SCRIPT)? else { return Ok(false) };
    let Some(second) = contender.shell(Program::Busybox, SCRIPT)? else { return Ok(false) };
    let Some(third) = contender.shell(Program::Full, full::SCRIPT)? else { return Ok(false) };
    let mut wrong = judge(&first);
    wrong.extend(judge(&second));
    wrong.extend(full::judge(&third).into_iter().map(|what| format!("container-full: {what}")));
    for kind in ["ns-net", "ns-ipc", "ns-uts"] {
        if value(&first, kind) != value(&second, kind) {
            wrong.push(format!("{kind} is not shared by two containers of a pod"));
        }
    }
    if value(&second, "shared") != "yes" {
        wrong.push("/dev/shm or /dev/mqueue is not shared by two containers of a pod".into());
    }
    wrong.sort();
    wrong.dedup();
    if wrong.is_empty() {
        return Ok(true);
    }
    Err(format!("{} does not isolate as it should:\n  {}", contender.name(), wrong.join("\n  ")).into())
}

fn value<'a>(output: &'a str, key: &str) -> &'a str {
    output.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).unwrap_or("(nothing)")
}

fn judge(output: &str) -> Vec<String> {
    const CAPABILITIES: &str = "00000000a80425fb";
    let mut wrong = Vec::new();
    let mut expect = |key: &str, right: &dyn Fn(&str) -> bool| {
        let value = value(output, key);
        if !right(value) {
            wrong.push(format!("{key}: {value}"));
        }
    };
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
        expect(&format!("ns-{kind}"), &|value| value.starts_with(kind) && Path::new(value) != ours);
    }
    expect("pid", &|value| value == "1");
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        expect(set, &|value| value == CAPABILITIES);
    }
    expect("CapInh", &|value| value == "0000000000000000");
    expect("NoNewPrivs", &|value| value == "1");
    expect("Seccomp", &|value| value == "2");
    // A user namespace needs no capability: what refuses it is the seccomp filter.
    expect("unshare-user", &|value| value != "0" && value != "127" && value != "(nothing)");
    expect("write-sysctl", &|value| value != "0" && value != "(nothing)");
    expect("lo", &|value| value == "0x9");
    expect("cgroup", &|value| value == "0::/");
    expect("leaked-descriptor", &|value| value == "(nothing)");
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        expect(&format!("device-{device}"), &|value| value == "yes");
    }
    for link in ["fd", "stdin", "stdout", "stderr", "ptmx"] {
        expect(&format!("link-{link}"), &|value| value == "yes");
    }
    for (point, kind, options) in MOUNTS {
        match mount(output, point) {
            Some((found, has)) if kind.is_empty() || found == kind => {
                for option in options.iter().filter(|option| !has.contains(option)) {
                    wrong.push(format!("{point} is not {option}"));
                }
            }
            other => wrong.push(format!("{point} is {other:?}, not {kind}")),
        }
    }
    for path in COVERED.into_iter().filter(|path| Path::new(path).exists()) {
        if mount(output, path).is_none() {
            wrong.push(format!("{path} is neither hidden nor read-only"));
        }
    }
    wrong
}

/// Type and options of the topmost mount at `point`.
fn mount<'a>(output: &'a str, point: &str) -> Option<(&'a str, Vec<&'a str>)> {
    output.lines().rev().find_map(|line| {
        let (left, right) = line.strip_prefix("mount ")?.split_once(" - ")?;
        let mut left = left.split(' ').skip(4);
        if left.next()? != point {
            return None;
        }
        let mut right = right.split(' ');
        let kind = right.next()?;
        Some((kind, left.next()?.split(',').chain(right.nth(1)?.split(',')).collect()))
    })
}
