//! Moments as text, in UTC and the proleptic Gregorian calendar: what JSON, SQL and the generators have in common.

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// A moment in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    year: i64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    microsecond: u32,
}

impl Moment {
    /// The parts of microseconds since 1970.
    #[must_use]
    pub fn of(micros: i64) -> Self {
        let (seconds, fraction) = (micros.div_euclid(SECOND), micros.rem_euclid(SECOND));
        let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        let small = |number: i64| u8::try_from(number).unwrap_or(0);
        Self {
            year,
            month,
            day,
            hour: small(second / 3_600),
            minute: small(second / 60 % 60),
            second: small(second % 60),
            microsecond: u32::try_from(fraction).unwrap_or(0),
        }
    }

    /// Astronomical year: 0 is 1 BC.
    #[must_use]
    pub fn year(self) -> i64 {
        self.year
    }

    /// The part below a second, in microseconds.
    #[must_use]
    pub fn microsecond(self) -> u32 {
        self.microsecond
    }

    /// Writes `2024-09-10T09:12:33`, with `separator` in place of the `T`. A year has at least four digits.
    pub fn write_seconds(self, out: &mut Vec<u8>, separator: u8) {
        if self.year < 0 {
            out.push(b'-');
        }
        let year = self.year.unsigned_abs();
        let digits = match year {
            ..10_000 => 4,
            10_000..100_000 => 5,
            _ => 6,
        };
        write_digits(out, year, digits);
        for (before, part) in [(b'-', self.month), (b'-', self.day), (separator, self.hour)] {
            out.push(before);
            write_digits(out, part.into(), 2);
        }
        for part in [self.minute, self.second] {
            out.push(b':');
            write_digits(out, part.into(), 2);
        }
    }

    /// Writes `.000001`.
    pub fn write_fraction(self, out: &mut Vec<u8>) {
        out.push(b'.');
        write_digits(out, self.microsecond.into(), 6);
    }
}

/// `2024-09-10T09:12:33Z`, with milliseconds or microseconds when there are any.
#[must_use]
pub fn rfc3339(micros: i64) -> String {
    let moment = Moment::of(micros);
    let mut out = Vec::with_capacity(27);
    moment.write_seconds(&mut out, b'T');
    if moment.microsecond != 0 {
        moment.write_fraction(&mut out);
        if moment.microsecond.is_multiple_of(1_000) {
            out.truncate(out.len() - 3);
        }
    }
    out.push(b'Z');
    String::from_utf8(out).expect("digits and signs")
}

/// Year, month (1 to 12) and day (1 to 31) of a number of days since 1970-01-01.
#[must_use]
pub fn civil(days: i64) -> (i64, u8, u8) {
    // Counted from 0000-03-01, so that the leap day is a year's last.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let small = |number: i64| u8::try_from(number).unwrap_or(0);
    (year, small(month), small(day))
}

/// The last digits of a number, at most as many as it can have.
fn write_digits(out: &mut Vec<u8>, mut number: u64, digits: usize) {
    let mut text = [b'0'; 6];
    for digit in text[..digits].iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    out.extend_from_slice(&text[..digits]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_digits(micros: i64) -> String {
        let mut out = Vec::new();
        let moment = Moment::of(micros);
        moment.write_seconds(&mut out, b' ');
        moment.write_fraction(&mut out);
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn moments_are_written_with_all_their_digits() {
        let cases = [
            (0, "1970-01-01 00:00:00.000000"),
            (1_725_959_553_001_000, "2024-09-10 09:12:33.001000"),
            (1_709_164_800_000_001, "2024-02-29 00:00:00.000001"),
            (-1, "1969-12-31 23:59:59.999999"),
            (-62_167_219_200_000_000, "0000-01-01 00:00:00.000000"),
            (-62_167_219_200_000_001, "-0001-12-31 23:59:59.999999"),
            (253_402_300_799_999_999, "9999-12-31 23:59:59.999999"),
            (253_402_300_800_000_000, "10000-01-01 00:00:00.000000"),
        ];
        for (micros, expected) in cases {
            assert_eq!(all_digits(micros), expected);
        }
        // As far as the numbers go.
        assert_eq!(Moment::of(i64::MIN).year(), -290_308);
        assert_eq!(Moment::of(i64::MAX).year(), 294_247);
        let _ = (all_digits(i64::MIN), all_digits(i64::MAX));
    }

    #[test]
    fn moments_are_written_with_the_digits_that_they_need() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (1_725_959_553_001_000, "2024-09-10T09:12:33.001Z"),
            (1_709_164_800_000_001, "2024-02-29T00:00:00.000001Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00Z"),
        ];
        for (micros, expected) in cases {
            assert_eq!(rfc3339(micros), expected);
        }
    }

    #[test]
    fn days_become_dates_over_leap_years_and_centuries() {
        let dates = [
            (0, (1970, 1, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_723, (2024, 1, 1)),
            (19_782, (2024, 2, 29)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ];
        for (day, date) in dates {
            assert_eq!(civil(day), date, "day {day}");
        }
    }
}
