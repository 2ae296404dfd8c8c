//! How ids of a user namespace stand for ids of the host, see user_namespaces(7).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The most ranges that the kernel takes of one kind.
const MAX_RANGES: usize = 340;

/// A range of ids: `container_id`, `container_id + 1`, … mean `host_id`, `host_id + 1`, ….
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdMapping {
    /// The first id in the user namespace.
    pub container_id: u32,
    /// The first id outside.
    pub host_id: u32,
    /// How many ids, at least 1.
    pub size: u32,
}

impl IdMapping {
    /// A range of ids.
    pub fn new(container_id: u32, host_id: u32, size: u32) -> Self {
        IdMapping { container_id, host_id, size }
    }
}

/// Refuses what the kernel would refuse, and says why, which the kernel does not.
pub(crate) fn validate_mappings(field: &str, mappings: &[IdMapping]) -> Result<()> {
    if mappings.is_empty() || mappings.len() > MAX_RANGES {
        return Err(Error::invalid(field, format!("must be 1 to {MAX_RANGES} ranges")));
    }
    for (i, range) in mappings.iter().enumerate() {
        let end = |first: u32| u64::from(first) + u64::from(range.size);
        // 4294967295 (-1) is no id.
        if range.size == 0 || end(range.container_id).max(end(range.host_id)) > u64::from(u32::MAX) {
            return Err(Error::invalid(
                format!("{field}[{i}]"),
                "is empty or goes beyond the largest id, 4294967294",
            ));
        }
        let overlap = |a: u32, b: u32, size: u32| {
            u64::from(a) < u64::from(b) + u64::from(size) && u64::from(b) < end(a)
        };
        let other = mappings[..i].iter().position(|other| {
            overlap(range.container_id, other.container_id, other.size)
                || overlap(range.host_id, other.host_id, other.size)
        });
        if let Some(other) = other {
            return Err(Error::invalid(format!("{field}[{i}]"), format!("overlaps with range {other}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_that_the_kernel_takes_are_valid() {
        let check = |ranges: &[(u32, u32, u32)]| {
            let ranges: Vec<_> = ranges.iter().map(|&(a, b, c)| IdMapping::new(a, b, c)).collect();
            validate_mappings("uids", &ranges).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[(0, 100_000, 65536)]), Ok(()));
        assert_eq!(check(&[(0, 1000, 1), (1, 100_000, 65535)]), Ok(()));
        assert_eq!(check(&[(0, 0, u32::MAX)]), Ok(()));
        for wrong in [
            &[][..],
            &[(0, 0, 0)],
            &[(1, 0, u32::MAX)],
            &[(0, 1, u32::MAX)],
            &[(0, 1000, 10), (9, 2000, 1)],
            &[(0, 1000, 10), (10, 1009, 1)],
            &[(9, 2000, 1), (0, 1000, 10)],
        ] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}
