//! System V IPC (sysvipc(7)), attributes of POSIX message queues, and one ACL: what nix lacks for the IPC
//! objects of a pod. Everything acts on the IPC namespace of the calling thread.
#![allow(unsafe_code, reason = "nix has no System V IPC; the *ctl calls take pointers")]
// The width of `ipc_perm.mode` and of counters differs between architectures and C libraries.
#![allow(clippy::unnecessary_cast)]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use libc::ipc_perm;
use nix::errno::Errno;
use nix::mqueue::MqdT;

use super::{Result, check};

// From <linux/shm.h>, <linux/msg.h>; the same on every architecture, and missing in libc.
const SHM_INFO: c_int = 14;
const SHM_STAT_ANY: c_int = 15;
const MSG_STAT_ANY: c_int = 13;

/// Creation refuses a key that exists already.
const CREATE: c_int = libc::IPC_CREAT | libc::IPC_EXCL;

/// `struct shm_info` of <linux/shm.h>: what `SHM_INFO` fills in.
#[repr(C)]
struct ShmInfo {
    used_ids: c_int,
    pages: [libc::c_ulong; 3],
    swap: [libc::c_ulong; 2],
}

/// Owner and permission bits of a System V object, with its key and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Perm {
    pub(crate) key: i32,
    pub(crate) id: i32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Perm {
    fn of(id: c_int, perm: &ipc_perm) -> Self {
        // The mode also holds flags such as SHM_DEST and SHM_LOCKED.
        let mode = u32::from(perm.mode) & 0o777;
        Perm { key: perm.__key, id, mode, uid: perm.uid, gid: perm.gid }
    }
}

/// What `IPC_SET` changes of an object: its owner and permission bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

impl Owner {
    fn write(self, perm: &mut ipc_perm) {
        perm.uid = self.uid;
        perm.gid = self.gid;
        perm.mode = self.mode as _;
    }
}

/// A segment as `SHM_STAT_ANY` reports it. Bytes, and the number of times it is attached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShmStat {
    pub(crate) perm: Perm,
    pub(crate) size: u64,
    pub(crate) attached: u64,
}

/// A semaphore set as `SEM_STAT_ANY` reports it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SemStat {
    pub(crate) perm: Perm,
    pub(crate) semaphores: u64,
}

/// A message queue as `MSG_STAT_ANY` reports it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MsgStat {
    pub(crate) perm: Perm,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
    pub(crate) max_bytes: u64,
}

/// shmget(2) with `IPC_CREAT | IPC_EXCL`: a new segment of `size` bytes, returns its id.
pub(crate) fn shm_create(key: i32, size: u64, mode: u32) -> Result<i32> {
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::shmget(key, size, CREATE | mode as c_int) }.into()).map(|id| id as i32)
}

/// shmget(2) without flags: the id of the segment with that key. Key 0 makes a new one: callers refuse it.
pub(crate) fn shm_find(key: i32) -> Result<i32> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::shmget(key, 0, 0) }.into()).map(|id| id as i32)
}

/// `IPC_SET` of shmctl(2).
pub(crate) fn shm_set(id: i32, owner: Owner) -> Result<()> {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut ds: libc::shmid_ds = unsafe { std::mem::zeroed() };
    owner.write(&mut ds.shm_perm);
    // SAFETY: IPC_SET reads a whole `shmid_ds`, which outlives the call.
    check(unsafe { libc::shmctl(id, libc::IPC_SET, &mut ds) }.into()).map(drop)
}

/// `IPC_RMID` of shmctl(2): the segment goes when nobody has it attached any more.
pub(crate) fn shm_remove(id: i32) -> Result<()> {
    // SAFETY: IPC_RMID ignores the pointer.
    check(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }.into()).map(drop)
}

/// `SHM_INFO` of shmctl(2): the highest index in use.
pub(crate) fn shm_highest_index() -> Result<i32> {
    let mut info = MaybeUninit::<ShmInfo>::uninit();
    // SAFETY: SHM_INFO writes a `struct shm_info`, whose layout `ShmInfo` has.
    let index = unsafe { libc::shmctl(0, SHM_INFO, info.as_mut_ptr().cast()) };
    check(index.into()).map(|index| index as i32)
}

