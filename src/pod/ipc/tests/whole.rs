//! The whole specification: made, listed, rolled back.

use super::super::{IpcListing, create_all, create_mqueue, create_sysv_msg, list};
use super::{assert_fails, in_pod, spec};
use crate::error::ErrorKind;
use crate::spec::IpcObjects;

fn everything() -> IpcObjects {
    spec(
        r#"{"shm": [{"name": "/s1", "size": 100, "mode": 438, "uid": 5, "gid": 6}, {"name": "s2", "size": 1}],
            "mqueues": [{"name": "/q1", "maxMessages": 2, "messageSize": 64, "mode": 438},
                        {"name": "q2", "maxMessages": 1}],
            "sysvShm": [{"key": 1, "size": 4096}, {"key": 2, "size": 1}],
            "sysvSem": [{"key": 1, "values": [1, 2]}, {"key": 2, "values": [0]}],
            "sysvMsg": [{"key": 1, "maxBytes": 100}, {"key": 2}]}"#,
    )
}

#[test]
fn the_listing_is_what_was_made() {
    in_pod(|pod| {
        assert_eq!(list(pod.shm(), pod.mqueue()).unwrap(), IpcListing::default());
        create_all(pod.shm(), &everything()).unwrap();
        let listing = list(pod.shm(), pod.mqueue()).unwrap();
        // The ids are up to the kernel.
        let mut json = serde_json::to_value(&listing).unwrap();
        for kind in ["sysvShm", "sysvSem", "sysvMsg"] {
            for object in json[kind].as_array_mut().unwrap() {
                assert!(object.as_object_mut().unwrap().remove("id").unwrap().is_i64());
            }
        }
        let expected: serde_json::Value = spec(
            r#"{"shm": [{"name": "s1", "size": 100, "mode": 438, "uid": 5, "gid": 6},
                        {"name": "s2", "size": 1, "mode": 384, "uid": 0, "gid": 0}],
                "mqueues": [{"name": "q1", "maxMessages": 2, "messageSize": 64, "currentMessages": 0,
                             "mode": 438, "uid": 0, "gid": 0},
                            {"name": "q2", "maxMessages": 1, "messageSize": 8192, "currentMessages": 0,
                             "mode": 384, "uid": 0, "gid": 0}],
                "sysvShm": [{"key": 1, "size": 4096, "attached": 0, "mode": 384, "uid": 0, "gid": 0},
                            {"key": 2, "size": 1, "attached": 0, "mode": 384, "uid": 0, "gid": 0}],
                "sysvSem": [{"key": 1, "semaphores": 2, "mode": 384, "uid": 0, "gid": 0},
                            {"key": 2, "semaphores": 1, "mode": 384, "uid": 0, "gid": 0}],
                "sysvMsg": [{"key": 1, "currentBytes": 0, "messages": 0,
                             "maxBytes": 100, "mode": 384, "uid": 0, "gid": 0},
                            {"key": 2, "currentBytes": 0, "messages": 0,
                             "maxBytes": 16384, "mode": 384, "uid": 0, "gid": 0}],
                "truncated": false}"#,
        );
        assert_eq!(json, expected);
        let back: IpcListing = serde_json::from_str(&serde_json::to_string(&listing).unwrap()).unwrap();
        assert_eq!(back, listing);
    });
}

#[test]
fn a_failure_leaves_nothing_of_this_call_and_all_of_others() {
    in_pod(|pod| {
        create_mqueue(&spec(r#"{"name": "q2", "maxMessages": 1}"#)).unwrap();
        create_sysv_msg(&spec(r#"{"key": 2}"#)).unwrap();
        std::fs::write(pod.path("s2"), "mine").unwrap();
        let before = list(pod.shm(), pod.mqueue()).unwrap();

        let mut objects = everything();
        assert_fails(create_all(pod.shm(), &objects), ErrorKind::AlreadyExists, "shared memory object s2");
        assert_eq!(list(pod.shm(), pod.mqueue()).unwrap(), before);
        objects.shm.truncate(1);
        assert_fails(create_all(pod.shm(), &objects), ErrorKind::AlreadyExists, "message queue q2");
        assert_eq!(list(pod.shm(), pod.mqueue()).unwrap(), before);
        objects.mqueues.truncate(1);
        assert_fails(
            create_all(pod.shm(), &objects),
            ErrorKind::AlreadyExists,
            "System V message queue 0x00000002",
        );
        assert_eq!(list(pod.shm(), pod.mqueue()).unwrap(), before);
        objects.sysv_msg[1].key = 3;
        objects.sysv_msg[1].max_bytes = Some(1 << 30);
        assert_fails(create_all(pod.shm(), &objects), ErrorKind::PermissionDenied, "kernel.msgmnb");
        assert_eq!(list(pod.shm(), pod.mqueue()).unwrap(), before);
        objects.sysv_sem[1].key = 1;
        assert_fails(create_all(pod.shm(), &objects), ErrorKind::InvalidSpec, "ipc.sysvSem[1].key");
        assert_eq!(list(pod.shm(), pod.mqueue()).unwrap(), before);
        assert_eq!(std::fs::read_to_string(pod.path("s2")).unwrap(), "mine");
    });
}
