//! IPC objects of a pod: made by the host, used by containers, and the other way round. What a container sees is asked
//! of the kernel in `ipc_payload.rs`.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use pericarp::spec::{
    IpcObjects, MessageQueueSpec, NamespaceMode, SemaphoreSetSpec, SharedMemorySpec, ShmObjectSpec,
    SysvMessageQueueSpec,
};
use pericarp::{Container, Error, ErrorKind, Pod, PodSpec};

use crate::ipc_payload::{Seen, SeenQueue, SeenSegment, SeenSemaphores, SeenShm, SeenSysvQueue};
use crate::support::fixture::{payload as inside, say, script};
use crate::support::{Fixture, Outcome, PASS};

crate::tests![
    objects_of_the_specification_are_there_before_the_first_container,
    objects_can_be_made_by_call_before_and_while_containers_run,
    owners_and_modes_are_what_was_asked_under_any_user,
    the_host_and_a_container_exchange_bytes_in_a_mapping,
    messages_pass_between_containers_by_posix_queues,
    containers_share_system_v_objects_by_key,
    the_listing_is_what_there_is,
    removed_objects_are_gone_for_containers,
    a_name_or_key_that_is_taken_is_told,
    a_failure_half_way_leaves_no_pod,
    a_call_that_fails_half_way_leaves_what_was_there,
    a_pod_in_the_hosts_ipc_namespace_has_no_objects_of_its_own,
    objects_of_one_pod_are_not_those_of_another,
];

/// The names and keys that `ipc look` asks for.
fn objects() -> IpcObjects {
    IpcObjects {
        shm: vec![ShmObjectSpec { name: "/page".into(), size: 5000, mode: 0o640, uid: 1000, gid: 1001 }],
        mqueues: vec![MessageQueueSpec {
            name: "jobs".into(),
            max_messages: 5,
            message_size: 100,
            mode: 0o620,
            uid: 1002,
            gid: 1003,
        }],
        sysv_shm: vec![SharedMemorySpec { key: 0x11, size: 6000, mode: 0o644, uid: 1004, gid: 1005 }],
        sysv_sem: vec![SemaphoreSetSpec {
            key: 0x12,
            values: vec![3, 0, 32767],
            mode: 0o660,
            uid: 1006,
            gid: 1007,
        }],
        sysv_msg: vec![SysvMessageQueueSpec {
            key: -19,
            max_bytes: Some(4096),
            mode: 0o604,
            uid: 1008,
            gid: 1009,
        }],
    }
}

/// What a container has to see of [`objects`].
fn expected() -> Seen {
    Seen {
        shm: Some(SeenShm { size: 5000, mode: 0o640, uid: 1000, gid: 1001 }),
        mqueue: Some(SeenQueue {
            max_messages: 5,
            message_size: 100,
            messages: 0,
            mode: 0o620,
            uid: 1002,
            gid: 1003,
        }),
        sysv_shm: Some(SeenSegment { size: 6000, mode: 0o644, uid: 1004, gid: 1005 }),
        sysv_sem: Some(SeenSemaphores { values: vec![3, 0, 32767], mode: 0o660, uid: 1006, gid: 1007 }),
        sysv_msg: Some(SeenSysvQueue { max_bytes: 4096, mode: 0o604, uid: 1008, gid: 1009 }),
    }
}

fn look(pod: &Pod, name: &str) -> Seen {
    let text = say(pod, inside(name, &["ipc", "look"]));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn start(pod: &Pod, name: &str, command: &[&str]) -> Container {
    let container = pod.create_container(&inside(name, command)).expect("make a container");
    container.start().expect("start a container");
    container
}

fn objects_of_the_specification_are_there_before_the_first_container() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").ipc(objects()))?;
    assert_eq!(look(&pod, "a"), expected());
    // They belong to the pod: the end of a container is not theirs.
    assert_eq!(look(&pod, "b"), expected());
    assert_eq!(look(&fixture.reopen().open_pod("web")?, "c"), expected());
    PASS
}

