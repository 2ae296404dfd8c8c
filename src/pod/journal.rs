//! The journal of a pod: what is to be told of containers that are gone.
//!
//! Who watches a pod ([`Pod::events`](super::Pod::events)) sees what there is when it looks. A container may have come,
//! ended and gone in between, and another program may have made it. So whoever removes a container of a watched pod
//! writes down how it ended, in the pod's directory, before the container's directory goes. Unless the specification says
//! otherwise ([`PodSpec::journal`](crate::PodSpec::journal)) that is also done before anybody watches.
//!
//! That a pod is watched is told by the sticky bit of its directory and of its containers' directories: who makes or
//! removes a container looks at those anyway. When a whole pod is removed, the journal goes with it, and only those who
//! have it open read what is written then: so that is done for a pod that is watched, and for no other.
//!
//! The file begins with a line that says how many records were dropped before those in it. It is emptied when it has
//! grown to [`FULL`], or when there is no room, by whoever adds to it. Readers keep it open, and take no lock.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{FlockArg, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod};
use serde::{Deserialize, Serialize};

use super::state::{self, ContainerState, ExitState, ProcessRef};
use crate::cgroup::{Cgroup, MemoryCounts};
use crate::container::{ExitStatus, exit};
use crate::error::{Context, Result};
use crate::node::{self, Node};
use crate::sys::pidfd;

/// The file in a pod's directory.
pub(crate) const FILE: &str = "ended";
/// How it is opened.
const OPEN: OFlag = OFlag::O_RDWR.union(OFlag::O_APPEND).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// The bytes at which the journal is emptied: the ends of some 5000 containers.
const FULL: u64 = 1 << 20;
/// The bytes of the first line: a number of 20 digits, and its end.
const FIRST: u64 = 21;

/// What is told of a container that is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) process: ProcessRef,
    /// Nanoseconds since 1970.
    pub(crate) created_at: u64,
    pub(crate) started: bool,
    /// The status word of wait(2), if anybody knows it.
    pub(crate) status: Option<i32>,
    /// `None` where there is no memory controller.
    pub(crate) memory: Option<MemoryCounts>,
}

/// Whether somebody watches what this directory is of.
pub(crate) fn is_watched(dir: &FileStat) -> bool {
    dir.st_mode & libc::S_ISVTX != 0
}

/// Says of a directory that it is watched.
pub(crate) fn watch(dir: impl AsFd) -> crate::sys::Result<()> {
    fchmod(dir, Mode::S_IRWXU | Mode::S_ISVTX)
}

/// What a container's `memory.events` say.
pub(crate) fn memory_of(cgroup: Option<&Cgroup>) -> Option<MemoryCounts> {
    cgroup.and_then(|cgroup| cgroup.memory_counts("memory.events").ok().flatten())
}

/// Adds to the journal of the pod in `dir`, which must not be locked by this thread. Does nothing when the pod is gone.
pub(crate) fn append(dir: &OwnedFd, ended: &Ended) -> Result<()> {
    let Some(file) = open_to_add(dir).step("open", "the pod's journal")? else { return Ok(()) };
    let file = File::from(file);
    // The lock goes when it is closed.
    while let Err(error) = file.lock() {
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error).step("lock", "the pod's journal");
        }
    }
    write(&file, ended, FULL).step("write", "the pod's journal")
}

/// Opens the journal, and makes it if there is none.
fn open_to_add(dir: &OwnedFd) -> crate::sys::Result<Option<OwnedFd>> {
    let open = |flags| openat(dir, FILE, OPEN | flags, Mode::S_IRUSR | Mode::S_IWUSR);
    match open(OFlag::empty()) {
        Err(Errno::ENOENT) => {}
        file => return file.map(Some),
    }
    // Whoever removes the pod has it locked: a file that comes while its directory is removed would keep that.
    let _stays = node::lock(node::open_directory(dir, ".")?, FlockArg::LockShared)?;
    match open(OFlag::O_CREAT) {
        Err(Errno::ENOENT) => Ok(None),
        file => file.map(Some),
    }
}

fn write(file: &File, ended: &Ended, full: u64) -> std::io::Result<()> {
    let mut length = file.metadata()?.len();
    if !(FIRST..full).contains(&length) {
        length = empty(file, length, 0)?;
    }
    let mut line = serde_json::to_vec(ended)?;
    line.push(b'\n');
    match std::io::Write::write_all(&mut &*file, &line) {
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => empty(file, length, 1).map(drop),
        written => written,
    }
}

