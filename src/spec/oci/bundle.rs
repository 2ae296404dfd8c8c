//! The directory that an OCI configuration comes in.

use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capability, Spec};
use serde_json::Value;

use super::{container, model, pod, process, unknown, unsupported, wrong};
use crate::error::{Context, Result};
use crate::spec::{ContainerSpec, PodSpec};

/// The file of a bundle that holds the configuration.
const CONFIG: &str = "config.json";
/// Bytes of a configuration: a bound before it is parsed (CVE-2021-43784).
const MAX_CONFIG: u64 = 8 << 20;

/// A bundle whose configuration was read once, for the pod and the container of it.
///
/// What the specification wants a warning for instead of an error is left out of the configuration and told by
/// [`warnings`](Self::warnings): names of capabilities that nobody knows (`process.capabilities`), ambient capabilities that
/// are not permitted and inheritable as well, which the kernel does not give, and fields that nobody knows. With
/// [`ContainerSpec::from_bundle`] all of that is an error.
#[derive(Debug, Clone)]
pub struct Bundle {
    path: PathBuf,
    config: Spec,
    json: Value,
    warnings: Vec<String>,
}

impl Bundle {
    /// Reads the configuration in a bundle's directory.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`](crate::ErrorKind::InvalidSpec) with the place in the file for what is no OCI
    /// configuration, and whatever reading the file gives.
    pub fn open(path: impl AsRef<Path>) -> Result<Bundle> {
        let path = absolute(path.as_ref())?;
        let file = path.join(CONFIG);
        let text = read(&file)?;
        Self::read(&text, path).map_err(|error| error.within(file.display().to_string()))
    }

    /// The same for the text of a configuration that is in no file. `path` is what relative paths are relative to.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`](crate::ErrorKind::InvalidSpec) with the place in the text for what is no OCI
    /// configuration, or is longer than 8 MiB.
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<Bundle> {
        if text.len() as u64 > MAX_CONFIG {
            return Err(too_large());
        }
        Self::read(text, absolute(path.as_ref())?)
    }

    fn read(text: &str, path: PathBuf) -> Result<Bundle> {
        let mut json: Value = serde_json::from_str(text).map_err(|error| wrong(CONFIG, error.to_string()))?;
        if json.get("freebsd").is_some_and(|value| !value.is_null()) {
            return Err(unsupported("freebsd", "is for another system"));
        }
        let mut warnings = drop_unknown_capabilities(&mut json);
        let config = model(json.clone())?;
        let known = serde_json::to_value(&config).map_err(|error| wrong(CONFIG, error.to_string()))?;
        let unknown = unknown::keys(&json, &known);
        warnings.extend(unknown.iter().map(|key| format!("{key} is no field that is known here")));
        warnings.extend(ambient_that_are_not_given(&config));
        Ok(Bundle { path, config, json, warnings })
    }

    /// The same, where a warning is an error.
    pub(super) fn without_warnings(path: &Path) -> Result<Bundle> {
        let bundle = Self::open(path)?;
        match bundle.warnings.first() {
            None => Ok(bundle),
            Some(warning) => Err(wrong(CONFIG, warning.clone())),
        }
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration.
    pub fn config(&self) -> &Spec {
        &self.config
    }

    /// The configuration as it was read, with what this library's model of it does not have, and without what was left
    /// out.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// What was left out of the configuration, in words.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What it says of the pod, see [`PodSpec::from_oci`].
    ///
    /// # Errors
    /// As [`PodSpec::from_oci`].
    pub fn pod(&self, name: impl Into<String>) -> Result<PodSpec> {
        pod::import(name.into(), &self.config)
    }

    /// The container, see [`ContainerSpec::from_oci`]; its relative paths are relative to the bundle.
    ///
    /// # Errors
    /// As [`ContainerSpec::from_oci`].
    pub fn container(&self) -> Result<ContainerSpec> {
        container::import(&self.config, Some(&self.path))
    }
}

pub(super) fn read(path: &Path) -> Result<String> {
    let file = std::fs::File::open(path).step("open", path.display())?;
    let mut text = String::new();
    let read = file.take(MAX_CONFIG + 1).read_to_string(&mut text).step("read", path.display())?;
    if read as u64 > MAX_CONFIG {
        return Err(too_large());
    }
    Ok(text)
}

fn too_large() -> crate::Error {
    wrong(CONFIG, format!("is larger than {MAX_CONFIG} bytes"))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).step("find the bundle", path.display())
}

