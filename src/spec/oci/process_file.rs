//! The file in which engines say what to execute in a container (`exec --process` of OCI runtimes).

use std::path::Path;

use oci_spec::runtime::Process;
use serde_json::{Value, json};

use super::bundle::{drop_unknown_capabilities, read};
use super::{prepare, wrong};
use crate::error::Result;
use crate::spec::ExecSpec;

/// A `process` of an OCI configuration in a file of its own, read as a [`Bundle`](super::Bundle) is: names of capabilities
/// that nobody knows are left out, and told by [`warnings`](Self::warnings).
#[derive(Debug, Clone)]
pub struct ProcessFile {
    process: Process,
    warnings: Vec<String>,
}

impl ProcessFile {
    /// Reads it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`](crate::ErrorKind::InvalidSpec) with the place in the file for what is no process, and
    /// whatever reading the file gives.
    pub fn open(path: impl AsRef<Path>) -> Result<ProcessFile> {
        let path = path.as_ref();
        let text = read(path)?;
        parse(&text).map_err(|error| error.within(path.display().to_string()))
    }

    /// The same for a text that is in no file.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`](crate::ErrorKind::InvalidSpec) with the place in the text for what is no process.
    pub fn parse(text: &str) -> Result<ProcessFile> {
        parse(text)
    }

    /// What it says.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What was left out of it, in words.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The program to execute, see [`ExecSpec::from_oci`].
    ///
    /// # Errors
    /// As [`ExecSpec::from_oci`].
    pub fn spec(&self) -> Result<ExecSpec> {
        ExecSpec::from_oci(&self.process)
    }
}

/// As in a configuration, of which it is a part.
fn parse(text: &str) -> Result<ProcessFile> {
    let process: Value =
        serde_json::from_str(text).map_err(|error| wrong("the process", error.to_string()))?;
    let mut config = json!({ "process": process });
    let warnings = drop_unknown_capabilities(&mut config);
    prepare(&mut config)?;
    let process = serde_json::from_value(config["process"].take())
        .map_err(|error| wrong("the process", error.to_string()))?;
    Ok(ProcessFile { process, warnings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ContainerSpec, Rlimit, RlimitResource, Rootfs, SchedulerFlag};

    #[test]
    fn a_process_is_read_as_that_of_a_configuration() {
        let text = r#"{"user": {"uid": 7, "gid": 8}, "args": ["id"], "cwd": "/",
            "capabilities": {"bounding": ["CAP_KILL", "CAP_FLY"]},
            "scheduler": {"policy": "SCHED_FIFO", "priority": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}}"#;
        let read = parse(text).unwrap();
        assert_eq!(read.warnings().len(), 1, "{:?}", read.warnings());
        assert!(read.warnings()[0].contains("CAP_FLY"));
        let spec = read.spec().unwrap();
        assert_eq!(spec.capabilities.unwrap().bounding.bits(), 1 << 5);
        assert_eq!(spec.scheduler.unwrap().flags, [SchedulerFlag::ResetOnFork]);
        for wrong in ["", "[]", r#"{"args": ["id"]}"#, r#"{"user": {"uid": -1, "gid": 0}, "cwd": "/"}"#] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidSpec, "{wrong}: {error}");
        }
    }

    #[test]
    fn what_a_process_does_not_say_is_the_containers() {
        let text = r#"{"user": {"uid": 0, "gid": 0}, "args": ["id"], "cwd": "/",
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}]}"#;
        let spec = parse(text).unwrap().spec().unwrap();
        let mut container =
            ContainerSpec::new("main", Rootfs::directory("/srv")).args(["sh"]).env("OF", "it");
        container.rlimits = vec![Rlimit { resource: RlimitResource::Nofile, soft: 3, hard: 4 }];
        container.security.apparmor_profile = Some("own".into());
        container.security.no_new_privileges = true;
        let whole = spec.over(&container).unwrap();
        let limits: Vec<_> = whole.rlimits.iter().map(|limit| (limit.resource, limit.soft)).collect();
        assert_eq!(limits, [(RlimitResource::Nofile, 3), (RlimitResource::Core, 1)]);
        assert_eq!(whole.security.capabilities, container.security.capabilities);
        assert_eq!(whole.security.apparmor_profile.as_deref(), Some("own"));
        // The rest is the process' own, also where it says nothing.
        assert!(whole.env.is_empty() && !whole.security.no_new_privileges);
    }
}
