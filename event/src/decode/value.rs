//! One value's text → a typed value in its column.

use super::columns::{Column, Values};
use super::plan::Kind;
use super::scan::{Scanner, SyntaxError, Text, unescape};
use super::timestamp::{from_epoch, parse_rfc3339};
use crate::RejectCode;

/// Why a value did not become one of its field's.
#[derive(Debug)]
pub(super) enum ValueError {
    /// The text is not JSON: the line's error, whatever the field.
    Syntax(SyntaxError),
    /// The value is JSON, but not what the field takes.
    Field { code: RejectCode, expected: String },
}

impl From<SyntaxError> for ValueError {
    fn from(error: SyntaxError) -> Self {
        Self::Syntax(error)
    }
}

/// Reads the value at which `scanner` stands into `column`. After a [`ValueError::Field`] the scanner and the
/// column's values are anywhere; the caller steps over the value again and takes the row back.
#[inline]
pub(super) fn read(kind: &Kind, scanner: &mut Scanner<'_>, column: &mut Column) -> Result<(), ValueError> {
    let first = scanner.peek()?;
    match (kind, &mut column.values) {
        (Kind::Int { min, max }, Values::Int(values)) => values.push(int(scanner, first, *min, *max)?),
        (Kind::Rfc3339, Values::Moment(values)) => values.push(rfc3339(scanner, first)?),
        (Kind::Uuid, Values::Uuid(values)) => values.extend_from_slice(&uuid(scanner, first)?),
        (Kind::String { max_bytes }, Values::Text { ends, bytes }) => {
            string(scanner, first, *max_bytes, bytes)?;
            ends.push(bytes.len() as i32);
        }
        (Kind::Enum { values }, Values::Text { ends, bytes }) => {
            listed(scanner, first, values, bytes)?;
            ends.push(bytes.len() as i32);
        }
        (Kind::Float { min, max }, Values::Float(values)) => values.push(float(scanner, first, *min, *max)?),
        (Kind::Bool, Values::Bool(values)) => values.append(boolean(scanner, first)?),
        (Kind::Epoch { unit_micros }, Values::Moment(values)) => {
            values.push(epoch(scanner, first, *unit_micros)?)
        }
        (kind, values) => unreachable!("the schema gives {kind:?} another column than {values:?}"),
    }
    column.set();
    Ok(())
}

/// Appends a value's own text, which the caller has stepped over.
pub(super) fn keep_text(text: &[u8], column: &mut Column) {
    let Values::Text { ends, bytes } = &mut column.values else {
        unreachable!("json fields are text columns");
    };
    bytes.extend_from_slice(text);
    ends.push(bytes.len() as i32);
    column.set();
}

fn is_number(first: u8) -> bool {
    first == b'-' || first.is_ascii_digit()
}

fn mismatch<T>(expected: &str) -> Result<T, ValueError> {
    Err(ValueError::Field {
        code: RejectCode::TypeMismatch,
        expected: expected.to_owned(),
    })
}

fn out_of_range<T>(expected: String) -> Result<T, ValueError> {
    Err(ValueError::Field {
        code: RejectCode::OutOfRange,
        expected,
    })
}

fn integer(scanner: &mut Scanner<'_>, first: u8) -> Result<i64, ValueError> {
    if !is_number(first) {
        return mismatch("an integer");
    }
    let digits = scanner.number()?;
    if !digits.integer {
        return mismatch("an integer");
    }
    let text = &scanner.bytes[digits.from..digits.to];
    let (negative, digits) = text
        .strip_prefix(b"-")
        .map_or((false, text), |digits| (true, digits));
    let signed = |digit: &u8| i64::from(digit - b'0') * if negative { -1 } else { 1 };
    // Eighteen digits cannot overflow.
    let number = if digits.len() <= 18 {
        Some(digits.iter().fold(0, |number, digit| number * 10 + signed(digit)))
    } else {
        digits.iter().try_fold(0_i64, |number, digit| {
            number.checked_mul(10)?.checked_add(signed(digit))
        })
    };
    number.map_or_else(|| out_of_range("an integer of 64 bits".to_owned()), Ok)
}

#[inline]
fn int(scanner: &mut Scanner<'_>, first: u8, min: i64, max: i64) -> Result<i64, ValueError> {
    let number = integer(scanner, first)?;
    if number < min || number > max {
        return out_of_range(format!("an integer from {min} to {max}"));
    }
    Ok(number)
}

