//! What a run used and what it was refused.

use std::fmt::Write as _;
use std::time::Duration;

use omniq_sandbox::{Denial, Limits, Outcome, Usage};
use serde::Serialize;

use super::code::Code;
use super::console::{self, tame};
use super::value::Format;

/// Prints the report to stderr: lines for people, one object for programs that chose JSON.
pub fn print(outcome: &Outcome, limits: &Limits, code: Code, format: Format) {
    let text = match format {
        Format::Json => json(outcome, code),
        Format::Wave | Format::Cbor => lines(outcome, limits, code),
    };
    console::note(&text);
}

fn lines(outcome: &Outcome, limits: &Limits, code: Code) -> String {
    let usage = &outcome.usage;
    let of = |used: String, limit: String| format!("{used} of {limit}");
    let mut rows = vec![
        ("fuel", of(grouped(usage.fuel), grouped(limits.fuel))),
        ("peak memory", of(bytes(usage.peak_memory), bytes(limits.memory))),
        ("wall", of(span(usage.wall), span(limits.timeout))),
        ("cpu", of(span(usage.cpu), span(limits.cpu))),
        ("host calls", of(grouped(usage.host_calls), grouped(limits.host_calls))),
        ("code", code.to_string()),
    ];
    rows.extend(outcome.denials.iter().map(|denial| ("denied", tame(&denial.to_string()))));
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12} {value}");
        text
    })
}

fn json(outcome: &Outcome, code: Code) -> String {
    #[derive(Serialize)]
    struct Report {
        usage: UsageBody,
        code: Code,
        denials: Vec<DenialBody>,
    }
    let usage = UsageBody::from(&outcome.usage);
    let denials = outcome.denials.iter().map(DenialBody::from).collect();
    serde_json::to_string(&Report { usage, code, denials }).unwrap_or_default() + "\n"
}

/// [`Usage`] for programs.
#[derive(Debug, Serialize)]
pub struct UsageBody {
    fuel: u64,
    peak_memory_bytes: u64,
    wall_seconds: f64,
    cpu_seconds: f64,
    host_calls: u64,
}

impl From<&Usage> for UsageBody {
    fn from(usage: &Usage) -> Self {
        Self {
            fuel: usage.fuel,
            peak_memory_bytes: usage.peak_memory,
            wall_seconds: usage.wall.as_secs_f64(),
            cpu_seconds: usage.cpu.as_secs_f64(),
            host_calls: usage.host_calls,
        }
    }
}

/// [`Denial`] for programs.
#[derive(Debug, Serialize)]
pub struct DenialBody {
    capability: &'static str,
    target: String,
    count: u64,
}

impl From<&Denial> for DenialBody {
    fn from(denial: &Denial) -> Self {
        let Denial { capability, target, count, .. } = denial;
        Self { capability, target: target.clone(), count: *count }
    }
}

/// `1234567` as `1_234_567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes, in the unit that leaves one to four digits before the point.
pub fn bytes(number: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| number >= *size) {
        Some((name, size)) if number.is_multiple_of(size) => format!("{} {name}", number / size),
        Some((name, size)) => {
            // In integers, since a float would round 1023.99 KiB up.
            let tenths = u128::from(number) * 10 / u128::from(size);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{number} bytes"),
    }
}

/// A span of time with three or more digits.
pub fn span(span: Duration) -> String {
    let micros = span.as_micros();
    match micros {
        0..10_000 => format!("{micros} µs"),
        10_000..10_000_000 => format!("{} ms", micros / 1000),
        _ => format!("{} s", micros / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1_000"), (1_234_567, "1_234_567"), (12_345, "12_345")]
        {
            assert_eq!(grouped(number), expected);
        }
        for (number, expected) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (256 << 20, "256 MiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
        for (micros, expected) in
            [(0, "0 µs"), (9_999, "9999 µs"), (10_000, "10 ms"), (300_000_000, "300 s")]
        {
            assert_eq!(span(Duration::from_micros(micros)), expected);
        }
    }
}
