//! What the library opens on the host for init, each once.

use std::fmt;
use std::path::PathBuf;

use crate::spec::Propagation;
use crate::sys::namespace::Kind;

/// One file descriptor that init is given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// Init's end of the control socket.
    Control,
    /// A namespace of the pod.
    Namespace(Kind),
    /// The PID namespace of another container of the pod.
    TargetPid(String),
    /// A tree of mounts of the host, as a detached copy.
    Tree {
        path: PathBuf,
        recursive: bool,
        /// Mount attributes to set, on the top mount only unless `attributes_recursive`.
        attributes: u64,
        attributes_recursive: bool,
        propagation: Propagation,
    },
    /// The pod's POSIX shared memory, with mount attributes.
    PodShm { attributes: u64 },
    /// The pod's POSIX message queues, with mount attributes.
    PodMqueue { attributes: u64 },
    /// The proc of the pod's PID namespace, with mount attributes.
    PodProc { attributes: u64 },
    /// The proc of another container of the pod, with mount attributes.
    TargetProc { name: String, attributes: u64 },
    /// A volume of the pod, or what is below its root.
    Volume { name: String, sub_path: Option<PathBuf>, attributes: u64, attributes_recursive: bool },
    /// A file that the pod has for `/etc`.
    EtcFile(&'static str),
    /// Standard input, output or error, as the specification says.
    Stdio(usize),
    /// The socket by which programs that did not make the container start it.
    StartSocket,
    /// A pidfd of the first process of a container.
    FirstProcess,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Control => write!(f, "the control socket"),
            Source::Namespace(kind) => write!(f, "the pod's {} namespace", kind.word()),
            Source::TargetPid(name) => write!(f, "the PID namespace of container {name:?}"),
            Source::Tree { path, recursive, attributes, .. } => {
                write!(f, "a copy of the mount at {}", path.display())?;
                if *recursive {
                    write!(f, " and what is mounted below it")?;
                }
                write!(f, "{}", super::step::Attributes(*attributes))
            }
            Source::PodShm { attributes } => {
                write!(f, "the pod's POSIX shared memory{}", super::step::Attributes(*attributes))
            }
            Source::PodMqueue { attributes } => {
                write!(f, "the pod's POSIX message queues{}", super::step::Attributes(*attributes))
            }
            Source::PodProc { attributes } => {
                write!(f, "the proc of the pod's PID namespace{}", super::step::Attributes(*attributes))
            }
            Source::TargetProc { name, attributes } => {
                write!(f, "the proc of container {name:?}{}", super::step::Attributes(*attributes))
            }
            Source::Volume { name, sub_path, attributes, .. } => {
                write!(f, "volume {name:?}")?;
                if let Some(path) = sub_path {
                    write!(f, ", {} below it", path.display())?;
                }
                write!(f, "{}", super::step::Attributes(*attributes))
            }
            Source::FirstProcess => write!(f, "the container's first process"),
            Source::StartSocket => write!(f, "a socket for those who start it"),
            Source::EtcFile(name) => write!(f, "the pod's {name}"),
            Source::Stdio(index) => {
                write!(f, "{}", ["standard input", "standard output", "standard error"][*index])
            }
        }
    }
}
