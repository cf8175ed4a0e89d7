//! What `--clock` says: the real time, or one moment that never passes.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use omniq_sandbox::Clock;

use super::quantity::Span;

/// A clock as it is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockArg(pub Clock);

impl FromStr for ClockArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "real" {
            return Ok(Self(Clock::Real));
        }
        let is_number = text.chars().all(|c| c.is_ascii_digit() || c == '.');
        let since_1970 = match is_number {
            true => text.parse::<Span>().ok().map(|span| span.0),
            false => humantime::parse_rfc3339(text)
                .ok()
                .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()),
        };
        let moment =
            since_1970.and_then(|since: Duration| SystemTime::UNIX_EPOCH.checked_add(since));
        moment.map(|at| Self(Clock::Frozen(at))).ok_or_else(|| {
            "write `real`, a moment in UTC such as `2026-01-31T12:00:00Z`, or seconds since 1970".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_real_or_one_moment() {
        let at =
            |millis| Some(Clock::Frozen(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)));
        for (text, expected) in [
            ("real", Some(Clock::Real)),
            ("0", at(0)),
            ("1.5", at(1500)),
            ("1769860800", at(1_769_860_800_000)),
            ("2026-01-31T12:00:00Z", at(1_769_860_800_000)),
            ("2026-01-31T12:00:00.250Z", at(1_769_860_800_250)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-02-30T12:00:00Z", None),
            ("2026-01-31", None),
            ("now", None),
            ("", None),
            ("-1", None),
        ] {
            assert_eq!(text.parse::<ClockArg>().ok().map(|clock| clock.0), expected, "{text}");
        }
    }
}
