//! Specifications survive JSON: what is written is read back the same, and keys that nobody knows are refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

mod process;

fn path() -> impl Strategy<Value = PathBuf> {
    prop_oneof![3 => "(/[a-z .\\\\\"\u{e4}:,]{1,8}){1,4}", 1 => any::<String>()].prop_map(PathBuf::from)
}

fn strings() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(any::<String>(), any::<String>(), 0..4)
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![any::<u64>().prop_map(Limit::At), Just(Limit::MAX)]
}

fn resources() -> impl Strategy<Value = Resources> {
    let max = (limit(), any::<u64>()).prop_map(|(quota, period)| CpuMax { quota, period });
    let cpu = (of(any::<u64>()), of(max)).prop_map(|(weight, max)| CpuResources {
        weight,
        max,
        burst: weight,
        idle: weight.map(|weight| weight % 2 == 0),
    });
    let memory = (of(limit()), of(limit()), of(limit()), of(limit()), of(limit()), of(any::<bool>()))
        .prop_map(|(max, high, low, min, swap_max, oom_group)| MemoryResources {
            check_before_update: max.is_some() && oom_group.is_some(),
            max,
            high,
            low,
            min,
            swap_max,
            oom_group,
        });
    let cpuset =
        (of("[0-9,-]{0,9}"), of("[0-9,-]{0,9}")).prop_map(|(cpus, mems)| CpusetResources { cpus, mems });
    let rates = [of(limit()), of(limit()), of(limit()), of(limit())];
    let line = (any::<u32>(), any::<u32>(), rates).prop_map(|(major, minor, [rbps, wbps, riops, wiops])| {
        IoMax { major, minor, rbps, wbps, riops, wiops }
    });
    let io = (of(any::<u64>()), vec(line, 0..3)).prop_map(|(weight, max)| IoResources {
        weight,
        max,
        device_weights: weight.map(|weight| IoWeight { major: 8, minor: 0, weight }).into_iter().collect(),
        latency: weight.map(|target| IoLatency { major: 8, minor: 0, target }).into_iter().collect(),
    });
    let rdma = (of(limit()), of(limit()))
        .prop_map(|(hca_handles, hca_objects)| RdmaMax { hca_handles, hca_objects });
    let maps = (
        btree_map(any::<String>(), limit(), 0..3),
        btree_map(any::<String>(), rdma, 0..3),
        btree_map(any::<String>(), limit(), 0..3),
        btree_map(any::<String>(), any::<String>(), 0..3),
    );
    (cpu, memory, of(limit()), cpuset, io, maps).prop_map(
        |(cpu, memory, pids_max, cpuset, io, (hugetlb, rdma, misc, unified))| Resources {
            cpu,
            memory,
            pids_max,
            cpuset,
            io,
            hugetlb,
            rdma,
            misc,
            unified,
        },
    )
}

fn ipc() -> impl Strategy<Value = IpcObjects> {
    let owner = || (any::<u32>(), any::<u32>(), any::<u32>());
    let shm = (any::<String>(), any::<u64>(), owner())
        .prop_map(|(name, size, (mode, uid, gid))| ShmObjectSpec { name, size, mode, uid, gid });
    let mqueue = (any::<String>(), any::<u32>(), any::<u32>(), owner()).prop_map(
        |(name, max_messages, message_size, (mode, uid, gid))| MessageQueueSpec {
            name,
            max_messages,
            message_size,
            mode,
            uid,
            gid,
        },
    );
    let sysv_shm = (any::<i32>(), any::<u64>(), owner())
        .prop_map(|(key, size, (mode, uid, gid))| SharedMemorySpec { key, size, mode, uid, gid });
    let sysv_sem = (any::<i32>(), vec(any::<u16>(), 0..4), owner())
        .prop_map(|(key, values, (mode, uid, gid))| SemaphoreSetSpec { key, values, mode, uid, gid });
    let sysv_msg =
        (any::<i32>(), of(any::<u64>()), owner()).prop_map(|(key, max_bytes, (mode, uid, gid))| {
            SysvMessageQueueSpec { key, max_bytes, mode, uid, gid }
        });
    (vec(shm, 0..3), vec(mqueue, 0..3), vec(sysv_shm, 0..3), vec(sysv_sem, 0..3), vec(sysv_msg, 0..3))
        .prop_map(|(shm, mqueues, sysv_shm, sysv_sem, sysv_msg)| IpcObjects {
            shm,
            mqueues,
            sysv_shm,
            sysv_sem,
            sysv_msg,
        })
}

fn pid_mode() -> impl Strategy<Value = PidMode> {
    prop_oneof![
        select(vec![PidMode::Container, PidMode::Pod, PidMode::Host]),
        any::<String>().prop_map(PidMode::Target),
    ]
}

