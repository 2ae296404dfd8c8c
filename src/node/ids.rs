//! Ids for the user namespaces of pods, in blocks that no two pods of the machine share.
//!
//! A block is 65 536 ids from a multiple of that number on, so that the upper half of an id of the host tells the pod.
//! Which are taken is [written down](super::claims) for all nodes.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::claims::{Claim, Claimant, Claims, KINDS};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::spec::user::BLOCK;
use crate::spec::{IdMapping, IdMappings};

/// The users whose ranges are taken when none is named.
const USERS: [&str; 2] = ["pericarp", "containers"];

/// Where pods with [`UserMode::Auto`](crate::spec::UserMode::Auto) get their ids from.
///
/// Of the ranges, whole blocks of 65 536 ids are used that begin at a multiple of 65 536, as Kubernetes does; a range
/// may hold any number of them. Nodes may have the same ranges: no block is given that a pod of another node has, be it
/// [`Mapped`](crate::spec::UserMode::Mapped), see [`NodeOptions::id_claims`](crate::NodeOptions::id_claims).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdRanges {
    /// Those of the first of the users `pericarp` and `containers` that has some in `/etc/subuid` and `/etc/subgid`
    /// (subuid(5)).
    #[default]
    Default,
    /// Those that this user has in `/etc/subuid` and `/etc/subgid`: a name or a number, as it stands in these files.
    User(String),
    /// These.
    Given {
        /// User ids.
        uids: Vec<IdRange>,
        /// Group ids.
        gids: Vec<IdRange>,
    },
}

/// A range of ids of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first one.
    pub first: u32,
    /// How many.
    pub size: u32,
}

impl IdRanges {
    /// The ranges, and where they come from in words.
    fn resolve(&self) -> Result<([Vec<IdRange>; 2], String)> {
        let files = || -> Result<[String; 2]> { Ok([read("/etc/subuid")?, read("/etc/subgid")?]) };
        let of = |files: &[String; 2], user: &str| [0, 1].map(|i| ranges_of(&files[i], user));
        let place = |user: &str| format!("the ranges of user {user} in /etc/subuid and /etc/subgid");
        match self {
            IdRanges::Given { uids, gids } => {
                Ok(([uids.clone(), gids.clone()], "the given ranges".to_string()))
            }
            IdRanges::User(user) => Ok((of(&files()?, user), place(user))),
            IdRanges::Default => {
                let files = files()?;
                let mut users = USERS.into_iter();
                let found = users.find(|user| of(&files, user).iter().all(|ranges| !ranges.is_empty()));
                let user = found.unwrap_or(USERS[0]);
                Ok((of(&files, user), place(user)))
            }
        }
    }
}

pub(super) fn read(path: &str) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        result => result.step("read", path),
    }
}

/// The ranges of a user in a file as of subuid(5); lines that make no sense are nobody's.
pub(super) fn ranges_of(text: &str, user: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, size) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (owner == user && fields.next().is_none()).then_some(IdRange { first, size })
    };
    text.lines().filter_map(range).collect()
}

/// The first ids of the whole blocks in the ranges, in ascending order. The last one of all ids (-1) is none.
fn blocks(ranges: &[IdRange]) -> BTreeSet<u32> {
    let mut blocks = BTreeSet::new();
    for range in ranges {
        let end = u64::from(range.first) + u64::from(range.size);
        let end = end.min(u64::from(u32::MAX));
        let mut first = u64::from(range.first).next_multiple_of(BLOCK.into());
        while first + u64::from(BLOCK) <= end {
            blocks.insert(first as u32);
            first += u64::from(BLOCK);
        }
    }
    blocks
}

/// The first of so many blocks in a row that are free.
fn row(blocks: &BTreeSet<u32>, taken: &BTreeSet<u32>, count: u32) -> Option<u32> {
    let free = |block: &u32| blocks.contains(block) && !taken.contains(block);
    let whole =
        |first: u32| (0..count).all(|n| first.checked_add(n * BLOCK).is_some_and(|block| free(&block)));
    blocks.iter().copied().find(|first| whole(*first))
}

