//! What the library opens on the host for init, each once.

use std::fmt;
use std::path::PathBuf;

use crate::spec::{DeviceKind, IdMap, Propagation};
use crate::sys::mount::AttributeChange;
use crate::sys::namespace::Kind;

/// One file descriptor that init is given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// Init's end of the control socket.
    Control,
    /// A namespace of the pod.
    Namespace(Kind),
    /// A user namespace that is given for a pod.
    GivenUser,
    /// A namespace of the host's, by its path.
    NamespaceAt { kind: Kind, path: PathBuf },
    /// A proc of the PID namespace at a path, with mount attributes.
    ProcAt { path: PathBuf, attributes: u64 },
    /// The PID namespace of another container of the pod.
    TargetPid(String),
    /// A tree of mounts of the host, as a detached copy; of a link at the end of the path itself, if not told to follow
    /// it. Or that link, to be made anew.
    Tree {
        path: PathBuf,
        follow: bool,
        copy_link: bool,
        recursive: bool,
        change: AttributeChange,
        spread: Spread,
        idmap: Option<IdMap>,
    },
    /// A new filesystem of the host's side.
    Filesystem {
        fstype: String,
        source: Option<PathBuf>,
        data: Vec<String>,
        attributes: u64,
        propagation: Propagation,
        idmap: Option<IdMap>,
    },
    /// A device node of the host, which is checked to be that device.
    HostDevice { path: PathBuf, kind: DeviceKind, major: u32, minor: u32 },
    /// The pod's POSIX shared memory, with mount attributes.
    PodShm { attributes: u64 },
    /// The pod's POSIX message queues, with mount attributes.
    PodMqueue { attributes: u64 },
    /// The host's mount of cgroup v2, with mount attributes.
    HostCgroups { attributes: u64 },
    /// The proc of the pod's PID namespace, with mount attributes.
    PodProc { attributes: u64 },
    /// The proc of another container of the pod, with mount attributes.
    TargetProc { name: String, attributes: u64 },
    /// A volume of the pod, or what is below its root.
    Volume {
        name: String,
        sub_path: Option<PathBuf>,
        change: AttributeChange,
        propagation: Propagation,
        idmap: Option<IdMap>,
    },
    /// A file that the pod has for `/etc`.
    EtcFile(&'static str),
    /// The state that hooks in the container get, written when its process is known.
    HookState,
    /// A further open file, by its place in the specification.
    Preserved(usize),
    /// Standard input, output or error, as the specification says.
    Stdio(usize),
    /// The socket by which programs that did not make the container start it.
    StartSocket,
    /// A pidfd of the first process of a container.
    FirstProcess,
    /// The root directory of that process.
    FirstRoot,
    /// The mount namespace of the calling thread.
    HostMounts,
    /// The library's own proc of the host's PID namespace, which nothing can be mounted over.
    PrivateProc,
    /// The time namespace that a file of the host refers to.
    TimeNamespace(PathBuf),
}

/// How mounts that come later travel to a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) propagation: Propagation,
    /// Whether it goes for what is mounted below the copy, too; that is private otherwise.
    pub(crate) recursive: bool,
    /// Whether it is an error when the host has nothing to share.
    pub(crate) required: bool,
}

impl Spread {
    pub(crate) const PRIVATE: Spread =
        Spread { propagation: Propagation::Private, recursive: true, required: false };
}

/// Attributes that are changed, in the words of mount(8).
struct Changes<'a>(&'a AttributeChange);

impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AttributeChange { set, clear, set_all, clear_all } = *self.0;
        write!(f, "{}", super::step::Attributes(set))?;
        for (word, bits) in
            [("without", clear), ("with all below it", set_all), ("without, with all below it", clear_all)]
        {
            if bits != 0 {
                write!(f, "; {word}{}", super::step::Attributes(bits))?;
            }
        }
        Ok(())
    }
}

struct Mapped<'a>(&'a Option<IdMap>);

impl fmt::Display for Mapped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_some() { write!(f, ", with ids mapped") } else { Ok(()) }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Control => write!(f, "the control socket"),
            Source::Namespace(kind) => write!(f, "the pod's {} namespace", kind.word()),
            Source::GivenUser => write!(f, "the given user namespace"),
            Source::NamespaceAt { kind, path } => {
                write!(f, "the {} namespace at {}", kind.word(), path.display())
            }
            Source::ProcAt { path, attributes } => {
                let attributes = super::step::Attributes(*attributes);
                write!(f, "a proc of the PID namespace at {}{attributes}", path.display())
            }
            Source::TargetPid(name) => write!(f, "the PID namespace of container {name:?}"),
            Source::Tree { path, follow, copy_link, recursive, change, idmap, .. } => {
                if *copy_link {
                    write!(f, "the link {}, or ", path.display())?;
                }
                write!(f, "a copy of the mount at {}", path.display())?;
                if !follow {
                    write!(f, ", which is not followed when it is a link,")?;
                }
                if *recursive {
                    write!(f, " and what is mounted below it")?;
                }
                write!(f, "{}{}", Changes(change), Mapped(idmap))
            }
            Source::Filesystem { fstype, source, data, attributes, idmap, .. } => {
                write!(f, "a new {fstype}")?;
                if let Some(source) = source {
                    write!(f, " on {}", source.display())?;
                }
                data.iter().try_for_each(|option| write!(f, ", {option}"))?;
                write!(f, "{}{}", super::step::Attributes(*attributes), Mapped(idmap))
            }
            Source::HostDevice { path, kind, major, minor } => {
                write!(f, "the {} {}, {major}:{minor}", kind.word(), path.display())
            }
            Source::PodShm { attributes } => {
                write!(f, "the pod's POSIX shared memory{}", super::step::Attributes(*attributes))
            }
            Source::PodMqueue { attributes } => {
                write!(f, "the pod's POSIX message queues{}", super::step::Attributes(*attributes))
            }
            Source::HostCgroups { attributes } => {
                write!(f, "the host's cgroups{}", super::step::Attributes(*attributes))
            }
            Source::PodProc { attributes } => {
                write!(f, "the proc of the pod's PID namespace{}", super::step::Attributes(*attributes))
            }
            Source::TargetProc { name, attributes } => {
                write!(f, "the proc of container {name:?}{}", super::step::Attributes(*attributes))
            }
            Source::Volume { name, sub_path, change, idmap, .. } => {
                write!(f, "volume {name:?}")?;
                if let Some(path) = sub_path {
                    write!(f, ", {} below it", path.display())?;
                }
                write!(f, "{}{}", Changes(change), Mapped(idmap))
            }
            Source::FirstProcess => write!(f, "the container's first process"),
            Source::FirstRoot => write!(f, "the root directory of the container's first process"),
            Source::HostMounts => write!(f, "the host's mount namespace"),
            Source::StartSocket => write!(f, "a socket for those who start it"),
            Source::EtcFile(name) => write!(f, "the pod's {name}"),
            Source::HookState => write!(f, "the state for the hooks"),
            Source::Preserved(index) => write!(f, "the file for descriptor {}", index + 3),
            Source::Stdio(index) => {
                write!(f, "{}", ["standard input", "standard output", "standard error"][*index])
            }
            Source::PrivateProc => write!(f, "a private proc"),
            Source::TimeNamespace(path) => write!(f, "the time namespace {}", path.display()),
        }
    }
}