/// Drops the records in the first `length` bytes, and so many more. Returns the bytes that there are then.
fn empty(file: &File, length: u64, more: u64) -> std::io::Result<u64> {
    let mut text = vec![0; length as usize];
    file.read_exact_at(&mut text, 0)?;
    // All lines but the first are records.
    let records = text.iter().filter(|byte| **byte == b'\n').count().saturating_sub(1) as u64;
    let dropped = number(&text).unwrap_or(0) + records + more;
    file.set_len(0)?;
    std::io::Write::write_all(&mut &*file, first_line(dropped).as_bytes())?;
    Ok(FIRST)
}

fn first_line(dropped: u64) -> String {
    format!("{dropped:020}\n")
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text.get(..FIRST as usize)?).ok()?.trim_end().parse().ok()
}

/// Who reads a journal, from its beginning.
pub(crate) struct Reader {
    file: File,
    offset: u64,
    /// What the first line said when it was read last.
    dropped: u64,
    /// The records that were read or dropped.
    passed: u64,
}

/// What was added to a journal.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct News {
    pub(crate) ended: Vec<Ended>,
    /// Containers whose records were dropped before they were read.
    pub(crate) skipped: u64,
}

impl Reader {
    /// Opens the journal of the pod in `dir`, and makes it if this is the first to read it.
    pub(crate) fn open(dir: BorrowedFd<'_>) -> Result<Self> {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = openat(dir, FILE, OPEN | OFlag::O_CREAT, mode).step("open", "the pod's journal")?;
        Ok(Reader { file: File::from(file), offset: FIRST, dropped: 0, passed: 0 })
    }

    /// What was added since the last call.
    pub(crate) fn read(&mut self) -> Result<News> {
        self.try_read().step("read", "the pod's journal")
    }

    fn try_read(&mut self) -> std::io::Result<News> {
        let mut news = News::default();
        loop {
            let Some(dropped) = self.first()? else { return Ok(news) };
            let (mut offset, mut passed) = (self.offset, self.passed);
            let mut skipped = 0;
            if dropped != self.dropped {
                skipped = dropped.saturating_sub(passed);
                (offset, passed) = (FIRST, dropped);
            }
            let mut text = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                match self.file.read_at(&mut buffer, offset + text.len() as u64)? {
                    0 => break,
                    length => text.extend_from_slice(&buffer[..length]),
                }
            }
            // It may have been emptied meanwhile: what was read then is of no use.
            if self.first()? != Some(dropped) {
                continue;
            }
            // The last line may not be whole yet.
            let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            for line in text[..whole].split_inclusive(|byte| *byte == b'\n') {
                news.ended.push(serde_json::from_slice(line)?);
                passed += 1;
            }
            news.skipped += skipped;
            (self.offset, self.dropped, self.passed) = (offset + whole as u64, dropped, passed);
            return Ok(news);
        }
    }

    /// The number in the first line; `None` while there is none.
    fn first(&self) -> std::io::Result<Option<u64>> {
        let mut text = [0; FIRST as usize];
        let length = self.file.read_at(&mut text, 0)?;
        Ok(number(&text[..length]))
    }
}

/// A container of a pod that is being removed as a whole.
pub(crate) struct Leaving {
    dir: OwnedFd,
    state: ContainerState,
    memory: Option<MemoryCounts>,
    pidfd: Option<OwnedFd>,
    /// Held so that the status, which is taken from the kernel meanwhile, is kept.
    exit: exit::Slot,
}

/// The containers of a pod that is watched, which are about to be killed; none of others.
pub(crate) fn leaving(node: &Node, pod: &OwnedFd, cgroup: &Cgroup) -> Vec<Leaving> {
    if !nix::sys::stat::fstat(pod).is_ok_and(|dir| is_watched(&dir)) {
        return Vec::new();
    }
    let containers = node::open_directory(pod, state::CONTAINERS).and_then(node::names).unwrap_or_default();
    let of = |name: String| {
        let dir = node::open_directory(pod, format!("{}/{name}", state::CONTAINERS).as_str()).ok()?;
        let state: ContainerState = state::read(&dir, state::STATE).ok()??;
        let pidfd = node.0.proc.open_process(&state.process).ok()?;
        let memory = memory_of(cgroup.open_child(&name).ok()?.as_ref());
        Some(Leaving { exit: exit::slot(&state.process), dir, state, memory, pidfd })
    };
    containers.into_iter().filter_map(of).collect()
}

