//! What is refused, in the same words.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pericarp::spec::{Hook, Hooks, Limit, MemoryResources, MountNamespace, Security};
use pericarp::{ContainerSpec, ErrorKind, Mount, PodSpec, Resources, Rootfs, Volume};

use crate::world::*;

crate::behaviours![
    wrong_pods,
    wrong_containers,
    programs_that_cannot_be_executed,
    hooks_that_fail_afterwards,
    files_that_are_not_there,
    limits_that_the_machine_cannot_keep,
    volumes_that_the_pod_has_not,
    labels_of_a_machine_without_selinux,
];

fn wrong_pods(world: &World) -> Outcome {
    let spec = || PodSpec::new("shop");
    for wrong in [
        PodSpec::new(""),
        PodSpec::new("Shop"),
        PodSpec::new("-"),
        PodSpec::new("x".repeat(254)),
        spec().namespace("a.b"),
        spec().hostname("under_score"),
        spec().shm_size(0),
        spec().sysctl("kernel.hostname", "x"),
        spec().sysctl("vm.swappiness", "1"),
        spec().volume(Volume::tmpfs("a", 1)).volume(Volume::tmpfs("a", 1)),
        spec().volume(Volume::directory("a", "relative")),
    ] {
        world.refused(world.node.create_pod(&wrong), ErrorKind::InvalidSpec);
    }
    assert!(world.node.pods()?.is_empty());
    PASS
}

fn wrong_containers(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let spec = || sleeper("c");
    for wrong in [
        sleeper("C"),
        sleeper("a.b"),
        ContainerSpec::new("c", rootfs()),
        spec().args(["a\0b"]),
        spec().cwd("tmp"),
        spec().env("A=B", "c"),
        spec().user(u32::MAX, 0),
        spec().stop_signal(0),
        spec().mount(Mount::bind("relative", "/mnt")),
        spec().mount(Mount::bind("/etc", "mnt")),
        ContainerSpec::new("c", Rootfs::overlay(["relative"])).args(["sh"]),
        ContainerSpec::new("c", Rootfs::overlay::<&str>([])).args(["sh"]),
    ] {
        world.refused(pod.create_container(&wrong), ErrorKind::InvalidSpec);
        world.refused(pod.explain(&wrong), ErrorKind::InvalidSpec);
    }
    assert!(pod.containers()?.is_empty());
    PASS
}

fn programs_that_cannot_be_executed(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let text = world.path("text");
    fs::write(&text, "no program")?;
    let refused = |name: &str, program: &str, mode: Option<u32>| -> Outcome {
        let mut spec = ContainerSpec::new(name, rootfs()).args([program]);
        if let Some(mode) = mode {
            fs::set_permissions(&text, fs::Permissions::from_mode(mode))?;
            spec = spec.mount(Mount::bind(&text, "/text"));
        }
        let container = pod.create_container(&spec)?;
        world.refused(container.start(), ErrorKind::Exec);
        world.saw(format!("{:?}", container.wait()?));
        container.remove()?;
        PASS
    };
    refused("missing", "no-such-program", None)?;
    refused("absolute", "/no/such/program", None)?;
    refused("directory", "/etc", None)?;
    refused("forbidden", "/text", Some(0o600))?;
    refused("format", "/text", Some(0o755))?;
    PASS
}

fn hooks_that_fail_afterwards(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let mut hooks = Hooks::default();
    hooks.poststart.push(Hook::new("/bin/false"));
    hooks.poststop.push(Hook::new("/bin/false"));
    let container = pod.create_container(&sleeper("c").hooks(hooks).mount_namespace(MountNamespace::Host))?;
    world.refused(container.start(), ErrorKind::Hook);
    world.saw(format!("{:?}", container.status()?));
    world.refused(container.remove(), ErrorKind::Hook);
    assert!(pod.containers()?.is_empty());
    PASS
}

fn files_that_are_not_there(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let none = world.path("none");
    for spec in [
        ContainerSpec::new("c", Rootfs::directory(&none)).args(["sh"]),
        ContainerSpec::new("c", Rootfs::overlay([&none])).args(["sh"]),
        sleeper("c").mount(Mount::bind(&none, "/mnt")),
    ] {
        let failure = world.refused(pod.create_container(&spec), ErrorKind::NotFound);
        assert_eq!(failure.errno, Some(libc::ENOENT));
        assert!(failure.message.contains(&*none.to_string_lossy()), "{failure}");
    }
    assert!(pod.containers()?.is_empty());
    PASS
}

fn limits_that_the_machine_cannot_keep(world: &World) -> Outcome {
    let memory = MemoryResources { max: Some(Limit::At(64 << 20)), ..MemoryResources::default() };
    let spec = PodSpec::new("shop").resources(Resources { memory, ..Resources::default() });
    if world.node.controllers().iter().any(|name| name == "memory") {
        let pod = world.node.create_pod(&spec)?;
        assert_eq!(fs::read_to_string(format!("{}/memory.max", pod.cgroup_path()))?, "67108864\n");
    } else {
        world.refused(world.node.create_pod(&spec), ErrorKind::Unsupported);
        assert!(world.node.pods()?.is_empty());
    }
    PASS
}

fn volumes_that_the_pod_has_not(world: &World) -> Outcome {
    let pod = world.node.create_pod(&PodSpec::new("shop").volume(Volume::tmpfs("data", 1 << 16)))?;
    let ran = pod.run(&script("c", "echo x > /data/file").mount(Mount::volume("data", "/data")))?;
    assert!(ran.success());
    assert_eq!(say(&*pod, script("c", "cat /data/file").mount(Mount::volume("data", "/data")))?, "x\n");
    let wrong = sleeper("c").mount(Mount::volume("none", "/data"));
    world.refused(pod.create_container(&wrong), ErrorKind::InvalidSpec);
    PASS
}

fn labels_of_a_machine_without_selinux(world: &World) -> Outcome {
    if fs::read_to_string("/proc/filesystems")?.contains("selinuxfs") {
        return PASS;
    }
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    world
        .refused(world.node.create_pod(&PodSpec::new("labelled").mount_label(label)), ErrorKind::Unsupported);
    let pod = world.pod("shop")?;
    for security in [Security::default().mount_label(label), Security::default().selinux_label(label)] {
        world.refused(pod.create_container(&sleeper("c").security(security)), ErrorKind::Unsupported);
    }
    assert!(pod.containers()?.is_empty());
    PASS
}
