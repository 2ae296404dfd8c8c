//! Any step, and what init is to read of it.

use std::sync::Arc;

use nix::sched::CloneFlags;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::Field;
use crate::container::plan::{Create, Slot, Step, step};
use crate::container::seccomp::Program;
use crate::init::wire;
use crate::spec::{
    CapabilityBits, ConsoleSize, Device, DeviceKind, MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode,
    Propagation, RlimitResource, Scheduler, SchedulerFlag, SchedulerPolicy, Seccomp, SeccompAction,
    SeccompSyscall,
};
use crate::sys::namespace::Kind;

fn slot() -> impl Strategy<Value = Slot> {
    (0..wire::MAX_SLOTS as u32).prop_map(Slot)
}

/// Anything but NUL, which validation refuses in every string of a specification.
fn text() -> impl Strategy<Value = String> {
    "[^\0]{0,40}"
}

fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["", "null", "pts", "a name", "tmpfs", "pts/ptmx", "\u{fc}"])
}

/// Filters of real programs: instructions cannot be made up outside of their module.
fn program() -> impl Strategy<Value = Arc<Program>> {
    let default = any::<u64>().prop_map(|capabilities| {
        crate::container::seccomp::default_program(capabilities).expect("the default profile compiles")
    });
    let listening = select(vec!["mkdir", "mount", "getpid"]).prop_map(|name| {
        let rule = SeccompSyscall::new([name], SeccompAction::Notify);
        let profile = Seccomp::new(SeccompAction::Allow).rule(rule);
        crate::container::seccomp::custom_program(&profile).expect("the profile compiles")
    });
    prop_oneof![default, listening]
}

/// Steps of `build/attributes.rs`.
fn attribute() -> impl Strategy<Value = Step> {
    use SchedulerPolicy::*;
    let policies = vec![Other, Fifo, RoundRobin, Batch, Idle, Deadline];
    let scheduler = (select(policies), -20..20, 0..100_u32, any::<[u64; 3]>(), any::<bool>()).prop_map(
        |(policy, nice, priority, [runtime, deadline, period], reset)| {
            let scheduler = Scheduler::new(policy).nice(nice).priority(priority);
            let scheduler = scheduler.deadline(runtime, deadline, period);
            Step::Scheduler(if reset { scheduler.flag(SchedulerFlag::ResetOnFork) } else { scheduler })
        },
    );
    prop_oneof![
        (slot(), name(), text()).prop_map(|(proc, path, text)| Step::WriteProc {
            proc,
            path,
            text,
            what: "a file"
        }),
        scheduler,
        any::<u32>().prop_map(Step::IoPriority),
        vec(any::<u8>(), 0..1025).prop_map(|mask| Step::Affinity { mask, list: String::new() }),
        any::<u32>().prop_map(Step::Personality),
        vec(any::<u8>(), 0..129).prop_map(|mask| Step::MemoryPolicy {
            mask,
            policy: MemoryPolicy::new(MemoryPolicyMode::Bind, "0-3").flag(MemoryPolicyFlag::RelativeNodes)
        }),
        Just(Step::UnshareTime),
        slot().prop_map(|slot| Step::JoinTime { slot }),
        slot().prop_map(|proc| Step::EnterTime { proc }),
    ]
}

fn filesystem_with() -> impl Strategy<Value = Step> {
    (slot(), name(), vec((text(), text()), 0..4), vec(text(), 0..4), any::<u32>()).prop_map(
        |(slot, fstype, options, flags, attributes)| {
            let attributes = attributes.into();
            Step::NewFilesystemWith { slot, fstype, options, flags, attributes }
        },
    )
}

fn propagation() -> impl Strategy<Value = Propagation> {
    select(vec![Propagation::Private, Propagation::Slave, Propagation::Shared, Propagation::Unbindable])
}

fn target_of() -> impl Strategy<Value = step::Target> {
    select(vec![step::Target::Anywhere, step::Target::NoSymlinks])
}

