//! The last bytes of a stream, by their places in it.

use std::collections::VecDeque;

/// What was read of a stream and not forgotten yet.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    /// The place of the first byte in the stream.
    start: u64,
    /// How many bytes are remembered.
    limit: usize,
}

impl Ring {
    pub(super) fn new(limit: usize) -> Self {
        Ring { bytes: VecDeque::new(), start: 0, limit }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The place of the first byte that is there.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The place after the last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// How many bytes can come without one from `place` on being forgotten.
    pub(super) fn room(&self, place: u64) -> usize {
        self.limit.saturating_sub(self.end().saturating_sub(place) as usize)
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Lets [`from`](Self::from) give all at once: in pieces it takes more room in a pipe.
    pub(super) fn straighten(&mut self) {
        self.bytes.make_contiguous();
    }

    /// Forgets what is above the limit.
    pub(super) fn trim(&mut self) {
        let above = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..above);
        self.start += above as u64;
    }

    /// Some bytes from a place on that is there; none at the end.
    pub(super) fn from(&self, place: u64) -> &[u8] {
        let at = place.saturating_sub(self.start) as usize;
        let (first, second) = self.bytes.as_slices();
        match first.get(at..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => second.get(at.saturating_sub(first.len())..).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All from a place on, however it lies in memory.
    fn all_from(ring: &Ring, mut place: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while place < ring.end() {
            let some = ring.from(place);
            assert!(!some.is_empty(), "nothing at {place} before {}", ring.end());
            all.extend_from_slice(some);
            place += some.len() as u64;
        }
        assert!(ring.from(place).is_empty());
        all
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_the_end_of_what_came(
            limit in 1usize..64,
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
            at in any::<proptest::sample::Index>(),
        ) {
            let mut ring = Ring::new(limit);
            let mut stream = Vec::new();
            for piece in pieces {
                ring.push(&piece);
                stream.extend_from_slice(&piece);
                ring.trim();
                prop_assert_eq!(ring.end(), stream.len() as u64);
                prop_assert_eq!(ring.start(), stream.len().saturating_sub(limit) as u64);
                let place = ring.start() as usize + at.index(stream.len() - ring.start() as usize + 1);
                prop_assert_eq!(&all_from(&ring, place as u64), &stream[place..]);
                prop_assert_eq!(ring.room(place as u64), limit - (stream.len() - place));
            }
        }
    }
}
