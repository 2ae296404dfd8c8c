//! Entering a container that there is already.

use crate::sys::{
    AT_FDCWD, AT_RECURSIVE, EBUSY, Errno, O_CLOEXEC, O_DIRECTORY, O_PATH, close, device, nr, syscall,
};
use crate::user::CLONE_NEWUSER;
use crate::wire::{self, Reader};
use crate::{Done, In, State, fs, process, user};

const CLONE_NEWNS: usize = 0x0002_0000;

/// Joins namespaces of the process that a pidfd means; its root directory becomes that of this process. The PID
/// namespace is not among them: it is entered last, see `process::enter_pid`.
pub fn join(state: &State, mut fields: Reader) -> Done {
    let (process, namespaces) = (state.slot(fields.u32()?)?, fields.u32()?);
    let root = match fields.u32()? {
        wire::NO_SLOT => None,
        slot => Some(state.slot(slot)?),
    };
    let template = root_device().within(wire::CALL_FSTAT)?;
    syscall!(nr::SETNS, process, namespaces).within(wire::CALL_SETNS)?;
    // Joining a user namespace gives new credentials, and these may make a process dumpable (fs.suid_dumpable).
    process::hide();
    if namespaces & CLONE_NEWUSER != 0 {
        user::become_root()?;
    }
    // As long as a container is being made its root is that of the template, which no container may see.
    let joined = root_device().within(wire::CALL_FSTAT)?;
    let found = root.map_or(Ok(joined), device).within(wire::CALL_FSTAT)?;
    if joined == template || found == template {
        return Err(EBUSY).within(wire::CALL_ENTER);
    }
    root.map_or(Ok(()), change_root)
}

/// The copy stays attached nowhere: who looks at the mounts of that namespace sees nothing of it, and it goes with the
/// last process that has its root in it.
pub fn mounts(state: &mut State, mut fields: Reader) -> Done {
    let namespace = state.slot(fields.u32()?)?;
    let copy = fs::clone_tree(state.root, AT_RECURSIVE)?;
    syscall!(nr::SETNS, namespace, CLONE_NEWNS).within(wire::CALL_SETNS)?;
    change_root(copy)?;
    close(state.root);
    state.root = copy;
    Ok(())
}

fn change_root(root: i32) -> Done {
    syscall!(nr::FCHDIR, root).within(wire::CALL_FCHDIR)?;
    syscall!(nr::CHROOT, c".".as_ptr()).within(wire::CALL_CHROOT)?;
    syscall!(nr::CHDIR, c"/".as_ptr()).within(wire::CALL_CHDIR).map(drop)
}

/// The device of the filesystem at `/`.
fn root_device() -> Result<u64, Errno> {
    let flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    let root = syscall!(nr::OPENAT, AT_FDCWD, c"/".as_ptr(), flags)? as i32;
    let device = device(root);
    close(root);
    device
}
