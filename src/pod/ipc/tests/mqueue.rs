//! POSIX message queues.

use nix::mqueue::{MQ_OFlag, mq_open, mq_send};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;

use super::super::{create_mqueue, list, remove_mqueue};
use super::{assert_fails, in_pod, spec};
use crate::error::ErrorKind;
use crate::spec::MessageQueueSpec;
use crate::sys::ipc::mq_fd;

fn queue(json: &str) -> MessageQueueSpec {
    spec(json)
}

#[test]
fn a_queue_has_the_attributes_owner_and_mode_asked_for() {
    in_pod(|pod| {
        create_mqueue(&queue(
            r#"{"name": "/b", "maxMessages": 3, "messageSize": 128, "mode": 438, "uid": 1000, "gid": 2000}"#,
        ))
        .unwrap();
        create_mqueue(&queue(r#"{"name": "a", "mode": 0}"#)).unwrap();
        let sender = mq_open("/b", MQ_OFlag::O_WRONLY, Mode::empty(), None).unwrap();
        mq_send(&sender, b"one", 1).unwrap();
        mq_send(&sender, b"two", 1).unwrap();
        drop(mq_fd(sender));
        let listing = list(pod.shm(), pod.mqueue()).unwrap();
        let found: Vec<_> = listing
            .mqueues
            .iter()
            .map(|q| {
                (q.name.as_str(), q.max_messages, q.message_size, q.current_messages, q.mode, q.uid, q.gid)
            })
            .collect();
        assert_eq!(found, [("a", 10, 8192, 0, 0, 0, 0), ("b", 3, 128, 2, 0o666, 1000, 2000)]);
    });
}

#[test]
fn an_existing_queue_stays() {
    in_pod(|pod| {
        create_mqueue(&queue(r#"{"name": "q", "maxMessages": 2}"#)).unwrap();
        let error =
            assert_fails(create_mqueue(&queue(r#"{"name": "/q"}"#)), ErrorKind::AlreadyExists, "queue q");
        assert_eq!(error.errno(), Some(libc::EEXIST));
        assert_eq!(list(pod.shm(), pod.mqueue()).unwrap().mqueues[0].max_messages, 2);
    });
}

#[test]
fn limits_are_named() {
    in_pod(|pod| {
        let messages = create_mqueue(&queue(r#"{"name": "q", "maxMessages": 11}"#));
        assert_fails(messages, ErrorKind::Exhausted, "fs.mqueue.msg_max");
        let size = create_mqueue(&queue(r#"{"name": "q", "messageSize": 8193}"#));
        assert_fails(size, ErrorKind::Exhausted, "fs.mqueue.msgsize_max");
        assert_fails(create_mqueue(&queue(r#"{"name": ""}"#)), ErrorKind::InvalidSpec, "mqueue.name");

        let mut made = 0;
        let error = loop {
            let small = format!(r#"{{"name": "q{made}", "maxMessages": 1, "messageSize": 1}}"#);
            match create_mqueue(&queue(&small)) {
                Ok(()) => made += 1,
                Err(error) => break error,
            }
        };
        // fs.mqueue.queues_max of a new IPC namespace, see mq_overview(7).
        assert_eq!((made, error.errno()), (256, Some(libc::ENOSPC)), "{error}");
        assert!(error.to_string().contains("fs.mqueue.queues_max"), "{error}");
        assert_eq!(list(pod.shm(), pod.mqueue()).unwrap().mqueues.len(), 256);
    });
}

/// In a process of its own, since a resource limit belongs to the whole process.
#[test]
fn the_limit_on_bytes_is_named() {
    const ALONE: &str = "PERICARP_TEST_LIMIT_ON_BYTES";
    if std::env::var_os(ALONE).is_none() {
        let (_, module) = module_path!().split_once("::").unwrap();
        let name = format!("{module}::the_limit_on_bytes_is_named");
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", &name]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    in_pod(|pod| {
        let (_, hard) = getrlimit(Resource::RLIMIT_MSGQUEUE).unwrap();
        setrlimit(Resource::RLIMIT_MSGQUEUE, 1000, hard).unwrap();
        let result = create_mqueue(&queue(r#"{"name": "q", "maxMessages": 1}"#));
        let error = assert_fails(result, ErrorKind::Exhausted, "RLIMIT_MSGQUEUE (1000 bytes)");
        assert_eq!(error.errno(), Some(libc::EMFILE));
        assert!(list(pod.shm(), pod.mqueue()).unwrap().mqueues.is_empty());
    });
}

#[test]
fn removal() {
    in_pod(|pod| {
        create_mqueue(&queue(r#"{"name": "q", "maxMessages": 1}"#)).unwrap();
        remove_mqueue("/q").unwrap();
        assert_fails(remove_mqueue("q"), ErrorKind::NotFound, "remove message queue q");
        assert_fails(remove_mqueue("a/b"), ErrorKind::InvalidSpec, "name");
        assert!(list(pod.shm(), pod.mqueue()).unwrap().mqueues.is_empty());
    });
}
