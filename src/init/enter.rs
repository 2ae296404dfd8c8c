//! Entering a container that there is already.

use crate::sys::{AT_FDCWD, EBUSY, Errno, O_CLOEXEC, O_DIRECTORY, O_PATH, close, device, nr, syscall};
use crate::wire::{self, Reader};
use crate::user::CLONE_NEWUSER;
use crate::{Done, In, State, process, user};

/// Joins namespaces of the process that a pidfd means; its root directory becomes that of this process. The PID
/// namespace is not among them: it is entered last, see `process::enter_pid`.
pub fn join(state: &State, mut fields: Reader) -> Done {
    let (process, namespaces) = (state.slot(fields.u32()?)?, fields.u32()?);
    let template = root_device().within(wire::CALL_FSTAT)?;
    syscall!(nr::SETNS, process, namespaces).within(wire::CALL_SETNS)?;
    // Joining a user namespace gives new credentials, and these may make a process dumpable (fs.suid_dumpable).
    process::hide();
    if namespaces & CLONE_NEWUSER != 0 {
        user::become_root()?;
    }
    // As long as a container is being made its root is that of the template, which no container may see.
    if root_device().within(wire::CALL_FSTAT)? == template {
        return Err(EBUSY).within(wire::CALL_ENTER);
    }
    Ok(())
}

/// The device of the filesystem at `/`.
fn root_device() -> Result<u64, Errno> {
    let flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    let root = syscall!(nr::OPENAT, AT_FDCWD, c"/".as_ptr(), flags)? as i32;
    let device = device(root);
    close(root);
    device
}
