//! Tests against the kernel: each in an IPC and a mount namespace of its own, as root.

mod mqueue;
mod shm;
mod sysv;
mod whole;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

use crate::error::{Error, ErrorKind};

/// What the functions get of a pod: a tmpfs and an mqueue mount. The thread is in the IPC namespace already.
struct TestPod {
    shm: OwnedFd,
    mqueue: OwnedFd,
    /// The tmpfs by path, for the part of the container.
    shm_path: PathBuf,
    base: tempfile::TempDir,
}

/// The mounts end with the thread's namespace, but a directory is busy as long as something is mounted there.
impl Drop for TestPod {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.base.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

impl TestPod {
    fn shm(&self) -> BorrowedFd<'_> {
        self.shm.as_fd()
    }

    fn mqueue(&self) -> BorrowedFd<'_> {
        self.mqueue.as_fd()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shm_path.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.shm_path).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Runs a test in a pod of its own, on a thread with the umask that hurts most and without
/// `CAP_SYS_RESOURCE`, so that the limits of the kernel show on every machine.
fn in_pod(test: impl FnOnce(&TestPod) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        // Not with eprintln!, which the test harness would hide.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {:?} needs root", std::thread::current().name());
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNS).unwrap();
        umask(Mode::from_bits_truncate(0o777));
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let base = tempfile::tempdir().unwrap();
        mount(Some("tmpfs"), base.path(), Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).unwrap();
        let shm = mounted(&base.path().join("shm"), "tmpfs", Some("mode=1777,size=1m"), OFlag::O_PATH);
        let mqueue = mounted(&base.path().join("mqueue"), "mqueue", None, OFlag::O_RDONLY);
        test(&TestPod { shm, mqueue, shm_path: base.path().join("shm"), base });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn mounted(path: &Path, kind: &str, data: Option<&str>, access: OFlag) -> OwnedFd {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o755).create(path).unwrap();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(kind), path, Some(kind), flags, data).unwrap();
    open(path, access | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
}

/// Mode, user and group of an open file.
fn owner_of(file: impl AsFd) -> (u32, u32, u32) {
    let stat = nix::sys::stat::fstat(file).unwrap();
    (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
}

/// A specification, or a part of one, from JSON.
fn spec<T: serde::de::DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).unwrap()
}

fn assert_fails<T>(result: crate::error::Result<T>, kind: ErrorKind, words: &str) -> Error {
    let error = result.err().expect("should have failed");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    error
}

/// What a C program in the container would do next.
fn as_file(fd: OwnedFd) -> File {
    File::from(fd)
}