/// `SHM_STAT_ANY` of shmctl(2): the segment at `index`; `EINVAL` when there is none.
pub(crate) fn shm_stat(index: i32) -> Result<ShmStat> {
    let mut ds = MaybeUninit::<libc::shmid_ds>::zeroed();
    // SAFETY: SHM_STAT_ANY writes a `shmid_ds`.
    let id = check(unsafe { libc::shmctl(index, SHM_STAT_ANY, ds.as_mut_ptr()) }.into())? as i32;
    // SAFETY: a structure of integers, zeroed at first.
    let ds = unsafe { ds.assume_init() };
    Ok(ShmStat {
        perm: Perm::of(id, &ds.shm_perm),
        size: ds.shm_segsz as u64,
        attached: ds.shm_nattch as u64,
    })
}

/// semget(2) with `IPC_CREAT | IPC_EXCL`: a new set, all values 0, returns its id.
pub(crate) fn sem_create(key: i32, semaphores: usize, mode: u32) -> Result<i32> {
    let semaphores = c_int::try_from(semaphores).map_err(|_| Errno::EINVAL)?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::semget(key, semaphores, CREATE | mode as c_int) }.into()).map(|id| id as i32)
}

/// semget(2) without flags: the id of the set with that key. Key 0 makes a new one: callers refuse it.
pub(crate) fn sem_find(key: i32) -> Result<i32> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::semget(key, 0, 0) }.into()).map(|id| id as i32)
}

/// semop(2): adds `values[i]` to semaphore `first + i`, all at once or none, without waiting and without
/// undo.
///
/// Unlike `SETALL` of semctl(2), which takes an array without its length and reads as many values as the set
/// of that id has: memory beyond the array, should a hostile container have put a larger set in its place.
pub(crate) fn sem_add(id: i32, first: usize, values: &[u16]) -> Result<()> {
    let operation = |(index, value): (usize, &u16)| {
        let sem_num = u16::try_from(first + index).map_err(|_| Errno::EFBIG)?;
        let sem_op = i16::try_from(*value).map_err(|_| Errno::ERANGE)?;
        Ok(libc::sembuf { sem_num, sem_op, sem_flg: libc::IPC_NOWAIT as _ })
    };
    let mut operations = values.iter().enumerate().map(operation).collect::<Result<Vec<_>>>()?;
    // SAFETY: the operations are given with their number and outlive the call.
    check(unsafe { libc::semop(id, operations.as_mut_ptr(), operations.len()) }.into()).map(drop)
}

/// `GETVAL` of semctl(2).
#[cfg(test)]
pub(crate) fn sem_value(id: i32, index: usize) -> Result<u16> {
    // SAFETY: GETVAL takes no further argument; the kernel checks the index.
    check(unsafe { libc::semctl(id, index as c_int, libc::GETVAL) }.into()).map(|value| value as u16)
}

/// `IPC_SET` of semctl(2).
pub(crate) fn sem_set(id: i32, owner: Owner) -> Result<()> {
    // SAFETY: a structure of integers, for which zero is a value.
    let mut ds: libc::semid_ds = unsafe { std::mem::zeroed() };
    owner.write(&mut ds.sem_perm);
    // SAFETY: IPC_SET reads a whole `semid_ds`, which outlives the call; a pointer is passed as the union is.
    check(unsafe { libc::semctl(id, 0, libc::IPC_SET, &raw mut ds) }.into()).map(drop)
}

/// `IPC_RMID` of semctl(2): the set goes at once, its waiters get `EIDRM`.
pub(crate) fn sem_remove(id: i32) -> Result<()> {
    // SAFETY: IPC_RMID takes no further argument.
    check(unsafe { libc::semctl(id, 0, libc::IPC_RMID) }.into()).map(drop)
}

