//! The table: what a reading means, in columns.

use std::cmp::Ordering;
use std::collections::HashMap;

use pericarp::stats::{CgroupStats, Pressure};
use pericarp::{ContainerStatus, ExitStatus, Node, NodeStats, Pod};

/// What lines are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Cpu,
    Memory,
    Waiting,
    Pids,
    Age,
    Name,
}

impl Order {
    pub fn named(word: &str) -> Option<Order> {
        Some(match word {
            "cpu" => Order::Cpu,
            "mem" => Order::Memory,
            "wait" => Order::Waiting,
            "pids" => Order::Pids,
            "age" => Order::Age,
            "name" => Order::Name,
            _ => return None,
        })
    }
}

/// A pod or a container.
#[derive(Debug, Clone)]
pub struct Row {
    /// The pod's id and the container's name.
    pub key: (String, Option<String>),
    /// The pod's name in its namespace.
    pod: String,
    state: String,
    /// Percent of one processor.
    cpu: Option<f64>,
    memory: Option<u64>,
    /// Percent of the last 10 seconds: processors, memory, disks.
    waiting: [Option<f64>; 3],
    pids: Option<u64>,
    /// Microseconds.
    age: u64,
}

pub struct Table {
    pub rows: Vec<Row>,
    head: String,
}

/// Processor time of pods and containers at the reading before.
type Times = HashMap<(String, Option<String>), (u64, u64)>;

impl Table {
    /// The pods in order, each with its containers in order.
    pub fn new(node: &Node, before: &NodeStats, now: &NodeStats, order: Order) -> Table {
        let mut times = Times::new();
        for pod in &before.pods {
            let mut put = |name: Option<&str>, at, cgroup: &CgroupStats| {
                let key = (pod.id.clone(), name.map(str::to_string));
                times.extend(cgroup.cpu.usage_usec.map(|usage| (key, (at, usage))));
            };
            put(None, pod.timestamp_usec, &pod.cgroup);
            pod.containers.iter().for_each(|one| put(Some(&one.name), one.timestamp_usec, &one.cgroup));
        }
        let mut groups = Vec::new();
        for pod in &now.pods {
            let handle = node.open_pod(&pod.id).ok();
            let title = if pod.namespace == "default" {
                pod.name.clone()
            } else {
                format!("{}/{}", pod.namespace, pod.name)
            };
            let row = |name: Option<&str>, at: u64, made: u64, cgroup: &CgroupStats, state: String| {
                let key = (pod.id.clone(), name.map(str::to_string));
                let share = |one: Option<Pressure>| one.map(|one| one.some.avg10);
                Row {
                    cpu: percent(times.get(&key), at, cgroup),
                    key,
                    pod: title.clone(),
                    state,
                    memory: cgroup.memory.as_ref().and_then(|memory| memory.working_set_bytes),
                    waiting: [cgroup.pressure.cpu, cgroup.pressure.memory, cgroup.pressure.io].map(share),
                    pids: cgroup.pids.as_ref().and_then(|pids| pids.current).or(cgroup.processes),
                    age: at.saturating_sub(made),
                }
            };
            let mut containers: Vec<Row> = pod
                .containers
                .iter()
                .map(|one| {
                    let state = state_of(handle.as_ref(), &one.name);
                    row(Some(&one.name), one.timestamp_usec, one.created_at_usec, &one.cgroup, state)
                })
                .collect();
            containers.sort_by(|a, b| compare(a, b, order));
            let running = containers.iter().filter(|one| one.state == RUNNING).count();
            let state = match handle.as_ref().map(Pod::is_frozen) {
                Some(Ok(true)) => FROZEN.to_string(),
                None => "gone".to_string(),
                Some(_) => format!("{running}/{}", containers.len()),
            };
            groups.push((row(None, pod.timestamp_usec, pod.created_at_usec, &pod.cgroup, state), containers));
        }
        groups.sort_by(|(a, _), (b, _)| compare(a, b, order));
        let containers: usize = groups.iter().map(|(_, containers)| containers.len()).sum();
        let head = format!("{} pods, {containers} containers{}", groups.len(), machine(before, now));
        let rows = groups.into_iter().flat_map(|(pod, containers)| std::iter::once(pod).chain(containers));
        Table { rows: rows.collect(), head }
    }

