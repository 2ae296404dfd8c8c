//! What needs no pod, and OCI configurations, in Rust.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Once, RwLock};

use log::{LevelFilter, Log, Metadata, Record};
use pericarp::spec::kubernetes::{Capacity, KubernetesPod};
use pericarp::spec::oci::{Bundle, features};
use pericarp::{ContainerSpec, Fanout, Node, NodeOptions, PodSpec, SlowReader, Terminal};
use serde_json::{Value, json};

use super::Rust;
use crate::api::*;

/// The Rust value behind it.
pub(super) fn bundle_of(bundle: &dyn BundleApi) -> &Bundle {
    bundle.as_any().downcast_ref().expect("one of this interface")
}

/// The logger of a Rust program.
struct Logger;

static LINES: RwLock<Option<&'static Lines>> = RwLock::new(None);

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(lines) = *LINES.read().expect("no panic") {
            let line = (record.level() as u32, record.target().to_string(), record.args().to_string());
            lines.lock().expect("no panic").push(line);
        }
    }

    fn flush(&self) {}
}

impl Api for Rust {
    fn word(&self) -> &'static str {
        "rust"
    }

    fn set_log(&self, level: LevelFilter, lines: Option<&'static Lines>) -> Res<()> {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| log::set_logger(&Logger).expect("the process has no other logger"));
        *LINES.write().expect("no panic") = lines;
        log::set_max_level(level);
        Ok(())
    }

    fn open(&self, options: &NodeOptions) -> Res<Box<dyn NodeApi>> {
        Ok(Box::new(Node::open(options)?))
    }

    fn delegated_cgroup(&self) -> Res<std::path::PathBuf> {
        Ok(pericarp::CgroupParent::delegated()?)
    }

    /// A Rust program knows it from Cargo; all crates of the workspace have the same.
    fn version(&self) -> (String, u32) {
        let version = env!("CARGO_PKG_VERSION");
        let number =
            version.split('.').fold(0, |sum, part| sum * 1000 + part.parse::<u32>().expect("a number"));
        (version.to_string(), number)
    }

    fn bundle(&self, path: &Path) -> Res<Box<dyn BundleApi>> {
        Ok(Box::new(Bundle::open(path)?))
    }

    fn parse_bundle(&self, text: &str, path: &Path) -> Res<Box<dyn BundleApi>> {
        Ok(Box::new(Bundle::parse(text, path)?))
    }

    fn oci_features(&self) -> Value {
        features()
    }

    fn explain_kubernetes(&self, pod: &KubernetesPod, machine: &Capacity) -> Res<Value> {
        Ok(json!(pod.explain(machine)?))
    }

    fn fanout(&self, source: OwnedFd, backlog: usize, slow: SlowReader) -> Res<Box<dyn FanoutApi>> {
        Ok(Box::new(Fanout::new(source, backlog, slow)?))
    }

    fn terminal(&self, master: OwnedFd) -> Box<dyn TerminalApi> {
        Box::new(Terminal::from(master))
    }
}

impl BundleApi for Bundle {
    fn again(&self) -> Box<dyn BundleApi> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn path(&self) -> String {
        self.path().to_string_lossy().into_owned()
    }

    fn config(&self) -> Value {
        self.json().clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings().to_vec()
    }

    fn pod_spec(&self, name: &str) -> Res<PodSpec> {
        Ok(self.pod(name)?)
    }

    fn container_spec(&self) -> Res<ContainerSpec> {
        Ok(self.container()?)
    }
}
