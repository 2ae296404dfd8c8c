//! Amounts as Kubernetes writes them: `500m`, `1.5Gi`, `2e3`.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::Error;

/// Bytes of a text: far more than any amount needs.
const MAX_TEXT: usize = 128;
/// Digits that always fit into 128 bits. No amount has more of them in the smallest unit that is kept, so that what is
/// printed can be read again.
const MAX_DIGITS: usize = 38;
/// What one is, in the smallest unit that is kept.
const NANO: i128 = 1_000_000_000;

/// An amount as Kubernetes writes it (`resource.Quantity` of its API machinery).
///
/// A number with an optional sign and fraction, and one suffix: `n u m k M G T P E` (powers of 1000), `Ki Mi Gi Ti Pi
/// Ei` (powers of 1024), or an exponent (`e3`, `E-2`). As there, what is finer than `1n` is rounded away from zero, a
/// binary amount above 2^63-1 becomes that, and the text that comes out is canonical: no fraction, the largest suffix
/// that loses nothing, `1.5Gi` as `1536Mi` and `0.5` as `500m`. Unlike there, a text without a single digit (`"m"`) is
/// no amount, and one that needs more than 128 bits is refused.
///
/// Two amounts are equal when their values are, however they are written. In JSON a text; a number is read, too, and so
/// are, as there, space around the text and null, which is nothing.
#[derive(Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// How an amount was written, and is written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// Suffixes with their exponents of ten.
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
/// Suffixes with their exponents of two.
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    /// So many of the unit.
    pub fn new(value: i64) -> Self {
        Quantity { nanos: i128::from(value) * NANO, format: Format::DecimalSi }
    }

    /// So many thousandths: `Quantity::from_milli(500)` is `500m`.
    pub fn from_milli(milli: i64) -> Self {
        Quantity { nanos: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// So many bytes, written with a power of 1024 where that loses nothing.
    pub fn from_bytes(bytes: u64) -> Self {
        Quantity { nanos: i128::from(bytes) * NANO, format: Format::BinarySi }
    }

    /// Whole units, rounded away from zero; at most what 64 bits hold.
    pub fn value(&self) -> i64 {
        self.scaled(NANO)
    }

    /// Thousandths, rounded away from zero; at most what 64 bits hold.
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANO / 1000)
    }

    fn scaled(&self, unit: i128) -> i64 {
        let whole = self.nanos / unit;
        let rounded = if self.nanos % unit == 0 { whole } else { whole + self.nanos.signum() };
        i64::try_from(rounded).unwrap_or(if rounded > 0 { i64::MAX } else { i64::MIN })
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// The sum, at most what 128 bits of nanos hold; written as this one is.
    pub(crate) fn plus(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nanos: self.nanos.saturating_add(other.nanos), format }
    }

    /// Millionths, rounded up.
    pub(super) fn millionths(&self) -> u64 {
        u64::try_from(self.scaled(NANO / 1_000_000)).unwrap_or_default()
    }

    /// Whether it is a multiple of another one, which is not zero.
    pub(super) fn is_multiple_of(&self, other: u64) -> bool {
        self.nanos % (i128::from(other).max(1) * NANO) == 0
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|why| {
            let shown: String = text.chars().take(MAX_TEXT).collect();
            Error::invalid(
                format_args!("quantity {shown:?}"),
                format!(
                    "{why}; it must be a number with one of the suffixes n u m k M G T P E, Ki Mi Gi Ti Pi Ei or an \
                     exponent: 500m, 1.5Gi, 2e3"
                ),
            )
        })
    }
}

fn parse(text: &str) -> Result<Quantity, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > MAX_TEXT {
        return Err("is longer than 128 bytes");
    }
    let (negative, unsigned) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = unsigned.split_at(digits(unsigned));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err("has no digits");
    }
    // Zeros that say nothing must not count against the bounds.
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if whole.len() + fraction.len() > MAX_DIGITS {
        return Err("has more than 38 digits");
    }
    let number = |text: &str| text.bytes().fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    let (whole, part) = (number(whole), number(fraction));
    let places = fraction.len() as u32;
    let (format, nanos) = match suffix_of(suffix)? {
        Suffix::Binary(exponent) => (Format::BinarySi, binary(whole, part, places, exponent)?),
        Suffix::Decimal(exponent) => (Format::DecimalSi, decimal(whole, part, places, exponent)?),
        Suffix::Exponent(exponent) => (Format::DecimalExponent, decimal(whole, part, places, exponent)?),
    };
    // Parts of one have no binary suffix.
    let format = if format == Format::BinarySi && nanos < NANO { Format::DecimalSi } else { format };
    Ok(Quantity { nanos: if negative { -nanos } else { nanos }, format })
}

