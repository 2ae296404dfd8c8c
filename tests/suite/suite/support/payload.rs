//! What runs in the containers: it tells what it sees, or does one thing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};

/// What a process sees of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// Fields of `/proc/self/status`.
    pub status: BTreeMap<String, String>,
    pub pid: u32,
    pub session: i32,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: String,
    pub umask: u32,
    /// Kind to inode number, from `/proc/self/ns`.
    pub namespaces: BTreeMap<String, u64>,
    pub hostname: String,
    pub domainname: String,
    /// Lines of `/proc/self/mountinfo`.
    pub mounts: Vec<String>,
    /// Number to target, from `/proc/self/fd`.
    pub fds: BTreeMap<u32, String>,
    /// Lines of `/proc/self/limits`.
    pub limits: Vec<String>,
    /// `/proc/self/cgroup`.
    pub cgroup: String,
    /// Signals with other dispositions or masks are in `status` (SigIgn, SigBlk).
    pub oom_score_adj: String,
}

impl Facts {
    fn gather() -> Facts {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let lines = |path: &str| read(path).lines().map(str::to_string).collect();
        let status = read("/proc/self/status")
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.to_string(), value.trim().to_string()))
            .collect::<BTreeMap<_, _>>();
        let fds = fs::read_dir("/proc/self/fd")
            .map(|dir| {
                dir.flatten()
                    .filter_map(|entry| {
                        let number = entry.file_name().to_string_lossy().parse().ok()?;
                        // The descriptor of this very directory is gone when its link is read.
                        let target = fs::read_link(entry.path()).ok()?.display().to_string();
                        (!target.ends_with("/fd")).then_some((number, target))
                    })
                    .collect()
            })
            .unwrap_or_default();
        let namespaces = ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"]
            .into_iter()
            .filter_map(|kind| {
                Some((kind.to_string(), fs::metadata(format!("/proc/self/ns/{kind}")).ok()?.ino()))
            })
            .collect();
        let old = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        nix::sys::stat::umask(old);
        Facts {
            status,
            pid: std::process::id(),
            session: nix::unistd::getsid(None).map_or(-1, nix::unistd::Pid::as_raw),
            args: std::env::args().collect(),
            env: std::env::vars().collect(),
            cwd: std::env::current_dir()
                .map_or_else(|error| error.to_string(), |cwd| cwd.display().to_string()),
            umask: old.bits(),
            namespaces,
            hostname: read("/proc/sys/kernel/hostname").trim().to_string(),
            domainname: read("/proc/sys/kernel/domainname").trim().to_string(),
            mounts: lines("/proc/self/mountinfo"),
            fds,
            limits: lines("/proc/self/limits"),
            cgroup: read("/proc/self/cgroup"),
            oom_score_adj: read("/proc/self/oom_score_adj").trim().to_string(),
        }
    }

    /// The mount at a path: its options, its type, and the options of its superblock.
    pub fn mount(&self, path: &str) -> Option<(Vec<&str>, &str, Vec<&str>)> {
        // The last one covers those before it.
        let line = self.mounts.iter().rev().find(|line| line.split(' ').nth(4) == Some(path))?;
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let fstype = right.next()?;
        let superblock = right.nth(1)?;
        Some((left.split(' ').nth(5)?.split(',').collect(), fstype, superblock.split(',').collect()))
    }
}

/// The payload: ends the process.
pub fn main(words: &[&str]) -> ! {
    match words {
        ["facts"] => println!("{}", serde_json::to_string(&Facts::gather()).expect("facts are JSON")),
        ["exit", code] => std::process::exit(code.parse().expect("a number")),
        ["sleep"] => loop {
            std::thread::park();
        },
        other => {
            eprintln!("payload: unknown command {other:?}");
            std::process::exit(99);
        }
    }
    std::process::exit(0)
}
