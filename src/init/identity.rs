//! Steps that take privileges away.

use crate::sys::{EINVAL, nr, syscall};
use crate::wire::{self, Reader};
use crate::{Done, In, process};

const PR_SET_KEEPCAPS: usize = 8;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_NO_NEW_PRIVS: usize = 38;
const PR_CAP_AMBIENT: usize = 47;
const PR_CAP_AMBIENT_RAISE: usize = 2;
const SECCOMP_SET_MODE_FILTER: usize = 1;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// The kernel's sets have 64 bits; it answers EINVAL for those that it does not know.
const MAX_CAPABILITIES: u32 = 64;

pub fn rlimit(mut fields: Reader) -> Done {
    let resource = fields.u32()?;
    let limit = [fields.u64()?, fields.u64()?];
    syscall!(nr::PRLIMIT64, 0, resource, limit.as_ptr(), 0).within(wire::CALL_PRLIMIT).map(drop)
}

/// The order matters: dropping from the bounding set needs CAP_SETPCAP, changing groups CAP_SETGID, and the ambient
/// set takes only what is permitted and inheritable.
pub fn take(mut fields: Reader, keeps_groups: bool) -> Done {
    let (uid, gid, bounding) = (fields.u32()?, fields.u32()?, fields.u64()?);
    let (permitted, effective, inheritable, ambient) =
        (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
    let count = fields.u32()? as usize;
    let groups = fields.bytes()?;
    if groups.len() != count * 4 {
        return Err(wire::Malformed.into());
    }
    for capability in 0..MAX_CAPABILITIES {
        if bounding >> capability & 1 == 0 {
            match syscall!(nr::PRCTL, PR_CAPBSET_DROP, capability) {
                Err(EINVAL) => break,
                result => result.within(wire::CALL_CAPBSET_DROP)?,
            };
        }
    }
    // A change of the user id would empty the permitted set.
    if uid != 0 && permitted | inheritable != 0 {
        syscall!(nr::PRCTL, PR_SET_KEEPCAPS, 1).within(wire::CALL_KEEPCAPS)?;
    }
    if !keeps_groups {
        syscall!(nr::SETGROUPS, count, groups.as_ptr()).within(wire::CALL_SETGROUPS)?;
    }
    syscall!(nr::SETRESGID, gid, gid, gid).within(wire::CALL_SETGID)?;
    syscall!(nr::SETRESUID, uid, uid, uid).within(wire::CALL_SETUID)?;
    // The inheritable set holds the ambient one, and nothing else unless the specification says so (CVE-2022-29162).
    capset(effective, permitted, inheritable)?;
    // New ids set it to what fs.suid_dumpable says, which may be that everybody with the same ids may look.
    if uid != 0 || gid != 0 {
        process::hide();
    }
    for capability in 0..MAX_CAPABILITIES {
        if ambient >> capability & 1 == 1 {
            syscall!(nr::PRCTL, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)
                .within(wire::CALL_AMBIENT)?;
        }
    }
    Ok(())
}

fn capset(effective: u64, permitted: u64, inheritable: u64) -> Done {
    let header = [CAPABILITY_VERSION_3, 0];
    let low = |set: u64| set as u32;
    let high = |set: u64| (set >> 32) as u32;
    // Effective, permitted, inheritable: the low halves, then the high ones.
    let data = [
        low(effective),
        low(permitted),
        low(inheritable),
        high(effective),
        high(permitted),
        high(inheritable),
    ];
    syscall!(nr::CAPSET, header.as_ptr(), data.as_ptr()).within(wire::CALL_CAPSET).map(drop)
}

pub fn no_new_privileges() -> Done {
    syscall!(nr::PRCTL, PR_SET_NO_NEW_PRIVS, 1).within(wire::CALL_NO_NEW_PRIVS).map(drop)
}

/// `struct sock_fprog` of seccomp(2).
#[repr(C)]
struct Program {
    length: u16,
    filter: *const u8,
}

pub fn seccomp(fields: Reader) -> Done {
    load_filter(fields).map(drop)
}

/// Loads a filter, and returns what seccomp(2) does: the listener, if the flags ask for one.
pub fn load_filter(mut fields: Reader) -> Done<i32> {
    let (flags, filter) = (fields.u32()?, fields.bytes()?);
    const INSTRUCTION: usize = 8;
    let program = Program { length: (filter.len() / INSTRUCTION) as u16, filter: filter.as_ptr() };
    syscall!(nr::SECCOMP, SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        .within(wire::CALL_SECCOMP)
        .map(|value| value as i32)
}
