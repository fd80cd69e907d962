//! Moments and identifiers as text, written without allocation: what SQL, COPY and JSON have in common.

/// Seconds of a day.
const DAY: i64 = 86_400;

/// A moment in UTC in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Astronomical year: 0 is 1 BC.
    pub(crate) year: i64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    microsecond: u32,
}

impl Moment {
    /// The parts of microseconds since 1970.
    pub(crate) fn of(micros: i64) -> Self {
        let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
        let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        let small = |number: i64| u8::try_from(number).unwrap_or(0);
        Self {
            year,
            month: small(month),
            day: small(day),
            hour: small(second / 3_600),
            minute: small(second / 60 % 60),
            second: small(second % 60),
            microsecond: u32::try_from(fraction).unwrap_or(0),
        }
    }

    /// Writes `2024-09-10 09:12:33.000001`, with `separator` between date and time. The year must have at most
    /// four digits.
    pub(crate) fn write(self, out: &mut Vec<u8>, separator: u8) {
        let two = |number: u8| [b'0' + number / 10 % 10, b'0' + number % 10];
        let year = self.year.rem_euclid(10_000);
        let (century, year) = (year / 100, year % 100);
        let small = |number: i64| u8::try_from(number).unwrap_or(0);
        let (c, y) = (two(small(century)), two(small(year)));
        let (m, d) = (two(self.month), two(self.day));
        let (h, i, s) = (two(self.hour), two(self.minute), two(self.second));
        let head = [
            c[0], c[1], y[0], y[1], b'-', m[0], m[1], b'-', d[0], d[1], separator, h[0], h[1], b':', i[0],
            i[1], b':', s[0], s[1], b'.',
        ];
        out.extend_from_slice(&head);
        let mut rest = self.microsecond;
        let mut digits = [b'0'; 6];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        out.extend_from_slice(&digits);
    }
}

/// Year, month, day of a number of days since 1970-01-01 in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from 0000-03-01, so that the leap day is a year's last.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_with_all_their_digits() {
        let cases = [
            (0, "1970-01-01 00:00:00.000000"),
            (1_725_959_553_001_000, "2024-09-10 09:12:33.001000"),
            (1_709_164_800_000_001, "2024-02-29 00:00:00.000001"),
            (-1, "1969-12-31 23:59:59.999999"),
            (-62_167_219_200_000_000, "0000-01-01 00:00:00.000000"),
            (253_402_300_799_999_999, "9999-12-31 23:59:59.999999"),
        ];
        for (micros, expected) in cases {
            let mut out = Vec::new();
            Moment::of(micros).write(&mut out, b' ');
            assert_eq!(String::from_utf8(out).expect("digits"), expected);
        }
        assert_eq!(Moment::of(253_402_300_800_000_000).year, 10_000);
        assert_eq!(Moment::of(-62_167_219_200_000_001).year, -1);
        let _ = (Moment::of(i64::MIN), Moment::of(i64::MAX));
    }
}