    /// The lines, the two of the head first, each as wide as the terminal: at 80 columns all is there.
    pub fn lines(&self, width: usize) -> Vec<String> {
        // What the other columns take, with the spaces before them.
        let name = width.saturating_sub(55).clamp(12, 60);
        let titles = format!(
            "{:name$} {:7} {:>6} {:>7} {:>5} {:>5} {:>5} {:>5} {:>6}",
            "POD / CONTAINER", "STATE", "CPU%", "MEM", "wCPU%", "wMEM%", "wIO%", "PIDS", "AGE"
        );
        let mut lines = vec![format!("{:width$}", cut(&self.head, width)), titles];
        lines.extend(self.rows.iter().map(|row| row.line(name)));
        lines.iter().map(|line| cut(line, width)).collect()
    }
}

impl Row {
    /// What the line is about.
    pub fn title(&self) -> String {
        self.key.1.as_ref().map_or(self.pod.clone(), |name| format!("{}/{name}", self.pod))
    }

    fn line(&self, width: usize) -> String {
        let name = self.key.1.as_ref().map_or(self.pod.clone(), |name| format!("  {name}"));
        let share = |share: Option<f64>| share.map_or("-".to_string(), |share| format!("{share:.1}"));
        let [cpu, memory, io] = self.waiting.map(share);
        format!(
            "{:width$} {:7} {:>6} {:>7} {cpu:>5} {memory:>5} {io:>5} {:>5} {:>6}",
            cut(&name, width),
            cut(&self.state, 7),
            share(self.cpu),
            self.memory.map_or("-".to_string(), size),
            self.pids.map_or("-".to_string(), |pids| pids.to_string()),
            age(self.age / 1_000_000),
        )
    }
}

const RUNNING: &str = "running";
const FROZEN: &str = "frozen";

/// What a container does, in a word.
fn state_of(pod: Option<&Pod>, name: &str) -> String {
    let Some(container) = pod.and_then(|pod| pod.container(name).ok()) else { return "gone".to_string() };
    match container.status() {
        Ok(ContainerStatus::Exited(Some(ExitStatus::Exited(code)))) => format!("exit {code}"),
        Ok(ContainerStatus::Exited(Some(ExitStatus::Signaled { signal, .. }))) => format!("sig {signal}"),
        Ok(ContainerStatus::Exited(None)) => "exited".to_string(),
        Ok(_) if container.is_frozen().unwrap_or(false) => FROZEN.to_string(),
        Ok(ContainerStatus::Created) => "created".to_string(),
        Ok(ContainerStatus::Running) => RUNNING.to_string(),
        Err(_) => "?".to_string(),
    }
}

fn percent(before: Option<&(u64, u64)>, at: u64, cgroup: &CgroupStats) -> Option<f64> {
    let (earlier, used) = *before?;
    let time = at.checked_sub(earlier).filter(|time| *time > 0)?;
    Some(cgroup.cpu.usage_usec?.saturating_sub(used) as f64 * 100.0 / time as f64)
}

/// What the machine does, as far as it is told.
fn machine(before: &NodeStats, now: &NodeStats) -> String {
    let mut text = String::new();
    if let (Some(used), Some(all)) = (now.machine.working_set_bytes, now.machine.memory_bytes) {
        text += &format!("; machine: {} of {}", size(used), size(all));
    }
    let time = now.timestamp_usec.saturating_sub(before.timestamp_usec);
    if let (Some(a), Some(b)) = (before.machine.cpu.usage_usec, now.machine.cpu.usage_usec)
        && time > 0
    {
        text += &format!(", cpu {:.0}%", b.saturating_sub(a) as f64 * 100.0 / time as f64);
    }
    text
}

/// More before less, then by name; what is not known is last.
fn compare(a: &Row, b: &Row, order: Order) -> Ordering {
    let float = |a: Option<f64>, b: Option<f64>| b.unwrap_or(-1.0).total_cmp(&a.unwrap_or(-1.0));
    let worst = |row: &Row| row.waiting.into_iter().flatten().reduce(f64::max);
    let first = match order {
        Order::Cpu => float(a.cpu, b.cpu),
        Order::Memory => b.memory.cmp(&a.memory),
        Order::Waiting => float(worst(a), worst(b)),
        Order::Pids => b.pids.cmp(&a.pids),
        Order::Age => b.age.cmp(&a.age),
        Order::Name => Ordering::Equal,
    };
    first.then_with(|| a.title().cmp(&b.title()))
}

/// Bytes in three digits or so.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1000.0 {
            return if value < 10.0 && unit != "B" {
                format!("{value:.1}{unit}")
            } else {
                format!("{value:.0}{unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.0}PiB")
}

fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// At most so many characters.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    text.chars().take(width.saturating_sub(1)).chain(['~']).collect()
}
