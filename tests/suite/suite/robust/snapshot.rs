//! All that a process has which a library could change behind its back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;

/// By name, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, String>);

/// Lines of `/proc/PID/status` that tell of what a thread is, and not of what it happens to do.
const STATUS: &[&str] = &[
    "Name",
    "Umask",
    "Tgid",
    "PPid",
    "TracerPid",
    "Uid",
    "Gid",
    "FDSize",
    "Groups",
    "NSpid",
    "NSsid",
    "Threads",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Cpus_allowed_list",
    "Mems_allowed_list",
    "CoreDumping",
    "THP_enabled",
];

impl Snapshot {
    pub fn take() -> Snapshot {
        let mut all = BTreeMap::new();
        let mut put = |key: String, value: String| drop(all.insert(key, value));
        for link in ["cwd", "root", "exe"] {
            let path = format!("/proc/self/{link}");
            let inode = fs::metadata(&path).map(|meta| (meta.dev(), meta.ino()));
            put(link.into(), format!("{:?} {inode:?}", fs::read_link(&path)));
        }
        put("environment".into(), format!("{:?}", std::env::vars_os().collect::<Vec<_>>()));
        for file in [
            "environ",
            "limits",
            "oom_score_adj",
            "personality",
            "cgroup",
            "coredump_filter",
            "cmdline",
            "timers",
        ] {
            put(file.into(), read(Path::new("/proc/self").join(file)));
        }
        put("dumpable".into(), format!("{:?}", prctl::get_dumpable()));
        put("subreaper".into(), format!("{:?}", prctl::get_child_subreaper()));
        put("parent death signal".into(), format!("{:?}", prctl::get_pdeathsig()));
        put("timer slack".into(), format!("{:?}", prctl::get_timerslack()));
        for signal in 1..=64 {
            put(format!("action of signal {signal}"), format!("{:x?}", action(signal)));
        }
        put("mounts".into(), mounts().join("\n"));
        put("children".into(), children().join(" "));
        for thread in names("/proc/self/task") {
            let dir = Path::new("/proc/self/task").join(&thread);
            for line in read(dir.join("status")).lines() {
                if let Some((key, value)) = line.split_once(':')
                    && STATUS.contains(&key)
                {
                    put(format!("thread {thread} {key}"), value.trim().into());
                }
            }
            for kind in names(dir.join("ns")) {
                let link = fs::read_link(dir.join("ns").join(&kind));
                put(format!("thread {thread} namespace {kind}"), format!("{link:?}"));
            }
            put(format!("thread {thread} cgroup"), read(dir.join("cgroup")));
            // Priority and nice value, real-time priority and scheduling policy, see proc_pid_stat(5).
            let stat = read(dir.join("stat"));
            let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split(' ').collect();
            put(
                format!("thread {thread} schedule"),
                format!("{:?}", [16, 17, 38, 39].map(|at| fields.get(at))),
            );
        }
        for (number, text) in descriptors() {
            put(format!("descriptor {number}"), text);
        }
        Snapshot(all)
    }

    fn without(mut self, prefixes: &[&str]) -> Snapshot {
        self.0.retain(|key, _| !prefixes.iter().any(|prefix| key.starts_with(prefix)));
        self
    }

    /// What has changed since then, in words, but for what begins as said; nothing when all is as it was.
    ///
    /// A thread that has been joined is in `/proc` until the kernel is done with it: a change is one when it stays.
    pub fn changes(&self, but: &[&str]) -> Vec<String> {
        let before = self.clone().without(but);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let changes = before.differences(&Snapshot::take().without(but));
            if changes.is_empty() || Instant::now() > deadline {
                return changes;
            }
            std::thread::yield_now();
        }
    }

    fn differences(&self, later: &Snapshot) -> Vec<String> {
        let keys: std::collections::BTreeSet<&String> = self.0.keys().chain(later.0.keys()).collect();
        keys.into_iter()
            .filter(|key| self.0.get(*key) != later.0.get(*key))
            .map(|key| format!("{key}: {:?} became {:?}", self.0.get(key), later.0.get(key)))
            .collect()
    }
}

fn read(path: impl AsRef<Path>) -> String {
    let bytes = fs::read(&path).unwrap_or_else(|error| format!("{error}").into_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

fn names(path: impl AsRef<Path>) -> Vec<String> {
    // A thread may end meanwhile.
    let Ok(dir) = fs::read_dir(path) else { return Vec::new() };
    let mut names: Vec<_> =
        dir.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

static OURS: OnceLock<Vec<String>> = OnceLock::new();

/// Says what the mounts of this program have in their paths: other tests mount things meanwhile.
pub fn watch_mounts(ours: &[&str]) {
    OURS.set(ours.iter().map(|path| path.to_string()).collect()).expect("said once");
}

/// The mount table without the ids of mounts, and without what belongs to other tests.
fn mounts() -> Vec<String> {
    let ours = OURS.get().map_or(&[][..], Vec::as_slice);
    let of_others = |line: &str| line.contains("pericarp") || line.contains("/.tmp");
    read("/proc/self/mountinfo")
        .lines()
        .filter(|line| ours.iter().any(|path| line.contains(path.as_str())) || !of_others(line))
        .map(|line| line.split(' ').skip(3).collect::<Vec<_>>().join(" "))
        .collect()
}

/// The children of this process.
pub fn children() -> Vec<String> {
    // A thread may end meanwhile; its children are then another's.
    let list =
        |thread: String| fs::read_to_string(format!("/proc/self/task/{thread}/children")).unwrap_or_default();
    names("/proc/self/task").into_iter().map(list).flat_map(|list| words(&list)).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_string).collect()
}

/// Open files by number, with where they lead and their flags. That of the directory which is read is left out.
pub fn descriptors() -> BTreeMap<i32, String> {
    let mut all = BTreeMap::new();
    for name in names("/proc/self/fd") {
        let number: i32 = name.parse().expect("a number");
        let Ok(target) = fs::read_link(format!("/proc/self/fd/{number}")) else { continue };
        if let Some(flags) = flags(number) {
            all.insert(number, format!("{} {flags:?}", target.display()));
        }
    }
    all
}

/// The open files with a number of at least 3 that would stay open through execve(2).
pub fn open_on_exec() -> Vec<String> {
    descriptors()
        .into_iter()
        .filter(|(number, _)| *number > 2 && flags(*number) == Some(FdFlag::empty()))
        .map(|(number, text)| format!("{number} {text}"))
        .collect()
}

fn flags(number: i32) -> Option<FdFlag> {
    // SAFETY: the number is only asked about, and closed descriptors give an error.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    fcntl(fd, FcntlArg::F_GETFD).ok().map(FdFlag::from_bits_retain)
}

/// What the kernel does on a signal: `struct sigaction` of rt_sigaction(2), which libc does not show for its own two.
fn action(signal: i32) -> [u64; 4] {
    let mut action = [0u64; 4];
    let null = std::ptr::null::<u64>();
    // SAFETY: nothing is set, and the kernel's structure has four words of which the last is the 8 bytes of the mask.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, null, action.as_mut_ptr(), 8) };
    assert_eq!(result, 0, "rt_sigaction {signal}");
    action
}