fn objects_can_be_made_by_call_before_and_while_containers_run() -> Outcome {
    let fixture = Fixture::new();
    let make = |pod: &Pod| -> Result<[i32; 3], Error> {
        let all = objects();
        let page = pod.ipc().create_shm_object(&all.shm[0])?;
        let stat = nix::sys::stat::fstat(&page).expect("the object's status");
        assert_eq!((stat.st_size, stat.st_mode & 0o7777), (5000, 0o640));
        pod.ipc().create_mqueue(&all.mqueues[0])?;
        Ok([
            pod.ipc().create_sysv_shm(&all.sysv_shm[0])?,
            pod.ipc().create_sysv_sem(&all.sysv_sem[0])?,
            pod.ipc().create_sysv_msg(&all.sysv_msg[0])?,
        ])
    };
    let before = fixture.pod("before");
    let ids = make(&before)?;
    assert_eq!(look(&before, "a"), expected());
    let list = before.ipc().list()?;
    assert_eq!([list.sysv_shm[0].id, list.sysv_sem[0].id, list.sysv_msg[0].id], ids);

    let later = fixture.pod("later");
    let running = start(&later, "sleeper", &["sleep"]);
    assert_eq!(look(&later, "a"), Seen::default());
    make(&later)?;
    assert_eq!(look(&later, "b"), expected());
    // The container that was there before sees the files at once.
    let shm = format!("/proc/{}/root/dev/shm/page", running.pid());
    assert_eq!(std::fs::metadata(shm)?.len(), 5000);

    let at_once = fixture.pod("at-once");
    at_once.ipc().create(&objects())?;
    assert_eq!(look(&at_once, "a"), expected());
    PASS
}

/// The kernel lets in whom the mode names, and nobody else.
fn owners_and_modes_are_what_was_asked_under_any_user() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").ipc(objects()))?;
    let read = |uid: u32, gid: u32, what: &str| say(&pod, inside("a", &["ipc", "open", what]).user(uid, gid));
    for (uid, gid, shm, mqueue, segment, semaphores, queue) in [
        (1000, 65534, "write", "none", "read", "none", "read"),
        (65534, 1001, "read", "none", "read", "none", "read"),
        (1002, 65534, "none", "write", "read", "none", "read"),
        (1004, 65534, "none", "none", "write", "none", "read"),
        (65534, 1007, "none", "none", "read", "write", "read"),
        (1008, 65534, "none", "none", "read", "none", "write"),
        (65534, 1009, "none", "none", "read", "none", "none"),
        (65534, 65534, "none", "none", "read", "none", "read"),
    ] {
        for (what, allowed) in [
            ("shm", shm),
            ("mqueue", mqueue),
            ("sysv-shm", segment),
            ("sysv-sem", semaphores),
            ("sysv-msg", queue),
        ] {
            assert_eq!(read(uid, gid, what).trim(), allowed, "{what} by {uid}:{gid}");
        }
    }
    PASS
}

/// A mapping of 4 numbers on the host's side.
struct Mapping<'a>(&'a [AtomicU32; 4]);

impl Mapping<'_> {
    fn new(file: &OwnedFd) -> Self {
        let (length, both) =
            (NonZeroUsize::new(16).expect("16"), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        // SAFETY: a new mapping at a place that the kernel chooses; the object is large enough.
        let address =
            unsafe { mmap(None, length, both, MapFlags::MAP_SHARED, file, 0) }.expect("map the object");
        // SAFETY: 16 bytes are mapped there until the drop, and any bytes are a valid AtomicU32.
        Mapping(unsafe { address.cast().as_ref() })
    }

    fn wait(&self, index: usize, value: u32) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.0[index].load(Ordering::Acquire) != value {
            assert!(Instant::now() < deadline, "no answer through the mapping");
            std::thread::yield_now();
        }
    }
}

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and nothing refers to it any more.
        unsafe { munmap(std::ptr::NonNull::from(self.0).cast(), 16) }.expect("unmap");
    }
}

fn the_host_and_a_container_exchange_bytes_in_a_mapping() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let object = ShmObjectSpec { name: "page".into(), size: 4096, mode: 0o600, uid: 0, gid: 0 };
    let file = pod.ipc().create_shm_object(&object)?;
    let mapping = Mapping::new(&file);
    // Index 1 carries what the host says, 2 the answer; 0 and 3 say whose turn it is.
    mapping.0[1].store(20, Ordering::Relaxed);
    let container = start(&pod, "a", &["ipc", "add-in-mapping", "page"]);
    for round in 1..=10 {
        mapping.0[1].store(20 + round, Ordering::Relaxed);
        mapping.0[0].store(round, Ordering::Release);
        mapping.wait(3, round);
        assert_eq!(mapping.0[2].load(Ordering::Relaxed), 20 + round + 1);
    }
    assert!(container.wait()?.success());
    drop(mapping);
    // The bytes outlive the container, and another descriptor of the same object has them.
    let again = std::fs::File::from(pod.ipc().open_shm_object("/page", false)?);
    let mut number = [0; 4];
    again.read_exact_at(&mut number, 8)?;
    assert_eq!(u32::from_ne_bytes(number), 31);
    assert!(again.write_at(b"x", 0).is_err(), "it was opened for reading only");
    // What a container made is the host's to open, too.
    say(&pod, script("b", "printf hello >/dev/shm/of-container"));
    let file = std::fs::File::from(pod.ipc().open_shm_object("of-container", true)?);
    let mut text = [0; 5];
    file.read_exact_at(&mut text, 0)?;
    assert_eq!(&text, b"hello");
    file.write_all_at(b"J", 0)?;
    assert_eq!(say(&pod, script("b", "cat /dev/shm/of-container")), "Jello");
    PASS
}