impl Claims {
    /// Takes ids for a pod that no other one on the machine has.
    ///
    /// # Errors
    /// `Exhausted` when not enough are free, or none are there at all.
    pub(crate) fn take_free(
        &self,
        who: &Claimant<'_>,
        ranges: &IdRanges,
        size: Option<u32>,
    ) -> Result<IdMappings> {
        let size = size.unwrap_or(BLOCK);
        let (ranges, place) = ranges.resolve()?;
        let blocks = ranges.map(|ranges| blocks(&ranges));
        self.take(who, |claims| {
            let choose =
                |kind| Ok(vec![IdMapping::new(0, choose(kind, &blocks[kind], claims, size, &place)?, size)]);
            Ok(IdMappings { uid_mappings: choose(0)?, gid_mappings: choose(1)? })
        })
    }
}

/// The first of so many ids of a kind that nobody has.
fn choose(kind: usize, blocks: &BTreeSet<u32>, claims: &[Claim], size: u32, place: &str) -> Result<u32> {
    let ranges = claims.iter().filter_map(|claim| claim.ids(kind));
    let within = |ids: RangeInclusive<u32>| blocks.range(ids.start() / BLOCK * BLOCK..=*ids.end());
    let taken: BTreeSet<u32> = ranges.flat_map(within).copied().collect();
    row(blocks, &taken, size / BLOCK).ok_or_else(|| {
        let why = if blocks.is_empty() {
            format!(
                "{place} hold no block of {BLOCK} ids that begins at a multiple of {BLOCK}; a line such as \
                 {}:1048576:6553600 in both files gives 100 pods theirs",
                USERS[0]
            )
        } else {
            format!("{} of the {} blocks of {place} are taken by other pods", taken.len(), blocks.len())
        };
        let word = KINDS[kind];
        Error::new(ErrorKind::Exhausted, "take").on(format!("{size} {word}s for the pod")).because(why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_subuid_says() {
        let text =
            "root:5:6\npericarp:1048576:131072\nbroken\npericarp:x:1\npericarp:1:2:3\n 7:9:1\npericarp:0:1\n";
        let found = ranges_of(text, "pericarp");
        assert_eq!(found, [IdRange { first: 1_048_576, size: 131_072 }, IdRange { first: 0, size: 1 }]);
        assert_eq!(ranges_of(text, "7"), [IdRange { first: 9, size: 1 }]);
        assert_eq!(ranges_of(text, "nobody"), []);
    }

    #[test]
    fn blocks_are_whole_and_aligned() {
        let of = |first, size| blocks(&[IdRange { first, size }]).into_iter().collect::<Vec<u32>>();
        let none = Vec::<u32>::new();
        assert_eq!(of(65536, 131_072), [65536, 131_072]);
        // What useradd(8) gives the first user holds none.
        assert_eq!(of(100_000, 65536), none);
        assert_eq!(of(100_000, 131_072), [131_072]);
        assert_eq!(of(65536, 65535), none);
        assert_eq!(of(u32::MAX - 65535, 65536), none, "its last id would be -1");
        assert_eq!(of(u32::MAX, u32::MAX), none);
    }

    #[test]
    fn rows_of_blocks_are_free_and_without_gaps() {
        let blocks = BTreeSet::from([1, 2, 3, 5, 6, 7].map(|n| n * BLOCK));
        let row = |taken: &[u32], count| {
            row(&blocks, &taken.iter().map(|n| n * BLOCK).collect(), count).map(|block| block / BLOCK)
        };
        assert_eq!(row(&[], 1), Some(1));
        assert_eq!(row(&[1], 1), Some(2));
        assert_eq!(row(&[2], 2), Some(5));
        assert_eq!(row(&[], 3), Some(1));
        assert_eq!(row(&[], 4), None);
        assert_eq!(row(&[1, 6], 2), Some(2));
        assert_eq!(row(&[1, 2, 3, 5, 6, 7], 1), None);
        assert_eq!(row(&[], 65535), None);
    }
}
