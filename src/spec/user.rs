//! The user namespace of a pod: which ids of the machine the ids of its containers are, see user_namespaces(7).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{IdMapping, validate_mappings};
use crate::error::{Error, Result};

/// Ids that a pod gets from [`UserMode::Auto`] unless it says otherwise, and what every number of them is a multiple of.
pub(crate) const BLOCK: u32 = 65536;
/// Bytes of a map: the kernel takes it in one write of less than a page.
const MAX_BYTES: usize = 4096;

/// Where the user namespace of a pod comes from.
///
/// With one of its own, the pod's network, IPC and UTS namespaces and the mount, PID and cgroup namespaces of its
/// containers belong to it: privileges in a container reach nothing of the host. All user and group ids in
/// specifications of such a pod and of its containers are those inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum UserMode {
    /// The one that the library is in.
    #[default]
    Host,
    /// A new one with these ids. Other pods may have the same, but for those that have theirs by `Auto`.
    Mapped(IdMappings),
    /// A new one with ids that no other pod of the machine has, from 0 on inside. They are taken from the node's ranges,
    /// see `NodeOptions::id_ranges`.
    #[serde(rename_all = "camelCase")]
    Auto {
        /// How many, a multiple of 65 536; so many when `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u32>,
    },
    /// The one at that path: a file of `/proc/PID/ns`, or a bind mount of one. It is opened once, when the pod is made;
    /// new namespaces of the pod belong to it.
    Path(PathBuf),
}

/// The ids of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdMappings {
    /// User ids.
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids.
    pub gid_mappings: Vec<IdMapping>,
}

impl UserMode {
    /// Whether the pod has no user namespace of its own.
    pub fn is_host(&self) -> bool {
        *self == UserMode::Host
    }

    pub(super) fn validate(&self) -> Result<()> {
        const FIELD: &str = "namespaces.user";
        match self {
            UserMode::Host => Ok(()),
            UserMode::Path(path) => super::validate::absolute(FIELD, path),
            UserMode::Auto { size } => match size {
                Some(size) if *size == 0 || size % BLOCK != 0 => {
                    Err(Error::invalid(FIELD, format!("{size} ids are not a multiple of {BLOCK}")))
                }
                _ => Ok(()),
            },
            UserMode::Mapped(ids) => {
                check(&format!("{FIELD}.uidMappings"), &ids.uid_mappings)?;
                check(&format!("{FIELD}.gidMappings"), &ids.gid_mappings)
            }
        }
    }
}

impl IdMappings {
    /// The same ids for users and groups: from 0 on inside, from `host_id` on on the host.
    pub fn contiguous(host_id: u32, size: u32) -> Self {
        let ids = vec![IdMapping { container_id: 0, host_id, size }];
        IdMappings { uid_mappings: ids.clone(), gid_mappings: ids }
    }

    /// What a user id inside is on the host.
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        find(&self.uid_mappings, |ids| (ids.container_id, ids.host_id), uid)
    }

    /// What a group id inside is on the host.
    pub fn host_gid(&self, gid: u32) -> Option<u32> {
        find(&self.gid_mappings, |ids| (ids.container_id, ids.host_id), gid)
    }

    /// What a user id of the host is inside.
    pub fn container_uid(&self, uid: u32) -> Option<u32> {
        find(&self.uid_mappings, |ids| (ids.host_id, ids.container_id), uid)
    }

    /// What a group id of the host is inside.
    pub fn container_gid(&self, gid: u32) -> Option<u32> {
        find(&self.gid_mappings, |ids| (ids.host_id, ids.container_id), gid)
    }
}

fn find(mappings: &[IdMapping], sides: impl Fn(&IdMapping) -> (u32, u32), id: u32) -> Option<u32> {
    mappings.iter().find_map(|ids| {
        let (from, to) = sides(ids);
        let offset = id.checked_sub(from)?;
        (offset < ids.size).then(|| to + offset)
    })
}

/// The text of `/proc/PID/uid_map`.
pub(crate) fn text(mappings: &[IdMapping]) -> String {
    mappings.iter().map(|ids| format!("{} {} {}\n", ids.container_id, ids.host_id, ids.size)).collect()
}

/// The mappings of a text as `/proc/PID/uid_map` has it.
pub(crate) fn parse(text: &str) -> Option<Vec<IdMapping>> {
    let line = |line: &str| {
        let numbers: Option<Vec<u32>> = line.split_ascii_whitespace().map(|word| word.parse().ok()).collect();
        match numbers?[..] {
            [container_id, host_id, size] => Some(IdMapping { container_id, host_id, size }),
            _ => None,
        }
    };
    text.lines().map(line).collect()
}

