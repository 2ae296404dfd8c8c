//! System V objects.

use super::super::{
    create_sysv_msg, create_sysv_sem, create_sysv_shm, list, remove_sysv_msg, remove_sysv_sem,
    remove_sysv_shm,
};
use super::{assert_fails, in_pod, spec};
use crate::error::ErrorKind;
use crate::sys::ipc as sys;

#[test]
fn objects_have_what_was_asked_for() {
    in_pod(|pod| {
        let shm =
            create_sysv_shm(&spec(r#"{"key": 17, "size": 5000, "mode": 432, "uid": 1000, "gid": 2000}"#))
                .unwrap();
        let sem =
            create_sysv_sem(&spec(r#"{"key": -5, "values": [3, 0, 32767], "mode": 0, "uid": 7, "gid": 8}"#))
                .unwrap();
        let msg = create_sysv_msg(&spec(
            r#"{"key": 99, "maxBytes": 4096, "mode": 511, "uid": 4294967294, "gid": 1}"#,
        ))
        .unwrap();
        let default = create_sysv_msg(&spec(r#"{"key": 98}"#)).unwrap();
        let listing = list(pod.shm(), pod.mqueue()).unwrap();

        let found: Vec<_> = listing
            .sysv_shm
            .iter()
            .map(|o| (o.key, o.id, o.size, o.attached, o.mode, o.uid, o.gid))
            .collect();
        assert_eq!(found, [(17, shm, 5000, 0, 0o660, 1000, 2000)]);
        let found: Vec<_> =
            listing.sysv_sem.iter().map(|o| (o.key, o.id, o.semaphores, o.mode, o.uid, o.gid)).collect();
        assert_eq!(found, [(-5, sem, 3, 0, 7, 8)]);
        let found: Vec<_> = listing
            .sysv_msg
            .iter()
            .map(|o| (o.key, o.id, o.current_bytes, o.messages, o.max_bytes, o.mode, o.uid, o.gid))
            .collect();
        let msgmnb = u64::try_from(sys::msg_default_max_bytes().unwrap()).unwrap();
        assert_eq!(
            found,
            [(98, default, 0, 0, msgmnb, 0o600, 0, 0), (99, msg, 0, 0, 4096, 0o777, u32::MAX - 1, 1)]
        );
        let values: Vec<_> = (0..3).map(|i| sys::sem_value(sem, i).unwrap()).collect();
        assert_eq!(values, [3, 0, 32767]);
        assert_ne!(otime(sem), 0);
    });
}

/// `sem_otime` of a set: the ninth field of its line in proc(5).
fn otime(id: i32) -> u64 {
    let text = std::fs::read_to_string("/proc/sysvipc/sem").unwrap();
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|fields| fields[1] == id.to_string()).unwrap()[8].parse().unwrap()
}

#[test]
fn a_set_of_zeros_counts_as_initialised() {
    in_pod(|_| {
        let id = create_sysv_sem(&spec(r#"{"key": 1, "values": [0, 0]}"#)).unwrap();
        assert_ne!(otime(id), 0);
    });
}

#[test]
fn as_many_semaphores_as_a_set_can_have() {
    in_pod(|_| {
        let values = (0..32000).collect::<Vec<u16>>();
        let json = serde_json::json!({"key": 1, "values": values}).to_string();
        let id = create_sysv_sem(&spec(&json)).unwrap();
        for index in [0, 1, 499, 500, 501, 31999] {
            assert_eq!(usize::from(sys::sem_value(id, index).unwrap()), index);
        }
    });
}

#[test]
fn existing_keys_stay() {
    in_pod(|pod| {
        create_sysv_shm(&spec(r#"{"key": 1, "size": 1}"#)).unwrap();
        create_sysv_sem(&spec(r#"{"key": 1, "values": [5]}"#)).unwrap();
        create_sysv_msg(&spec(r#"{"key": 1, "maxBytes": 100}"#)).unwrap();
        let before = list(pod.shm(), pod.mqueue()).unwrap();
        let shm = create_sysv_shm(&spec(r#"{"key": 1, "size": 1}"#));
        assert_fails(shm, ErrorKind::AlreadyExists, "shared memory 0x00000001");
        let sem = create_sysv_sem(&spec(r#"{"key": 1, "values": [6]}"#));
        assert_fails(sem, ErrorKind::AlreadyExists, "semaphores 0x00000001");
        let msg = create_sysv_msg(&spec(r#"{"key": 1}"#));
        assert_fails(msg, ErrorKind::AlreadyExists, "message queue 0x00000001");
        assert_eq!(list(pod.shm(), pod.mqueue()).unwrap(), before);
    });
}

#[test]
fn limits_are_named_and_leave_nothing() {
    in_pod(|pod| {
        let msg = create_sysv_msg(&spec(r#"{"key": 1, "maxBytes": 1000000}"#));
        assert_fails(msg, ErrorKind::PermissionDenied, "kernel.msgmnb of the pod's IPC namespace (16384)");
        let shm = create_sysv_shm(&spec(r#"{"key": 1, "size": 9223372036854775807}"#));
        let error = shm.unwrap_err();
        assert!(error.kind() == ErrorKind::Exhausted, "{error}");
        assert_fails(
            create_sysv_shm(&spec(r#"{"key": 0, "size": 1}"#)),
            ErrorKind::InvalidSpec,
            "sysvShm.key",
        );
        assert_fails(
            create_sysv_sem(&spec(r#"{"key": 1, "values": []}"#)),
            ErrorKind::InvalidSpec,
            "sysvSem.values",
        );
        assert_fails(
            create_sysv_msg(&spec(r#"{"key": 1, "mode": 512}"#)),
            ErrorKind::InvalidSpec,
            "sysvMsg.mode",
        );
        let after = list(pod.shm(), pod.mqueue()).unwrap();
        assert_eq!(after, Default::default());

        let error = (1..40000).find_map(|key| sys::sem_create(key, 1, 0o600).err().map(|errno| (key, errno)));
        assert_eq!(error, Some((32001, nix::errno::Errno::ENOSPC)));
        assert_fails(
            create_sysv_sem(&spec(r#"{"key": 32001, "values": [1]}"#)),
            ErrorKind::Exhausted,
            "kernel.sem",
        );
        assert_eq!(list(pod.shm(), pod.mqueue()).unwrap().sysv_sem.len(), 32000);
    });
}

#[test]
fn removal() {
    in_pod(|pod| {
        create_sysv_shm(&spec(r#"{"key": 2, "size": 1}"#)).unwrap();
        create_sysv_sem(&spec(r#"{"key": 2, "values": [1]}"#)).unwrap();
        create_sysv_msg(&spec(r#"{"key": 2}"#)).unwrap();
        remove_sysv_shm(2).unwrap();
        remove_sysv_sem(2).unwrap();
        remove_sysv_msg(2).unwrap();
        for remove in [remove_sysv_shm, remove_sysv_sem, remove_sysv_msg] {
            assert_fails(remove(2), ErrorKind::NotFound, "0x00000002");
            // Must not make an IPC_PRIVATE object.
            assert_fails(remove(0), ErrorKind::InvalidSpec, "key");
        }
        assert_eq!(list(pod.shm(), pod.mqueue()).unwrap(), Default::default());
    });
}

#[test]
fn the_list_bears_with_gaps_and_with_private_objects() {
    in_pod(|pod| {
        for key in 1..=4 {
            create_sysv_sem(&spec(&format!(r#"{{"key": {key}, "values": [1]}}"#))).unwrap();
        }
        remove_sysv_sem(1).unwrap();
        remove_sysv_sem(3).unwrap();
        // What a container makes for itself: key 0, without IPC_EXCL.
        let private = sys::sem_find(libc::IPC_PRIVATE);
        assert_eq!(private, Err(nix::errno::Errno::EINVAL));
        let private = sys::sem_create(libc::IPC_PRIVATE, 2, 0).unwrap();
        let listing = list(pod.shm(), pod.mqueue()).unwrap();
        let found: Vec<_> = listing.sysv_sem.iter().map(|o| (o.key, o.semaphores)).collect();
        assert_eq!(found, [(0, 2), (2, 1), (4, 1)]);
        assert_eq!(listing.sysv_sem[0].id, private);
    });
}
