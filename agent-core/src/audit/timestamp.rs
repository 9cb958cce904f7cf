//! Timestamps of the audit trail: RFC 3339, microseconds, UTC. They always have 27 bytes, so that sorting
//! them as text sorts them by time.
//!
//! Nothing here reads a clock: the caller gives the time.

/// The length of every formatted timestamp, in bytes.
pub const TIMESTAMP_BYTES: usize = 27;

/// 9999-12-31T23:59:59.999999Z: RFC 3339 section 1 covers four-digit years only.
const UNIX_US_MAX: u64 = 253_402_300_799_999_999;

const US_PER_SECOND: u64 = 1_000_000;
const SECONDS_PER_DAY: u64 = 86_400;

/// Appends `unix_us`, microseconds since the Unix epoch, as `2026-01-31T23:59:59.000001Z`.
/// A time after the year 9999 is written as the last microsecond of that year.
pub fn write_rfc3339(unix_us: u64, out: &mut Vec<u8>) {
    let unix_us = unix_us.min(UNIX_US_MAX);
    let (seconds, us) = (unix_us / US_PER_SECOND, unix_us % US_PER_SECOND);
    let (days, second_of_day) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let (year, month, day) = civil_date(days);
    digits::<4>(year, out);
    out.push(b'-');
    digits::<2>(month, out);
    out.push(b'-');
    digits::<2>(day, out);
    out.push(b'T');
    digits::<2>(second_of_day / 3600, out);
    out.push(b':');
    digits::<2>(second_of_day / 60 % 60, out);
    out.push(b':');
    digits::<2>(second_of_day % 60, out);
    out.push(b'.');
    digits::<6>(us, out);
    out.push(b'Z');
}

/// The same timestamp as a string.
pub fn rfc3339(unix_us: u64) -> String {
    let mut out = Vec::with_capacity(TIMESTAMP_BYTES);
    write_rfc3339(unix_us, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Year, month and day of a count of days since 1970-01-01, in the proleptic Gregorian calendar. Counting
/// from 1 March puts the leap day last in its year, and makes month lengths a linear formula. This is
/// `civil_from_days` of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
fn civil_date(days_since_epoch: u64) -> (u64, u64, u64) {
    const DAYS_FROM_MARCH_OF_YEAR_0_TO_EPOCH: u64 = 719_468;
    const DAYS_PER_400_YEARS: u64 = 146_097;
    let days = days_since_epoch + DAYS_FROM_MARCH_OF_YEAR_0_TO_EPOCH;
    let (era, day_of_era) = (days / DAYS_PER_400_YEARS, days % DAYS_PER_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// Appends the last `WIDTH` decimal digits of `value`, zero-padded.
fn digits<const WIDTH: usize>(mut value: u64, out: &mut Vec<u8>) {
    let mut text = [b'0'; WIDTH];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unix_us: u64, expect: &str) {
        assert_eq!(rfc3339(unix_us), expect);
        assert_eq!(expect.len(), TIMESTAMP_BYTES);
    }

    #[test]
    fn known_instants_are_formatted() {
        check(0, "1970-01-01T00:00:00.000000Z");
        check(951_782_399_999_999, "2000-02-28T23:59:59.999999Z");
        check(951_782_400_000_000, "2000-02-29T00:00:00.000000Z");
        check(951_868_800_000_001, "2000-03-01T00:00:00.000001Z");
        check(1_709_164_800_123_456, "2024-02-29T00:00:00.123456Z");
        check(1_767_225_599_999_999, "2025-12-31T23:59:59.999999Z");
        check(4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn a_time_after_the_year_9999_keeps_the_format() {
        check(UNIX_US_MAX, "9999-12-31T23:59:59.999999Z");
        check(u64::MAX, "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..146_097 {
            assert_eq!(civil_date(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
