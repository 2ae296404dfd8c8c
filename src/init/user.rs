//! Steps for pods with a user namespace of their own.

use crate::fs;
use crate::sys::{
    AT_FDCWD, AT_RECURSIVE, EINVAL, EMPTY, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_PATH, O_RDWR, close,
    nr, syscall,
};
use crate::wire::{self, Reader};
use crate::{Done, In, State, process};

pub const CLONE_NEWUSER: u32 = 0x1000_0000;
pub const CLONE_NEWNS: u32 = 0x0002_0000;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
const MOVE_MOUNT_F_EMPTY_PATH: usize = 0x04;
const MNT_DETACH: usize = 2;

/// Files that init makes in a container belong to root inside, and an idmapped mount takes no file of an id that it
/// does not have. The kernel takes the privileges over files away with the id: take them back from what is permitted.
pub fn own_files(mut fields: Reader) -> Done {
    set_file_ids(fields.u32()?, fields.u32()?)?;
    let header = [CAPABILITY_VERSION_3, 0];
    // Effective, permitted, inheritable: the low halves, then the high ones.
    let mut sets = [0u32; 6];
    syscall!(nr::CAPGET, header.as_ptr(), sets.as_mut_ptr()).within(wire::CALL_CAPSET)?;
    sets[0] = sets[1];
    sets[3] = sets[4];
    syscall!(nr::CAPSET, header.as_ptr(), sets.as_ptr()).within(wire::CALL_CAPSET).map(drop)
}

/// What that user may find and execute. The kernel takes the privileges over files away with the id, and no others.
pub fn look_as(mut fields: Reader, keeps_groups: bool) -> Done {
    let (uid, gid, count) = (fields.u32()?, fields.u32()?, fields.u32()? as usize);
    let groups = fields.bytes()?;
    if groups.len() != count * 4 {
        return Err(wire::Malformed.into());
    }
    if !keeps_groups {
        syscall!(nr::SETGROUPS, count, groups.as_ptr()).within(wire::CALL_SETGROUPS)?;
    }
    set_file_ids(uid, gid)?;
    // A change of the id sets it to what fs.suid_dumpable says.
    process::hide();
    Ok(())
}

fn set_file_ids(uid: u32, gid: u32) -> Done {
    for (call, id) in [(nr::SETFSGID, gid), (nr::SETFSUID, uid)] {
        // These calls tell the id of before and never an error: ask again.
        let _ = syscall!(call, id);
        if syscall!(call, u32::MAX).within(wire::CALL_SETFSID)? as u32 != id {
            return Err(EINVAL).within(wire::CALL_SETFSID);
        }
    }
    Ok(())
}

/// From here on no privilege reaches anything of the host.
pub fn enter(state: &State, mut fields: Reader) -> Done {
    let user = state.slot(fields.u32()?)?;
    syscall!(nr::SETNS, user, CLONE_NEWUSER).within(wire::CALL_SETNS)?;
    become_root()
}

/// The ids of before mean nothing in the user namespace that was joined: what they own there nobody can open.
pub fn become_root() -> Done {
    syscall!(nr::SETRESGID, 0, 0, 0).within(wire::CALL_SETGID)?;
    syscall!(nr::SETRESUID, 0, 0, 0).within(wire::CALL_SETUID)?;
    // All three changes set it to what fs.suid_dumpable says.
    process::hide();
    Ok(())
}

/// Hooks have moved the root to where the host has it, in a tree of the host's files: as it was, and without these.
pub fn take_root_back(state: &State, mut fields: Reader) -> Done {
    let (path, host) = (fields.string()?, fields.string()?);
    syscall!(nr::MOVE_MOUNT, state.root, EMPTY, AT_FDCWD, path.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH)
        .within(wire::CALL_MOVE_MOUNT)?;
    syscall!(nr::UMOUNT2, host.as_ptr(), MNT_DETACH).within(wire::CALL_UMOUNT).map(drop)
}

/// In a mount namespace of a lesser user namespace everything that was copied is locked, and a locked mount cannot
/// become the root. The top of a copy is not locked; what is mounted below it stays so.
pub fn copy_root(state: &mut State, mut fields: Reader) -> Done {
    let path = fields.string()?;
    let flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    let open = || syscall!(nr::OPENAT, AT_FDCWD, path.as_ptr(), flags).within(wire::CALL_OPEN);
    let locked = open()? as i32;
    let copy = fs::clone_tree(locked, AT_RECURSIVE)?;
    syscall!(nr::MOVE_MOUNT, copy, EMPTY, AT_FDCWD, path.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH)
        .within(wire::CALL_MOVE_MOUNT)?;
    close(copy);
    close(locked);
    state.root = open()? as i32;
    Ok(())
}

/// `struct mq_attr` of mq_open(2).
#[repr(C)]
struct Attributes {
    flags: i64,
    messages: i64,
    size: i64,
    current: i64,
    reserved: [i64; 4],
}

/// A queue that nobody else can open before it has its owner.
pub fn make_queue(mut fields: Reader) -> Done {
    let name = fields.string()?;
    let (mode, uid, gid) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let (messages, size) = (fields.u32()?.into(), fields.u32()?.into());
    let attributes = Attributes { flags: 0, messages, size, current: 0, reserved: [0; 4] };
    let flags = O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC;
    let queue = syscall!(nr::MQ_OPEN, name.as_ptr(), flags, 0, &raw const attributes)
        .within(wire::CALL_MQ_OPEN)? as i32;
    let owned = syscall!(nr::FCHOWN, queue, uid, gid)
        .within(wire::CALL_FCHOWN)
        .and_then(|_| syscall!(nr::FCHMOD, queue, mode).within(wire::CALL_FCHMOD));
    if owned.is_err() {
        let _ = syscall!(nr::MQ_UNLINK, name.as_ptr());
    }
    close(queue);
    owned.map(drop)
}
