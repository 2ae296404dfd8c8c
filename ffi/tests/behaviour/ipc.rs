//! IPC objects of pods, from the host and from containers.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use pericarp::spec::{
    IpcObjects, MessageQueueSpec, NamespaceMode, SemaphoreSetSpec, SharedMemorySpec, ShmObjectSpec,
    SysvMessageQueueSpec,
};
use pericarp::{ErrorKind, PodSpec};
use serde_json::Value;

use crate::world::*;

crate::behaviours![
    what_the_host_maps_a_container_sees,
    shared_memory_objects_come_and_go,
    a_shared_memory_object_is_opened_as_asked,
    message_queues_come_and_go,
    system_v_objects_come_and_go,
    semaphores_have_their_values,
    containers_see_system_v_objects,
    all_are_made_or_none,
    wrong_objects_are_refused,
    the_listing_tells_sizes_and_owners,
    a_pod_in_the_host_s_ipc_namespace_has_none,
];

fn shm(name: &str, size: u64) -> ShmObjectSpec {
    ShmObjectSpec { name: name.into(), size, mode: 0o600, uid: 0, gid: 0 }
}

fn queue(name: &str) -> MessageQueueSpec {
    MessageQueueSpec { name: name.into(), max_messages: 4, message_size: 128, mode: 0o600, uid: 0, gid: 0 }
}

fn segment(key: i32, size: u64) -> SharedMemorySpec {
    SharedMemorySpec { key, size, mode: 0o640, uid: 0, gid: 0 }
}

fn set(key: i32, values: &[u16]) -> SemaphoreSetSpec {
    SemaphoreSetSpec { key, values: values.to_vec(), mode: 0o600, uid: 0, gid: 0 }
}

fn messages(key: i32) -> SysvMessageQueueSpec {
    SysvMessageQueueSpec { key, max_bytes: Some(4096), mode: 0o600, uid: 0, gid: 0 }
}

/// The memory of an object, mapped as a host program does.
struct Map(*mut u8, usize);