fn epoch(scanner: &mut Scanner<'_>, first: u8, unit_micros: i64) -> Result<i64, ValueError> {
    let number = match integer(scanner, first) {
        Err(ValueError::Field {
            code: RejectCode::OutOfRange,
            ..
        }) => None,
        number => from_epoch(number?, unit_micros),
    };
    let code = RejectCode::InvalidTimestamp;
    let expected = || "an epoch integer of the years 1 to 9999".to_owned();
    number.ok_or_else(|| ValueError::Field {
        code,
        expected: expected(),
    })
}

fn float(scanner: &mut Scanner<'_>, first: u8, min: f64, max: f64) -> Result<f64, ValueError> {
    if !is_number(first) {
        return mismatch("a number");
    }
    let digits = scanner.number()?;
    let text = std::str::from_utf8(&scanner.bytes[digits.from..digits.to]).expect("a number is ASCII");
    let number: f64 = text.parse().expect("what JSON calls a number is one to Rust");
    if !number.is_finite() {
        return out_of_range("a number that a double can hold".to_owned());
    }
    if number < min || number > max {
        return out_of_range(format!("a number from {min} to {max}"));
    }
    Ok(number)
}

fn boolean(scanner: &mut Scanner<'_>, first: u8) -> Result<bool, ValueError> {
    match first {
        b't' => scanner.literal("true")?,
        b'f' => scanner.literal("false")?,
        _ => return mismatch("true or false"),
    }
    Ok(first == b't')
}

/// Reads a string of a short type by `parse`; its text is looked at where it lies, unless it has escapes.
#[inline]
fn parsed<T>(
    scanner: &mut Scanner<'_>,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Option<T>, SyntaxError> {
    let Text { from, to, escaped } = scanner.string()?;
    let text = &scanner.bytes[from..to];
    if !escaped {
        return Ok(parse(text));
    }
    let mut unescaped = Vec::new();
    unescape(text, &mut unescaped);
    Ok(parse(&unescaped))
}

#[inline]
fn rfc3339(scanner: &mut Scanner<'_>, first: u8) -> Result<i64, ValueError> {
    if first != b'"' {
        return mismatch("a timestamp as RFC 3339 text");
    }
    let code = RejectCode::InvalidTimestamp;
    let expected = || "a timestamp as RFC 3339 has it, with a zone".to_owned();
    parsed(scanner, parse_rfc3339)?.ok_or_else(|| ValueError::Field {
        code,
        expected: expected(),
    })
}

#[inline]
fn uuid(scanner: &mut Scanner<'_>, first: u8) -> Result<[u8; 16], ValueError> {
    if first != b'"' {
        return mismatch("a UUID as text");
    }
    parsed(scanner, parse_uuid)?.map_or_else(|| mismatch("a UUID of 36 characters"), Ok)
}

/// The hyphenated form only, in either case.
fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    if text.len() != 36 || [8, 13, 18, 23].iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut bytes = [0; 16];
    let mut wrong = 0;
    for (byte, at) in bytes.iter_mut().zip(PLACES) {
        let (high, low) = (HEX[text[at] as usize], HEX[text[at + 1] as usize]);
        wrong |= high | low;
        *byte = high << 4 | low & 0x0F;
    }
    (wrong < 16).then_some(bytes)
}

/// The value of each hexadecimal digit, 255 for any other byte.
const HEX: [u8; 256] = {
    let mut table = [255; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        table[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

#[inline]
fn string(
    scanner: &mut Scanner<'_>,
    first: u8,
    max_bytes: usize,
    bytes: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if first != b'"' {
        return mismatch("a string");
    }
    let before = bytes.len();
    let Text { from, to, escaped } = scanner.string()?;
    if escaped {
        unescape(&scanner.bytes[from..to], bytes);
    } else {
        bytes.extend_from_slice(&scanner.bytes[from..to]);
    }
    if bytes.len() - before > max_bytes {
        let expected = format!("at most {max_bytes} bytes");
        return Err(ValueError::Field {
            code: RejectCode::TooLarge,
            expected,
        });
    }
    Ok(())
}

fn listed(
    scanner: &mut Scanner<'_>,
    first: u8,
    values: &[Box<[u8]>],
    bytes: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let before = bytes.len();
    string(scanner, first, usize::MAX, bytes)?;
    if values
        .binary_search_by(|value| value.as_ref().cmp(&bytes[before..]))
        .is_err()
    {
        let names: Vec<_> = values
            .iter()
            .take(20)
            .map(|value| String::from_utf8_lossy(value))
            .collect();
        let more = if values.len() > 20 { ", …" } else { "" };
        let expected = format!("one of {}{more}", names.join(", "));
        return Err(ValueError::Field {
            code: RejectCode::UnknownValue,
            expected,
        });
    }
    Ok(())
}
