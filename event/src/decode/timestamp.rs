//! RFC 3339 text → microseconds since 1970 in UTC, without a general date parser.

/// Microseconds of 0001-01-01T00:00:00Z, the first moment that RFC 3339 text can express in UTC.
const FIRST: i64 = -62_135_596_800_000_000;
/// Microseconds of 9999-12-31T23:59:59.999999Z, the last one.
const LAST: i64 = 253_402_300_799_999_999;

/// Reads a moment with a zone; digits finer than a microsecond are cut off. A leap second (`:60`) is the first
/// moment of the next minute, as POSIX time has it. `None` when the text is not RFC 3339.
pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if text.len() < 20 || separators.iter().any(|(at, byte)| text[*at] != *byte) {
        return None;
    }
    if !matches!(text[10], b'T' | b't' | b' ') {
        return None;
    }
    let year = two(text, 0)? * 100 + two(text, 2)?;
    let (month, day) = (two(text, 5)?, two(text, 8)?);
    let (hour, minute, second) = (two(text, 11)?, two(text, 14)?, two(text, 17)?);
    let date = year >= 1 && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if !date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, zone) = fraction(&text[19..])?;
    let offset = offset_minutes(zone)?;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + (minute - offset) * 60 + second;
    within_bounds(seconds * 1_000_000 + micros)
}

/// The microseconds since midnight of `09:30:00`, all eight bytes at once. `None` when it is no time, or a leap second.
#[inline]
pub(super) fn micros_of_day(text: &[u8; 8]) -> Option<i64> {
    let zeros = u64::from_le_bytes(*b"00:00:00");
    let digits = u64::from_le_bytes(*text) ^ zeros;
    // Colons are zero now, as they have to be, and digits are at most 9.
    let others = digits & 0x0000_FF00_00FF_0000
        | (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let pair = |at: u32| (pairs >> (8 * at) & 0xFF) as i64;
    let (hour, minute, second) = (pair(0), pair(3), pair(6));
    (others == 0 && hour < 24 && minute < 60 && second < 60)
        .then_some((hour * 3_600 + minute * 60 + second) * 1_000_000)
}

/// An epoch number in a unit of so many microseconds. `None` outside of the years 1 to 9999.
pub(super) fn from_epoch(number: i64, unit_micros: i64) -> Option<i64> {
    within_bounds(number.checked_mul(unit_micros)?)
}

fn within_bounds(micros: i64) -> Option<i64> {
    (FIRST..=LAST).contains(&micros).then_some(micros)
}

#[inline]
fn two(text: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

/// The microseconds of a fraction, if there is one, and what follows it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let micros = (0..6).fold(0, |micros, at| {
        let digit = if at < count {
            i64::from(digits[at] - b'0')
        } else {
            0
        };
        micros * 10 + digit
    });
    Some((micros, &digits[count..]))
}

fn offset_minutes(zone: &[u8]) -> Option<i64> {
    let sign = match zone {
        b"Z" | b"z" => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    if zone.len() != 6 || zone[3] != b':' {
        return None;
    }
    let (hours, minutes) = (two(zone, 1)?, two(zone, 4)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn days_of(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 by the proleptic Gregorian calendar; years begin in March, so that the leap day is the
/// last one (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_their_zone_and_cut_to_microseconds() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00.0000019z", 1),
            ("2024-09-10T09:12:33.001Z", 1_725_959_553_001_000),
            ("2024-09-10T11:12:33.001+02:00", 1_725_959_553_001_000),
            ("2024-02-29 23:59:59.999999999-00:00", 1_709_251_199_999_999),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
            ("0001-01-01T00:00:00Z", FIRST),
            ("9999-12-31T23:59:59.999999Z", LAST),
        ];
        for (text, micros) in cases {
            assert_eq!(parse_rfc3339(text.as_bytes()), Some(micros), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_moments_are_refused() {
        let cases = [
            "",
            "2024-09-10",
            "2024-09-10T09:12:33",
            "2024-09-10T09:12:33.Z",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-09-10T24:00:00Z",
            "2024-09-10T09:60:33Z",
            "2024-09-10T09:12:61Z",
            "2024-09-10T09:12:33+2:00",
            "2024-09-10T09:12:33+02",
            "2024-09-10T09:12:33Zx",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "2024-9-10T09:12:33Z1",
            "２024-09-10T09:12:33Z",
        ];
        for text in cases {
            assert_eq!(parse_rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    /// Every day of 800 years in a row, so that each rule of the calendar is passed twice.
    #[test]
    fn days_follow_each_other() {
        let mut expected = days_since_1970(1600, 1, 1);
        for year in 1600..2400 {
            for month in 1..=12 {
                for day in 1..=days_of(year, month) {
                    assert_eq!(days_since_1970(year, month, day), expected);
                    expected += 1;
                }
            }
        }
    }
}