enum Suffix {
    Decimal(i64),
    Binary(u32),
    Exponent(i64),
}

fn suffix_of(suffix: &str) -> Result<Suffix, &'static str> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok(Suffix::Decimal((*exponent).into()));
    }
    if let Some((_, exponent)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok(Suffix::Binary(*exponent));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or("has an unknown suffix")?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("has an unknown suffix");
    }
    // Larger ones than these are too large, or as good as zero, with any number of digits that is taken.
    let exponent = exponent.parse::<i64>().unwrap_or(if exponent.starts_with('-') { -1000 } else { 1000 });
    Ok(Suffix::Exponent(exponent.clamp(-1000, 1000)))
}

const TOO_LARGE: &str = "is larger than 128 bits hold";

/// `whole.part`, with so many places behind the point, times a power of ten; in nanos, rounded up.
fn decimal(whole: i128, part: i128, places: u32, exponent: i64) -> Result<i128, &'static str> {
    let mantissa = whole * 10_i128.pow(places) + part;
    let shift = exponent - i64::from(places) + 9;
    if mantissa == 0 {
        return Ok(0);
    }
    match u32::try_from(shift) {
        Ok(shift) => 10_i128
            .checked_pow(shift)
            .and_then(|power| mantissa.checked_mul(power))
            .filter(|nanos| *nanos < 10_i128.pow(MAX_DIGITS as u32))
            .ok_or(TOO_LARGE),
        Err(_) => {
            let power = u32::try_from(-shift).ok().and_then(|shift| 10_i128.checked_pow(shift));
            Ok(power.map_or(1, |power| round_up(mantissa, power)))
        }
    }
}

/// `whole.part` times a power of two; in nanos, rounded up, and at most 2^63-1 units.
fn binary(whole: i128, part: i128, places: u32, exponent: u32) -> Result<i128, &'static str> {
    let cap = i128::from(i64::MAX) * NANO;
    let unit = 1_i128 << exponent;
    let Some(of_whole) = whole.checked_mul(unit * NANO) else { return Ok(cap) };
    let of_part = match places {
        0..=9 => part * unit * 10_i128.pow(9 - places),
        // Below one, times at most 2^60: only very many digits do not fit.
        _ => round_up(
            part.checked_mul(unit).ok_or("has too many digits behind the point")?,
            10_i128.pow(places - 9),
        ),
    };
    Ok(of_whole.saturating_add(of_part).min(cap))
}

fn round_up(value: i128, unit: i128) -> i128 {
    value / unit + i128::from(value % unit != 0)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos / NANO;
        if self.format == Format::BinarySi && self.nanos % NANO == 0 && whole.abs() >= 1024 {
            let mut number = whole;
            let mut suffix = "";
            for (name, _) in BINARY {
                if number % 1024 != 0 {
                    break;
                }
                (number, suffix) = (number / 1024, name);
            }
            return write!(f, "{number}{suffix}");
        }
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 1000 == 0 {
            (number, exponent) = (number / 1000, exponent + 3);
        }
        let suffix = DECIMAL.iter().find(|(_, known)| *known == exponent).map(|(name, _)| *name);
        match suffix {
            Some(suffix) if self.format != Format::DecimalExponent => write!(f, "{number}{suffix}"),
            _ if exponent == 0 => write!(f, "{number}"),
            _ => write!(f, "{number}e{exponent}"),
        }
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Quantity::ZERO
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as \"500m\" or \"1Gi\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.trim().parse().map_err(E::custom)
            }

            fn visit_unit<E: de::Error>(self) -> Result<Quantity, E> {
                Ok(Quantity::ZERO)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
#[path = "quantity_tests.rs"]
mod tests;
