//! The kernel's list format for processors and memory nodes: `0-3,8`.

use std::fmt;

/// A set of numbers: ranges in ascending order that neither touch nor overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct CpuList(Vec<(u32, u32)>);

impl CpuList {
    /// Reads a list as a human writes it: numbers and ranges between commas, in any order. Of the kernel's format
    /// (`bitmap_parselist`) it leaves out `all`, `N` and the strides of `0-31:2/4`.
    ///
    /// An error is the part that is wrong and why.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut ranges = text.split(',').map(parse_range).collect::<Result<Vec<_>, _>>()?;
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Ok(CpuList(merged))
    }

    /// Reads what the kernel wrote: the same with a newline, and nothing at all for the empty set.
    pub(super) fn parse_kernel(text: &str) -> Result<Self, String> {
        match text.trim_end() {
            "" => Ok(CpuList::default()),
            text => Self::parse(text),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }
}

fn parse_range(part: &str) -> Result<(u32, u32), String> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    match (parse_number(first), parse_number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(_), Some(_)) => Err(format!("{part:?} ends before it begins")),
        _ => Err(format!("{part:?} is neither a number nor a range such as 0-3")),
    }
}

/// Digits only: `u32::from_str` would take a plus sign.
fn parse_number(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn normalizes() {
        for (text, normal) in [
            ("0", "0"),
            ("0-3,8", "0-3,8"),
            ("8,0-3", "0-3,8"),
            ("0,1,2", "0-2"),
            ("0-4,2-3", "0-4"),
            ("3-3", "3"),
            ("0-1,2-3", "0-3"),
            ("4294967295,4294967294", "4294967294-4294967295"),
        ] {
            assert_eq!(CpuList::parse(text).unwrap().to_string(), normal);
        }
        assert_eq!(CpuList::parse_kernel("\n").unwrap(), CpuList::default());
        assert_eq!(CpuList::parse_kernel("0-1\n").unwrap(), CpuList::parse("0,1").unwrap());
    }

    #[test]
    fn refuses_what_is_no_list() {
        for bad in [
            "",
            ",",
            "0,",
            ",0",
            "-",
            "0-",
            "-3",
            "3-1",
            "+1",
            "0-+3",
            " 0",
            "0 ",
            "0, 1",
            "0\n",
            "0\n1",
            "a",
            "all",
            "N",
            "0-7:2/4",
            "1--2",
            "1-2-3",
            "4294967296",
            "0x1",
            "٣",
            "0;1",
        ] {
            assert!(CpuList::parse(bad).is_err(), "{bad:?}");
        }
    }

    fn members(list: &CpuList) -> BTreeSet<u32> {
        list.0.iter().flat_map(|(first, last)| *first..=*last).collect()
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-0-9,a \n:/]{0,20}") {
            if let Ok(list) = CpuList::parse(&text) {
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-' || byte == b','));
                prop_assert_eq!(CpuList::parse(&list.to_string()).unwrap(), list);
            }
        }

        #[test]
        fn the_set_survives(ranges in prop::collection::vec((0u32..300, 0u32..20), 1..12)) {
            let parts: Vec<String> = ranges.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
            let list = CpuList::parse(&parts.join(",")).unwrap();
            let expected: BTreeSet<u32> = ranges.iter().flat_map(|(first, more)| *first..=first + more).collect();
            prop_assert_eq!(members(&list), expected);
            prop_assert!(list.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{} is normal", list);
        }
    }
}