fn device() -> impl Strategy<Value = Device> {
    let kinds = select(vec![DeviceKind::Char, DeviceKind::Block, DeviceKind::Fifo]);
    let ids = (0..4096u32, any::<u32>(), 0..0o1000u32, any::<u32>(), any::<u32>());
    (kinds, ids).prop_map(|(kind, (major, minor, mode, uid, gid))| {
        let mut device = Device::char("/dev/a/b", major, minor).mode(mode).owner(uid, gid);
        device.kind = kind;
        device
    })
}

/// Any step that a plan can hold.
pub(super) fn any_step() -> impl Strategy<Value = Step> {
    let kinds = vec![Kind::Network, Kind::Ipc, Kind::Uts, Kind::Pid];
    let options = vec((name(), text()), 0..5);
    let create = select(vec![Create::Directory, Create::File, Create::LikeSource, Create::Link]);
    let target = select(vec![step::Target::Anywhere, step::Target::NoSymlinks]);
    let resources = vec![RlimitResource::Nofile, RlimitResource::As, RlimitResource::Stack];
    let without_fields = vec![
        Step::Setsid,
        Step::SessionKeyring,
        Step::SetRoot,
        Step::RootReadonly,
        Step::Pivot,
        Step::NoNewPrivileges,
        Step::EnterPid,
        Step::Barrier,
        Step::Pause,
        Step::ControllingTerminal,
        Step::Reap,
        Step::CopyRoot,
        Step::TakeRootBack,
        Step::KeepGroups,
        Step::Show,
    ];
    let mounts =
        prop_oneof![
            (slot(), name(), options, any::<u32>()).prop_map(|(slot, fstype, options, attributes)| {
                Step::NewFilesystem { slot, fstype, options, attributes: attributes.into() }
            }),
            (slot(), text()).prop_map(|(slot, path)| Step::Attach { slot, path }),
            text().prop_map(|options| Step::MountOverlay { options }),
            (text(), any::<u32>()).prop_map(|(path, mode)| Step::Mkdir { path, mode }),
            (slot(), text(), text(), create, target).prop_map(|(slot, what, path, create, target)| {
                Step::MountAt { slot, what, path, create, target }
            }),
            (slot(), slot(), text()).prop_map(|(slot, base, path)| Step::MountBelow {
                slot,
                what: String::new(),
                base,
                path,
                destination: String::new()
            }),
            (slot(), name(), any::<u32>()).prop_map(|(slot, name, mode)| Step::MkdirAt { slot, name, mode }),
            (slot(), name(), any::<u32>(), any::<u32>())
                .prop_map(|(slot, name, major, minor)| Step::MknodAt { slot, name, major, minor }),
            filesystem_with(),
            (slot(), text(), any::<bool>()).prop_map(|(slot, path, keep_mode)| Step::CopyUp {
                slot,
                path,
                keep_mode
            }),
            (propagation(), any::<bool>())
                .prop_map(|(propagation, recursive)| Step::RootPropagation { propagation, recursive }),
            (slot(), propagation()).prop_map(|(slot, propagation)| Step::Propagate {
                slot,
                propagation,
                path: String::new()
            }),
            (device(), target_of()).prop_map(|(device, target)| Step::Device { device, target }),
            slot().prop_map(|slot| Step::MountReadonly { slot, path: String::new() }),
            (slot(), name(), name()).prop_map(|(slot, name, target)| Step::SymlinkAt { slot, name, target }),
            (slot(), any::<bool>(), any::<u64>(), any::<u64>()).prop_map(|(slot, recursive, set, clear)| {
                Step::SetAttributes { slot, recursive, set, clear }
            }),
        ];
    let process = prop_oneof![
        (slot(), select(kinds)).prop_map(|(slot, kind)| Step::Join { slot, kind }),
        any::<u32>().prop_map(Step::Umask),
        slot().prop_map(|slot| Step::OpenNull { slot }),
        (option::of(slot()), text()).prop_map(|(base, path)| Step::Mask {
            base,
            path,
            destination: String::new()
        }),
        (option::of(slot()), text()).prop_map(|(base, path)| Step::Readonly {
            base,
            path,
            destination: String::new()
        }),
        text().prop_map(|path| Step::MkdirInRoot { path }),
        text().prop_map(|path| Step::Chdir { path }),
        [slot(), slot(), slot()].prop_map(Step::Stdio),
        (select(resources), any::<u64>(), any::<u64>()).prop_map(|(resource, soft, hard)| Step::Rlimit {
            resource,
            soft,
            hard
        }),
        (any::<u32>(), any::<u32>(), vec(any::<u32>(), 0..20), any::<[u64; 5]>()).prop_map(
            |(uid, gid, groups, [bounding, permitted, effective, inheritable, ambient])| Step::Identity {
                uid,
                gid,
                groups,
                capabilities: CapabilityBits { bounding, permitted, effective, inheritable, ambient },
            }
        ),
        attribute(),
        program().prop_map(Step::Seccomp),
        name().prop_map(Step::SetName),
        slot().prop_map(|slot| Step::SendFd { slot }),
        slot().prop_map(|slot| Step::EnterUser { slot }),
        (any::<u32>(), any::<u32>()).prop_map(|(uid, gid)| Step::OwnFiles { uid, gid }),
        any::<i32>().prop_map(|flags| Step::Unshare(CloneFlags::from_bits_retain(flags))),
        (text(), any::<[u32; 5]>()).prop_map(|(name, [mode, uid, gid, messages, size])| {
            Step::MakeQueue { name, mode, uid, gid, messages, size }
        }),
        (slot(), text(), text()).prop_map(|(proc, path, value)| Step::SetSysctl {
            proc,
            path,
            name: String::new(),
            value
        }),
        slot().prop_map(|slot| Step::BarrierForAll { slot }),
        (slot(), [option::of(slot()), option::of(slot())], any::<u32>(), any::<(u16, u16)>()).prop_map(
            |(slot, [devpts, console], user, (width, height))| {
                Step::Terminal { slot, devpts, console, user, size: ConsoleSize { width, height } }
            }
        ),
        (slot(), any::<u32>(), option::of(slot()))
            .prop_map(|(process, namespaces, root)| Step::JoinProcess { process, namespaces, root }),
        slot().prop_map(|slot| Step::EnterMounts { slot }),
        any::<u32>().prop_map(|steps| Step::Twin { steps }),
        (vec(slot(), 0..5), any::<u32>()).prop_map(|(slots, steps)| Step::Give { slots, steps }),
        vec(slot(), 0..5).prop_map(Step::Take),
        slot().prop_map(|proc| Step::HandOver { proc }),
        (vec(text(), 0..5), vec(text(), 0..9), vec(text(), 0..9))
            .prop_map(|(candidates, args, env)| Step::Exec { candidates, args, env }),
        vec(text(), 0..5).prop_map(|candidates| Step::FindProgram { candidates }),
        vec(slot(), 0..5).prop_map(Step::Preserve),
        any::<u32>().prop_map(Step::KeepOpen),
        (any::<u32>(), any::<u32>(), vec(any::<u32>(), 0..20)).prop_map(|(uid, gid, groups)| Step::LookAs {
            uid,
            gid,
            groups
        }),
        (slot(), text(), vec(text(), 0..5), vec(text(), 0..5), proptest::option::of(any::<u32>()))
            .prop_map(|(stdin, path, args, env, timeout)| Step::RunHook { stdin, path, args, env, timeout }),
    ];
    prop_oneof![2 => mounts, 3 => process, 1 => select(without_fields)]
}

