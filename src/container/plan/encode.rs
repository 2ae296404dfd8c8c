//! Plans as bytes, see `init/wire.rs`.

use super::step::{Create, Step, Target};
use super::{Plan, Slot};
use crate::error::{Error, Result};
use crate::init::wire;
use crate::sys::mount::attr;

/// `CLONE_NEWTIME` of linux/sched.h.
const CLONE_NEWTIME: u32 = 0x80;

/// Room for the plan of a usual container.
const USUAL: usize = 8 << 10;

/// Fields, one after the other.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn slot(&mut self, slot: Slot) -> &mut Self {
        self.u32(slot.0)
    }

    /// How many there are, and these.
    fn slots(&mut self, slots: &[Slot]) -> &mut Self {
        self.u32(slots.len() as u32);
        slots.iter().fold(self, |w, slot| w.slot(*slot))
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
        self.0.push(0);
        self
    }

    fn string(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }
}

impl Plan {
    /// The bytes for init.
    ///
    /// # Errors
    /// `InvalidSpec` when the plan is larger than init takes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let too_large =
            || Error::invalid("container", "has more mounts or strings than a plan can hold (1 MiB)");
        if self.sources.len() + self.made as usize > wire::MAX_SLOTS {
            return Err(too_large());
        }
        let mut plan = Writer(Vec::with_capacity(USUAL));
        plan.u32(wire::MAGIC).u32(0).u32(self.sources.len() as u32).u32(self.steps.len() as u32);
        for step in &self.steps {
            let head = plan.0.len();
            plan.u32(0).u32(0);
            let operation = fields_of(step, &mut plan);
            let length = plan.0.len() - head - 8;
            plan.0[head..head + 4].copy_from_slice(&operation.to_le_bytes());
            plan.0[head + 4..head + 8].copy_from_slice(&(length as u32).to_le_bytes());
        }
        if plan.0.len() > wire::MAX_PLAN {
            return Err(too_large());
        }
        let length = plan.0.len() as u32;
        plan.0[4..8].copy_from_slice(&length.to_le_bytes());
        Ok(plan.0)
    }
}

fn flags_of(target: Target) -> u32 {
    match target {
        Target::Anywhere => 0,
        Target::NoSymlinks => wire::MOUNT_NO_SYMLINKS,
    }
}