fn messages_pass_between_containers_by_posix_queues() -> Outcome {
    let fixture = Fixture::new();
    let queue = |name: &str| MessageQueueSpec {
        name: name.into(),
        max_messages: 4,
        message_size: 64,
        mode: 0o600,
        uid: 0,
        gid: 0,
    };
    let objects = IpcObjects { mqueues: vec![queue("there"), queue("back")], ..IpcObjects::default() };
    let pod = fixture.node.create_pod(&PodSpec::new("web").ipc(objects))?;
    // The receiver waits first, and answers.
    let echo = start(&pod, "echo", &["ipc", "mq-echo", "/there", "/back"]);
    say(&pod, inside("a", &["ipc", "mq-send", "/there", "hello", "1"]));
    assert_eq!(say(&pod, inside("b", &["ipc", "mq-receive", "/back"])), "echo of hello\n");
    assert!(echo.wait()?.success());
    // Messages stay when their sender has ended, the highest priority first.
    say(&pod, inside("a", &["ipc", "mq-send", "/there", "low", "1"]));
    say(&pod, inside("a", &["ipc", "mq-send", "/there", "high", "9"]));
    let list = pod.ipc().list()?.mqueues;
    let counts: Vec<_> = list.iter().map(|queue| (queue.name.as_str(), queue.current_messages)).collect();
    assert_eq!(counts, [("back", 0), ("there", 2)]);
    for text in ["high\n", "low\n"] {
        assert_eq!(say(&pod, inside("b", &["ipc", "mq-receive", "/there"])), text);
    }
    PASS
}

fn containers_share_system_v_objects_by_key() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").ipc(objects()))?;
    say(&pod, inside("a", &["ipc", "shm-write", "17", "hello"]));
    assert_eq!(say(&pod, inside("b", &["ipc", "shm-read", "17", "5"])), "hello\n");
    say(&pod, inside("a", &["ipc", "msg-send", "-19", "message"]));
    let list = pod.ipc().list()?;
    assert_eq!((list.sysv_msg[0].messages, list.sysv_msg[0].current_bytes), (1, 7));
    assert_eq!(say(&pod, inside("b", &["ipc", "msg-receive", "-19"])), "message\n");
    // One waits for the semaphore that is 0, and the other lets it go.
    let waiter = start(&pod, "waiter", &["ipc", "sem-add", "18", "1", "-2"]);
    say(&pod, inside("a", &["ipc", "sem-add", "18", "1", "1"]));
    assert_eq!(waiter.try_wait()?, None, "one of two was enough");
    say(&pod, inside("a", &["ipc", "sem-add", "18", "1", "1"]));
    assert!(waiter.wait()?.success());
    assert_eq!(look(&pod, "c").sysv_sem.expect("a set").values, [3, 0, 32767]);
    PASS
}

