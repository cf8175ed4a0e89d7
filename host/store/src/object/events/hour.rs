//! Hours: the folders that events lie in, and how instants are written there.

use std::fmt;

use omniq_model::Timestamp;

const HOUR: i64 = 3_600_000;

/// The last instant that has an hour of its own, in the year 2248: what is later counts as that, as what is before 1970
/// counts as 1970. Positions have 43 bits for an instant.
pub(super) const LAST: i64 = (1 << 43) - 1;

/// An hour of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hour(i64);

impl Hour {
    /// The hour that an instant lies in.
    pub fn of(at: Timestamp) -> Self {
        Self(clamped(at) / HOUR)
    }

    /// When it is over.
    pub fn end(self) -> Timestamp {
        Timestamp::from_millis((self.0 + 1) * HOUR)
    }

    /// When it begins.
    pub fn begin(self) -> Timestamp {
        Timestamp::from_millis(self.0 * HOUR)
    }

    /// Its folder, such as `events/dt=2026-11-25/h=16`.
    pub fn folder(self) -> String {
        format!("{}/{}", day_folder(self.day()), self.name())
    }

    /// The days since 1970 of its day.
    fn day(self) -> i64 {
        self.0 / 24
    }

    fn name(self) -> String {
        format!("h={:02}", self.0 % 24)
    }

    /// The hour of the folders `dt=…` and `h=…`, if that is what they are.
    pub fn parse(day: &str, hour: &str) -> Option<Self> {
        let hour: i64 = hour.strip_prefix("h=")?.parse().ok()?;
        (0..24).contains(&hour).then_some(())?;
        Some(Self(parse_day(day)? * 24 + hour))
    }

    /// Whether a folder `dt=…` may hold hours from `from` on, up to and with `to`.
    pub fn in_day(day: &str, from: Self, to: Self) -> bool {
        parse_day(day).is_some_and(|day| (from.day()..=to.day()).contains(&day))
    }
}

fn clamped(at: Timestamp) -> i64 {
    at.as_millis().clamp(0, LAST)
}

fn day_folder(day: i64) -> String {
    let (year, month, day) = civil(day);
    format!("events/dt={year:04}-{month:02}-{day:02}")
}

fn parse_day(folder: &str) -> Option<i64> {
    let mut parts = folder.strip_prefix("dt=")?.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let days = days(year, month, day);
    (parts.next().is_none() && civil(days) == (year, month, day) && days >= 0).then_some(days)
}

/// An instant in ISO 8601 with milliseconds, as databases read it.
pub(super) struct Iso(pub Timestamp);

impl fmt::Display for Iso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = clamped(self.0);
        let (year, month, day) = civil(millis / (24 * HOUR));
        let of_day = millis % (24 * HOUR);
        let (hour, minute) = (of_day / HOUR, of_day / 60_000 % 60);
        let (second, rest) = (of_day / 1000 % 60, of_day % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{rest:03}Z")
    }
}

/// Year, month and day of a day since 1970 in the proleptic Gregorian calendar, by the algorithm of Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The reverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_folders_and_back() {
        for (millis, folder, iso) in [
            (0, "events/dt=1970-01-01/h=00", "1970-01-01T00:00:00.000Z"),
            (-1, "events/dt=1970-01-01/h=00", "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_123, "events/dt=2023-11-14/h=22", "2023-11-14T22:13:20.123Z"),
            (951_782_399_999, "events/dt=2000-02-28/h=23", "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "events/dt=2000-02-29/h=00", "2000-02-29T00:00:00.000Z"),
            (i64::MAX, "events/dt=2248-09-26/h=15", "2248-09-26T15:10:22.207Z"),
        ] {
            let at = Timestamp::from_millis(millis);
            let hour = Hour::of(at);
            assert_eq!(hour.folder(), folder);
            assert_eq!(Iso(at).to_string(), iso);
            let mut parts = folder.split('/').skip(1);
            assert_eq!(Hour::parse(parts.next().unwrap(), parts.next().unwrap()), Some(hour));
            assert!(
                hour.begin().as_millis() <= clamped(at) && clamped(at) < hour.end().as_millis()
            );
        }
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in 0..150_000 {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }

    #[test]
    fn other_folders_are_left_alone() {
        for (day, hour) in [
            ("dt=2026-02-30", "h=01"),
            ("dt=2026-11-25", "h=24"),
            ("dt=2026-11", "h=01"),
            ("dt=2026-11-25-1", "h=01"),
            ("dt=1969-12-31", "h=01"),
            ("mark", "h=01"),
            ("dt=2026-11-25", "x"),
        ] {
            assert_eq!(Hour::parse(day, hour), None, "{day}/{hour}");
        }
    }
}
