//! Whatever the bytes are, reading them ends, without a panic and without a look outside.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::read_plan;
use super::roundtrip::plan;
use super::steps::any_step;
use crate::init::wire::{self, Malformed, Reader};

/// A header that is sound, so that what comes behind it is looked at.
fn with_header(descriptors: u32, steps: u32, rest: &[u8]) -> Vec<u8> {
    let words = [wire::MAGIC, 16 + rest.len() as u32, descriptors, steps];
    words.into_iter().flat_map(u32::to_le_bytes).chain(rest.iter().copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        let _ = read_plan(&bytes);
        let _ = read_plan(&with_header(1, 3, &bytes));
    }

    /// Small numbers are what lengths, counts and operations are.
    #[test]
    fn any_small_numbers(
        descriptors in 0..6_u32,
        steps in any::<u32>(),
        words in vec(prop_oneof![8 => 0..40_u32, 1 => any::<u32>(), 1 => (u32::MAX - 8)..], 0..60),
    ) {
        let rest: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        let _ = read_plan(&with_header(descriptors, steps, &rest));
    }

    #[test]
    fn no_two_fields_overlap(bytes in vec(any::<u8>(), 0..64)) {
        let mut reader = Reader::new(&bytes);
        let mut left = bytes.len();
        while let Ok(part) = reader.bytes() {
            // Four bytes of length, the bytes, the NUL.
            left = left.checked_sub(part.len() + 5).expect("more was read than there is");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_plan_with_some_bytes_changed(
        steps in vec(any_step(), 1..12),
        changes in vec((any::<Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<Index>()),
    ) {
        let mut bytes = plan(3, steps).encode().unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = read_plan(&bytes);
        // Once more with the length in order, which is checked first.
        if bytes.len() >= 16 {
            let length = bytes.len() as u32;
            bytes[..4].copy_from_slice(&wire::MAGIC.to_le_bytes());
            bytes[4..8].copy_from_slice(&length.to_le_bytes());
            let _ = read_plan(&bytes);
        }
    }
}

#[test]
fn headers_that_lie_are_refused() {
    assert!(read_plan(&with_header(1, 0, &[])).is_ok());
    for bytes in [
        with_header(0, 0, &[]),                          // not even the control socket
        with_header(wire::MAX_SLOTS as u32 + 1, 0, &[]), // more than there is room for
        with_header(u32::MAX, 0, &[]),
        with_header(1, 0, &[0; 5]), // something behind the last step
        with_header(1, 1, &[]),     // no step where one should be
        with_header(1, 1, &[0; 4]), // or half of one
        with_header(1, 0, &vec![0; wire::MAX_PLAN]), // too long
        with_header(1, 0, &[])[..12].to_vec(), // cut
        [vec![0], with_header(1, 0, &[])].concat(), // moved
    ] {
        assert_eq!(read_plan(&bytes).map(drop), Err(Malformed), "{:?}", &bytes[..bytes.len().min(32)]);
    }
}

#[test]
fn a_string_needs_its_nul_and_no_other() {
    let string = |bytes: &[u8]| Reader::new(bytes).string().map(<[u8]>::to_vec);
    assert_eq!(string(b"\x02\0\0\0ab\0"), Ok(b"ab".to_vec()));
    assert_eq!(string(b"\0\0\0\0\0"), Ok(vec![]));
    for bytes in [
        &b"\x02\0\0\0ab"[..],    // no NUL
        b"\x02\0\0\0abc",        // something else in its place
        b"\x02\0\0\0a\0\0",      // one too many
        b"\x03\0\0\0ab\0",       // too long
        b"\xff\xff\xff\xffab\0", // the length plus one overflows 32 bits
        b"\x02\0\0",             // half a length
        b"",
    ] {
        assert_eq!(string(bytes), Err(Malformed), "{bytes:?}");
    }
}
