//! The directory that an OCI configuration comes in.

use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capability, Spec};
use serde_json::Value;

use super::{container, model, pod, wrong};
use crate::error::{Context, Result};
use crate::spec::{ContainerSpec, PodSpec};

/// The file of a bundle that holds the configuration.
const CONFIG: &str = "config.json";
/// Bytes of a configuration: a bound before it is parsed (CVE-2021-43784).
const MAX_CONFIG: u64 = 8 << 20;

/// A bundle whose configuration was read once, for the pod and the container of it.
///
/// What the specification wants a warning for instead of an error is left out of the configuration and told by
/// [`warnings`](Self::warnings): names of capabilities that nobody knows (`process.capabilities`). With
/// [`ContainerSpec::from_bundle`] that is an error as well.
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
        let warnings = drop_unknown_capabilities(&mut json);
        Ok(Bundle { path, config: model(json.clone())?, json, warnings })
    }

    /// The same, where a warning is an error.
    pub(super) fn without_warnings(path: &Path) -> Result<Bundle> {
        let bundle = Self::open(path)?;
        match bundle.warnings.first() {
            None => Ok(bundle),
            Some(warning) => Err(wrong("process.capabilities", warning.clone())),
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

fn read(path: &Path) -> Result<String> {
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
fn drop_unknown_capabilities(json: &mut Value) -> Vec<String> {
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
            (1, &json!([]))
        );
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
}