fn the_listing_is_what_there_is() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    assert_eq!(pod.ipc().list()?, pericarp::IpcListing::default());
    pod.ipc().create(&objects())?;
    // A container makes one of each kind, as user 0, and keeps its segment attached twice.
    let maker = pod.create_container(&inside("maker", &["ipc", "make"]).stdout(pericarp::Stdio::Pipe))?;
    let mut out = maker.take_stdout().expect("a pipe");
    maker.start()?;
    let mut ready = [0; 6];
    std::io::Read::read_exact(&mut out, &mut ready)?;
    let list = pod.ipc().list()?;
    assert!(!list.truncated);
    let shm: Vec<_> = list.shm.iter().map(|o| (o.name.as_str(), o.size, o.mode, o.uid, o.gid)).collect();
    assert_eq!(shm, [("inside", 77, 0o600, 0, 0), ("page", 5000, 0o640, 1000, 1001)]);
    let mqueues: Vec<_> = list
        .mqueues
        .iter()
        .map(|o| (o.name.as_str(), o.max_messages, o.message_size, o.current_messages, o.mode, o.uid, o.gid))
        .collect();
    assert_eq!(mqueues, [("inside", 3, 50, 1, 0o600, 0, 0), ("jobs", 5, 100, 0, 0o620, 1002, 1003)]);
    let segments: Vec<_> =
        list.sysv_shm.iter().map(|o| (o.key, o.size, o.attached, o.mode, o.uid, o.gid)).collect();
    assert_eq!(segments, [(0x11, 6000, 0, 0o644, 1004, 1005), (0x21, 4000, 2, 0o600, 0, 0)]);
    let semaphores: Vec<_> =
        list.sysv_sem.iter().map(|o| (o.key, o.semaphores, o.mode, o.uid, o.gid)).collect();
    assert_eq!(semaphores, [(0x12, 3, 0o660, 1006, 1007), (0x22, 2, 0o600, 0, 0)]);
    let queues: Vec<_> =
        list.sysv_msg.iter().map(|o| (o.key, o.messages, o.current_bytes, o.mode, o.uid, o.gid)).collect();
    assert_eq!(queues, [(-19, 0, 0, 0o604, 1008, 1009), (0x23, 1, 4, 0o600, 0, 0)]);
    assert_eq!(list.sysv_msg[0].max_bytes, 4096);
    // What is no object is none: directories, links, pipes.
    say(&pod, script("b", "cd /dev/shm && mkdir dir && ln -s page link && mkfifo pipe"));
    assert_eq!(pod.ipc().list()?.shm, list.shm);
    PASS
}

fn removed_objects_are_gone_for_containers() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").ipc(objects()))?;
    let ipc = pod.ipc();
    for _ in 0..2 {
        ipc.remove_shm_object("page")?;
        ipc.remove_mqueue("/jobs")?;
        ipc.remove_sysv_shm(0x11)?;
        ipc.remove_sysv_sem(0x12)?;
        ipc.remove_sysv_msg(-19)?;
        assert_eq!(look(&pod, "a"), Seen::default());
        assert_eq!(ipc.list()?, pericarp::IpcListing::default());
        for (what, result) in [
            ("shm", ipc.remove_shm_object("page")),
            ("open", ipc.open_shm_object("page", false).map(drop)),
            ("mqueue", ipc.remove_mqueue("jobs")),
            ("segment", ipc.remove_sysv_shm(0x11)),
            ("set", ipc.remove_sysv_sem(0x12)),
            ("queue", ipc.remove_sysv_msg(-19)),
        ] {
            let error = result.expect_err(what);
            assert_eq!(error.kind(), ErrorKind::NotFound, "{what}: {error}");
        }
        // Names and keys are free again.
        ipc.create(&objects())?;
        assert_eq!(look(&pod, "b"), expected());
    }
    // Names that lead elsewhere are no names of objects.
    say(&pod, script("c", "ln -s /etc/passwd /dev/shm/link; mkdir /dev/shm/dir"));
    for name in ["", "/", ".", "..", "../page", "dir/../page", "link", "dir", "a/b", "a\0b"] {
        assert!(ipc.open_shm_object(name, false).is_err(), "{name:?}");
        assert!(ipc.remove_mqueue(name).is_err(), "{name:?}");
    }
    PASS
}

fn a_name_or_key_that_is_taken_is_told() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.node.create_pod(&PodSpec::new("web").ipc(objects()))?;
    let all = objects();
    let ipc = pod.ipc();
    for (what, result) in [
        ("shm", ipc.create_shm_object(&all.shm[0]).map(drop)),
        ("mqueue", ipc.create_mqueue(&all.mqueues[0])),
        ("segment", ipc.create_sysv_shm(&all.sysv_shm[0]).map(drop)),
        ("set", ipc.create_sysv_sem(&all.sysv_sem[0]).map(drop)),
        ("queue", ipc.create_sysv_msg(&all.sysv_msg[0]).map(drop)),
        ("all", ipc.create(&all)),
    ] {
        let error = result.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{what}: {error}");
    }
    assert_eq!(look(&pod, "a"), expected());
    PASS
}

