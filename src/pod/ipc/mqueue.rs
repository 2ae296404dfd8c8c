//! POSIX message queues (mq_overview(7)) of the IPC namespace of the calling thread.

use nix::errno::Errno;
use nix::mqueue::{MQ_OFlag, MqAttr, mq_open, mq_unlink};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, fchown};

use super::validate;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::spec::MessageQueueSpec;
use crate::sys::ipc as sys;

const CREATE: &str = "create message queue";

/// Makes a message queue with exactly the mode and owner asked for.
///
/// The limits are `fs.mqueue.msg_max`, `fs.mqueue.msgsize_max` and `fs.mqueue.queues_max` of the IPC
/// namespace (a new one has 10, 8192 and 256), and `RLIMIT_MSGQUEUE` of the host program for the bytes of all
/// queues that its user made on this machine; it is not given back before the queue is removed or the IPC
/// namespace ends.
///
/// # Errors
/// `InvalidSpec` for a field; `AlreadyExists`; `Exhausted`, naming the limit.
pub(crate) fn create_mqueue(queue: &MessageQueueSpec) -> Result<()> {
    validate::mqueue(queue, "mqueue")?;
    let name = validate::name(&queue.name, "mqueue.name")?;
    let path = format!("/{name}");
    let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR | MQ_OFlag::O_CLOEXEC;
    let attributes = MqAttr::new(0, queue.max_messages.into(), queue.message_size.into(), 0);
    // Without permission bits, nobody else opens it before it has its owner.
    let made = mq_open(path.as_str(), flags, Mode::empty(), Some(&attributes));
    let file = sys::mq_fd(made.map_err(|errno| refused(errno, queue).on(name))?);
    let owned = fchown(&file, Some(Uid::from_raw(queue.uid)), Some(Gid::from_raw(queue.gid)))
        .and_then(|()| fchmod(&file, Mode::from_bits_truncate(queue.mode)));
    if owned.is_err() {
        // The error to report is the first one.
        let _ = mq_unlink(path.as_str());
    }
    owned.step("give owner and mode to message queue", name)
}

/// What the error number of mq_open(3) means here, see `mqueue_get_inode` and `mq_attr_ok` in the kernel's
/// ipc/mqueue.c.
pub(crate) fn refused(errno: Errno, queue: &MessageQueueSpec) -> Error {
    let error = Error::system(errno, CREATE);
    let (messages, size) = (queue.max_messages, queue.message_size);
    match errno {
        Errno::EINVAL => error.of_kind(ErrorKind::Exhausted).because(format!(
            "{messages} messages of {size} bytes are more than fs.mqueue.msg_max or fs.mqueue.msgsize_max of \
             the pod's IPC namespace allow (with CAP_SYS_RESOURCE: 65536 of 16777216)"
        )),
        Errno::ENOSPC => error.because("fs.mqueue.queues_max of the pod's IPC namespace is reached"),
        Errno::EMFILE => {
            let limit = match getrlimit(Resource::RLIMIT_MSGQUEUE) {
                Ok((soft, _)) => format!(" ({soft} bytes)"),
                Err(_) => String::new(),
            };
            error.because(format!(
                "{messages} messages of {size} bytes, with all other queues of this user, are more than \
                 RLIMIT_MSGQUEUE{limit} of the host program allows; or its RLIMIT_NOFILE is reached"
            ))
        }
        Errno::EOVERFLOW => error.because(super::UNMAPPED),
        _ => error,
    }
}

/// Removes the name of a message queue; the queue goes with the last who has it open.
///
/// # Errors
/// `NotFound`.
pub(crate) fn remove_mqueue(name: &str) -> Result<()> {
    let name = validate::name(name, "name")?;
    mq_unlink(format!("/{name}").as_str()).step("remove message queue", name)
}