/// Writes the fields of a step and returns its operation.
fn fields_of(step: &Step, w: &mut Writer) -> u32 {
    match step {
        Step::Join { slot, kind } => {
            w.slot(*slot).u32(kind.flag().bits() as u32);
            wire::JOIN
        }
        Step::Unshare(flags) => {
            w.u32(flags.bits() as u32);
            wire::UNSHARE
        }
        Step::Setsid => wire::SETSID,
        Step::SessionKeyring => wire::SESSION_KEYRING,
        Step::Umask(mask) => {
            w.u32(*mask);
            wire::UMASK
        }
        Step::NewFilesystem { slot, fstype, options, attributes } => {
            w.slot(*slot).u32(*attributes as u32).string(fstype).u32(options.len() as u32 + 1);
            // What mount(8) and df(1) show as the device.
            w.string("source").string(fstype);
            for (key, value) in options {
                w.string(key).string(value);
            }
            wire::NEW_FILESYSTEM
        }
        Step::NewFilesystemWith { slot, fstype, options, flags, attributes } => {
            let named = options.iter().any(|(key, _)| key == "source");
            let count = options.len() + usize::from(!named);
            w.slot(*slot).u32(*attributes as u32).string(fstype).u32(count as u32);
            if !named {
                w.string("source").string(fstype);
            }
            for (key, value) in options {
                w.string(key).string(value);
            }
            w.u32(flags.len() as u32);
            for flag in flags {
                w.string(flag);
            }
            wire::NEW_FILESYSTEM_WITH
        }
        Step::CopyUp { slot, path, keep_mode } => {
            w.slot(*slot).string(path).u32(if *keep_mode { wire::COPY_KEEP_MODE } else { 0 });
            wire::COPY_UP
        }
        Step::Attach { slot, path } => {
            w.slot(*slot).string(path);
            wire::ATTACH
        }
        Step::MountOverlay { options } => {
            w.string("overlay").string(super::build::ROOT).string("overlay").string(options);
            wire::MOUNT
        }
        Step::Mkdir { path, mode } => {
            w.string(path).u32(*mode);
            wire::MKDIR
        }
        Step::SetRoot => {
            w.string(super::build::ROOT);
            wire::SET_ROOT
        }
        Step::MountAt { slot, path, create: Create::Link, target, .. } => {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            let directory = if directory.is_empty() { "/" } else { directory };
            w.slot(*slot).string(directory).string(name).u32(flags_of(*target));
            wire::COPY_LINK
        }
        Step::MountAt { slot, path, create, target, .. } => {
            let create = match create {
                Create::Directory => wire::CREATE_DIRECTORY,
                Create::File => wire::CREATE_FILE,
                Create::LikeSource | Create::Link => wire::CREATE_NOTHING,
            };
            w.slot(*slot).string(path).u32(create).u32(flags_of(*target));
            wire::MOUNT_AT
        }
        Step::MountBelow { slot, base, path, .. } => {
            w.slot(*slot).slot(*base).string(path);
            wire::MOUNT_BELOW
        }
        Step::MkdirAt { slot, name, mode } => {
            w.slot(*slot).string(name).u32(*mode);
            wire::MKDIR_AT
        }
        Step::MknodAt { slot, name, major, minor } => {
            w.slot(*slot).string(name).u32(0o666).u32(*major).u32(*minor);
            wire::MKNOD_AT
        }
        Step::Device { device, target } => {
            let directory = device.path.parent().unwrap_or(&device.path).display().to_string();
            let name = device.path.file_name().unwrap_or_default().to_string_lossy();
            w.string(&directory).string(&name).u32(device.kind.file_type() | device.mode);
            w.u32(device.major).u32(device.minor).u32(device.uid).u32(device.gid).u32(flags_of(*target));
            wire::DEVICE
        }
        Step::MountReadonly { slot, .. } => {
            w.slot(*slot).u32(0).u64(attr::RDONLY).u64(0).u64(0);
            wire::SET_ATTRIBUTES
        }
        Step::SymlinkAt { slot, name, target } => {
            w.slot(*slot).string(name).string(target);
            wire::SYMLINK_AT
        }
        Step::OpenNull { slot } => {
            w.bytes(wire::TEMPLATE_NULL.to_bytes()).u32(libc::O_RDWR as u32).slot(*slot);
            wire::OPEN
        }
        Step::Mask { base, path, .. } => {
            w.u32(base.map_or(wire::NO_SLOT, |slot| slot.0)).string(path);
            wire::MASK
        }
        Step::Readonly { base, path, .. } => {
            w.u32(base.map_or(wire::NO_SLOT, |slot| slot.0)).string(path);
            wire::READONLY
        }
        Step::SetAttributes { slot, recursive, set, clear } => {
            w.slot(*slot).u32((*recursive).into()).u64(*set).u64(*clear).u64(0);
            wire::SET_ATTRIBUTES
        }
        Step::RootReadonly => wire::ROOT_READONLY,
        Step::MkdirInRoot { path } => {
            w.string(path);
            wire::MKDIR_IN_ROOT
        }
        Step::Pivot => wire::PIVOT,
        Step::RootPropagation { propagation, recursive } => {
            w.u32((*recursive).into()).u64(propagation.flag());
            wire::ROOT_PROPAGATION
        }
        Step::Stdio(slots) => {
            slots.iter().for_each(|slot| {
                w.slot(*slot);
            });
            wire::STDIO
        }
        Step::Rlimit { resource, soft, hard } => {
            w.u32(*resource as u32).u64(*soft).u64(*hard);
            wire::RLIMIT
        }
        Step::Identity { uid, gid, groups, capabilities } => {
            let bytes: Vec<u8> = groups.iter().flat_map(|gid| gid.to_le_bytes()).collect();
            w.u32(*uid).u32(*gid).u64(capabilities.bounding).u64(capabilities.permitted);
            w.u64(capabilities.effective).u64(capabilities.inheritable).u64(capabilities.ambient);
            w.u32(groups.len() as u32).bytes(&bytes);
            wire::IDENTITY
        }
        Step::NoNewPrivileges => wire::NO_NEW_PRIVILEGES,
        Step::Seccomp(program) => {
            w.u32(program.flags).bytes(&program.to_bytes());
            if program.listens() { wire::SECCOMP_LISTENER } else { wire::SECCOMP }
        }
        Step::Chdir { path } => {
            w.string(path);
            wire::CHDIR
        }
        Step::EnterPid => wire::ENTER_PID,
        Step::SetName(name) => {
            w.string(name);
            wire::SET_NAME
        }
        Step::SendFd { slot } => {
            w.slot(*slot);
            wire::SEND_FD
        }
        Step::Barrier => wire::BARRIER,
        Step::Pause => wire::PAUSE,
        Step::Preserve(slots) => {
            w.slots(slots);
            wire::PRESERVE
        }
        Step::KeepOpen(count) => {
            w.u32(*count);
            wire::KEEP_OPEN
        }
        Step::FindProgram { candidates } => {
            w.u32(candidates.len() as u32);
            for candidate in candidates {
                w.string(candidate);
            }
            wire::FIND_PROGRAM
        }
        Step::RunHook { stdin, path, args, env, timeout } => {
            let milliseconds = timeout.map_or(0, |seconds| u64::from(seconds) * 1000);
            w.slot(*stdin).u64(milliseconds).string(path).u32(args.len() as u32).u32(env.len() as u32);
            for text in args.iter().chain(env) {
                w.string(text);
            }
            wire::RUN_HOOK
        }
        Step::BarrierForAll { slot } => {
            w.slot(*slot);
            wire::BARRIER_FOR_ALL
        }
        Step::Terminal { slot, devpts, console, user, size } => {
            let or_none = |slot: &Option<Slot>| slot.map_or(wire::NO_SLOT, |slot| slot.0);
            w.u32(or_none(devpts)).slot(*slot).u32(or_none(console));
            w.u32(*user).u32(size.width.into()).u32(size.height.into());
            wire::TERMINAL
        }
        Step::ControllingTerminal => wire::CONTROLLING_TERMINAL,
        Step::JoinProcess { process, namespaces, root } => {
            w.slot(*process).u32(*namespaces).u32(root.map_or(wire::NO_SLOT, |slot| slot.0));
            wire::JOIN_PROCESS
        }
        Step::Exec { candidates, args, env } => {
            w.u32(candidates.len() as u32).u32(args.len() as u32).u32(env.len() as u32);
            for text in candidates.iter().chain(args).chain(env) {
                w.string(text);
            }
            wire::EXEC
        }
        Step::Reap => wire::REAP,
        Step::OwnFiles { uid, gid } => {
            w.u32(*uid).u32(*gid);
            wire::OWN_FILES
        }
        Step::EnterUser { slot } => {
            w.slot(*slot);
            wire::ENTER_USER
        }
        Step::CopyRoot => {
            w.string(super::build::ROOT);
            wire::COPY_ROOT
        }
        Step::TakeRootBack => {
            w.string(super::build::ROOT).bytes(super::build::HOST.to_bytes());
            wire::TAKE_ROOT_BACK
        }
        Step::MakeQueue { name, mode, uid, gid, messages, size } => {
            w.string(name).u32(*mode).u32(*uid).u32(*gid).u32(*messages).u32(*size);
            wire::MAKE_QUEUE
        }
        Step::SetSysctl { proc, path, value, .. } => {
            w.slot(*proc).string(path).string(value);
            wire::WRITE_PROC
        }
        Step::WriteProc { proc, path, text, .. } => {
            w.slot(*proc).string(path).string(text);
            wire::WRITE_PROC
        }
        Step::Scheduler(scheduler) => {
            let flags = scheduler.flags.iter().fold(0, |flags, flag| flags | flag.bit());
            w.u32(scheduler.policy.number()).u32(scheduler.nice as u32).u32(scheduler.priority).u64(flags);
            w.u64(scheduler.runtime).u64(scheduler.deadline).u64(scheduler.period);
            wire::SCHEDULER
        }
        Step::MemoryPolicy { mask, policy } => {
            w.u32(policy.mode_and_flags()).bytes(mask);
            wire::MEMORY_POLICY
        }
        Step::IoPriority(number) => {
            w.u32(*number);
            wire::IO_PRIORITY
        }
        Step::Affinity { mask, .. } => {
            w.bytes(mask);
            wire::AFFINITY
        }
        Step::Personality(number) => {
            w.u32(*number);
            wire::PERSONALITY
        }
        Step::UnshareTime => {
            w.u32(CLONE_NEWTIME);
            wire::UNSHARE
        }
        Step::JoinTime { slot } => {
            w.slot(*slot).u32(CLONE_NEWTIME);
            wire::JOIN
        }
        Step::EnterTime { proc } => {
            w.slot(*proc);
            wire::ENTER_TIME
        }
        Step::Propagate { slot, propagation, .. } => {
            w.slot(*slot).u32(0).u64(0).u64(0).u64(propagation.flag());
            wire::SET_ATTRIBUTES
        }
        Step::EnterMounts { slot } => {
            w.slot(*slot);
            wire::ENTER_MOUNTS
        }
        Step::LookAs { uid, gid, groups } => {
            let bytes: Vec<u8> = groups.iter().flat_map(|gid| gid.to_le_bytes()).collect();
            w.u32(*uid).u32(*gid).u32(groups.len() as u32).bytes(&bytes);
            wire::LOOK_AS
        }
        Step::KeepGroups => wire::KEEP_GROUPS,
        Step::Show => wire::SHOW,
        Step::Twin { steps } => {
            w.u32(*steps);
            wire::TWIN
        }
        Step::Give { slots, steps } => {
            w.u32(*steps).slots(slots);
            wire::GIVE
        }
        Step::Take(slots) => {
            w.slots(slots);
            wire::TAKE
        }
        Step::HandOver { proc } => {
            w.slot(*proc);
            wire::HAND_OVER
        }
    }
}