/// Each kind of object fails in turn, after all kinds before it were made.
fn a_failure_half_way_leaves_no_pod() -> Outcome {
    let fixture = Fixture::new();
    let queue = objects().mqueues.remove(0);
    let too_large = MessageQueueSpec { name: "big".into(), max_messages: 65537, ..queue };
    let large = IpcObjects { mqueues: vec![too_large], ..objects() };
    // The pod's own limits, so that it is the kernel that refuses.
    for (what, objects, name, value) in [
        ("mqueues", large, "kernel.shmmni", "4096"),
        ("sysv shm", objects(), "kernel.shmmax", "4096"),
        ("sysv sem", objects(), "kernel.sem", "2 32000 500 128"),
        ("sysv msg", objects(), "kernel.msgmni", "0"),
    ] {
        let spec = PodSpec::new("web").ipc(objects).sysctl(name, value);
        let error = fixture.node.create_pod(&spec).expect_err(what);
        assert_ne!(error.kind(), ErrorKind::InvalidSpec, "{what}: {error}");
        assert!(error.errno().is_some(), "{what}: {error}");
        assert!(fixture.node.pods()?.is_empty(), "{what}");
        assert_eq!(fixture.node.recover()?, Default::default(), "{what}: something was left");
    }
    let pod = fixture.node.create_pod(&PodSpec::new("web").ipc(objects()))?;
    let parent = pod.cgroup_path();
    let cgroups = std::fs::read_dir(parent.parent().expect("a parent"))?.flatten();
    assert_eq!(cgroups.filter(|entry| entry.path().is_dir()).count(), 1);
    PASS
}

fn a_call_that_fails_half_way_leaves_what_was_there() -> Outcome {
    let fixture = Fixture::new();
    let pod = fixture.pod("web");
    let mut taken = objects().sysv_msg.remove(0);
    pod.ipc().create_sysv_msg(&taken)?;
    say(&pod, inside("a", &["ipc", "msg-send", "-19", "kept"]));
    let before = pod.ipc().list()?;
    let error = pod.ipc().create(&objects()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert_eq!(pod.ipc().list()?, before);
    assert_eq!(say(&pod, inside("b", &["ipc", "msg-receive", "-19"])), "kept\n");
    // What can be known to be wrong is, before anything is made.
    taken.key = 0;
    let wrong = IpcObjects { sysv_msg: vec![taken], shm: objects().shm, ..IpcObjects::default() };
    assert_eq!(pod.ipc().create(&wrong).unwrap_err().kind(), ErrorKind::InvalidSpec);
    assert!(pod.ipc().list()?.shm.is_empty());
    PASS
}

fn a_pod_in_the_hosts_ipc_namespace_has_no_objects_of_its_own() -> Outcome {
    let fixture = Fixture::new();
    let spec = PodSpec::new("web").ipc_namespace(NamespaceMode::Host);
    let error = fixture.node.create_pod(&spec.clone().ipc(objects())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
    let pod = fixture.node.create_pod(&spec)?;
    let (ipc, all) = (pod.ipc(), objects());
    for (what, result) in [
        ("create", ipc.create(&all)),
        ("shm", ipc.create_shm_object(&all.shm[0]).map(drop)),
        ("open", ipc.open_shm_object("page", true).map(drop)),
        ("remove shm", ipc.remove_shm_object("page")),
        ("mqueue", ipc.create_mqueue(&all.mqueues[0])),
        ("remove mqueue", ipc.remove_mqueue("jobs")),
        ("segment", ipc.create_sysv_shm(&all.sysv_shm[0]).map(drop)),
        ("remove segment", ipc.remove_sysv_shm(0x11)),
        ("set", ipc.create_sysv_sem(&all.sysv_sem[0]).map(drop)),
        ("remove set", ipc.remove_sysv_sem(0x12)),
        ("queue", ipc.create_sysv_msg(&all.sysv_msg[0]).map(drop)),
        ("remove queue", ipc.remove_sysv_msg(-19)),
        ("list", ipc.list().map(drop)),
    ] {
        let error = result.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::NotFound, "{what}: {error}");
    }
    PASS
}

fn objects_of_one_pod_are_not_those_of_another() -> Outcome {
    let fixture = Fixture::new();
    let first = fixture.node.create_pod(&PodSpec::new("first").ipc(objects()))?;
    let second = fixture.pod("second");
    assert_eq!(look(&second, "a"), Seen::default());
    assert_eq!(second.ipc().list()?, pericarp::IpcListing::default());
    // The same names and keys mean other objects.
    second.ipc().create(&objects())?;
    say(&first, inside("b", &["ipc", "shm-write", "17", "first"]));
    say(&second, inside("b", &["ipc", "shm-write", "17", "other"]));
    assert_eq!(say(&first, inside("b", &["ipc", "shm-read", "17", "5"])), "first\n");
    // Neither are they the host's: the test program is still where it was.
    assert_eq!(crate::ipc_payload::look(), Seen::default());
    PASS
}
