//! Sizes and durations as people write them: `128MiB`, `60s`, `90d`.
//!
//! Used by declarations and by the configuration, so that both take and print the same. A number without a unit
//! is refused: whoever reads `every = 60` later must not have to guess.

use std::time::Duration;

/// Why a text is no size or duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: write a whole number and one of {units}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    units: &'static str,
}

const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];
const MILLISECONDS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a size in bytes: `512B`, `64KiB`, `128MiB`, `2GiB`, `1TiB`.
///
/// # Errors
/// [`UnitError`] without a unit, with another one, or beyond 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let error = || UnitError {
        text: text.to_owned(),
        what: "a size",
        units: "B, KiB, MiB, GiB, TiB",
    };
    parse(text, SIZES).ok_or_else(error)
}

/// Reads a duration: `100ms`, `60s`, `5m`, `12h`, `90d`.
///
/// # Errors
/// [`UnitError`] without a unit, with another one, or beyond 64 bits of milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let error = || UnitError {
        text: text.to_owned(),
        what: "a duration",
        units: "ms, s, m, h, d",
    };
    parse(text, MILLISECONDS)
        .map(Duration::from_millis)
        .ok_or_else(error)
}

/// Writes a size in the largest unit that shows it exactly.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    format(bytes, SIZES)
}

/// Writes a duration in the largest unit that shows it exactly; what is finer than a millisecond is cut off.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    format(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        MILLISECONDS,
    )
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn format(number: u64, units: &[(&str, u64)]) -> String {
    let exact = |(_, factor): &&(&str, u64)| number.is_multiple_of(*factor) && number >= *factor;
    let (name, factor) = units
        .iter()
        .find(exact)
        .or(units.last())
        .expect("there are units");
    format!("{}{name}", number / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_is_read() {
        for bytes in [0, 1, 1_023, 1_024, 1_536, 128 << 20, 3 << 40] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }
        for text in ["0ms", "100ms", "60s", "90m", "12h", "90d"] {
            let duration = parse_duration(text).expect("a duration");
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        assert_eq!(
            (
                format_bytes(128 << 20),
                format_duration(Duration::from_secs(3_600))
            ),
            ("128MiB".to_owned(), "1h".to_owned())
        );
    }

    #[test]
    fn a_number_without_a_unit_is_refused_and_the_units_are_named() {
        for text in [
            "",
            "5",
            "5MB",
            "MiB",
            "-5MiB",
            "1.5MiB",
            "99999999999TiB",
            "5 s s",
        ] {
            let error = parse_bytes(text).expect_err(text).to_string();
            assert!(error.contains("MiB") && error.contains(text), "{error}");
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