/// What the kernel would refuse with no more than EINVAL, and a map without id 0: nobody could make the mounts of a
/// container.
fn check(field: &str, mappings: &[IdMapping]) -> Result<()> {
    validate_mappings(field, mappings)?;
    if text(mappings).len() >= MAX_BYTES {
        return Err(Error::invalid(
            field,
            format!("is longer than {MAX_BYTES} bytes as the kernel takes it"),
        ));
    }
    match find(mappings, |ids| (ids.container_id, ids.host_id), 0) {
        Some(_) => Ok(()),
        None => Err(Error::invalid(field, "id 0 has no id on the host; root of the pod makes its mounts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn ids_are_found_on_both_sides() {
        let mappings = IdMappings {
            uid_mappings: vec![ids(0, 100_000, 10), ids(1000, 5, 1)],
            gid_mappings: vec![ids(0, 7, 1)],
        };
        assert_eq!(mappings.host_uid(0), Some(100_000));
        assert_eq!(mappings.host_uid(9), Some(100_009));
        assert_eq!(mappings.host_uid(10), None);
        assert_eq!(mappings.host_uid(1000), Some(5));
        assert_eq!(mappings.container_uid(100_003), Some(3));
        assert_eq!(mappings.container_uid(0), None);
        assert_eq!((mappings.host_gid(0), mappings.container_gid(7)), (Some(7), Some(0)));
    }

    #[test]
    fn the_kernels_text_is_read_and_written() {
        let mappings = vec![ids(0, 100_000, 65536), ids(70_000, 5, 1)];
        assert_eq!(text(&mappings), "0 100000 65536\n70000 5 1\n");
        assert_eq!(
            parse("         0     100000      65536\n     70000          5          1\n"),
            Some(mappings)
        );
        for bad in ["0 1", "0 1 2 3", "a 1 2", "-1 0 1", "0 0 4294967296"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn maps_that_the_kernel_would_refuse_are_refused() {
        let uids = |mappings: Vec<IdMapping>| {
            let ids = IdMappings { uid_mappings: mappings, gid_mappings: vec![ids(0, 1, 1)] };
            UserMode::Mapped(ids).validate()
        };
        assert!(uids(vec![ids(0, 100_000, 65536)]).is_ok());
        assert!(uids(vec![ids(1, 0, 5), ids(0, 1000, 1)]).is_ok());
        let many: Vec<IdMapping> = (0..=340).map(|n| ids(n, n, 1)).collect();
        let long: Vec<IdMapping> = (0..300).map(|n| ids(n, 1_000_000_000 + n, 1)).collect();
        for bad in [
            vec![],
            vec![ids(0, 1, 0)],
            vec![ids(0, u32::MAX, 1)],
            vec![ids(0, 1, u32::MAX)],
            vec![ids(1, 1, 1)],
            vec![ids(0, 10, 5), ids(4, 20, 5)],
            vec![ids(0, 10, 5), ids(5, 14, 5)],
            many,
            long,
        ] {
            assert!(uids(bad.clone()).is_err(), "{bad:?}");
        }
        for (size, valid) in
            [(None, true), (Some(65536), true), (Some(131_072), true), (Some(0), false), (Some(9), false)]
        {
            assert_eq!(UserMode::Auto { size }.validate().is_ok(), valid, "{size:?}");
        }
        assert!(UserMode::Path("relative".into()).validate().is_err());
    }

    #[test]
    fn modes_in_json() {
        for (mode, json) in [
            (UserMode::Host, r#""host""#),
            (UserMode::Auto { size: None }, r#"{"auto":{}}"#),
            (UserMode::Auto { size: Some(131_072) }, r#"{"auto":{"size":131072}}"#),
            (UserMode::Path("/x".into()), r#"{"path":"/x"}"#),
            (
                UserMode::Mapped(IdMappings::contiguous(5, 6)),
                r#"{"mapped":{"uidMappings":[{"containerId":0,"hostId":5,"size":6}],"gidMappings":[{"containerId":0,"hostId":5,"size":6}]}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&mode).unwrap(), json);
            assert_eq!(serde_json::from_str::<UserMode>(json).unwrap(), mode);
        }
        assert!(serde_json::from_str::<UserMode>(r#"{"auto":{"sise":1}}"#).is_err());
    }
}
