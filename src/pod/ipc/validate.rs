//! What an IPC object may be, before the kernel is asked.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::error::{Error, Result};
use crate::spec::{
    IpcObjects, MessageQueueSpec, SemaphoreSetSpec, SharedMemorySpec, ShmObjectSpec, SysvMessageQueueSpec,
};

/// `NAME_MAX` of limits.h, in bytes.
const NAME_MAX: usize = 255;
/// `SEMVMX` of semctl(2): the kernel has it built in.
const SEMAPHORE_VALUE_MAX: u16 = 32767;
/// `SEMMSL` of semget(2), as the kernel sets it.
const SEMAPHORES_MAX: usize = 32000;
/// The kernel keeps `msg_qbytes` given to msgctl(2) in an `int`, and would cut off what is above silently.
const QUEUE_BYTES_MAX: u64 = i32::MAX as u64;

/// Checks the IPC objects of a pod's specification; no input or output.
///
/// # Errors
/// `InvalidSpec`, naming the first field that is wrong, for instance `ipc.sysvShm[1].size`.
pub(crate) fn validate(objects: &IpcObjects) -> Result<()> {
    each("ipc.shm", "name", &objects.shm, |object, at| {
        shm(object, at)?;
        Ok(bare(&object.name))
    })?;
    each("ipc.mqueues", "name", &objects.mqueues, |object, at| {
        mqueue(object, at)?;
        Ok(bare(&object.name))
    })?;
    each("ipc.sysvShm", "key", &objects.sysv_shm, |object, at| {
        sysv_shm(object, at)?;
        Ok(object.key)
    })?;
    each("ipc.sysvSem", "key", &objects.sysv_sem, |object, at| {
        sysv_sem(object, at)?;
        Ok(object.key)
    })?;
    each("ipc.sysvMsg", "key", &objects.sysv_msg, |object, at| {
        sysv_msg(object, at)?;
        Ok(object.key)
    })
}

/// Checks each object, and that no two have the same name or key, which `check` returns.
fn each<'a, T, K: Ord>(
    list: &str,
    identity: &str,
    objects: &'a [T],
    check: impl Fn(&'a T, &str) -> Result<K>,
) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (i, object) in objects.iter().enumerate() {
        let at = format!("{list}[{i}]");
        if !seen.insert(check(object, &at)?) {
            return Err(Error::invalid(
                format!("{at}.{identity}"),
                "is that of an earlier object of the list",
            ));
        }
    }
    Ok(())
}

/// Checks a shared memory object that is called `at` in messages.
pub(super) fn shm(object: &ShmObjectSpec, at: &str) -> Result<()> {
    name(&object.name, format_args!("{at}.name"))?;
    size(object.size, at)?;
    owner(object.mode, object.uid, object.gid, at)
}

/// Checks a POSIX message queue.
pub(super) fn mqueue(object: &MessageQueueSpec, at: &str) -> Result<()> {
    name(&object.name, format_args!("{at}.name"))?;
    for (field, value) in [("maxMessages", object.max_messages), ("messageSize", object.message_size)] {
        if value == 0 {
            return Err(Error::invalid(format!("{at}.{field}"), "is zero"));
        }
    }
    owner(object.mode, object.uid, object.gid, at)
}

/// Checks a System V segment.
pub(super) fn sysv_shm(object: &SharedMemorySpec, at: &str) -> Result<()> {
    key(object.key, format_args!("{at}.key"))?;
    size(object.size, at)?;
    owner(object.mode, object.uid, object.gid, at)
}

/// Checks a System V semaphore set.
pub(super) fn sysv_sem(object: &SemaphoreSetSpec, at: &str) -> Result<()> {
    key(object.key, format_args!("{at}.key"))?;
    if object.values.is_empty() {
        return Err(Error::invalid(format!("{at}.values"), "is empty; a set has at least one semaphore"));
    }
    if object.values.len() > SEMAPHORES_MAX {
        let detail = format!("has {} semaphores, more than {SEMAPHORES_MAX}", object.values.len());
        return Err(Error::invalid(format!("{at}.values"), detail));
    }
    if let Some(i) = object.values.iter().position(|value| *value > SEMAPHORE_VALUE_MAX) {
        let detail = format!("{} is more than {SEMAPHORE_VALUE_MAX}", object.values[i]);
        return Err(Error::invalid(format!("{at}.values[{i}]"), detail));
    }
    owner(object.mode, object.uid, object.gid, at)
}