/// `SEM_INFO` of semctl(2): the highest index in use, and `struct seminfo`, which is ten ints.
fn sem_info() -> Result<(i32, [c_int; 10])> {
    let mut info = [0; 10];
    // SAFETY: SEM_INFO writes a `struct seminfo`.
    let index = check(unsafe { libc::semctl(0, 0, libc::SEM_INFO, &raw mut info) }.into())?;
    Ok((index as i32, info))
}

/// `SEM_INFO` of semctl(2): the highest index in use.
pub(crate) fn sem_highest_index() -> Result<i32> {
    sem_info().map(|(index, _)| index)
}

/// `SEMOPM`, the third number of the kernel parameter `kernel.sem`: how many operations semop(2) takes.
pub(crate) fn sem_operations_max() -> Result<usize> {
    sem_info().map(|(_, info)| info[5].try_into().unwrap_or(0))
}

/// `SEM_STAT_ANY` of semctl(2): the set at `index`; `EINVAL` when there is none.
pub(crate) fn sem_stat(index: i32) -> Result<SemStat> {
    let mut ds = MaybeUninit::<libc::semid_ds>::zeroed();
    // SAFETY: SEM_STAT_ANY writes a `semid_ds`.
    let id = check(unsafe { libc::semctl(index, 0, libc::SEM_STAT_ANY, ds.as_mut_ptr()) }.into())? as i32;
    // SAFETY: a structure of integers, zeroed at first.
    let ds = unsafe { ds.assume_init() };
    Ok(SemStat { perm: Perm::of(id, &ds.sem_perm), semaphores: ds.sem_nsems as u64 })
}

/// msgget(2) with `IPC_CREAT | IPC_EXCL`: a new queue, returns its id.
pub(crate) fn msg_create(key: i32, mode: u32) -> Result<i32> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::msgget(key, CREATE | mode as c_int) }.into()).map(|id| id as i32)
}

/// msgget(2) without flags: the id of the queue with that key. Key 0 makes a new one: callers refuse it.
pub(crate) fn msg_find(key: i32) -> Result<i32> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::msgget(key, 0) }.into()).map(|id| id as i32)
}

/// `IPC_SET` of msgctl(2), with `max_bytes` as `msg_qbytes`, or as much as it has already.
pub(crate) fn msg_set(id: i32, owner: Owner, max_bytes: Option<u64>) -> Result<()> {
    let mut ds = MaybeUninit::<libc::msqid_ds>::zeroed();
    // SAFETY: IPC_STAT writes a `msqid_ds`.
    check(unsafe { libc::msgctl(id, libc::IPC_STAT, ds.as_mut_ptr()) }.into())?;
    // SAFETY: a structure of integers, zeroed at first.
    let mut ds = unsafe { ds.assume_init() };
    owner.write(&mut ds.msg_perm);
    if let Some(max_bytes) = max_bytes {
        ds.msg_qbytes = max_bytes as _;
    }
    // SAFETY: IPC_SET reads a whole `msqid_ds`, which outlives the call.
    check(unsafe { libc::msgctl(id, libc::IPC_SET, &mut ds) }.into()).map(drop)
}

/// `IPC_RMID` of msgctl(2): the queue and its messages go at once.
pub(crate) fn msg_remove(id: i32) -> Result<()> {
    // SAFETY: IPC_RMID ignores the pointer.
    check(unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) }.into()).map(drop)
}

/// `MSG_INFO` and `IPC_INFO` of msgctl(2) fill in a `struct msginfo` and return the highest index in use.
fn msg_info(command: c_int) -> Result<(i32, libc::msginfo)> {
    let mut info = MaybeUninit::<libc::msginfo>::zeroed();
    // SAFETY: both commands write a `struct msginfo`, smaller than the `msqid_ds` that the signature asks
    // for.
    let index = check(unsafe { libc::msgctl(0, command, info.as_mut_ptr().cast()) }.into())? as i32;
    // SAFETY: a structure of integers, zeroed at first.
    Ok((index, unsafe { info.assume_init() }))
}

