//! The controllers that the library knows, and sets of them.

use std::fmt;

/// A controller of cgroup v2 that the library enables for pods and containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    /// Processor time: `cpu.weight`, `cpu.max`.
    Cpu,
    /// Memory and swap: `memory.*`.
    Memory,
    /// The number of tasks: `pids.max`.
    Pids,
    /// Block devices: `io.*`.
    Io,
    /// Processors and memory nodes: `cpuset.*`.
    Cpuset,
    /// Huge pages: `hugetlb.*`.
    Hugetlb,
    /// RDMA adapters: `rdma.max`.
    Rdma,
    /// Countable resources of a platform: `misc.max`.
    Misc,
}

impl Controller {
    /// Those that every pod and container has, in the order in which they are enabled.
    pub(crate) const ALWAYS: [Controller; 5] =
        [Controller::Cpu, Controller::Memory, Controller::Pids, Controller::Io, Controller::Cpuset];

    /// All of them. The last ones are enabled where a limit asks for them: each makes every cgroup dearer.
    pub(crate) const ALL: [Controller; 8] = [
        Controller::Cpu,
        Controller::Memory,
        Controller::Pids,
        Controller::Io,
        Controller::Cpuset,
        Controller::Hugetlb,
        Controller::Rdma,
        Controller::Misc,
    ];

    /// The controller that makes a file, by the file's name; `None` for the kernel's own files and unknown ones.
    pub(crate) fn of_file(file: &str) -> Option<Self> {
        let (name, _) = file.split_once('.')?;
        Self::ALL.into_iter().find(|controller| controller.name() == name)
    }

    /// The kernel's name, as in `cgroup.controllers`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Io => "io",
            Controller::Cpuset => "cpuset",
            Controller::Hugetlb => "hugetlb",
            Controller::Rdma => "rdma",
            Controller::Misc => "misc",
        }
    }

    /// The name that the controller has in cgroup v1 and in `/proc/cgroups`.
    pub(crate) fn legacy_name(self) -> &'static str {
        match self {
            Controller::Io => "blkio",
            other => other.name(),
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of controllers.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ControllerSet(u8);

impl ControllerSet {
    /// Reads the format of `cgroup.controllers` and `cgroup.subtree_control`: names between white space. Names that
    /// the library does not know (`perf_event`, …) are none of its business and left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut set = ControllerSet::default();
        for name in text.split_ascii_whitespace() {
            Controller::ALL
                .into_iter()
                .filter(|controller| controller.name() == name)
                .for_each(|c| set.insert(c));
        }
        set
    }

    /// Whether it holds no controller.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it holds this one.
    pub(crate) fn contains(self, controller: Controller) -> bool {
        self.0 & controller.bit() != 0
    }

    /// Adds one.
    pub(crate) fn insert(&mut self, controller: Controller) {
        self.0 |= controller.bit();
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, controller: Controller) {
        self.0 &= !controller.bit();
    }

    /// Its controllers, in the order of [`Controller::ALL`].
    pub(crate) fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::ALL.into_iter().filter(move |controller| self.contains(*controller))
    }

    /// Those of the set that every pod and container has.
    pub(crate) fn always(self) -> Self {
        let mut set = self;
        Controller::ALL.into_iter().filter(|c| !Controller::ALWAYS.contains(c)).for_each(|c| set.remove(c));
        set
    }

    /// What enables the whole set when written to `cgroup.subtree_control`: `+cpu +memory`. A write either enables
    /// all of them or none.
    pub(crate) fn enable_command(self) -> String {
        self.iter().map(|controller| format!("+{controller}")).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for ControllerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().map(Controller::name).collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Debug for ControllerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_lists_and_leaves_out_what_it_does_not_know() {
        let set = ControllerSet::parse("cpuset cpu io memory hugetlb pids rdma misc\n");
        assert_eq!(set.to_string(), "cpu memory pids io cpuset hugetlb rdma misc");
        assert_eq!(set.always().to_string(), "cpu memory pids io cpuset");
        assert_eq!(ControllerSet::parse("io\n").to_string(), "io");
        assert!(ControllerSet::parse("\n").is_empty());
        assert!(ControllerSet::parse("perf_event memory_recursiveprot").is_empty(), "whole names only");
    }

    #[test]
    fn knows_whose_a_file_is() {
        assert_eq!(Controller::of_file("hugetlb.2MB.max"), Some(Controller::Hugetlb));
        assert_eq!(Controller::of_file("cpuset.cpus"), Some(Controller::Cpuset));
        assert_eq!(Controller::of_file("cgroup.max.depth"), None);
        assert_eq!(Controller::of_file("memory"), None);
    }

    #[test]
    fn enables_a_set_by_one_write() {
        assert_eq!(ControllerSet::parse("memory cpu").enable_command(), "+cpu +memory");
        assert_eq!(ControllerSet::default().enable_command(), "");
    }
}
