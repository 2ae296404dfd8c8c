//! What the races have in common: a thread that exchanges names, and looks at what it must not have changed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::robust::in_guest;

/// How often something is tried: there is one slow processor in the guest.
pub fn rounds(natively: usize) -> usize {
    if in_guest() { natively.div_ceil(25) } else { natively }
}

/// A thread that exchanges names, there and back, one pair after the other, until it is dropped.
pub struct Swapper {
    over: Arc<AtomicBool>,
    pause: Arc<AtomicBool>,
    /// Held while names are exchanged, unless it pauses.
    busy: Arc<Mutex<()>>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    pub fn new(pairs: Vec<(PathBuf, PathBuf)>) -> Swapper {
        let flag = || Arc::new(AtomicBool::new(false));
        let (over, pause, busy, swaps) =
            (flag(), flag(), Arc::new(Mutex::new(())), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (over, pause, busy, swaps) = (over.clone(), pause.clone(), busy.clone(), swaps.clone());
            move || {
                for (a, b) in pairs.iter().cycle() {
                    while pause.load(Ordering::SeqCst) && !over.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                    let _busy = busy.lock().expect("nobody panics with it");
                    for _ in 0..2 {
                        renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE)
                            .expect("exchange two names");
                        swaps.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                    }
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        });
        Swapper { over, pause, busy, swaps, thread: Some(thread) }
    }

    /// Looks at something while every name is where it was at first.
    pub fn paused<T>(&self, look: impl FnOnce() -> T) -> T {
        self.pause.store(true, Ordering::SeqCst);
        drop(self.busy.lock());
        let seen = look();
        self.pause.store(false, Ordering::SeqCst);
        seen
    }

    pub fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(panic)) = ended
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Everything in a directory of the host that a mount, a mount point or a node that was made would change.
pub fn listing(directory: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let metadata = fs::symlink_metadata(directory).expect("stat");
    all.insert(format!(
        "{} {:o} {}:{} {}.{}",
        directory.display(),
        metadata.mode(),
        metadata.dev(),
        metadata.ino(),
        metadata.ctime(),
        metadata.ctime_nsec()
    ));
    if metadata.is_dir() {
        for entry in fs::read_dir(directory).expect("list a directory") {
            all.extend(listing(&entry.expect("an entry").path()));
        }
    }
    all
}

/// The lines of the host's mount table about a directory and what is below.
pub fn host_mounts(directory: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read the mount table");
    let name = directory.display().to_string();
    table.lines().filter(|line| line.contains(&name)).map(str::to_string).collect()
}

/// A line of proc_pid_mountinfo(5).
pub struct Line {
    pub id: String,
    parent: String,
    pub device: String,
    pub root: String,
    pub point: String,
    options: String,
    pub fstype: String,
}

/// The mount table of a process, as it sees it.
pub fn table(pid: i32) -> Vec<Line> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("read the mount table");
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let fstype = fields.iter().skip_while(|field| **field != "-").nth(1).expect("a type");
            Line {
                id: fields[0].into(),
                parent: fields[1].into(),
                device: fields[2].into(),
                root: fields[3].into(),
                point: fields[4].into(),
                options: fields[5].into(),
                fstype: (*fstype).into(),
            }
        })
        .collect()
}

/// What lies over a container's proc and sysfs, wherever these are: masks and read-only copies of the right places, or
/// what a hostile root filesystem led there.
pub fn covers(pid: i32) -> BTreeSet<String> {
    let table = table(pid);
    let mut covers = BTreeSet::new();
    for fstype in ["proc", "sysfs"] {
        let tops = |line: &&Line| {
            line.fstype == fstype
                && line.root == "/"
                && table.iter().any(|root| root.id == line.parent && root.point == "/")
        };
        for top in table.iter().filter(tops) {
            covers.insert(format!("{fstype} {}", top.options));
            let mut known = vec![(&top.id, top.point.as_str())];
            while let Some((id, _)) = known.pop() {
                for line in table.iter().filter(|line| line.parent == *id) {
                    let place = line.point.strip_prefix(&top.point).unwrap_or(&line.point);
                    covers.insert(format!("{fstype}{place} {} {} {}", line.fstype, line.root, line.options));
                    known.push((&line.id, &line.point));
                }
            }
        }
    }
    covers
}