fn user_mode() -> impl Strategy<Value = UserMode> {
    let mapping = (any::<u32>(), any::<u32>(), any::<u32>());
    let mapping = mapping.prop_map(|(container, host, size)| IdMapping {
        container_id: container,
        host_id: host,
        size,
    });
    prop_oneof![
        Just(UserMode::Host),
        any::<Option<u32>>().prop_map(|size| UserMode::Auto { size }),
        path().prop_map(UserMode::Path),
        (vec(mapping.clone(), 0..4), vec(mapping, 0..4)).prop_map(|(uid_mappings, gid_mappings)| {
            UserMode::Mapped(IdMappings { uid_mappings, gid_mappings })
        }),
    ]
}

fn namespaces() -> impl Strategy<Value = PodNamespaces> {
    let mode = || {
        prop_oneof![Just(NamespaceMode::Pod), Just(NamespaceMode::Host), path().prop_map(NamespaceMode::Path),]
    };
    (mode(), mode(), mode(), pid_mode(), user_mode())
        .prop_map(|(network, ipc, uts, pid, user)| PodNamespaces { network, ipc, uts, pid, user })
}

fn volume() -> impl Strategy<Value = Volume> {
    let source = prop_oneof![
        (any::<u64>(), any::<u32>()).prop_map(|(size, mode)| VolumeSource::Tmpfs { size, mode }),
        path().prop_map(|path| VolumeSource::Directory { path }),
    ];
    (any::<String>(), source).prop_map(|(name, source)| Volume { name, source })
}

fn pod() -> impl Strategy<Value = PodSpec> {
    let label = of(any::<String>());
    let names = (any::<String>(), any::<String>(), of(any::<String>()), of(any::<String>()), label);
    let maps = (strings(), strings(), strings());
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<u64>());
    (names, maps, flags, namespaces(), vec(volume(), 0..3), resources(), ipc()).prop_map(
        |(names, maps, flags, namespaces, volumes, resources, ipc)| {
            let mut pod = PodSpec::new(names.0).namespace(names.1).ipc(ipc).resources(resources);
            (pod.hostname, pod.domainname, pod.mount_label) = (names.2, names.3, names.4);
            (pod.labels, pod.annotations, pod.sysctls) = maps;
            (pod.hostname_files, pod.ephemeral, pod.journal, pod.shm_size) = flags;
            (pod.namespaces, pod.volumes) = (namespaces, volumes);
            pod
        },
    )
}

fn mount() -> impl Strategy<Value = Mount> {
    let kind = prop_oneof![
        (path(), any::<bool>()).prop_map(|(source, recursive)| MountKind::Bind { source, recursive }),
        (of(any::<u64>()), of(any::<u32>())).prop_map(|(size, mode)| MountKind::Tmpfs { size, mode }),
        (any::<String>(), of(path())).prop_map(|(name, sub_path)| MountKind::Volume { name, sub_path }),
        select(vec![
            MountKind::Proc,
            MountKind::Sysfs,
            MountKind::Cgroup,
            MountKind::Devpts,
            MountKind::Shm,
            MountKind::Mqueue,
        ]),
        (any::<String>(), of(path())).prop_map(|(fstype, source)| MountKind::Filesystem { fstype, source }),
    ];
    let propagation = select(vec![Propagation::Private, Propagation::Slave, Propagation::Shared]);
    let more = (attributes(), of(idmap()), any::<[bool; 4]>(), vec(any::<String>(), 0..3));
    (kind, path(), any::<[bool; 5]>(), propagation, more).prop_map(
        |(kind, destination, flags, propagation, more)| {
            let mut mount = Mount::of(kind, destination).propagation(propagation);
            [mount.readonly, mount.readonly_recursive, mount.nosuid, mount.nodev, mount.noexec] = flags;
            let flags;
            (mount.attributes, mount.idmap, flags, mount.data) = more;
            [mount.propagation_recursive, mount.copy_up, mount.source_nofollow, mount.copy_symlink] = flags;
            mount
        },
    )
}

fn attributes() -> impl Strategy<Value = MountAttributes> {
    let all = vec![MountAttribute::Readonly, MountAttribute::Noatime, MountAttribute::Nosymfollow];
    let sets = vec(subsequence(all, 0..3), 4);
    sets.prop_map(|sets| {
        let mut sets = sets.into_iter().map(|set| set.into_iter().collect());
        let mut next = || sets.next().unwrap_or_default();
        MountAttributes { set: next(), clear: next(), set_recursive: next(), clear_recursive: next() }
    })
}

fn idmap() -> impl Strategy<Value = IdMap> {
    let range = || vec(any::<[u32; 3]>().prop_map(|[a, b, c]| IdMapping::new(a, b, c)), 0..3);
    (range(), range(), any::<bool>()).prop_map(|(uid_mappings, gid_mappings, recursive)| IdMap {
        uid_mappings,
        gid_mappings,
        recursive,
    })
}

