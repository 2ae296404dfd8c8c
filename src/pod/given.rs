//! Namespaces that a pod is given by their paths, and what may be set in them.
//!
//! Whoever gives a namespace may want parameters and names set there, as runtimes of Kubernetes do, which make the network
//! namespace of a pod themselves. The machine's own can be given by a path as well, and by many: by a link, a bind mount, a
//! file of any process. So not the path is looked at but the namespace that it led to (CVE-2022-0811).

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sched::setns;
use nix::sys::stat::{Mode, fstatat};

use crate::error::{Context, Error, Result};
use crate::node::Node;
use crate::spec::{NamespaceMode, PodSpec, SysctlNamespace, sysctl_namespace};
use crate::sys::namespace::{self, Kind};

/// A namespace of the specification, opened once.
pub(super) struct Given<'a> {
    pub(super) kind: Kind,
    path: &'a Path,
    pub(super) namespace: OwnedFd,
}

/// Opens those that the specification gives, and refuses those in which it must not set what it sets; on a library thread
/// that is still in the namespaces of the host program.
pub(super) fn open<'a>(
    node: &Node,
    spec: &'a PodSpec,
    modes: &[(Kind, &'a NamespaceMode)],
) -> Result<Vec<Given<'a>>> {
    let mut all = Vec::new();
    for (kind, mode) in modes {
        let NamespaceMode::Path(path) = mode else { continue };
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let namespace = openat(AT_FDCWD, path, flags, Mode::empty()).step("open", path.display())?;
        let given = Given { kind: *kind, path, namespace };
        if let Some(field) = set_in(spec, *kind) {
            given.is_no_hosts(node, &field)?;
        }
        all.push(given);
    }
    Ok(all)
}

/// A field of the specification that sets something in the pod's namespace of that kind.
fn set_in(spec: &PodSpec, kind: Kind) -> Option<String> {
    if kind == Kind::Uts && spec.hostname.is_some() {
        return Some("hostname".into());
    }
    if kind == Kind::Uts && spec.domainname.is_some() {
        return Some("domainname".into());
    }
    let of_kind = |name: &&String| {
        let owner = match sysctl_namespace(name) {
            Some(SysctlNamespace::Network) => Kind::Network,
            Some(SysctlNamespace::Ipc) => Kind::Ipc,
            Some(SysctlNamespace::Uts) => Kind::Uts,
            None => return false,
        };
        owner == kind
    };
    spec.sysctls.keys().find(of_kind).map(|name| format!("sysctls[{name:?}]"))
}

impl Given<'_> {
    pub(super) fn join(&self) -> Result<()> {
        setns(&self.namespace, self.kind.flag())
            .step(format!("join the {} namespace at", self.kind.word()), self.path.display())
    }

    fn is_no_hosts(&self, node: &Node, field: &str) -> Result<()> {
        let (word, file) = (self.kind.word(), self.kind.file());
        let given = namespace::inode(&self.namespace).step("look at", self.path.display())?;
        let of =
            |process: &str| fstatat(&node.0.proc, format!("{process}/ns/{file}").as_str(), AtFlags::empty());
        let own = of("thread-self").step("look at", format!("this program's {word} namespace"))?.st_ino;
        let first = match of("1") {
            Ok(first) => Some(first.st_ino),
            // There are privileges of process 1 that this program lacks, and so it may not look.
            Err(Errno::EACCES | Errno::EPERM | Errno::ENOENT) => None,
            Err(errno) => return Err(errno).step("look at", format!("the {word} namespace of the machine")),
        };
        let whose = if given == own {
            "of this program"
        } else if Some(given) == first || given == self.kind.machines() {
            "of the machine"
        } else {
            return Ok(());
        };
        let path = self.path.display();
        Err(Error::invalid(
            field,
            format!("the {word} namespace at {path} is that {whose}; it would change that of others"),
        ))
    }
}
