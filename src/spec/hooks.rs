//! Programs that are run at points of a container's life (OCI runtime-spec, "POSIX-platform Hooks").

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The programs, by the point at which they run, in the order of a container's life. Each gets the container's state
/// as JSON on standard input (OCI runtime-spec, "State"); what it writes is part of the error when it fails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Hooks {
    /// As `create_runtime`, before those. Deprecated in the specification, and still used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// In the host's namespaces, when the container's namespaces and mounts have been made. A failure fails the
    /// creation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// In the container's mount, network, IPC and UTS namespaces, before its root becomes the root: the host's files
    /// are still there, and the container's root filesystem is at its own path with everything mounted. Needs a
    /// [`Rootfs::Directory`](super::Rootfs::Directory). A failure fails the creation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// In the container, as its user and with its restrictions, before its program; the path is one of the container.
    /// A failure fails the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// In the host's namespaces, when the program runs, which it goes on to do whatever becomes of them. All are run; the
    /// first failure is told ([`ErrorKind::Hook`](crate::ErrorKind::Hook)).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// In the host's namespaces, when the container has been removed. All are run; the first failure is told, likewise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
    /// The `id` of the state; the pod's id, a slash and the container's name when `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The `bundle` of the state: an absolute path; `/` when `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<PathBuf>,
}

impl Hooks {
    /// Whether nothing is run.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Every list with its name in the specification.
    pub(crate) fn lists(&self) -> [(&'static str, &Vec<Hook>); 6] {
        [
            ("prestart", &self.prestart),
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ]
    }

    fn all(&self) -> impl Iterator<Item = &Hook> {
        self.lists().into_iter().flat_map(|(_, list)| list)
    }

    /// Whether the creation of a container stops for some of them.
    pub(crate) fn during_creation(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty() && self.create_container.is_empty())
    }
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Hook {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its arguments, the first of which is its name; the path alone when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment, whole, as `KEY=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds after which it is killed and has failed; no bound when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
}

impl Hook {
    /// A program without arguments and environment.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Hook { path: path.into(), args: Vec::new(), env: Vec::new(), timeout: None }
    }

    /// Sets the arguments, the first of which is the program's name.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the environment.
    pub fn env<S: Into<String>>(mut self, env: impl IntoIterator<Item = S>) -> Self {
        self.env = env.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the timeout in seconds.
    pub fn timeout(mut self, seconds: u32) -> Self {
        self.timeout = Some(seconds);
        self
    }

    /// The arguments with which it is executed.
    pub(crate) fn argv(&self) -> Vec<String> {
        if self.args.is_empty() { vec![self.path.display().to_string()] } else { self.args.clone() }
    }
}
