//! How the user namespace of an ordinary user gets its ids: its own one by the kernel, more by newuidmap(1) and
//! newgidmap(1), which act for root within what subuid(5) and subgid(5) say.

use std::io::ErrorKind as IoKind;
use std::process::{Command, Stdio};

use nix::unistd::{User, getegid, geteuid};

use super::Proc;
use super::ids::{IdRange, ranges_of, read};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::{IdMapping, IdMappings, user, validate_mappings};

/// Where the ranges of ordinary users are, and who maps them: user ids, group ids.
const FILES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];
const PROGRAMS: [&str; 2] = ["newuidmap", "newgidmap"];
const MAPS: [&str; 2] = ["uid_map", "gid_map"];

/// The ids of this user as root, and all that the files give to it from 1 on.
pub(super) fn subordinate() -> Result<IdMappings> {
    let uid = geteuid();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let number = uid.to_string();
    let mut both = Vec::new();
    for (file, own) in FILES.into_iter().zip([uid.as_raw(), getegid().as_raw()]) {
        let text = read(file)?;
        let names = name.iter().chain([&number].into_iter().filter(|number| name.as_ref() != Some(number)));
        let ranges: Vec<IdRange> = names.flat_map(|name| ranges_of(&text, name)).collect();
        if ranges.is_empty() {
            let who = name.as_ref().unwrap_or(&number);
            return Err(Error::new(ErrorKind::NotFound, "find").on(format!("ids for user {who} in {file}")).because(
                format!("add a line such as {who}:100000:65536 (as root: usermod --add-subuids), or use the single id"),
            ));
        }
        both.push(in_a_row(own, &ranges));
        validate_mappings(file, both.last().map_or(&[], Vec::as_slice))?;
    }
    let gid_mappings = both.pop().unwrap_or_default();
    Ok(IdMappings { uid_mappings: both.pop().unwrap_or_default(), gid_mappings })
}

/// The user's own id as 0, and the ranges after it without gaps.
fn in_a_row(own: u32, ranges: &[IdRange]) -> Vec<IdMapping> {
    let mut next = 1u32;
    let mut mappings = vec![IdMapping::new(0, own, 1)];
    for range in ranges {
        mappings.push(IdMapping::new(next, range.first, range.size));
        next = next.saturating_add(range.size);
    }
    mappings
}

/// The user's own id needs nobody's help, if the namespace gives up changing groups (user_namespaces(7)).
pub(super) fn write(proc: &Proc, pid: i32, ids: &IdMappings) -> Result<()> {
    proc.write_map(pid, "setgroups", "deny")?;
    proc.write_map(pid, MAPS[0], &user::text(&ids.uid_mappings))?;
    proc.write_map(pid, MAPS[1], &user::text(&ids.gid_mappings))
}

/// Has the programs of the package `uidmap` write the maps of a process.
pub(super) fn by_programs(proc: &Proc, pid: i32, ids: &IdMappings) -> Result<()> {
    for (index, mappings) in [&ids.uid_mappings, &ids.gid_mappings].into_iter().enumerate() {
        let program = PROGRAMS[index];
        let numbers = mappings.iter().flat_map(|ids| [ids.container_id, ids.host_id, ids.size]);
        let ran = Command::new(program)
            .arg(pid.to_string())
            .args(numbers.map(|number| number.to_string()))
            .stdin(Stdio::null())
            .output();
        // By what it did: its exit status may be lost in a program that takes those of all children.
        let map = proc.read(&format!("{pid}/{}", MAPS[index]))?;
        if user::parse(&map).as_deref() == Some(mappings.as_slice()) {
            continue;
        }
        let error = |kind| Error::new(kind, "give ids to the node's user namespace by").on(program);
        return Err(match ran {
            Err(failure) if failure.kind() == IoKind::NotFound => error(ErrorKind::Unsupported).because(
                "there is no such program in PATH: install it (Debian's package uidmap), or use the single id",
            ),
            Err(failure) => error(ErrorKind::System).because(failure.to_string()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
                error(ErrorKind::PermissionDenied)
                    .because(format!("it has not done it: {said} (see {}, and the program's man page)", FILES[index]))
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_after_the_own_id() {
        let range = |first, size| IdRange { first, size };
        assert_eq!(
            in_a_row(1000, &[range(100_000, 65536), range(400_000, 10)]),
            [
                IdMapping::new(0, 1000, 1),
                IdMapping::new(1, 100_000, 65536),
                IdMapping::new(65537, 400_000, 10)
            ]
        );
        // Of what makes no sense the kernel would say no more than EINVAL.
        assert!(validate_mappings("ids", &in_a_row(1000, &[range(900, 200)])).is_err());
        assert!(validate_mappings("ids", &in_a_row(1, &[range(5, u32::MAX - 4), range(2, 3)])).is_err());
    }
}
