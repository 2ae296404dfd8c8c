//! `NOTIFY_SOCKET`: a container tells that it is ready (sd_notify(3)) in a socket of its own, and this program tells it on to
//! the socket that it was given. What else a container writes there goes no further, as with runc.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pericarp::{Container, ContainerSpec, Mount};

use crate::options::Options;
use crate::{Outcome, socket};

const VARIABLE: &str = "NOTIFY_SOCKET";
/// Where a container finds the socket.
const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";
/// How long the receiver may take to have understood, before this program is gone.
const ACKNOWLEDGED: u16 = 30_000;

/// The directory of one container, on the host.
fn directory(options: &Options, id: &str) -> Outcome<PathBuf> {
    Ok(options.root()?.join("notify").join(id))
}

/// Gives the container a directory for the socket, if this program was given one.
pub fn prepare(options: &Options, id: &str, spec: &mut ContainerSpec) -> Outcome<()> {
    if std::env::var_os(VARIABLE).is_none_or(|path| path.is_empty()) {
        return Ok(());
    }
    let directory = directory(options, id)?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&directory);
    made.map_err(|error| format!("make {}: {error}", directory.display()))?;
    let words = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_string);
    spec.mounts.push(Mount::from_options(INSIDE, "bind", &directory.to_string_lossy(), &words)?);
    spec.env.insert(VARIABLE.into(), format!("{INSIDE}/{NAME}"));
    Ok(())
}

/// Removes it. Nobody else writes there, and what cannot be removed harms nobody.
pub fn forget(options: &Options, id: &str) {
    if let Ok(directory) = directory(options, id) {
        let _ = fs::remove_file(directory.join(NAME));
        let _ = fs::remove_dir(&directory);
        let _ = directory.parent().map(fs::remove_dir);
    }
}

/// The socket of one container, with the one that hears of it.
pub struct Notify {
    inside: UnixDatagram,
    host: PathBuf,
}

impl Notify {
    /// Listens, before the container runs; `None` where nobody wants to hear, or the container was made without.
    pub fn listen(options: &Options, id: &str) -> Outcome<Option<Notify>> {
        let host = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        let directory = directory(options, id)?;
        let Some(host) = host.filter(|_| directory.is_dir()) else { return Ok(None) };
        let path = directory.join(NAME);
        let bound = bind(&path).map_err(|error| format!("listen on {}: {error}", path.display()))?;
        Ok(Some(Notify { inside: bound, host: host.into() }))
    }

    /// Waits until the container is ready, tells so with the process that is to be watched, and returns; or when it has
    /// ended without.
    pub fn wait(&self, container: &Container, main: i32) -> Outcome<()> {
        let mut buffer = [0; 4096];
        loop {
            let Some(pidfd) = container.pidfd() else { return Ok(()) };
            let mut files =
                [PollFd::new(self.inside.as_fd(), PollFlags::POLLIN), PollFd::new(pidfd, PollFlags::POLLIN)];
            match poll(&mut files, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                polled => polled?,
            };
            let [said, ended] = files.map(|file| file.any().unwrap_or_default());
            if !said {
                if ended {
                    return Ok(());
                }
                continue;
            }
            let length = self.inside.recv(&mut buffer)?;
            let ready =
                buffer[..length].split(|byte| *byte == b'\n').find(|line| line.starts_with(b"READY="));
            if let Some(ready) = ready {
                return self.tell(ready, main);
            }
        }
    }

    fn tell(&self, ready: &[u8], main: i32) -> Outcome<()> {
        let host = UnixDatagram::unbound()?;
        // A name that begins with "@" is of the abstract namespace.
        match self.host.to_string_lossy().strip_prefix('@') {
            Some(name) => {
                use std::os::linux::net::SocketAddrExt;
                host.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
            }
            None => host.connect(&self.host)?,
        }
        host.send(&[ready, b"\n"].concat())?;
        host.send(format!("MAINPID={main}\n").as_bytes())?;
        // Closed when it was taken: until then nobody could tell from whom it is.
        let (kept, sent) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        socket::send(host.as_raw_fd(), b"BARRIER=1", sent.as_fd())?;
        drop(sent);
        let _ = poll(&mut [PollFd::new(kept.as_fd(), PollFlags::POLLIN)], PollTimeout::from(ACKNOWLEDGED));
        Ok(())
    }
}

fn bind(path: &Path) -> std::io::Result<UnixDatagram> {
    // Left by a start that failed.
    let _ = fs::remove_file(path);
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    Ok(socket)
}