fn device() -> impl Strategy<Value = Device> {
    let kinds = select(vec![DeviceKind::Char, DeviceKind::Block, DeviceKind::Fifo]);
    (path(), kinds, any::<[u32; 5]>(), of(path())).prop_map(|(path, kind, [a, b, c, d, e], source)| {
        let mut device = Device::char(path, a, b).mode(c).owner(d, e);
        (device.kind, device.source) = (kind, source);
        device
    })
}

fn device_rule() -> impl Strategy<Value = DeviceRule> {
    let kinds = select(vec![DeviceRuleKind::All, DeviceRuleKind::Char, DeviceRuleKind::Block]);
    let access = select(vec!["r", "wm", "rwm"]);
    (any::<bool>(), kinds, of(any::<u32>()), of(any::<u32>()), access).prop_map(
        |(allow, kind, major, minor, access)| {
            let access = access.parse().unwrap();
            DeviceRule { allow, kind, major, minor, access }
        },
    )
}

fn rootfs() -> impl Strategy<Value = Rootfs> {
    let upper = prop_oneof![
        of(any::<u64>()).prop_map(|size| Upper::Tmpfs { size }),
        (path(), path()).prop_map(|(upper, work)| Upper::Directory { upper, work }),
    ];
    prop_oneof![
        (path(), any::<bool>()).prop_map(|(path, readonly)| Rootfs::Directory { path, readonly }),
        (vec(path(), 0..4), upper, any::<bool>()).prop_map(|(lower, upper, readonly)| Rootfs::Overlay {
            lower,
            upper,
            readonly
        }),
    ]
}

fn security() -> impl Strategy<Value = Security> {
    let all: Vec<Capability> = caps::all().into_iter().collect();
    let set = || {
        let few = subsequence(all.clone(), 0..all.len());
        few.prop_map(|list| list.into_iter().collect::<CapabilitySet>())
    };
    let capabilities = (set(), set(), of(set()), of(set()), of(set())).prop_map(
        |(bounding, ambient, permitted, effective, inheritable)| Capabilities {
            bounding,
            ambient,
            permitted,
            effective,
            inheritable,
        },
    );
    let seccomp = process::seccomp();
    let labels = (of(any::<String>()), of(any::<String>()), of(any::<String>()));
    (capabilities, any::<[bool; 2]>(), seccomp, vec(path(), 0..3), vec(path(), 0..3), labels).prop_map(
        |(capabilities, [no_new_privileges, keys], seccomp, masked_paths, readonly_paths, labels)| Security {
            masked_paths,
            readonly_paths,
            apparmor_profile: labels.0,
            selinux_label: labels.1,
            mount_label: labels.2,
            inherit_session_keyring: keys,
            ..Security::default()
                .capabilities(capabilities)
                .no_new_privileges(no_new_privileges)
                .seccomp(seccomp)
        },
    )
}

fn stdio() -> impl Strategy<Value = Stdio> {
    prop_oneof![select(vec![Stdio::Null, Stdio::Inherit, Stdio::Pipe]), path().prop_map(Stdio::File),]
}

fn console_size() -> impl Strategy<Value = Option<ConsoleSize>> {
    of(any::<(u16, u16)>().prop_map(|(width, height)| ConsoleSize { width, height }))
}

fn exec() -> impl Strategy<Value = ExecSpec> {
    let container = (container(), any::<[bool; 3]>(), option_set());
    (container, console_size()).prop_map(
        |((container, [inherit_env, terminal, all], given), console_size)| {
            let mut spec = ExecSpec::new(container.args).inherit_env(inherit_env).terminal(terminal);
            (spec.env, spec.rlimits, spec.stdio) = (container.env, container.rlimits, container.stdio);
            let given = |bit: u32| all || given & 1 << bit != 0;
            spec.cwd = given(0).then_some(container.cwd);
            spec.user = given(1).then_some(container.user);
            spec.umask = given(2).then_some(container.umask);
            spec.capabilities = given(3).then_some(container.security.capabilities);
            spec.no_new_privileges = given(4).then_some(container.security.no_new_privileges);
            spec.seccomp = given(5).then_some(container.security.seccomp);
            spec.console_size = console_size;
            spec
        },
    )
}

fn option_set() -> impl Strategy<Value = u32> {
    0..64u32
}

