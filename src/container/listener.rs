//! The listener of a seccomp filter: taken out of init, and given to whoever answers for the container.
//!
//! Init cannot send it: after the filter was loaded, sendmsg(2) is up to the filter. It tells the number, and the
//! library copies the file by pidfd_getfd(2).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, setsockopt,
    socket,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::json;

use super::hooks::{Hooks, OCI_VERSION};
use crate::error::{Context, Result};
use crate::spec::{ContainerSpec, Seccomp, SeccompProfile};
use crate::sys::pidfd;

/// Seconds that an agent may take to accept the connection, and to read.
const PATIENCE: i64 = 10;

/// Where the listener of a container goes.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// The connection to the agent that the specification names, until the listener is sent.
    agent: Option<OwnedFd>,
    /// The listener, until somebody takes it.
    fd: Option<OwnedFd>,
}

impl Listener {
    /// Connects to the agent, if the specification names one: before anything is made.
    pub(crate) fn connect(spec: &ContainerSpec) -> Result<Self> {
        let agent = match custom(spec).and_then(|profile| profile.listener_path.as_deref().zip(Some(profile)))
        {
            Some((path, profile)) if profile.notifies() => Some(connect_to(path)?),
            _ => None,
        };
        Ok(Listener { agent, fd: None })
    }

    /// Takes the listener out of init, where it has that number, and sends it to the agent or keeps it.
    pub(super) fn take_over(
        &mut self,
        hooks: &Hooks<'_>,
        (pid, process): (i32, BorrowedFd<'_>),
        number: i32,
        status: &'static str,
    ) -> Result<()> {
        let fd = pidfd::get_fd(process, number).step("take", "the seccomp listener from init")?;
        let Some(agent) = self.agent.take() else {
            self.fd = Some(fd);
            return Ok(());
        };
        // OCI runtime-spec, "The Container Process State"; `fds` names the descriptors that come along.
        let mut message = json!({
            "ociVersion": OCI_VERSION,
            "fds": ["seccompFd"],
            "pid": pid,
            "state": hooks.state_value(status, Some(pid)),
        });
        if let Some(metadata) = custom(hooks.spec).and_then(|profile| profile.listener_metadata.as_deref()) {
            message["metadata"] = metadata.into();
        }
        send(agent, message.to_string().as_bytes(), &fd)
    }

    /// The listener, if it is here and nobody has taken it.
    pub(crate) fn take(&mut self) -> Option<OwnedFd> {
        self.fd.take()
    }
}

fn custom(spec: &ContainerSpec) -> Option<&Seccomp> {
    match &spec.security.seccomp {
        SeccompProfile::Custom(profile) => Some(profile),
        _ => None,
    }
}

/// Whether nobody could get the listener of a container that nobody has a handle of.
pub(super) fn is_for_a_handle(spec: &ContainerSpec) -> bool {
    custom(spec).is_some_and(|profile| profile.notifies() && profile.listener_path.is_none())
}

fn connect_to(path: &Path) -> Result<OwnedFd> {
    let step = "connect to the seccomp agent at";
    let agent = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .step(step, path.display())?;
    // Else an agent that has stopped accepting, or reading, would hold up whoever makes containers.
    setsockopt(&agent, SendTimeout, &TimeVal::seconds(PATIENCE)).step(step, path.display())?;
    let address = UnixAddr::new(path).step(step, path.display())?;
    connect(agent.as_raw_fd(), &address).step(step, path.display())?;
    Ok(agent)
}

fn send(agent: OwnedFd, json: &[u8], fd: &OwnedFd) -> Result<()> {
    let to = "the seccomp agent";
    let rights = [fd.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&rights)];
    let iov = [std::io::IoSlice::new(json)];
    let sent = sendmsg::<()>(agent.as_raw_fd(), &iov, &control, MsgFlags::MSG_NOSIGNAL, None)
        .step("send the listener to", to)?;
    // A socket takes what it has room for.
    let mut rest = json.get(sent..).unwrap_or_default();
    while !rest.is_empty() {
        let iov = [std::io::IoSlice::new(rest)];
        let sent = sendmsg::<()>(agent.as_raw_fd(), &iov, &[], MsgFlags::MSG_NOSIGNAL, None)
            .step("send the container's state to", to)?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}