impl Leaving {
    /// Writes down how it ended. That this fails does not keep the pod.
    pub(crate) fn note(&self, pod: &OwnedFd) {
        let known = exit::known(&self.exit).map(ExitStatus::to_wait);
        let written = || Some(state::read::<ExitState>(&self.dir, state::EXIT).ok()??.status);
        let kept = || self.pidfd.as_ref().and_then(pidfd::kept_status);
        let _ = append(
            pod,
            &Ended {
                name: self.state.spec.name.clone(),
                process: self.state.process,
                created_at: self.state.created_at,
                started: self.state.at_once || state::exists(&self.dir, state::STARTED),
                status: known.or_else(written).or_else(kept),
                memory: self.memory,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::state::ProcessIdentity;

    fn ended(number: u64) -> Ended {
        let process = ProcessRef { pid: 7, identity: ProcessIdentity::StartTime(number) };
        let memory = Some(MemoryCounts { oom_kill: number, ..MemoryCounts::default() });
        Ended { name: "a".to_string(), process, created_at: 5, started: true, status: Some(256), memory }
    }

    fn pod() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = OwnedFd::from(File::open(dir.path()).unwrap());
        (dir, fd)
    }

    #[test]
    fn who_adds_first_makes_the_journal_unless_the_pod_is_gone() {
        let (dir, fd) = pod();
        append(&fd, &ended(1)).unwrap();
        append(&fd, &ended(2)).unwrap();
        assert_eq!(Reader::open(fd.as_fd()).unwrap().read().unwrap().ended, [ended(1), ended(2)]);
        let (gone, fd) = (dir.path().to_path_buf(), fd);
        drop(dir);
        append(&fd, &ended(3)).unwrap();
        assert!(!gone.exists());
    }

    #[test]
    fn each_reader_reads_all_once() {
        let (_dir, fd) = pod();
        let mut first = Reader::open(fd.as_fd()).unwrap();
        assert_eq!(first.read().unwrap(), News::default());
        (0..3).for_each(|number| append(&fd, &ended(number)).unwrap());
        let mut second = Reader::open(fd.as_fd()).unwrap();
        let all = News { ended: (0..3).map(ended).collect(), skipped: 0 };
        assert_eq!(first.read().unwrap(), all);
        assert_eq!(first.read().unwrap(), News::default());
        append(&fd, &ended(3)).unwrap();
        assert_eq!(first.read().unwrap().ended, [ended(3)]);
        assert_eq!(second.read().unwrap().ended.len(), 4);
    }

    #[test]
    fn a_line_that_is_not_whole_is_read_later() {
        let (_dir, fd) = pod();
        let mut reader = Reader::open(fd.as_fd()).unwrap();
        append(&fd, &ended(1)).unwrap();
        let line = serde_json::to_vec(&ended(2)).unwrap();
        let (half, rest) = line.split_at(10);
        std::io::Write::write_all(&mut &reader.file, half).unwrap();
        assert_eq!(reader.read().unwrap().ended, [ended(1)]);
        std::io::Write::write_all(&mut &reader.file, &[rest, b"\n"].concat()).unwrap();
        assert_eq!(reader.read().unwrap().ended, [ended(2)]);
    }

    #[test]
    fn a_full_journal_is_emptied_and_readers_know_what_they_missed() {
        let (_dir, fd) = pod();
        let (mut often, mut seldom) = (Reader::open(fd.as_fd()).unwrap(), Reader::open(fd.as_fd()).unwrap());
        let (mut seen, mut number) = (Vec::new(), 0);
        let full = 2000;
        while often.dropped == 0 || number < 40 {
            write(&often.file, &ended(number), full).unwrap();
            number += 1;
            let news = often.read().unwrap();
            assert_eq!(news.skipped, 0);
            seen.extend(news.ended);
        }
        assert_eq!(seen, (0..number).map(ended).collect::<Vec<_>>());
        let news = seldom.read().unwrap();
        assert!(news.skipped > 0);
        assert_eq!(news.skipped + news.ended.len() as u64, number);
        assert_eq!(news.ended.last(), Some(&ended(number - 1)));
        assert!(often.file.metadata().unwrap().len() < full + 300);
    }

    #[test]
    fn the_sticky_bit_says_that_a_directory_is_watched() {
        let (_dir, fd) = pod();
        let stat = || nix::sys::stat::fstat(&fd).unwrap();
        assert!(!is_watched(&stat()));
        watch(&fd).unwrap();
        assert!(is_watched(&stat()));
    }
}