/// linux/mount.h
fn mount_flag(propagation: Propagation) -> u64 {
    match propagation {
        Propagation::Unbindable => 1 << 17,
        Propagation::Private => 1 << 18,
        Propagation::Slave => 1 << 19,
        Propagation::Shared => 1 << 20,
    }
}

/// What init is to read of a step: written by hand from what the operation means.
pub(super) fn expected(step: &Step) -> (u32, Vec<Field>) {
    let n = |value: u32| Field::U32(value);
    let s = |slot: &Slot| Field::U32(slot.0);
    let t = |text: &str| Field::Text(text.as_bytes().to_vec());
    match step {
        Step::EnterUser { slot } => (wire::ENTER_USER, vec![s(slot)]),
        Step::OwnFiles { uid, gid } => (wire::OWN_FILES, vec![n(*uid), n(*gid)]),
        Step::LookAs { uid, gid, groups } => {
            let bytes = groups.iter().flat_map(|gid| gid.to_le_bytes()).collect();
            (wire::LOOK_AS, vec![n(*uid), n(*gid), n(groups.len() as u32), Field::Bytes(bytes)])
        }
        Step::Unshare(flags) => (wire::UNSHARE, vec![n(flags.bits() as u32)]),
        Step::CopyRoot => (wire::COPY_ROOT, vec![t("/root")]),
        Step::TakeRootBack => (wire::TAKE_ROOT_BACK, vec![t("/root"), t("/host")]),
        Step::MakeQueue { name, mode, uid, gid, messages, size } => (
            wire::MAKE_QUEUE,
            [t(name)].into_iter().chain([mode, uid, gid, messages, size].map(|v| n(*v))).collect(),
        ),
        Step::SetSysctl { proc, path, value, .. } => (wire::WRITE_PROC, vec![s(proc), t(path), t(value)]),
        Step::Join { slot, kind } => (wire::JOIN, vec![s(slot), n(kind.flag().bits() as u32)]),
        Step::Setsid => (wire::SETSID, vec![]),
        Step::Umask(mask) => (wire::UMASK, vec![n(*mask)]),
        Step::NewFilesystem { slot, fstype, options, attributes } => {
            let mut fields = vec![s(slot), n(*attributes as u32), t(fstype), n(options.len() as u32 + 1)];
            fields.extend([t("source"), t(fstype)]);
            fields.extend(options.iter().flat_map(|(key, value)| [t(key), t(value)]));
            (wire::NEW_FILESYSTEM, fields)
        }
        Step::Attach { slot, path } => (wire::ATTACH, vec![s(slot), t(path)]),
        Step::MountOverlay { options } => {
            (wire::MOUNT, vec![t("overlay"), t("/root"), t("overlay"), t(options)])
        }
        Step::Mkdir { path, mode } => (wire::MKDIR, vec![t(path), n(*mode)]),
        Step::SetRoot => (wire::SET_ROOT, vec![t("/root")]),
        Step::MountAt { slot, path, create: Create::Link, target, .. } => {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            let directory = if directory.is_empty() { "/" } else { directory };
            let flags = u32::from(*target != step::Target::Anywhere);
            (wire::COPY_LINK, vec![s(slot), t(directory), t(name), n(flags)])
        }
        Step::MountAt { slot, path, create, target, .. } => {
            let create = match create {
                Create::LikeSource | Create::Link => 0,
                Create::Directory => 1,
                Create::File => 2,
            };
            let flags = u32::from(*target != step::Target::Anywhere);
            (wire::MOUNT_AT, vec![s(slot), t(path), n(create), n(flags)])
        }
        Step::MountBelow { slot, base, path, .. } => (wire::MOUNT_BELOW, vec![s(slot), s(base), t(path)]),
        Step::MkdirAt { slot, name, mode } => (wire::MKDIR_AT, vec![s(slot), t(name), n(*mode)]),
        Step::MknodAt { slot, name, major, minor } => {
            (wire::MKNOD_AT, vec![s(slot), t(name), n(0o666), n(*major), n(*minor)])
        }
        Step::NewFilesystemWith { slot, fstype, options, flags, attributes } => {
            let mut fields = vec![s(slot), n(*attributes as u32), t(fstype), n(options.len() as u32 + 1)];
            fields.extend([t("source"), t(fstype)]);
            fields.extend(options.iter().flat_map(|(key, value)| [t(key), t(value)]));
            fields.push(n(flags.len() as u32));
            fields.extend(flags.iter().map(|flag| t(flag)));
            (wire::NEW_FILESYSTEM_WITH, fields)
        }
        Step::Propagate { slot, propagation, .. } => {
            let change = [0, 0, mount_flag(*propagation)].map(Field::U64);
            (wire::SET_ATTRIBUTES, [s(slot), n(0)].into_iter().chain(change).collect())
        }
        Step::RootPropagation { propagation, recursive } => {
            let flag = mount_flag(*propagation);
            (wire::ROOT_PROPAGATION, vec![n((*recursive).into()), Field::U64(flag)])
        }
        Step::CopyUp { slot, path, keep_mode } => {
            (wire::COPY_UP, vec![s(slot), t(path), n((*keep_mode).into())])
        }
        Step::Device { device, target } => {
            let kind = match device.kind {
                DeviceKind::Char => 0o020000,
                DeviceKind::Block => 0o060000,
                DeviceKind::Fifo => 0o010000,
            };
            let flags = u32::from(*target != step::Target::Anywhere);
            let numbers = [kind + device.mode, device.major, device.minor, device.uid, device.gid, flags];
            (wire::DEVICE, [t("/dev/a"), t("b")].into_iter().chain(numbers.map(Field::U32)).collect())
        }
        Step::MountReadonly { slot, .. } => {
            (wire::SET_ATTRIBUTES, [s(slot), n(0)].into_iter().chain([1, 0, 0].map(Field::U64)).collect())
        }
        Step::SymlinkAt { slot, name, target } => (wire::SYMLINK_AT, vec![s(slot), t(name), t(target)]),
        Step::OpenNull { slot } => (wire::OPEN, vec![t("/dev/null"), n(2), s(slot)]),
        Step::Mask { base, path, .. } => (wire::MASK, vec![n(base.map_or(u32::MAX, |slot| slot.0)), t(path)]),
        Step::Readonly { base, path, .. } => {
            (wire::READONLY, vec![n(base.map_or(u32::MAX, |slot| slot.0)), t(path)])
        }
        Step::SetAttributes { slot, recursive, set, clear } => {
            let attributes = [*set, *clear, 0].map(Field::U64);
            (wire::SET_ATTRIBUTES, [s(slot), n((*recursive).into())].into_iter().chain(attributes).collect())
        }
        Step::RootReadonly => (wire::ROOT_READONLY, vec![]),
        Step::MkdirInRoot { path } => (wire::MKDIR_IN_ROOT, vec![t(path)]),
        Step::Pivot => (wire::PIVOT, vec![]),
        Step::Stdio(slots) => (wire::STDIO, slots.iter().map(s).collect()),
        Step::Rlimit { resource, soft, hard } => {
            (wire::RLIMIT, vec![n(*resource as u32), Field::U64(*soft), Field::U64(*hard)])
        }
        Step::Identity { uid, gid, groups, capabilities: c } => {
            let bytes = groups.iter().flat_map(|gid| gid.to_le_bytes()).collect();
            let sets = [c.bounding, c.permitted, c.effective, c.inheritable, c.ambient].map(Field::U64);
            let head = [n(*uid), n(*gid)].into_iter().chain(sets);
            (wire::IDENTITY, head.chain([n(groups.len() as u32), Field::Bytes(bytes)]).collect())
        }
        Step::NoNewPrivileges => (wire::NO_NEW_PRIVILEGES, vec![]),
        Step::Seccomp(program) => {
            // struct sock_filter, native byte order.
            let instruction = |i: &crate::container::seccomp::bpf::Instruction| {
                let mut bytes = i.code.to_ne_bytes().to_vec();
                bytes.extend([i.jt, i.jf]);
                bytes.extend(i.k.to_ne_bytes());
                bytes
            };
            let bytes = program.instructions.iter().flat_map(instruction).collect();
            let operation = if program.flags & 8 == 0 { wire::SECCOMP } else { wire::SECCOMP_LISTENER };
            (operation, vec![n(program.flags), Field::Bytes(bytes)])
        }
        Step::Chdir { path } => (wire::CHDIR, vec![t(path)]),
        Step::EnterPid => (wire::ENTER_PID, vec![]),
        Step::SetName(name) => (wire::SET_NAME, vec![t(name)]),
        Step::SendFd { slot } => (wire::SEND_FD, vec![s(slot)]),
        Step::Barrier => (wire::BARRIER, vec![]),
        Step::Terminal { slot, devpts, console, user, size } => {
            let or_none = |slot: &Option<Slot>| n(slot.map_or(u32::MAX, |slot| slot.0));
            let size = [n(size.width.into()), n(size.height.into())];
            (
                wire::TERMINAL,
                [or_none(devpts), s(slot), or_none(console), n(*user)].into_iter().chain(size).collect(),
            )
        }
        Step::ControllingTerminal => (wire::CONTROLLING_TERMINAL, vec![]),
        Step::JoinProcess { process, namespaces, root } => {
            let root = n(root.map_or(u32::MAX, |slot| slot.0));
            (wire::JOIN_PROCESS, vec![s(process), n(*namespaces), root])
        }
        Step::EnterMounts { slot } => (wire::ENTER_MOUNTS, vec![s(slot)]),
        Step::BarrierForAll { slot } => (wire::BARRIER_FOR_ALL, vec![s(slot)]),
        Step::Exec { candidates, args, env } => {
            let counts = [candidates.len(), args.len(), env.len()].map(|count| n(count as u32));
            let texts = candidates.iter().chain(args).chain(env).map(|text| t(text));
            (wire::EXEC, counts.into_iter().chain(texts).collect())
        }
        Step::Pause => (wire::PAUSE, vec![]),
        Step::KeepOpen(count) => (wire::KEEP_OPEN, vec![n(*count)]),
        Step::Preserve(slots) => {
            (wire::PRESERVE, [n(slots.len() as u32)].into_iter().chain(slots.iter().map(s)).collect())
        }
        Step::FindProgram { candidates } => {
            let texts = candidates.iter().map(|text| t(text));
            (wire::FIND_PROGRAM, [n(candidates.len() as u32)].into_iter().chain(texts).collect())
        }
        Step::RunHook { stdin, path, args, env, timeout } => {
            let milliseconds = u64::from(timeout.unwrap_or_default()) * 1000;
            let counts = [args.len(), env.len()].map(|count| n(count as u32));
            let texts = args.iter().chain(env).map(|text| t(text));
            let head = [s(stdin), Field::U64(milliseconds), t(path)].into_iter().chain(counts);
            (wire::RUN_HOOK, head.chain(texts).collect())
        }
        Step::Reap => (wire::REAP, vec![]),
        Step::WriteProc { proc, path, text, .. } => (wire::WRITE_PROC, vec![s(proc), t(path), t(text)]),
        Step::Scheduler(scheduler) => {
            let Scheduler { policy, nice, priority, flags, runtime, deadline, period, .. } = scheduler;
            let policy = match policy {
                SchedulerPolicy::Other => 0,
                SchedulerPolicy::Fifo => 1,
                SchedulerPolicy::RoundRobin => 2,
                SchedulerPolicy::Batch => 3,
                SchedulerPolicy::Idle => 5,
                SchedulerPolicy::Deadline => 6,
            };
            let flags = u64::from(flags.contains(&SchedulerFlag::ResetOnFork));
            let head = [n(policy), n(*nice as u32), n(*priority)];
            let tail = [flags, *runtime, *deadline, *period].map(Field::U64);
            (wire::SCHEDULER, head.into_iter().chain(tail).collect())
        }
        Step::IoPriority(number) => (wire::IO_PRIORITY, vec![n(*number)]),
        Step::Affinity { mask, .. } => (wire::AFFINITY, vec![Field::Bytes(mask.clone())]),
        Step::Personality(number) => (wire::PERSONALITY, vec![n(*number)]),
        Step::MemoryPolicy { mask, policy } => {
            (wire::MEMORY_POLICY, vec![n(policy.mode_and_flags()), Field::Bytes(mask.clone())])
        }
        Step::SessionKeyring => (wire::SESSION_KEYRING, vec![]),
        Step::UnshareTime => (wire::UNSHARE, vec![n(0x80)]),
        Step::JoinTime { slot } => (wire::JOIN, vec![s(slot), n(0x80)]),
        Step::EnterTime { proc } => (wire::ENTER_TIME, vec![s(proc)]),
        Step::KeepGroups => (wire::KEEP_GROUPS, vec![]),
        Step::Show => (wire::SHOW, vec![]),
        Step::Twin { steps } => (wire::TWIN, vec![n(*steps)]),
        Step::Give { slots, steps } => {
            let head = [n(*steps), n(slots.len() as u32)];
            (wire::GIVE, head.into_iter().chain(slots.iter().map(s)).collect())
        }
        Step::Take(slots) => {
            (wire::TAKE, [n(slots.len() as u32)].into_iter().chain(slots.iter().map(s)).collect())
        }
        Step::HandOver { proc } => (wire::HAND_OVER, vec![s(proc)]),
    }
}
