//! The calendar fields that policies read, from seconds since the epoch. They are in UTC only: a policy's
//! author cannot see which time zone a host is configured for.

/// What `context.time` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) unix: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    /// ISO 8601: Monday is 1.
    pub(crate) weekday: i64,
}

impl Clock {
    pub(crate) fn at(unix: i64) -> Self {
        let second = unix.rem_euclid(86_400);
        // 1970-01-01 was a Thursday, which ISO 8601 numbers 4.
        let weekday = (unix.div_euclid(86_400) + 3).rem_euclid(7) + 1;
        Self { unix, hour: second / 3_600, minute: second % 3_600 / 60, weekday }
    }
}

/// The seconds since the epoch of a TOML date-time in UTC. `None` for a local time, a time with an offset, or
/// a date alone.
pub(crate) fn unix_of(time: &toml::value::Datetime) -> Option<i64> {
    let (Some(date), Some(clock), Some(toml::value::Offset::Z)) = (time.date, time.time, time.offset) else {
        return None;
    };
    let (year, month, day) = (i64::from(date.year), i64::from(date.month), i64::from(date.day));
    // In years that start in March the leap day is the last day, and shifts no other.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        // The days from 0000-03-01 to 1970-01-01, plus one because the first day of a month is 1.
        - 719_469;
    let seconds = |part: Option<u8>| part.map_or(0, i64::from);
    Some(days * 86_400 + i64::from(clock.hour) * 3_600 + i64::from(clock.minute) * 60 + seconds(clock.second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_fields_are_utc_and_iso() {
        let check = |unix, hour, minute, weekday| {
            assert_eq!(Clock::at(unix), Clock { unix, hour, minute, weekday });
        };
        check(0, 0, 0, 4);
        check(-1, 23, 59, 3);
        // 2024-02-29T12:34:56Z, a Thursday.
        check(1_709_210_096, 12, 34, 4);
        // 2026-01-04T23:59:59Z, a Sunday.
        check(1_767_571_199, 23, 59, 7);
    }

    #[test]
    fn a_utc_date_time_of_toml_is_converted_to_seconds() {
        let check = |text: &str, expect: Option<i64>| {
            assert_eq!(unix_of(&text.parse().unwrap()), expect, "{text}");
        };
        check("1970-01-01T00:00:00Z", Some(0));
        check("1969-12-31T23:59:59Z", Some(-1));
        check("2000-03-01T00:00:00Z", Some(951_868_800));
        check("2024-02-29T12:34:56Z", Some(1_709_210_096));
        check("2026-01-04T23:59:59Z", Some(1_767_571_199));
        check("2026-01-04T23:59:59+01:00", None);
        check("2026-01-04T23:59:59", None);
        check("2026-01-04", None);
    }
}
