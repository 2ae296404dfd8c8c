//! OCI bundles with the isolation of the floor, for the command-line runtimes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::contender::Result;
use crate::floor::seccomp;

/// Which namespaces a bundle's container gets.
pub enum Namespaces {
    /// All six are its own.
    New,
    /// Network, IPC and UTS are those of a process whose pid replaces `@PID@` in the configuration.
    Joined,
}

/// What stands in the configuration where the pid of the pod's first process belongs.
pub const PID: &str = "@PID@";

const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Makes the bundle's folder and returns it.
pub fn write(bundle: PathBuf, configuration: &str) -> Result<PathBuf> {
    fs::create_dir_all(&bundle)?;
    fs::write(bundle.join("config.json"), configuration)?;
    Ok(bundle)
}

pub fn configuration(rootfs: &Path, args: &[&str], namespaces: &Namespaces, cgroup: &Path) -> String {
    let own = |kind: &str| json!({ "type": kind });
    let joined = |kind: &str, file: &str| json!({ "type": kind, "path": format!("/proc/{PID}/ns/{file}") });
    let mut list = vec![own("pid"), own("mount"), own("cgroup")];
    match namespaces {
        Namespaces::New => list.extend(["network", "ipc", "uts"].map(own)),
        Namespaces::Joined => {
            list.extend([joined("network", "net"), joined("ipc", "ipc"), joined("uts", "uts")]);
        }
    }
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES },
            "noNewPrivileges": true,
        },
        "root": { "path": rootfs, "readonly": false },
        "mounts": mounts(),
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": list,
            "seccomp": profile(),
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
                "/sys/devices/virtual/powercap"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    });
    if matches!(namespaces, Namespaces::New) {
        spec["hostname"] = json!("pod");
    }
    spec.to_string()
}

fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let shm = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
    let hard = ["nosuid", "noexec", "nodev"];
    let read_only = ["nosuid", "noexec", "nodev", "ro"];
    json!([
        mount("/proc", "proc", &hard),
        mount("/dev", "tmpfs", &dev),
        mount("/dev/pts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", &shm),
        mount("/dev/mqueue", "mqueue", &hard),
        mount("/sys", "sysfs", &read_only),
        mount("/sys/fs/cgroup", "cgroup", &read_only),
    ])
}

fn profile() -> Value {
    let allow = |name: &str, arguments: Value| json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": arguments });
    let equal = |value: u64| json!([{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }]);
    let no_namespaces =
        json!([{ "index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }]);
    let architectures: &[&str] = if cfg!(target_arch = "x86_64") {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    } else {
        &["SCMP_ARCH_AARCH64"]
    };
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": architectures,
        "syscalls": [
            { "names": seccomp::names(), "action": "SCMP_ACT_ALLOW" },
            allow("personality", equal(0)),
            allow("personality", equal(8)),
            allow("clone", no_namespaces),
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
        ],
    })
}