impl Map {
    fn new(file: &impl AsRawFd, length: usize) -> Map {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the place.
        let place = unsafe {
            libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(place, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Map(place.cast(), length)
    }

    fn put(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.1);
        // SAFETY: so many bytes are mapped, and nobody uses them at this time.
        unsafe { self.0.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    fn get(&self, length: usize) -> Vec<u8> {
        assert!(length <= self.1);
        // SAFETY: likewise.
        unsafe { std::slice::from_raw_parts(self.0, length) }.to_vec()
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new`.
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}

fn what_the_host_maps_a_container_sees(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let file = pod.create_shm_object(&shm("board", 4096))?;
    let map = Map::new(&file, 4096);
    map.put(b"from the host\n");
    assert_eq!(say(&*pod, script("c", "head -n 1 /dev/shm/board"))?, "from the host\n");
    let write = "printf 'from the pod\\n' | dd of=/dev/shm/board conv=notrunc 2>/dev/null";
    assert!(pod.run(&script("c", write))?.success());
    assert_eq!(map.get(13), b"from the pod\n");
    // Who has it keeps it.
    pod.remove()?;
    assert_eq!(map.get(13), b"from the pod\n");
    PASS
}

fn shared_memory_objects_come_and_go(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    pod.create_shm_object(&shm("/board", 10))?;
    world.refused(pod.create_shm_object(&shm("board", 10)), ErrorKind::AlreadyExists);
    world.saw(pod.ipc_list()?.to_string());
    pod.remove_shm_object("board")?;
    world.refused(pod.remove_shm_object("board"), ErrorKind::NotFound);
    world.refused(pod.open_shm_object("board", false), ErrorKind::NotFound);
    world.refused(pod.open_shm_object("../board", false), ErrorKind::InvalidSpec);
    pod.create_shm_object(&shm("board", 20))?;
    PASS
}

fn a_shared_memory_object_is_opened_as_asked(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let made = File::from(pod.create_shm_object(&shm("board", 8))?);
    made.write_all_at(b"12345678", 0)?;
    let read = File::from(pod.open_shm_object("board", false)?);
    let mut bytes = [0; 8];
    read.read_exact_at(&mut bytes, 0)?;
    assert_eq!(&bytes, b"12345678");
    assert_eq!(read.write_at(b"x", 0).unwrap_err().raw_os_error(), Some(libc::EBADF));
    let write = File::from(pod.open_shm_object("/board", true)?);
    write.write_all_at(b"87654321", 0)?;
    made.read_exact_at(&mut bytes, 0)?;
    assert_eq!(&bytes, b"87654321");
    for file in [&made, &read, &write] {
        // SAFETY: it asks about an open file.
        let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC);
    }
    PASS
}

fn message_queues_come_and_go(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    pod.create_mqueue(&queue("jobs"))?;
    world.refused(pod.create_mqueue(&queue("/jobs")), ErrorKind::AlreadyExists);
    assert!(say(&*pod, script("c", "cat /dev/mqueue/jobs"))?.starts_with("QSIZE:0 "));
    world.saw(pod.ipc_list()?.to_string());
    pod.remove_mqueue("/jobs")?;
    world.refused(pod.remove_mqueue("jobs"), ErrorKind::NotFound);
    assert_eq!(say(&*pod, script("c", "ls /dev/mqueue"))?, "");
    PASS
}

fn system_v_objects_come_and_go(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let ids = [
        pod.create_sysv_shm(&segment(7, 4096))?,
        pod.create_sysv_sem(&set(7, &[1, 2, 3]))?,
        pod.create_sysv_msg(&messages(7))?,
    ];
    let list = pod.ipc_list()?;
    for (kind, id) in ["sysvShm", "sysvSem", "sysvMsg"].into_iter().zip(ids) {
        assert_eq!((&list[kind][0]["key"], &list[kind][0]["id"]), (&7.into(), &id.into()), "{list}");
    }
    world.refused(pod.create_sysv_shm(&segment(7, 1)), ErrorKind::AlreadyExists);
    world.refused(pod.create_sysv_sem(&set(7, &[1])), ErrorKind::AlreadyExists);
    world.refused(pod.create_sysv_msg(&messages(7)), ErrorKind::AlreadyExists);
    pod.remove_sysv_shm(7)?;
    pod.remove_sysv_sem(7)?;
    pod.remove_sysv_msg(7)?;
    world.refused(pod.remove_sysv_shm(7), ErrorKind::NotFound);
    world.refused(pod.remove_sysv_sem(7), ErrorKind::NotFound);
    world.refused(pod.remove_sysv_msg(7), ErrorKind::NotFound);
    world.saw(pod.ipc_list()?.to_string());
    PASS
}

fn semaphores_have_their_values(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let values: Vec<u16> = (0..100).chain([32767]).collect();
    pod.create_sysv_sem(&set(9, &values))?;
    assert_eq!(pod.ipc_list()?["sysvSem"][0]["semaphores"], 101);
    world.refused(pod.create_sysv_sem(&set(10, &[32768])), ErrorKind::InvalidSpec);
    PASS
}

fn containers_see_system_v_objects(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let id = pod.create_sysv_shm(&segment(0x7007, 8192))?;
    pod.create_sysv_sem(&set(0x7007, &[1]))?;
    pod.create_sysv_msg(&messages(0x7007))?;
    let seen = say(&*pod, script("c", "cd /proc/sysvipc; for f in shm sem msg; do tail -n +2 $f; done"))?;
    let lines: Vec<Vec<&str>> = seen.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    assert_eq!(lines.len(), 3, "{seen}");
    assert!(lines.iter().all(|words| words[0] == "28679"), "{seen}");
    assert_eq!((lines[0][1], lines[0][2], lines[0][3]), (id.to_string().as_str(), "640", "8192"));
    PASS
}

fn all_are_made_or_none(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let empty = pod.ipc_list()?;
    pod.create_sysv_msg(&messages(7))?;
    let objects = IpcObjects {
        shm: vec![shm("a", 1), shm("b", 1)],
        mqueues: vec![queue("a")],
        sysv_shm: vec![segment(1, 1)],
        sysv_sem: vec![set(1, &[1])],
        sysv_msg: vec![messages(1), messages(7)],
    };
    world.refused(pod.ipc_create(&objects), ErrorKind::AlreadyExists);
    pod.remove_sysv_msg(7)?;
    assert_eq!(pod.ipc_list()?, empty, "something is left");
    pod.ipc_create(&objects)?;
    let list = pod.ipc_list()?;
    let count = |kind: &str| list[kind].as_array().map_or(0, Vec::len);
    assert_eq!(["shm", "mqueues", "sysvShm", "sysvSem", "sysvMsg"].map(count), [2, 1, 1, 1, 2]);
    PASS
}

fn wrong_objects_are_refused(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    for wrong in ["", "/", "a/b", "..", &"x".repeat(256)] {
        world.refused(pod.create_shm_object(&shm(wrong, 1)), ErrorKind::InvalidSpec);
        world.refused(pod.create_mqueue(&queue(wrong)), ErrorKind::InvalidSpec);
    }
    world.refused(pod.create_shm_object(&shm("a", 0)), ErrorKind::InvalidSpec);
    world.refused(pod.create_sysv_shm(&segment(0, 1)), ErrorKind::InvalidSpec);
    world.refused(pod.create_sysv_shm(&segment(1, 0)), ErrorKind::InvalidSpec);
    world.refused(pod.create_sysv_msg(&messages(0)), ErrorKind::InvalidSpec);
    let twice = IpcObjects { shm: vec![shm("a", 1), shm("/a", 1)], ..IpcObjects::default() };
    world.refused(pod.ipc_create(&twice), ErrorKind::InvalidSpec);
    PASS
}

fn the_listing_tells_sizes_and_owners(world: &World) -> Outcome {
    let pod = world.pod("shop")?;
    let owned = ShmObjectSpec { mode: 0o644, uid: 5, gid: 6, ..shm("board", 12345) };
    pod.create_shm_object(&owned)?;
    pod.create_mqueue(&MessageQueueSpec { mode: 0o660, uid: 7, gid: 8, ..queue("jobs") })?;
    pod.create_sysv_shm(&SharedMemorySpec { uid: 9, gid: 10, ..segment(3, 5000) })?;
    let list = pod.ipc_list()?;
    let tells = |object: &Value, wanted: &[(&str, i64)]| {
        for (key, value) in wanted {
            assert_eq!(object[key], *value, "{key} in {list}");
        }
    };
    tells(&list["shm"][0], &[("size", 12345), ("mode", 0o644), ("uid", 5), ("gid", 6)]);
    tells(&list["mqueues"][0], &[("maxMessages", 4), ("messageSize", 128), ("uid", 7), ("gid", 8)]);
    tells(&list["sysvShm"][0], &[("size", 5000), ("key", 3), ("uid", 9), ("gid", 10)]);
    world.saw(list.to_string());
    PASS
}

fn a_pod_in_the_host_s_ipc_namespace_has_none(world: &World) -> Outcome {
    let pod = world.node.create_pod(&PodSpec::new("shop").ipc_namespace(NamespaceMode::Host))?;
    world.refused(pod.ipc_list(), ErrorKind::NotFound);
    world.refused(pod.ipc_create(&IpcObjects::default()), ErrorKind::NotFound);
    world.refused(pod.create_shm_object(&shm("a", 1)), ErrorKind::NotFound);
    world.refused(pod.open_shm_object("a", false), ErrorKind::NotFound);
    world.refused(pod.create_mqueue(&queue("a")), ErrorKind::NotFound);
    world.refused(pod.create_sysv_sem(&set(1, &[1])), ErrorKind::NotFound);
    world.refused(pod.remove_sysv_msg(1), ErrorKind::NotFound);
    PASS
}
