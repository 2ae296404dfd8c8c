//! The library's side of a container's terminal.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use nix::unistd::chdir;

use crate::error::{Context, Error, Result};
use crate::sys::{thread, tty};

/// The master of a terminal that processes in a container have as their standard streams (pty(7)): what is written
/// to it is typed, what is read from it is displayed. Reading fails with `EIO` once nobody has the other side open any
/// more. When it is dropped, the terminal hangs up (`SIGHUP`).
#[derive(Debug)]
pub struct Terminal(File);

impl Terminal {
    /// Sets the size in characters. The processes in the foreground get `SIGWINCH`.
    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        tty::resize(&self.0, width, height).step("resize", "the terminal")
    }

    /// The width and the height in characters.
    pub fn size(&self) -> Result<(u16, u16)> {
        tty::size(&self.0).step("ask for the size of", "the terminal")
    }

    /// The path of the other side in the container: `/dev/pts/0`.
    pub fn name(&self) -> Result<String> {
        let number = tty::number(&self.0).step("ask for the number of", "the terminal")?;
        Ok(format!("/dev/pts/{number}"))
    }

    /// Sends it to a program that listens on a stream socket at that path, as OCI runtimes do with `--console-socket`:
    /// one message, whose text is the [name](Self::name) and which the descriptor comes along with (`SCM_RIGHTS`,
    /// unix(7)). It stays open here.
    pub fn send_to(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let name = self.name()?;
        let parts = path.parent().zip(path.file_name());
        let (directory, file) =
            parts.ok_or_else(|| Error::invalid(path.display(), "is not the path of a socket"))?;
        // By its bare name, on a thread that is there: an address has room for 107 bytes.
        thread::run(|| {
            let send = || -> nix::Result<()> {
                let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
                if !directory.as_os_str().is_empty() {
                    chdir(directory)?;
                }
                connect(socket.as_raw_fd(), &UnixAddr::new(file)?)?;
                let master = [self.0.as_raw_fd()];
                let rights = [ControlMessage::ScmRights(&master)];
                let text = [IoSlice::new(name.as_bytes())];
                sendmsg::<()>(socket.as_raw_fd(), &text, &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
            };
            send().step("send the terminal to", path.display())
        })
    }
}

impl Read for Terminal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Terminal {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Read for &Terminal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }
}

impl Write for &Terminal {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&self.0).write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.0).flush()
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Terminal {
    /// The master that somebody has sent.
    fn from(master: OwnedFd) -> Terminal {
        Terminal(File::from(master))
    }
}

impl From<Terminal> for OwnedFd {
    fn from(terminal: Terminal) -> OwnedFd {
        terminal.0.into()
    }
}
