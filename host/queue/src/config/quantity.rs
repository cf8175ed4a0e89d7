//! Sizes, counts and spans of time as people write them: `64MiB`, `20G`, `500ms`.
//!
//! Each reads back what it prints, so that a default shown in the help can be copied.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A number of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Names of units and how many of the smallest one each holds, the largest first. What comes after the first
/// [`Units::shown`] of them is understood and never printed.
struct Units {
    names: &'static [(&'static str, u64)],
    shown: usize,
    /// The most there can be, for people: 2^64 of the smallest unit.
    most: &'static str,
    forms: &'static str,
}

const BYTES: Units = Units {
    names: &[
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("", 1),
        ("B", 1),
        // As in most tools that limit memory, a letter alone means the power of two.
        ("T", 1 << 40),
        ("G", 1 << 30),
        ("M", 1 << 20),
        ("K", 1 << 10),
        ("k", 1 << 10),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1000),
        ("kB", 1000),
    ],
    shown: 5,
    most: "16777216TiB",
    forms: "write bytes as `65536`, `64KiB`, `1.5GiB` or `64MB`",
};

const COUNTS: Units = Units {
    names: &[
        ("T", 1_000_000_000_000),
        ("G", 1_000_000_000),
        ("M", 1_000_000),
        ("", 1),
        ("k", 1000),
        ("K", 1000),
    ],
    shown: 4,
    most: "18446744073709551615",
    forms: "write a number as `10000`, `10_000`, `5e9` or `20G` (k, M, G, T)",
};

const SPANS: Units = Units {
    names: &[
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1000),
        ("ns", 1),
        ("", 1_000_000_000),
        ("µs", 1000),
        ("min", 60_000_000_000),
    ],
    shown: 7,
    most: "213503d, some 584 years",
    forms: "write a time as `500ms`, `30s`, `1.5s`, `5m`, `2h`, `7d`, or a number of seconds",
};

impl Units {
    /// Reads a number and its unit; what is smaller than the smallest unit is dropped.
    fn read(&self, text: &str) -> Result<u64, String> {
        let end = text.rfind(|c: char| c.is_ascii_digit()).map_or(0, |last| last + 1);
        let (number, unit) = text.split_at(end);
        let unit = unit.strip_prefix(' ').filter(|unit| !unit.is_empty()).unwrap_or(unit);
        let unit = self.names.iter().find(|(name, _)| *name == unit);
        match (decimal(number), unit) {
            (Some(number), Some((_, size))) => {
                number.times(*size).ok_or_else(|| format!("it is more than {}", self.most))
            }
            _ => Err(self.forms.to_owned()),
        }
    }

    /// Prints `value` in the largest unit that it is a whole number of.
    fn print(&self, value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.names[..self.shown].iter();
        match shown.find(|(_, size)| value >= *size && value.is_multiple_of(*size)) {
            Some((name, size)) => f.pad(&format!("{}{name}", value / size)),
            None => f.pad("0"),
        }
    }
}

/// `digits` × 10^`exponent`.
struct Decimal {
    digits: u64,
    exponent: i32,
}

impl Decimal {
    fn times(&self, unit: u64) -> Option<u64> {
        let value = u128::from(self.digits) * u128::from(unit);
        let power = 10_u128.checked_pow(self.exponent.unsigned_abs());
        let value = match (power, self.exponent < 0) {
            (Some(power), true) => value / power,
            (None, true) => 0,
            (Some(power), false) => value.checked_mul(power)?,
            (None, false) if value == 0 => 0,
            (None, false) => return None,
        };
        u64::try_from(value).ok()
    }
}

