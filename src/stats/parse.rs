//! The formats of the kernel's files. Nothing here allocates but for names, and no input makes it fail: what is not as
//! documented is left out, and so are keys that this library does not know.

use std::collections::BTreeMap;

use super::types::{DeviceIo, Pressure, RdmaStats, Stall};
use crate::spec::{CpuMax, Limit};

/// A decimal number, and nothing else but white space around it.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// A number, or the word `max`.
pub(super) fn limit(text: &[u8]) -> Option<Limit> {
    if text.trim_ascii() == b"max" { Some(Limit::MAX) } else { number(text).map(Limit::At) }
}

/// `QUOTA PERIOD`, as `cpu.max` has it.
pub(super) fn cpu_max(text: &[u8]) -> Option<CpuMax> {
    let mut parts = words(text.trim_ascii());
    Some(CpuMax { quota: limit(parts.next()?)?, period: number(parts.next()?)? })
}

pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

/// A flat keyed file: `KEY VALUE`, a line each.
pub(super) fn flat(text: &[u8], mut take: impl FnMut(&[u8], u64)) {
    for line in lines(text) {
        let mut words = words(line);
        if let (Some(key), Some(value)) = (words.next(), words.next().and_then(number)) {
            take(key, value);
        }
    }
}

/// `KEY=VALUE` words.
fn pairs<'a>(words: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    words.filter_map(|word| {
        let at = word.iter().position(|byte| *byte == b'=')?;
        Some((&word[..at], &word[at + 1..]))
    })
}

/// `io.stat`: `8:0 rbytes=1 wbytes=2 …`, a line a device. A device with nothing to tell is left out.
pub(super) fn io(text: &[u8]) -> Vec<DeviceIo> {
    let device = |line| -> Option<DeviceIo> {
        let mut words = words(line);
        let name = words.next()?;
        let colon = name.iter().position(|byte| *byte == b':')?;
        let part = |text| number(text).and_then(|number| u32::try_from(number).ok());
        let mut device = DeviceIo {
            major: part(&name[..colon])?,
            minor: part(&name[colon + 1..])?,
            ..DeviceIo::default()
        };
        let mut any = false;
        for (key, value) in pairs(words) {
            if let Some(value) = number(value) {
                device.counters.take(key, value);
                any = true;
            }
        }
        any.then_some(device)
    };
    lines(text).filter_map(device).collect()
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and likewise `full`. `None` without the line `some`.
pub(super) fn pressure(text: &[u8]) -> Option<Pressure> {
    let (mut some, mut full) = (None, None);
    for line in lines(text) {
        let mut words = words(line);
        match words.next() {
            Some(b"some") => some = stall(words),
            Some(b"full") => full = stall(words),
            _ => {}
        }
    }
    Some(Pressure { some: some?, full })
}

fn stall<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<Stall> {
    let mut stall = Stall::default();
    let mut total = None;
    for (key, value) in pairs(words) {
        match key {
            b"avg10" => stall.avg10 = percent(value)?,
            b"avg60" => stall.avg60 = percent(value)?,
            b"avg300" => stall.avg300 = percent(value)?,
            b"total" => total = number(value),
            _ => {}
        }
    }
    stall.total_usec = total?;
    Some(stall)
}

/// A decimal fraction as the kernel prints it: no sign, no exponent.
fn percent(text: &[u8]) -> Option<f64> {
    if !text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.')) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

/// `mlx5_0 hca_handle=2 hca_object=2000`, a line an adapter.
pub(super) fn rdma(text: &[u8]) -> BTreeMap<String, RdmaStats> {
    let mut all = BTreeMap::new();
    for line in lines(text) {
        let mut words = words(line);
        let Some(name) = words.next() else { continue };
        let mut stats = RdmaStats::default();
        for (key, value) in pairs(words) {
            number(value).into_iter().for_each(|value| stats.take(key, value));
        }
        all.insert(String::from_utf8_lossy(name).into_owned(), stats);
    }
    all
}

/// A flat keyed file whose keys are the machine's own.
pub(super) fn named(text: &[u8]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    flat(text, |key, value| {
        all.insert(String::from_utf8_lossy(key).into_owned(), value);
    });
    all
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
