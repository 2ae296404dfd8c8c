//! A proc(5) of the library's own: whatever is mounted on `/proc` of the host or of a container, nobody can put
//! anything over this one (CVE-2019-16884).

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::pod::state::{ProcessIdentity, ProcessRef};
use crate::spawn::{Child, Control};
use crate::spec::sysctl_path;
use crate::sys::fd::{open_beneath, resolve};
use crate::sys::mount::{attr, new_filesystem};
use crate::sys::pidfd;

/// A detached proc mount of the host's PID namespace; without the privileges of the machine's root the one at `/proc`.
pub(crate) struct Proc {
    dir: OwnedFd,
    boot_id: String,
}

impl Proc {
    /// For a node that works as `root` of the machine, or any other.
    pub(crate) fn new(root: bool) -> Result<Self> {
        let dir = if root { Self::private()? } else { Self::of_machine()? };
        let mut proc = Proc { dir, boot_id: String::new() };
        proc.boot_id = proc.read("sys/kernel/random/boot_id")?.trim().to_string();
        Ok(proc)
    }

    /// An ordinary user cannot mount one, and nobody but root of the mount namespace, whom this program must trust,
    /// could put anything over this one.
    fn of_machine() -> Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = openat(AT_FDCWD, "/proc", flags, Mode::empty()).step("open", "/proc")?;
        match fstatfs(&dir).step("look at", "/proc")?.filesystem_type() {
            PROC_SUPER_MAGIC => Ok(dir),
            _ => Err(Error::new(ErrorKind::Unsupported, "use")
                .on("/proc")
                .because("no proc(5) is mounted there")),
        }
    }

    fn private() -> Result<OwnedFd> {
        let attributes = attr::NOSUID | attr::NODEV | attr::NOEXEC;
        new_filesystem(c"proc", &[], attributes).map_err(|errno| {
            let error = Error::system(errno, "make").on("a private proc");
            match errno {
                Errno::EPERM => error.because(
                    "this takes root (CAP_SYS_ADMIN); an ordinary user makes pods in a node of its own: see \
                     NodeOptions::for_user",
                ),
                _ => error,
            }
        })
    }

    /// The content of a file, as text.
    pub(crate) fn read(&self, path: &str) -> Result<String> {
        let fd = openat(&self.dir, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .step("open", format!("/proc/{path}"))?;
        std::io::read_to_string(std::fs::File::from(fd)).step("read", format!("/proc/{path}"))
    }

    /// Sets a kernel parameter in the namespaces of the calling thread.
    pub(crate) fn set_sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = CString::new(format!("sys/{}", sysctl_path(name)))
            .map_err(|_| Error::invalid(name, "has a NUL"))?;
        let rules = resolve::BENEATH | resolve::NO_SYMLINKS | resolve::NO_MAGICLINKS | resolve::NO_XDEV;
        let file = open_beneath(&self.dir, &path, libc::O_WRONLY, 0, rules).map_err(|errno| {
            let error = Error::system(errno, "set sysctl").on(name);
            match errno {
                Errno::ENOENT => {
                    error.of_kind(ErrorKind::Unsupported).because("this kernel has no such parameter")
                }
                _ => error,
            }
        })?;
        let step = format!("write {value:?} to sysctl");
        let written = nix::unistd::write(&file, value.as_bytes()).step(step.clone(), name)?;
        // The kernel takes what it understands, and says so by a smaller number: "9 10" as 9.
        if written < value.len() {
            return Err(Error::new(ErrorKind::InvalidSpec, step)
                .on(name)
                .because(format!("the kernel took {:?} only", value.get(..written).unwrap_or_default())));
        }
        Ok(())
    }

    /// Gives the new user namespace of a process its ids; `file` is `uid_map` or `gid_map`.
    pub(crate) fn write_map(&self, pid: i32, file: &str, text: &str) -> Result<()> {
        let path = format!("{pid}/{file}");
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let map =
            openat(&self.dir, path.as_str(), flags, Mode::empty()).step("open", format!("/proc/{path}"))?;
        // The kernel takes it whole or not at all.
        nix::unistd::write(&map, text.as_bytes()).map(drop).map_err(|errno| {
            let error = Error::system(errno, "give the pod's user namespace").on(format!("{file} {text:?}"));
            match errno {
                Errno::EPERM => {
                    error.because("the host ids must be ids of the library's own user namespace, and it needs CAP_SETUID and CAP_SETGID there")
                }
                _ => error,
            }
        })
    }

    /// oom_score_adj of this program.
    pub(crate) fn own_oom_score_adj(&self) -> Result<i32> {
        let odd = || Error::new(ErrorKind::System, "understand").on("/proc/self/oom_score_adj");
        self.read("self/oom_score_adj")?.trim().parse().map_err(|_| odd())
    }

    /// Sets oom_score_adj of a process that cannot be gone: a child that was not waited for.
    pub(crate) fn set_oom_score_adj(&self, pid: i32, score: i32) -> Result<()> {
        let path = format!("{pid}/oom_score_adj");
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let step = || format!("/proc/{path}");
        let file = openat(&self.dir, path.as_str(), flags, Mode::empty()).step("open", step())?;
        nix::unistd::write(&file, score.to_string().as_bytes()).map(drop).step("write", step())
    }

    /// What identifies a boot of the machine.
    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// What identifies the process behind a pidfd as long as the machine is up.
    pub(crate) fn identity(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<ProcessIdentity> {
        if let Some(inode) = pidfd::unique_inode(pidfd).step("identify", format!("process {pid}"))? {
            return Ok(ProcessIdentity::PidfdInode(inode));
        }
        let stat = self.read(&format!("{pid}/stat"))?;
        // The second field, the name, may hold anything but ends with the last parenthesis; the start time is the
        // 22nd field of all.
        stat.rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19))
            .and_then(|field| field.parse().ok())
            .map(ProcessIdentity::StartTime)
            .ok_or_else(|| Error::new(ErrorKind::System, "read").on(format!("/proc/{pid}/stat")))
    }

    /// Opens a process that was identified before; `None` when it is gone, whoever has its pid now.
    pub(crate) fn open_process(&self, process: &ProcessRef) -> Result<Option<OwnedFd>> {
        match pidfd::open(process.pid) {
            // Opened first, compared then: when the identity is right now, the descriptor means that process.
            Ok(fd) => match self.identity(process.pid, fd.as_fd()) {
                Ok(identity) if identity == process.identity => Ok(Some(fd)),
                _ => Ok(None),
            },
            Err(Errno::ESRCH | Errno::EINVAL) => Ok(None),
            Err(errno) => Err(errno).step("open", format!("process {}", process.pid)),
        }
    }

    /// The status of a process that has ended and that nobody has waited for yet, as wait(2) would tell it: who is not
    /// its parent can read it here. `None` for any other process.
    pub(crate) fn zombie_status(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Option<i32> {
        let stat = self.read(&format!("{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        // The third field of all, and the 52nd.
        if fields.next()? != "Z" {
            return None;
        }
        let status = fields.nth(48)?.parse().ok()?;
        // It is still not reaped: what was read under its pid was its own.
        pidfd::send_signal(pidfd, 0).ok().map(|()| status)
    }

    /// Puts the process that init has forked in the place of the one that did, which has nothing more to do.
    pub(crate) fn follow(&self, child: &mut Child, fork: OwnedFd) -> Result<()> {
        let pid = self.pid_of(fork.as_fd())?;
        std::mem::replace(child, Child { pid, pidfd: fork }).wait();
        Ok(())
    }

    /// Ends what init or its twin had forked before they were ended, but the library had not heard of.
    pub(crate) fn end_forks(&self, control: &Control) {
        for fd in control.rest() {
            // Other descriptors are none of processes.
            if let Ok(pid) = self.pid_of(fd.as_fd()) {
                Child { pid, pidfd: fd }.end();
            }
        }
    }

    /// The pid behind a pidfd, as this process sees it.
    pub(crate) fn pid_of(&self, pidfd: BorrowedFd<'_>) -> Result<i32> {
        use std::os::fd::AsRawFd;
        let path = format!("thread-self/fdinfo/{}", pidfd.as_raw_fd());
        self.read(&path)?
            .lines()
            .find_map(|line| line.strip_prefix("Pid:"))
            .and_then(|pid| pid.trim().parse().ok())
            .ok_or_else(|| Error::new(ErrorKind::System, "read the pid in").on(format!("/proc/{path}")))
    }
}

impl AsFd for Proc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}