/// `MSG_INFO` of msgctl(2): the highest index in use.
pub(crate) fn msg_highest_index() -> Result<i32> {
    msg_info(libc::MSG_INFO).map(|(index, _)| index)
}

/// The kernel parameter `kernel.msgmnb` of this IPC namespace: the capacity in bytes of a new queue.
pub(crate) fn msg_default_max_bytes() -> Result<i32> {
    msg_info(libc::IPC_INFO).map(|(_, info)| info.msgmnb)
}

/// `MSG_STAT_ANY` of msgctl(2): the queue at `index`; `EINVAL` when there is none.
pub(crate) fn msg_stat(index: i32) -> Result<MsgStat> {
    let mut ds = MaybeUninit::<libc::msqid_ds>::zeroed();
    // SAFETY: MSG_STAT_ANY writes a `msqid_ds`.
    let id = check(unsafe { libc::msgctl(index, MSG_STAT_ANY, ds.as_mut_ptr()) }.into())? as i32;
    // SAFETY: a structure of integers, zeroed at first.
    let ds = unsafe { ds.assume_init() };
    Ok(MsgStat {
        perm: Perm::of(id, &ds.msg_perm),
        bytes: ds.__msg_cbytes as u64,
        messages: ds.msg_qnum as u64,
        max_bytes: ds.msg_qbytes as u64,
    })
}

/// The file descriptor that a message queue descriptor is on Linux, closed when dropped ([`MqdT`] is not).
pub(crate) fn mq_fd(queue: MqdT) -> OwnedFd {
    // SAFETY: the descriptor is open and given up by `into_raw_fd`.
    unsafe { OwnedFd::from_raw_fd(queue.into_raw_fd()) }
}

/// mq_getattr(3) on a file descriptor, also one that open(2) gave in a mqueue file system; `EBADF` on another
/// file.
pub(crate) fn mq_attributes(queue: impl AsFd) -> Result<libc::mq_attr> {
    let mut attributes = MaybeUninit::<libc::mq_attr>::zeroed();
    // SAFETY: the kernel writes a `struct mq_attr`.
    check(unsafe { libc::mq_getattr(queue.as_fd().as_raw_fd(), attributes.as_mut_ptr()) }.into())?;
    // SAFETY: a structure of integers, zeroed at first.
    Ok(unsafe { attributes.assume_init() })
}

/// Removes the access control list (acl(5)) that a file got from its directory; none is fine.
pub(crate) fn remove_acl(file: impl AsFd) -> Result<()> {
    // SAFETY: the name is NUL-terminated and outlives the call.
    let result = unsafe { libc::fremovexattr(file.as_fd().as_raw_fd(), c"system.posix_acl_access".as_ptr()) };
    match check(result.into()) {
        Err(errno) if errno != Errno::ENODATA && errno != Errno::EOPNOTSUPP => Err(errno),
        _ => Ok(()),
    }
}

/// What the part of a container in the tests needs.
#[cfg(test)]
pub(crate) mod hostile {
    use super::*;
    use std::ffi::CStr;

    /// The size in bytes of an extended attribute, see fgetxattr(2).
    pub(crate) fn xattr_size(file: impl AsFd, name: &CStr) -> Result<usize> {
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: the name is NUL-terminated; with size 0 nothing is written.
        let size = unsafe { libc::fgetxattr(fd, name.as_ptr(), std::ptr::null_mut(), 0) };
        check(size as libc::c_long).map(|size| size as usize)
    }

    /// Takes a read lease, see `F_SETLEASE` in fcntl(2). Who breaks it has a signal sent to us that is
    /// ignored.
    pub(crate) fn lease(file: impl AsFd) -> Result<()> {
        const F_SETSIG: c_int = 10;
        for (command, argument) in [(F_SETSIG, libc::SIGURG), (libc::F_SETLEASE, libc::F_RDLCK)] {
            // SAFETY: both commands take an integer.
            check(unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, argument) }.into())?;
        }
        Ok(())
    }
}
