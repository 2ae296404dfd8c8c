//! Reading the files of a cgroup: relative to its directory, each opened, read at once and closed, into one buffer for
//! all of them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::Mode;

use super::StatsOptions;
use super::parse;
use super::types::{CgroupStats, DeviceIo, HugetlbStats, MemoryStats, PidsStats, Pressure, PressureStats};
use crate::cgroup::{Controller, ControllerSet};
use crate::error::{Context, Error, Result};

/// Larger than any of the files as a rule: `memory.stat` has some 2 KiB, `io.stat` 100 bytes a device.
const BUFFER: usize = 16 << 10;
/// The largest file that is read.
const LARGEST: usize = 16 << 20;
/// What kernfs says of a file that is not there, of a cgroup that is gone, and of a file that has nothing to say here.
const MISSING: [Errno; 3] = [Errno::ENOENT, Errno::ENODEV, Errno::EOPNOTSUPP];

/// What a reading of many cgroups has in common.
pub(super) struct Reader<'a> {
    pub(super) options: &'a StatsOptions,
    buffer: Vec<u8>,
    /// The names of block devices that have been seen.
    devices: HashMap<(u32, u32), Option<String>>,
    /// The sizes of huge pages in the names of files, once some cgroup has such files.
    page_sizes: Option<Vec<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(options: &'a StatsOptions) -> Self {
        Reader { options, buffer: vec![0; BUFFER], devices: HashMap::new(), page_sizes: None }
    }

    /// What a cgroup directory says. `None` when the cgroup is gone.
    pub(super) fn cgroup(
        &mut self,
        dir: BorrowedFd<'_>,
        controllers: ControllerSet,
    ) -> Result<Option<CgroupStats>> {
        let mut stats = CgroupStats::default();
        // Every cgroup has this file; without the cpu controller it tells of no throttling.
        let Some(text) = self.file(dir, c"cpu.stat")? else { return Ok(None) };
        parse::flat(text, |key, value| stats.cpu.take(key, value));
        if self.options.limits && controllers.contains(Controller::Cpu) {
            stats.cpu.weight = self.number(dir, c"cpu.weight")?;
            stats.cpu.max = self.file(dir, c"cpu.max")?.and_then(parse::cpu_max);
            stats.cpu.burst_limit_usec = self.number(dir, c"cpu.max.burst")?;
        }
        if controllers.contains(Controller::Memory) {
            stats.memory = Some(self.memory(dir)?);
        }
        if controllers.contains(Controller::Io) {
            stats.io = self.io(dir)?;
        }
        if controllers.contains(Controller::Pids) {
            stats.pids = Some(PidsStats {
                current: self.number(dir, c"pids.current")?,
                peak: self.number(dir, c"pids.peak")?,
                limit: if self.options.limits { self.limit(dir, c"pids.max")? } else { None },
            });
        }
        if controllers.contains(Controller::Hugetlb) {
            stats.hugetlb = Some(self.hugetlb(dir)?);
        }
        if controllers.contains(Controller::Rdma) {
            stats.rdma = self.file(dir, c"rdma.current")?.map(parse::rdma);
        }
        if controllers.contains(Controller::Misc) {
            stats.misc = self.file(dir, c"misc.current")?.map(parse::named);
        }
        stats.pressure = PressureStats {
            cpu: self.pressure(dir, c"cpu.pressure")?,
            memory: self.pressure(dir, c"memory.pressure")?,
            io: self.pressure(dir, c"io.pressure")?,
        };
        Ok(Some(stats))
    }

    /// How many processes are directly in the cgroup; `None` when it is gone, or lets only threads in.
    pub(super) fn processes(&mut self, dir: BorrowedFd<'_>) -> Result<Option<u64>> {
        let Some(file) = open(dir, c"cgroup.procs")? else { return Ok(None) };
        let mut count = 0;
        loop {
            match nix::unistd::read(&file, &mut self.buffer) {
                Ok(0) => return Ok(Some(count)),
                Ok(length) => {
                    count += self.buffer[..length].iter().filter(|byte| **byte == b'\n').count() as u64
                }
                Err(Errno::EINTR) => {}
                Err(errno) if MISSING.contains(&errno) => return Ok(None),
                Err(errno) => return Err(errno).step("read", "cgroup.procs"),
            }
        }
    }

    /// The controllers that a cgroup has: `cgroup.controllers`, or what its children have: `cgroup.subtree_control`.
    pub(super) fn controllers(&mut self, dir: BorrowedFd<'_>, file: &CStr) -> Result<ControllerSet> {
        let text = self.file(dir, file)?.unwrap_or_default();
        Ok(ControllerSet::parse(&String::from_utf8_lossy(text)))
    }

    fn memory(&mut self, dir: BorrowedFd<'_>) -> Result<MemoryStats> {
        let mut stats = MemoryStats {
            usage_bytes: self.number(dir, c"memory.current")?,
            peak_bytes: self.number(dir, c"memory.peak")?,
            swap_bytes: self.number(dir, c"memory.swap.current")?,
            ..MemoryStats::default()
        };
        if self.options.limits {
            stats.limit = self.limit(dir, c"memory.max")?;
            stats.high = self.limit(dir, c"memory.high")?;
            stats.low = self.limit(dir, c"memory.low")?;
            stats.min = self.limit(dir, c"memory.min")?;
            stats.swap_limit = self.limit(dir, c"memory.swap.max")?;
        }
        if let Some(text) = self.file(dir, c"memory.stat")? {
            parse::flat(text, |key, value| stats.stat.take(key, value));
        }
        if let Some(text) = self.file(dir, c"memory.events")? {
            parse::flat(text, |key, value| stats.events.take(key, value));
        }
        stats.working_set_bytes = working_set(stats.usage_bytes, stats.stat.inactive_file_bytes);
        Ok(stats)
    }

    fn io(&mut self, dir: BorrowedFd<'_>) -> Result<Option<Vec<DeviceIo>>> {
        let Some(text) = self.file(dir, c"io.stat")? else { return Ok(None) };
        let mut devices = parse::io(text);
        for device in &mut devices {
            let (major, minor) = (device.major, device.minor);
            device.name =
                self.devices.entry((major, minor)).or_insert_with(|| device_name(major, minor)).clone();
        }
        Ok(Some(devices))
    }

    fn hugetlb(&mut self, dir: BorrowedFd<'_>) -> Result<BTreeMap<String, HugetlbStats>> {
        let sizes = match self.page_sizes.take() {
            Some(sizes) => sizes,
            None => page_sizes(dir).step("list", "the files of a cgroup")?,
        };
        let mut all = BTreeMap::new();
        for size in &sizes {
            let name = |what| CString::new(format!("hugetlb.{size}.{what}")).unwrap_or_default();
            let mut stats =
                HugetlbStats { usage_bytes: self.number(dir, &name("current"))?, ..HugetlbStats::default() };
            if let Some(text) = self.file(dir, &name("events"))? {
                parse::flat(text, |key, value| stats.take(key, value));
            }
            all.insert(size.clone(), stats);
        }
        self.page_sizes = Some(sizes);
        Ok(all)
    }

    pub(super) fn pressure(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<Pressure>> {
        Ok(self.file(dir, name)?.and_then(parse::pressure))
    }

    fn number(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<u64>> {
        Ok(self.file(dir, name)?.and_then(parse::number))
    }

    fn limit(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<crate::spec::Limit>> {
        Ok(self.file(dir, name)?.and_then(parse::limit))
    }

    /// The content of a file, until the next one is read; `None` if there is none.
    pub(super) fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<&[u8]>> {
        let subject = || name.to_string_lossy().into_owned();
        let Some(file) = open(dir, name)? else { return Ok(None) };
        let mut length = 0;
        loop {
            match nix::unistd::read(&file, &mut self.buffer[length..]) {
                Ok(read) => length += read,
                Err(Errno::EINTR) => continue,
                Err(errno) if MISSING.contains(&errno) => return Ok(None),
                Err(errno) => return Err(errno).step("read", subject()),
            }
            // The kernel gives each of these files whole to whoever has the room: less than that is the end.
            if length < self.buffer.len() {
                return Ok(Some(&self.buffer[..length]));
            }
            if length >= LARGEST {
                return Err(Error::system(Errno::EFBIG, "read").on(subject()));
            }
            self.buffer.resize(length * 2, 0);
        }
    }
}

/// The working set as the kubelet has it.
pub(super) fn working_set(usage: Option<u64>, inactive_file: Option<u64>) -> Option<u64> {
    Some(usage?.saturating_sub(inactive_file?))
}

fn open(dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(dir, name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(errno) if MISSING.contains(&errno) => Ok(None),
        Err(errno) => Err(errno).step("open", name.to_string_lossy()),
    }
}

/// The sizes in the names of the files `hugetlb.SIZE.current`.
fn page_sizes(dir: BorrowedFd<'_>) -> nix::Result<Vec<String>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = match Dir::openat(dir.as_fd(), ".", flags, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ENODEV) => return Ok(Vec::new()),
        result => result?,
    };
    let mut sizes = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        let size = name.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(".current"));
        // `hugetlb.2MB.rsvd.current` counts what is reserved, in use or not.
        sizes.extend(size.filter(|size| !size.contains('.')).map(str::to_string));
    }
    Ok(sizes)
}

/// The kernel's name of a block device, by the link in sysfs.
pub(super) fn device_name(major: u32, minor: u32) -> Option<String> {
    let target = readlinkat(AT_FDCWD, format!("/sys/dev/block/{major}:{minor}").as_str()).ok()?;
    Some(std::path::Path::new(&target).file_name()?.to_string_lossy().into_owned())
}
