//! The standard streams of a container, opened.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::stat::fstat;
use nix::unistd::{Gid, Uid, fchown, pipe2};

use super::Terminal;
use super::source::open_stdio_file;
use crate::error::{Context, Error, Result};
use crate::node::Realm;
use crate::spec::{ContainerSpec, Stdio};
use crate::sys::fd::duplicate;

/// The library's ends of the pipes that were asked for; each can be taken once.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<File>,
    pub(crate) stdout: Option<File>,
    pub(crate) stderr: Option<File>,
    /// The master of the terminal that was asked for instead.
    pub(crate) terminal: Option<Terminal>,
}

/// Opens the streams: what the container gets, `None` for the null device, and the other ends of pipes.
/// Pipes belong to `owner`, the ids of the container's user on the host.
pub(crate) fn open(
    spec: &ContainerSpec,
    realm: &Realm,
    owner: (u32, u32),
) -> Result<([Option<OwnedFd>; 3], Pipes)> {
    let mut pipes = Pipes::default();
    let (stdin, ours) = stream(realm, owner, "stdin", &spec.stdio.stdin, std::io::stdin().as_fd(), true)?;
    pipes.stdin = ours;
    let (stdout, ours) =
        stream(realm, owner, "stdout", &spec.stdio.stdout, std::io::stdout().as_fd(), false)?;
    pipes.stdout = ours;
    let (stderr, ours) =
        stream(realm, owner, "stderr", &spec.stdio.stderr, std::io::stderr().as_fd(), false)?;
    pipes.stderr = ours;
    Ok(([stdin, stdout, stderr], pipes))
}

fn stream(
    realm: &Realm,
    owner: (u32, u32),
    name: &str,
    stdio: &Stdio,
    inherited: BorrowedFd<'_>,
    input: bool,
) -> Result<(Option<OwnedFd>, Option<File>)> {
    match stdio {
        Stdio::Null => Ok((None, None)),
        Stdio::Inherit => {
            // A program that closed its streams has other files under their numbers, maybe this library's. These close
            // on exec: no child would inherit them.
            let flags = fcntl(inherited, FcntlArg::F_GETFD).map(FdFlag::from_bits_retain);
            let flags = flags.step("inherit", name)?;
            if flags.contains(FdFlag::FD_CLOEXEC) {
                return Err(Errno::EBADF).step("inherit", name);
            }
            Ok((Some(duplicate_stream(name, inherited)?), None))
        }
        Stdio::Fd(fd) => Ok((Some(duplicate_stream(name, fd.as_fd())?), None)),
        Stdio::File(path) => {
            let fd = open_stdio_file(path, input)?;
            harmless(name, fd.as_fd())?;
            Ok((Some(fd), None))
        }
        Stdio::Pipe => {
            let (read, write) = pipe2(OFlag::O_CLOEXEC).step("make", format!("the pipe of {name}"))?;
            let (theirs, ours) = if input { (read, write) } else { (write, read) };
            // The process may open /dev/stdout again, which asks for the owner's permission.
            let owner = (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)));
            let change = || {
                fchown(&theirs, owner.0, owner.1).step("change the owner of", format!("the pipe of {name}"))
            };
            // In an ordinary user's node the ids are those of its user namespace, where they can be given.
            if realm.is_user() {
                realm.run(change)?
            } else {
                change()?
            }
            Ok((Some(theirs), Some(File::from(ours))))
        }
    }
}

fn duplicate_stream(name: &str, fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    harmless(name, fd)?;
    duplicate(fd).step("duplicate", name)
}

/// The host's terminal is never passed on: a container could push characters into it (CVE-2017-5226). Nor is a
/// directory, from which a container could walk up to the host's root (CVE-2024-21626).
pub(super) fn harmless(name: &str, fd: BorrowedFd<'_>) -> Result<()> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain).step("inspect", name)?;
    if flags.contains(OFlag::O_PATH) {
        return Err(Error::invalid(
            format!("stdio.{name}"),
            "is only the name of a file (O_PATH), by which a container could open a terminal of the host",
        ));
    }
    let mode = fstat(fd).step("inspect", name)?.st_mode;
    if mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(Error::invalid(
            format!("stdio.{name}"),
            "is a directory of the host, by which a container could reach the host's files",
        ));
    }
    if fd.is_terminal() {
        return Err(Error::invalid(
            format!("stdio.{name}"),
            "is a terminal of the host, into which a container could push characters; use a pipe and copy",
        ));
    }
    Ok(())
}