/// "Any value which cannot be mapped to a relevant kernel interface … MUST be logged as a warning by the runtime"
/// (runtime-spec, "Linux Process").
pub(super) fn drop_unknown_capabilities(json: &mut Value) -> Vec<String> {
    let mut warnings = Vec::new();
    let sets = json.pointer_mut("/process/capabilities").and_then(Value::as_object_mut);
    for (set, list) in sets.into_iter().flatten() {
        let Some(list) = list.as_array_mut() else { continue };
        list.retain(|name| {
            let known = !name.is_string() || serde_json::from_value::<Capability>(name.clone()).is_ok();
            if !known {
                warnings.push(format!("{name} in {set} is no capability that is known here"));
            }
            known
        });
    }
    warnings
}

fn ambient_that_are_not_given(config: &Spec) -> Option<String> {
    let asked = config.process().as_ref()?.capabilities().as_ref()?;
    let given = process::capabilities(Some(asked)).ok()?.ambient;
    let lost = asked.ambient().iter().flatten().filter(|capability| {
        let known = process::same::<crate::spec::Capability>("process.capabilities.ambient", capability);
        known.is_ok_and(|capability| !given.contains(capability))
    });
    let mut names: Vec<String> = lost.map(|name| format!("CAP_{name}")).collect();
    names.sort();
    (!names.is_empty()).then(|| {
        format!("{} in ambient must be permitted and inheritable as well, and is left out", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bundle(capabilities: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            r#"{{"ociVersion": "1.2.0", "root": {{"path": "rootfs"}}, "process": {{"user": {{"uid": 0, "gid": 0}},
            "args": ["sh"], "cwd": "/", "capabilities": {{{capabilities}}}}},
            "linux": {{"namespaces": [{{"type": "mount"}}]}}}}"#
        );
        std::fs::write(dir.path().join(CONFIG), config).unwrap();
        dir
    }

    #[test]
    fn unknown_capabilities_are_left_out_with_a_warning_or_refused() {
        let dir = bundle(r#""bounding": ["CAP_CHOWN", "CAP_FLY"], "permitted": ["CAP_SWIM"]"#);
        let bundle = Bundle::open(dir.path()).unwrap();
        let warnings = bundle.warnings().join("; ");
        assert!(
            warnings.contains("\"CAP_FLY\" in bounding") && warnings.contains("\"CAP_SWIM\""),
            "{warnings}"
        );
        let container = bundle.container().unwrap();
        assert_eq!(container.security.capabilities.bounding.bits(), 1);
        assert_eq!(container.rootfs.path(), Some(&*dir.path().join("rootfs")));
        assert_eq!(bundle.pod("web").unwrap().name, "web");
        for error in [
            ContainerSpec::from_bundle(dir.path()).unwrap_err(),
            PodSpec::from_bundle("web", dir.path()).unwrap_err(),
        ] {
            assert!(error.to_string().contains("CAP_FLY"), "{error}");
        }
    }

    #[test]
    fn a_text_is_a_configuration_as_well_with_what_the_model_lacks() {
        let text = r#"{"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "com.example": {"x": 1}, "hostname": "web",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/", "scheduler": {"policy": "SCHED_OTHER",
            "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, "capabilities": {"bounding": ["CAP_FLY"]}},
            "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}]}}"#;
        let bundle = Bundle::parse(text, "/some/where").unwrap();
        assert_eq!(bundle.container().unwrap().rootfs.path(), Some(Path::new("/some/where/rootfs")));
        assert_eq!(bundle.pod("web").unwrap().hostname.as_deref(), Some("web"));
        assert_eq!(bundle.json()["com.example"]["x"], 1);
        // As the specification spells it, which the model does not.
        assert_eq!(bundle.json()["process"]["scheduler"]["flags"][0], "SCHED_FLAG_RESET_ON_FORK");
        assert_eq!(
            (bundle.warnings().len(), &bundle.json()["process"]["capabilities"]["bounding"]),
            (2, &json!([]))
        );
        assert!(bundle.warnings()[1].starts_with("com.example is no field"), "{:?}", bundle.warnings());
        for wrong in ["", "[", "7", &" ".repeat(9 << 20)] {
            assert_eq!(Bundle::parse(wrong, "/").unwrap_err().kind(), crate::ErrorKind::InvalidSpec);
        }
        let long = Bundle::parse(&" ".repeat(9 << 20), "/").unwrap_err();
        assert!(long.to_string().contains("larger than"), "{long}");
    }

    #[test]
    fn what_is_no_list_of_names_is_still_an_error() {
        for wrong in [r#""bounding": [5]"#, r#""bounding": "CAP_CHOWN""#] {
            let error = Bundle::open(self::bundle(wrong).path()).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidSpec, "{wrong}: {error}");
        }
        assert!(
            Bundle::open(self::bundle(r#""bounding": ["CAP_KILL"]"#).path()).unwrap().warnings().is_empty()
        );
    }

    fn open(text: &str) -> Result<Bundle> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), text).unwrap();
        Bundle::open(dir.path())
    }

    #[test]
    fn fields_that_nobody_knows_are_told_and_left_out() {
        let dir = bundle(r#""bounding": []"#);
        let text = std::fs::read_to_string(dir.path().join(CONFIG)).unwrap();
        let text = text.replace(r#""cwd": "/","#, r#""cwd": "/", "cpuAffinity": "0", "nothing": null,"#);
        let text = text.replace(r#"{"type": "mount"}"#, r#"{"type": "mount", "pth": "/x"}"#);
        let bundle =
            open(&text.replacen('{', r#"{"annotations": {"any.key": "is known"}, "extra": {"a": 1},"#, 1));
        let warnings = bundle.unwrap().warnings().join("\n");
        let paths = ["extra", "linux.namespaces[0].pth", "process.cpuAffinity"];
        assert_eq!(warnings, paths.map(|path| format!("{path} is no field that is known here")).join("\n"));
        std::fs::write(dir.path().join(CONFIG), &text).unwrap();
        let error = ContainerSpec::from_bundle(dir.path()).unwrap_err();
        assert!(error.to_string().contains("linux.namespaces[0].pth"), "{error}");
        let error = open(&text.replacen('{', r#"{"freebsd": {},"#, 1)).unwrap_err();
        assert!(error.to_string().contains("freebsd"), "{error}");
    }

    #[test]
    fn ambient_capabilities_that_are_not_given_are_told() {
        let all = r#""bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"]"#;
        let dir = bundle(all);
        let bundle = Bundle::open(dir.path()).unwrap();
        let warnings = bundle.warnings().join("\n");
        assert!(warnings.starts_with("CAP_CHOWN in ambient"), "{warnings}");
        assert_eq!(bundle.container().unwrap().security.capabilities.ambient.bits(), 1 << 5);
        let dir = self::bundle(&all.replace(r#", "CAP_CHOWN"]"#, "]").replace(r#""CAP_CHOWN", "#, ""));
        assert!(Bundle::open(dir.path()).unwrap().warnings().is_empty());
    }

    /// No field of the specification is taken for an unknown one. (Two of `linux.intelRdt`, which is refused anyway, have
    /// other names in the model.)
    #[test]
    fn the_whole_specification_is_known() {
        let id = r#"[{"containerID": 0, "hostID": 1, "size": 1}]"#;
        let rates = r#"[{"major": 8, "minor": 0, "rate": 5}]"#;
        let hook = r#"[{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}]"#;
        let text = format!(
            r#"{{"ociVersion": "1.3.0", "hostname": "a", "domainname": "b", "annotations": {{"a.b": "c"}},
            "root": {{"path": "rootfs", "readonly": true}},
            "mounts": [{{"destination": "/a", "type": "bind", "source": "/b", "options": ["bind"],
                "uidMappings": {id}, "gidMappings": {id}}}],
            "process": {{"terminal": true, "consoleSize": {{"height": 1, "width": 2}}, "cwd": "/", "args": ["a"],
                "env": ["A=b"], "user": {{"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3]}},
                "capabilities": {{"bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": []}},
                "rlimits": [{{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}}], "noNewPrivileges": true,
                "apparmorProfile": "a", "oomScoreAdj": 1, "selinuxLabel": "b",
                "scheduler": {{"policy": "SCHED_OTHER", "nice": 1, "priority": 0,
                    "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"], "runtime": 1, "deadline": 2,
                    "period": 3}},
                "ioPriority": {{"class": "IOPRIO_CLASS_BE", "priority": 1}},
                "execCPUAffinity": {{"initial": "0", "final": "0"}}}},
            "hooks": {{"prestart": {hook}, "createRuntime": {hook}, "createContainer": {hook}, "startContainer": {hook},
                "poststart": {hook}, "poststop": {hook}}},
            "linux": {{"namespaces": [{{"type": "user", "path": "/a"}}], "uidMappings": {id}, "gidMappings": {id},
                "timeOffsets": {{"boottime": {{"secs": 1, "nanosecs": 2}}}}, "cgroupsPath": "/a",
                "netDevices": {{"eth0": {{"name": "a"}}}},
                "devices": [{{"path": "/dev/a", "type": "c", "major": 1, "minor": 2, "fileMode": 438, "uid": 1, "gid": 2}}],
                "resources": {{"unified": {{"a.b": "c"}},
                    "devices": [{{"allow": true, "type": "c", "major": 1, "minor": 2, "access": "r"}}],
                    "memory": {{"limit": 1, "reservation": 2, "swap": 3, "kernel": 4, "kernelTCP": 5, "swappiness": 6,
                        "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true}},
                    "cpu": {{"shares": 1, "quota": 2, "burst": 3, "period": 4, "realtimeRuntime": 5, "realtimePeriod": 6,
                        "cpus": "0", "mems": "0", "idle": 1}},
                    "blockIO": {{"weight": 10, "leafWeight": 10,
                        "weightDevice": [{{"major": 8, "minor": 0, "weight": 10, "leafWeight": 10}}],
                        "throttleReadBpsDevice": {rates}, "throttleWriteBpsDevice": {rates},
                        "throttleReadIOPSDevice": {rates}, "throttleWriteIOPSDevice": {rates}}},
                    "hugepageLimits": [{{"pageSize": "2MB", "limit": 1}}],
                    "network": {{"classID": 1, "priorities": [{{"name": "a", "priority": 1}}]}},
                    "pids": {{"limit": 1}}, "rdma": {{"mlx5_1": {{"hcaHandles": 1, "hcaObjects": 2}}}}}},
                "intelRdt": {{"closID": "a", "schemata": ["b"], "l3CacheSchema": "c", "memBwSchema": "d",
                    "enableMonitoring": true}},
                "memoryPolicy": {{"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}},
                "seccomp": {{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86"],
                    "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/a", "listenerMetadata": "b",
                    "syscalls": [{{"names": ["a"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1,
                        "args": [{{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}}]}}]}},
                "rootfsPropagation": "slave", "maskedPaths": ["/a"], "readonlyPaths": ["/b"], "mountLabel": "c",
                "personality": {{"domain": "LINUX", "flags": []}}}}}}"#
        );
        assert_eq!(open(&text).unwrap().warnings(), [""; 0]);
    }
}
