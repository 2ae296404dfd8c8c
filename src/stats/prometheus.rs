//! The text that Prometheus reads (exposition format 0.0.4), with the names that cAdvisor and the kubelet use.
//!
//! Containers have the labels `container`, `id`, `namespace` and `pod`. Pods as a whole are the same metrics with an
//! empty `container`, as the kubelet has them, all pods of the node are one row without a `pod`, and the machine as a whole
//! is the row with the id `/`; so sums need `container!=""`. Besides these there are the kubelet's `pod_` and `node_`
//! metrics. `id` is the path of the cgroup from the top of its hierarchy, as cAdvisor has it. What is `None` has no
//! sample.

use std::fmt::Write;
use std::path::Path;

use super::types::{CgroupStats, InterfaceStats, Stall};
use super::{ContainerStats, MachineStats, MemoryStats, NodeStats, PodStats};
use crate::spec::Limit;

mod details;
mod families;

impl NodeStats {
    /// All of it as the text that Prometheus reads: serve it as `text/plain; version=0.0.4`.
    pub fn to_prometheus(&self) -> String {
        let mut rows = vec![Row {
            labels: labels(&[("container", ""), ("id", "/"), ("namespace", ""), ("pod", "")]),
            cgroup: None,
            subject: Subject::Machine(&self.machine),
        }];
        let id = |path: &Path| {
            let below = path.strip_prefix(&self.cgroup_mount).ok().filter(|_| path.is_absolute());
            below.map_or(path.to_path_buf(), |below| Path::new("/").join(below)).display().to_string()
        };
        let own = id(&self.cgroup_path);
        // A node may have no cgroup, or that of the machine.
        if !own.is_empty() && own != "/" {
            rows.push(Row {
                labels: labels(&[("container", ""), ("id", &own), ("namespace", ""), ("pod", "")]),
                cgroup: Some(&self.cgroup),
                subject: Subject::Node(self),
            });
        }
        for pod in &self.pods {
            let path = id(&pod.cgroup_path);
            let label = |container: &str, id: &str| {
                labels(&[
                    ("container", container),
                    ("id", id),
                    ("namespace", &pod.namespace),
                    ("pod", &pod.name),
                ])
            };
            rows.push(Row {
                labels: label("", &path),
                cgroup: Some(&pod.cgroup),
                subject: Subject::Pod(pod),
            });
            rows.extend(pod.containers.iter().map(|container| Row {
                labels: label(&container.name, &format!("{path}/{}", container.name)),
                cgroup: Some(&container.cgroup),
                subject: Subject::Container(container),
            }));
        }
        let mut text = Text(String::with_capacity(rows.len() * (8 << 10)));
        families::containers(&mut text, &rows);
        families::pods(&mut text, &self.pods);
        families::node(&mut text, &self.machine);
        text.0
    }
}

/// What a row is about.
enum Subject<'a> {
    Machine(&'a MachineStats),
    Node(&'a NodeStats),
    Pod(&'a PodStats),
    Container(&'a ContainerStats),
}

/// Something with the labels of a container.
struct Row<'a> {
    labels: String,
    cgroup: Option<&'a CgroupStats>,
    subject: Subject<'a>,
}

impl Row<'_> {
    fn memory(&self) -> Option<&MemoryStats> {
        self.cgroup?.memory.as_ref()
    }

    fn machine(&self) -> Option<&MachineStats> {
        if let Subject::Machine(machine) = self.subject { Some(machine) } else { None }
    }

    fn container(&self) -> Option<&ContainerStats> {
        if let Subject::Container(container) = self.subject { Some(container) } else { None }
    }

    /// When it was read, in microseconds since 1970.
    fn read_at(&self) -> Option<u64> {
        match self.subject {
            Subject::Machine(_) => None,
            Subject::Node(node) => Some(node.timestamp_usec),
            Subject::Pod(pod) => Some(pod.timestamp_usec),
            Subject::Container(container) => Some(container.timestamp_usec),
        }
    }

    fn interfaces(&self) -> &[InterfaceStats] {
        match self.subject {
            Subject::Pod(pod) => pod.network.as_deref().unwrap_or_default(),
            _ => &[],
        }
    }
}

/// Whether a number only grows.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// A number as it is written.
#[derive(Clone, Copy)]
enum Value {
    Plain(u64),
    /// Written in seconds.
    Microseconds(u64),
}

/// The text so far.
struct Text(String);

impl Text {
    /// Begins a metric: its help and type are written with the first sample, and not at all without one.
    fn family<'a>(&'a mut self, name: &'static str, kind: Kind, help: &'static str) -> Family<'a> {
        Family { text: &mut self.0, name, kind, help, begun: false }
    }
}

struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    begun: bool,
}

impl Family<'_> {
    /// A sample, if there is a value. `labels` and `more` are made by [`labels`].
    fn sample(&mut self, labels: &str, more: &str, value: Option<Value>) {
        let Some(value) = value else { return };
        let Family { text, name, .. } = self;
        if !self.begun {
            self.begun = true;
            let kind = match self.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let _ = write!(text, "# HELP {name} {}\n# TYPE {name} {kind}\n", self.help);
        }
        text.push_str(name);
        if !(labels.is_empty() && more.is_empty()) {
            let comma = if labels.is_empty() || more.is_empty() { "" } else { "," };
            let _ = write!(text, "{{{labels}{comma}{more}}}");
        }
        let _ = match value {
            Value::Plain(value) => writeln!(text, " {value}"),
            Value::Microseconds(value) => writeln!(text, " {}.{:06}", value / 1_000_000, value % 1_000_000),
        };
    }

    fn plain(&mut self, labels: &str, more: &str, value: Option<u64>) {
        self.sample(labels, more, value.map(Value::Plain));
    }

    fn seconds(&mut self, labels: &str, more: &str, value: Option<u64>) {
        self.sample(labels, more, value.map(Value::Microseconds));
    }
}

/// `NAME="VALUE"` with commas between, escaped.
fn labels(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

/// A limit as cAdvisor writes it: 0 is none.
fn limit(limit: Option<Limit>) -> Option<u64> {
    limit.map(|limit| match limit {
        Limit::At(value) => value,
        Limit::Max(_) => 0,
    })
}

fn total(stall: Option<Stall>) -> Option<u64> {
    stall.map(|stall| stall.total_usec)
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
