//! The case `container-full`: a container with one of each of the things that its configuration may ask for besides the
//! defaults. Floor and library take it from here.

use std::ffi::CStr;

pub const UID: u32 = 1000;
pub const GID: u32 = 1000;
pub const GROUPS: [u32; 3] = [10, 20, 30];
pub const UMASK: u32 = 0o027;
/// CAP_NET_BIND_SERVICE
pub const AMBIENT: u64 = 10;
pub const RLIMITS: [(u32, u64, u64); 3] =
    [(libc::RLIMIT_NOFILE, 1024, 4096), (libc::RLIMIT_CORE, 0, 0), (libc::RLIMIT_STACK, 8 << 20, 16 << 20)];
pub const OOM_SCORE_ADJ: i32 = 500;
pub const OOM_SCORE_ADJ_TEXT: &[u8] = b"500";
pub const IO_PRIORITY: u8 = 6;
pub const NICE: i32 = 5;
/// A directory and a file of the root filesystem, which come a second time, read-only.
pub const DATA_SOURCE: &CStr = c"root";
pub const FILE_SOURCE: &CStr = c"etc/hosts";
pub const DATA: &CStr = c"var";
pub const FILE: &CStr = c"etc/hosts";
pub const TMPFS: &CStr = c"tmp";
pub const DEVICE: &CStr = c"dev/fuse";
pub const DEVICE_NUMBER: (u32, u32) = (10, 229);

/// What it looks like from inside.
pub const SCRIPT: &str = r#"
b=/bin/busybox
echo "id $($b id -u):$($b id -g):$($b id -G)"
echo "umask $(umask)"
echo "ambient $($b sed -n 's/^CapAmb:[[:space:]]*//p' /proc/self/status)"
echo "nofile $(ulimit -Sn):$(ulimit -Hn)"
echo "core $(ulimit -Hc)"
echo "stack $(ulimit -Ss):$(ulimit -Hs)"
echo "oom $($b cat /proc/self/oom_score_adj)"
echo "nice $($b cut -d' ' -f19 /proc/self/stat)"
echo "policy $($b cut -d' ' -f41 /proc/self/stat)"
echo "ionice $($b ionice -p $$)"
for d in / /var /etc/hosts /tmp; do
    echo "mount $d $($b awk -v d=$d '$5 == d { o = $6 } END { print o }' /proc/self/mountinfo)"
done
echo "tmpfs $($b df -k /tmp | $b awk 'END { print $2 }')"
echo "device $($b stat -c %t:%T:%a /dev/fuse)"
(: < /dev/fuse) 2>/dev/null; echo "open $?"
"#;

/// What is not as it should be.
pub fn judge(output: &str) -> Vec<String> {
    let (major, minor) = DEVICE_NUMBER;
    let mut right = vec![
        format!("id {UID}:{GID}:{GID} 10 20 30"),
        format!("umask {UMASK:04o}"),
        format!("ambient {:016x}", 1u64 << AMBIENT),
        "nofile 1024:4096".into(),
        "core 0".into(),
        "stack 8192:16384".into(),
        format!("oom {OOM_SCORE_ADJ}"),
        format!("nice {NICE}"),
        format!("policy {}", libc::SCHED_BATCH),
        format!("ionice best-effort: prio {IO_PRIORITY}"),
        "tmpfs 1024".into(),
        format!("device {major:x}:{minor:x}:666"),
    ];
    // Not every machine has the driver; who is not allowed to open it hears of that first.
    let driver = std::path::Path::new("/dev/fuse").exists();
    right.extend(driver.then(|| "open 0".to_string()));
    let mut wrong: Vec<String> = right
        .into_iter()
        .filter(|line| !output.lines().any(|found| found == line))
        .map(|line| format!("not {line:?}"))
        .collect();
    for (point, options) in [
        ("/", &["ro"][..]),
        ("/var", &["ro", "nosuid", "nodev"]),
        ("/etc/hosts", &["ro", "nosuid", "nodev"]),
        ("/tmp", &["rw", "nosuid", "nodev"]),
    ] {
        let found = output.lines().find_map(|line| line.strip_prefix(&format!("mount {point} ")));
        let found: Vec<&str> = found.unwrap_or_default().split(',').collect();
        if !options.iter().all(|option| found.contains(option)) {
            wrong.push(format!("{point} is {found:?}, not {options:?}"));
        }
    }
    wrong
}