fn container() -> impl Strategy<Value = ContainerSpec> {
    let resource = select(vec![RlimitResource::Nofile, RlimitResource::Core, RlimitResource::Rttime]);
    let limit = (resource, any::<u64>(), any::<u64>());
    let rlimit = limit.prop_map(|(resource, soft, hard)| Rlimit { resource, soft, hard });
    let user = (any::<u32>(), any::<u32>(), vec(any::<u32>(), 0..4))
        .prop_map(|(uid, gid, additional_gids)| User { uid, gid, additional_gids });
    let process = (vec(any::<String>(), 0..4), strings(), path(), user, vec(rlimit, 0..3));
    let numbers = (any::<u32>(), any::<i32>(), any::<bool>(), of(pid_mode()), any::<bool>());
    let streams = (stdio(), stdio(), stdio());
    let terminal = (any::<bool>(), console_size());
    let maps = (strings(), strings());
    let devices = (vec(device(), 0..3), vec(device_rule(), 0..3), of(idmap()), any::<bool>());
    let isolation = (rootfs(), vec(mount(), 0..4), security(), resources(), devices);
    let container = (any::<String>(), process, numbers, streams, terminal, maps, isolation).prop_map(
        |(name, process, numbers, streams, terminal, maps, isolation)| {
            let mut spec = ContainerSpec::new(name, isolation.0);
            (spec.args, spec.env, spec.cwd, spec.user, spec.rlimits) = process;
            (spec.umask, spec.stop_signal, spec.default_mounts, spec.pid, spec.detached) = numbers;
            spec.stdio = StdioSet { stdin: streams.0, stdout: streams.1, stderr: streams.2 };
            (spec.terminal, spec.console_size) = terminal;
            (spec.labels, spec.annotations) = maps;
            (spec.mounts, spec.security, spec.resources) = (isolation.1, isolation.2, isolation.3);
            (spec.devices, spec.device_rules, spec.rootfs_idmap, spec.rootfs_propagation_recursive) =
                isolation.4;
            spec
        },
    );
    // On the heap: these trees of values would fill the stack of a test.
    container.prop_flat_map(process::attributes).boxed()
}

/// Writes, reads back, and writes again; then with a key that nobody knows.
fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    spec: &T,
) -> Result<(), TestCaseError> {
    let json = serde_json::to_string(spec).unwrap();
    let read: T =
        serde_json::from_str(&json).map_err(|error| TestCaseError::fail(format!("{error}: {json}")))?;
    prop_assert_eq!(&read, spec, "{}", json);
    prop_assert_eq!(serde_json::to_string(&read).unwrap(), json.clone());

    let mut value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let object = value.as_object_mut().unwrap();
    object.insert("noSuchKey".to_string(), serde_json::Value::Null);
    let error = serde_json::from_value::<T>(value).unwrap_err().to_string();
    prop_assert!(error.contains("noSuchKey"), "{}", error);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pods_survive_json(spec in pod()) {
        survives(&spec)?;
    }

    #[test]
    fn containers_survive_json(spec in container()) {
        survives(&spec)?;
    }

    #[test]
    fn executions_survive_json(spec in exec()) {
        survives(&spec)?;
    }

    /// What is executed is checked as a container is, and nothing in it makes the check panic.
    #[test]
    fn executions_over_containers_end_with_an_answer(exec in exec(), container in container()) {
        match exec.over(&container) {
            Ok(whole) => {
                prop_assert_eq!(&whole.args, &exec.args);
                prop_assert_eq!(&whole.stdio, &exec.stdio);
                prop_assert_eq!(whole.umask, exec.umask.unwrap_or(container.umask));
                prop_assert!(exec.env.iter().all(|(key, value)| whole.env.get(key) == Some(value)));
            }
            Err(error) => prop_assert_eq!(error.kind(), crate::ErrorKind::InvalidSpec),
        }
    }

    /// Specifications from elsewhere are refused or accepted: nothing in them makes the check panic.
    #[test]
    fn validation_ends_with_an_answer(pod in pod(), container in container()) {
        for result in [pod.validate(), container.validate()] {
            if let Err(error) = result {
                prop_assert_eq!(error.kind(), crate::ErrorKind::InvalidSpec);
                prop_assert!(error.subject().is_some(), "{}", error);
            }
        }
    }

    /// Nor does JSON that somebody has damaged.
    #[test]
    fn damaged_json_is_an_error(spec in container(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut json = serde_json::to_vec(&spec).unwrap();
        let at = at.index(json.len());
        json[at] = byte;
        if let Ok(read) = serde_json::from_slice::<ContainerSpec>(&json) {
            let _ = read.validate();
        }
        prop_assert!(serde_json::from_slice::<ContainerSpec>(&json[..at]).is_err());
    }
}

#[test]
fn short_documents_have_the_defaults_of_new() {
    let pod: PodSpec = serde_json::from_str(r#"{"name": "web"}"#).unwrap();
    assert_eq!(pod, PodSpec::new("web"));
    let json = r#"{"name": "a", "rootfs": {"overlay": {"lower": ["/"]}}, "args": ["true"]}"#;
    let container: ContainerSpec = serde_json::from_str(json).unwrap();
    assert_eq!(container, ContainerSpec::new("a", Rootfs::overlay(["/"])).args(["true"]));
}