/// Reads `12`, `1_000`, `1.5` or `5e9`.
fn decimal(text: &str) -> Option<Decimal> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => {
            let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
            (number, exponent.parse::<u8>().ok()?)
        }
        None => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let starts = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    if !starts(whole) || !starts(fraction) {
        return None;
    }
    let mut digits = 0_u64;
    let mut exponent = i32::from(exponent);
    let kept = fraction.trim_end_matches('0');
    for (place, character) in whole.chars().chain(kept.chars()).enumerate() {
        if character == '_' && place < whole.len() {
            continue;
        }
        let digit = u64::from(character.to_digit(10)?);
        digits = digits.checked_mul(10)?.checked_add(digit)?;
    }
    exponent -= i32::try_from(kept.len()).ok()?;
    Some(Decimal { digits, exponent })
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        BYTES.read(text).map(Self)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        BYTES.print(self.0, f)
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        COUNTS.read(text).map(Self)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        COUNTS.print(self.0, f)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        SPANS.read(text).map(|nanos| Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SPANS.print(u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(units: &Units, rows: &[(&str, Option<u64>)]) {
        for (text, expected) in rows {
            assert_eq!(units.read(text).ok(), *expected, "{text}");
        }
    }

    #[test]
    fn sizes() {
        check(
            &BYTES,
            &[
                ("0", Some(0)),
                ("65536", Some(65536)),
                ("64KiB", Some(64 << 10)),
                ("64 KiB", Some(64 << 10)),
                ("64k", Some(64 << 10)),
                ("64KB", Some(64_000)),
                ("1.5GiB", Some(3 << 29)),
                ("2T", Some(2 << 40)),
                ("12B", Some(12)),
                ("0.5B", Some(0)),
                ("64mib", None),
                ("64 ", None),
                ("MiB", None),
                ("", None),
                ("-1", None),
                (".5MiB", None),
                ("1.MiB", None),
                ("1,5MiB", None),
                ("64MiB!", None),
                ("18446744073709551615", Some(u64::MAX)),
                ("18446744073709551616", None),
                ("16777216TiB", None),
            ],
        );
    }

    #[test]
    fn counts() {
        check(
            &COUNTS,
            &[
                ("10000", Some(10_000)),
                ("10_000", Some(10_000)),
                ("5e9", Some(5_000_000_000)),
                ("5E+9", Some(5_000_000_000)),
                ("2.5e3", Some(2500)),
                ("20G", Some(20_000_000_000)),
                ("1.5M", Some(1_500_000)),
                ("7k", Some(7000)),
                ("0e99", Some(0)),
                ("1e99", None),
                ("1e-3", None),
                ("_1", None),
                ("1e", None),
                ("e9", None),
                ("٣", None),
                ("20 GB", None),
            ],
        );
    }

    #[test]
    fn spans() {
        check(
            &SPANS,
            &[
                ("500ms", Some(500_000_000)),
                ("30s", Some(30_000_000_000)),
                ("30", Some(30_000_000_000)),
                ("1.5", Some(1_500_000_000)),
                ("0.25s", Some(250_000_000)),
                ("5m", Some(300_000_000_000)),
                ("5min", Some(300_000_000_000)),
                ("2h", Some(7_200_000_000_000)),
                ("7d", Some(604_800_000_000_000)),
                ("10us", Some(10_000)),
                ("10µs", Some(10_000)),
                ("5M", None),
                ("forever", None),
                ("1e12h", None),
            ],
        );
    }

    #[test]
    fn what_is_printed_reads_back() {
        for (bytes, text) in
            [(0, "0"), (1, "1"), (1024, "1KiB"), (1000, "1000"), (256 << 20, "256MiB")]
        {
            assert_eq!(Bytes(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
        }
        for (count, text) in [(10_000, "10000"), (20_000_000_000, "20G"), (1_500_000, "1500000")] {
            assert_eq!(Count(count).to_string(), text);
            assert_eq!(text.parse(), Ok(Count(count)));
        }
        for (millis, text) in
            [(172_800_000, "2d"), (300_000, "5m"), (1500, "1500ms"), (60_000, "1m"), (0, "0")]
        {
            let span = Span(Duration::from_millis(millis));
            assert_eq!(span.to_string(), text);
            assert_eq!(text.parse(), Ok(span));
        }
    }

    #[test]
    fn an_error_names_the_accepted_forms() {
        assert!("much".parse::<Bytes>().unwrap_err().contains("`64KiB`"));
        assert!("1e30".parse::<Count>().unwrap_err().contains("more than"));
    }
}