/// Checks a System V message queue.
pub(super) fn sysv_msg(object: &SysvMessageQueueSpec, at: &str) -> Result<()> {
    key(object.key, format_args!("{at}.key"))?;
    match object.max_bytes {
        Some(0) => return Err(Error::invalid(format!("{at}.maxBytes"), "is zero")),
        Some(bytes) if bytes > QUEUE_BYTES_MAX => {
            return Err(Error::invalid(
                format!("{at}.maxBytes"),
                format!("{bytes} is more than {QUEUE_BYTES_MAX}"),
            ));
        }
        _ => {}
    }
    owner(object.mode, object.uid, object.gid, at)
}

/// Checks a name and returns it without its leading slash.
pub(super) fn name(name: &str, field: impl Display) -> Result<&str> {
    let bare = bare(name);
    let detail = if bare.is_empty() {
        "is empty"
    } else if bare.contains('/') {
        "has a slash that is not the first character"
    } else if bare == "." || bare == ".." {
        "is that of a directory"
    } else if bare.contains('\0') {
        "has a NUL byte"
    } else if bare.len() > NAME_MAX {
        "is longer than 255 bytes"
    } else {
        return Ok(bare);
    };
    Err(Error::invalid(field, format!("{name:?} {detail}")))
}

/// A name without one leading slash.
fn bare(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

/// Refuses `IPC_PRIVATE`, under which shmget(2) and its siblings make a new object each time.
pub(super) fn key(key: i32, field: impl Display) -> Result<()> {
    if key == libc::IPC_PRIVATE { Err(Error::invalid(field, "is 0 (IPC_PRIVATE)")) } else { Ok(()) }
}

fn size(size: u64, at: &str) -> Result<()> {
    let detail = match size {
        0 => "is zero".to_owned(),
        // ftruncate(2) takes a signed number.
        _ if i64::try_from(size).is_err() => format!("{size} is more than {}", i64::MAX),
        _ => return Ok(()),
    };
    Err(Error::invalid(format!("{at}.size"), detail))
}

fn owner(mode: u32, uid: u32, gid: u32, at: &str) -> Result<()> {
    if mode > 0o777 {
        return Err(Error::invalid(
            format!("{at}.mode"),
            format!("{mode:#o} has more than permission bits (0o777)"),
        ));
    }
    for (field, id) in [("uid", uid), ("gid", gid)] {
        if id == u32::MAX {
            return Err(Error::invalid(
                format!("{at}.{field}"),
                "is -1, which system calls take for \"unchanged\"",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn read(json: &str) -> Result<()> {
        validate(&serde_json::from_str(json).unwrap())
    }

    /// What the message says after "check the specification ".
    fn refusal(json: &str) -> String {
        let error = read(json).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        error.to_string().strip_prefix("check the specification ").unwrap().to_owned()
    }

    #[test]
    fn what_is_right_passes() {
        read("{}").unwrap();
        let longest = "x".repeat(255);
        read(&format!(
            r#"{{"shm": [{{"name": "/a", "size": 1}}, {{"name": "{longest}", "size": 9223372036854775807}},
                         {{"name": "...", "size": 1}}],
                "mqueues": [{{"name": "/a"}}],
                "sysvShm": [{{"key": 1, "size": 1, "mode": 511}},
                             {{"key": -1, "size": 1, "uid": 4294967294}}],
                "sysvSem": [{{"key": 1, "values": [0, 32767]}}],
                "sysvMsg": [{{"key": 1}}, {{"key": 2, "maxBytes": 2147483647}}]}}"#
        ))
        .unwrap();
    }

    #[test]
    fn names_are_those_of_one_file() {
        for (name, why) in [
            ("", "is empty"),
            ("/", "is empty"),
            ("//a", "has a slash"),
            ("a/b", "has a slash"),
            ("a/", "has a slash"),
            (".", "is that of a directory"),
            ("/..", "is that of a directory"),
            ("a\\u0000b", "has a NUL byte"),
            (&"x".repeat(256), "is longer than 255 bytes"),
        ] {
            let text = refusal(&format!(r#"{{"shm": [{{"name": "{name}", "size": 1}}]}}"#));
            assert!(text.starts_with("ipc.shm[0].name: ") && text.contains(why), "{name:?}: {text}");
            let text = refusal(&format!(r#"{{"mqueues": [{{"name": "ok"}}, {{"name": "{name}"}}]}}"#));
            assert!(text.starts_with("ipc.mqueues[1].name: ") && text.contains(why), "{name:?}: {text}");
        }
    }

    #[test]
    fn each_refusal_names_its_field() {
        for (json, field) in [
            (r#"{"shm": [{"name": "a", "size": 0}]}"#, "ipc.shm[0].size: is zero"),
            (
                r#"{"shm": [{"name": "a", "size": 9223372036854775808}]}"#,
                "ipc.shm[0].size: 9223372036854775808 is",
            ),
            (r#"{"shm": [{"name": "a", "size": 1, "mode": 512}]}"#, "ipc.shm[0].mode: 0o1000 has more"),
            (r#"{"shm": [{"name": "a", "size": 1, "uid": 4294967295}]}"#, "ipc.shm[0].uid: is -1"),
            (r#"{"shm": [{"name": "a", "size": 1, "gid": 4294967295}]}"#, "ipc.shm[0].gid: is -1"),
            (r#"{"mqueues": [{"name": "a", "maxMessages": 0}]}"#, "ipc.mqueues[0].maxMessages: is zero"),
            (r#"{"mqueues": [{"name": "a", "messageSize": 0}]}"#, "ipc.mqueues[0].messageSize: is zero"),
            (r#"{"mqueues": [{"name": "a", "mode": 2541}]}"#, "ipc.mqueues[0].mode: "),
            (r#"{"sysvShm": [{"key": 0, "size": 1}]}"#, "ipc.sysvShm[0].key: is 0 (IPC_PRIVATE)"),
            (
                r#"{"sysvShm": [{"key": 1, "size": 1}, {"key": 2, "size": 0}]}"#,
                "ipc.sysvShm[1].size: is zero",
            ),
            (r#"{"sysvSem": [{"key": 0, "values": [1]}]}"#, "ipc.sysvSem[0].key: "),
            (r#"{"sysvSem": [{"key": 1, "values": []}]}"#, "ipc.sysvSem[0].values: is empty"),
            (r#"{"sysvSem": [{"key": 1, "values": [0, 32768]}]}"#, "ipc.sysvSem[0].values[1]: 32768 is more"),
            (r#"{"sysvMsg": [{"key": 0}]}"#, "ipc.sysvMsg[0].key: "),
            (r#"{"sysvMsg": [{"key": 1, "maxBytes": 0}]}"#, "ipc.sysvMsg[0].maxBytes: is zero"),
            (
                r#"{"sysvMsg": [{"key": 1, "maxBytes": 4294967297}]}"#,
                "ipc.sysvMsg[0].maxBytes: 4294967297 is more",
            ),
            (r#"{"sysvMsg": [{"key": 1, "gid": 4294967295}]}"#, "ipc.sysvMsg[0].gid: is -1"),
        ] {
            let text = refusal(json);
            assert!(text.starts_with(field), "{json}: {text}");
        }
        let many = vec!["0"; SEMAPHORES_MAX + 1].join(",");
        let text = refusal(&format!(r#"{{"sysvSem": [{{"key": 1, "values": [{many}]}}]}}"#));
        assert!(text.starts_with("ipc.sysvSem[0].values: has 32001 semaphores"), "{text}");
    }

    #[test]
    fn a_name_or_key_comes_once_in_its_list() {
        for (json, field) in [
            (
                r#"{"shm": [{"name": "a", "size": 1}, {"name": "/a", "size": 1}]}"#,
                "ipc.shm[1].name: is that of",
            ),
            (
                r#"{"mqueues": [{"name": "/b"}, {"name": "a"}, {"name": "a"}]}"#,
                "ipc.mqueues[2].name: is that of",
            ),
            (
                r#"{"sysvShm": [{"key": 7, "size": 1}, {"key": 7, "size": 1}]}"#,
                "ipc.sysvShm[1].key: is that of",
            ),
            (
                r#"{"sysvSem": [{"key": 7, "values": [1]}, {"key": 7, "values": [1]}]}"#,
                "ipc.sysvSem[1].key: is that",
            ),
            (r#"{"sysvMsg": [{"key": 7}, {"key": 7}]}"#, "ipc.sysvMsg[1].key: is that of"),
        ] {
            let text = refusal(json);
            assert!(text.starts_with(field), "{json}: {text}");
        }
    }
}
