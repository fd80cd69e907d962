//! Values in the form in which programs write them, read without a step for every byte.
//!
//! Every function here takes the bytes from the value's first one on, and gives how many of them it has read, or `None`
//! when the value is in a less common form, or is none: then [`super::value`] judges. So what these accept must be right
//! and must be what that module makes of it, and nothing else matters. What follows a value is looked at by the caller.
//!
//! Numbers are read eight digits at a time, by three multiplications that each join neighbours (Lemire, "Quickly parsing
//! eight digits").

use super::block::{BLOCK_BYTES, Block};
use super::columns::{Column, Values};
use super::plan::Kind;
use super::timestamp::{from_epoch, micros_of_day, parse_rfc3339};

/// A byte in every byte of a word.
const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;

/// The day of the last timestamp: the next one is most likely of the same.
#[derive(Debug)]
pub(super) struct Day {
    text: [u8; 10],
    /// Microseconds since 1970 at its beginning in UTC.
    micros: i64,
}

impl Default for Day {
    fn default() -> Self {
        Self {
            text: *b"1970-01-01",
            micros: 0,
        }
    }
}

/// Reads a value of a field into its column.
#[inline]
pub(super) fn read(kind: &Kind, bytes: &[u8], column: &mut Column, day: &mut Day) -> Option<usize> {
    let values = &mut column.values;
    let length = match kind {
        Kind::Uuid => {
            let Values::Uuid(values) = values else { return None };
            values.extend_from_slice(&uuid(bytes)?);
            UUID_BYTES + 2
        }
        Kind::Int { min, max } => {
            let Values::Int(values) = values else { return None };
            let (number, length) = int(bytes)?;
            if number < *min || number > *max {
                return None;
            }
            values.push(number);
            length
        }
        Kind::Rfc3339 => {
            let Values::Moment(values) = values else {
                return None;
            };
            let (micros, length) = rfc3339(bytes, day)?;
            values.push(micros);
            length
        }
        Kind::Epoch { unit_micros } => {
            let Values::Moment(values) = values else {
                return None;
            };
            let (number, length) = int(bytes)?;
            values.push(from_epoch(number, *unit_micros)?);
            length
        }
        Kind::String { max_bytes } => {
            let Values::Text { ends, bytes: texts } = values else {
                return None;
            };
            let length = string(bytes, *max_bytes, texts)?;
            ends.push(texts.len() as i32);
            length
        }
        Kind::Enum { values: allowed } => {
            let Values::Text { ends, bytes: texts } = values else {
                return None;
            };
            let before = texts.len();
            let length = string(bytes, usize::MAX, texts)?;
            allowed
                .binary_search_by(|value| value.as_ref().cmp(&texts[before..]))
                .ok()?;
            ends.push(texts.len() as i32);
            length
        }
        Kind::Float { min, max } => {
            let Values::Float(values) = values else {
                return None;
            };
            let (number, length) = float(bytes)?;
            if number < *min || number > *max {
                return None;
            }
            values.push(number);
            length
        }
        Kind::Bool => {
            let Values::Bool(values) = values else { return None };
            let truth = bytes.starts_with(b"true");
            if !truth && !bytes.starts_with(b"false") {
                return None;
            }
            values.append(truth);
            if truth { 4 } else { 5 }
        }
        Kind::Json => return None,
    };
    column.set();
    Some(length)
}

/// Bytes of a string without escapes up to the one after its closing quote.
#[inline]
pub(super) fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    if bytes.first() != Some(&b'"') {
        return None;
    }
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let special = Block::new(block).special();
        if special != 0 {
            at += special.trailing_zeros() as usize;
            return (bytes[at] == b'"').then_some(at + 1);
        }
        at += BLOCK_BYTES;
    }
    let rest = bytes.get(at..)?;
    let length = rest
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | ..0x20))?;
    (rest[length] == b'"').then_some(at + length + 1)
}

/// Appends a string's text of at most `max_bytes`.
#[inline]
fn string(bytes: &[u8], max_bytes: usize, text: &mut Vec<u8>) -> Option<usize> {
    let length = string_length(bytes)?;
    let found = bytes.get(1..length - 1)?;
    if found.len() > max_bytes {
        return None;
    }
    // A copy of a fixed size is two instructions, one of another size is a call; most strings are this short.
    match bytes.get(1..).and_then(<[u8]>::first_chunk::<SHORT_BYTES>) {
        Some(short) if found.len() <= SHORT_BYTES => {
            let end = text.len() + found.len();
            text.extend_from_slice(short);
            text.truncate(end);
        }
        _ => text.extend_from_slice(found),
    }
    Some(length)
}

/// Bytes that a short string has at most.
const SHORT_BYTES: usize = 2 * BLOCK_BYTES;

/// The bytes of an integer of at most seven digits.
#[inline]
pub(super) fn int_length(bytes: &[u8]) -> Option<usize> {
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let (_, count) = digits(word(&bytes[sign..])?);
    let plain = count > 0 && count < 8 && (count == 1 || bytes[sign] != b'0');
    (plain && !matches!(bytes.get(sign + count), Some(b'.' | b'e' | b'E'))).then_some(sign + count)
}

/// The first eight bytes, the first in the lowest byte.
#[inline]
fn word(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Digits at the beginning of a word, at most eight, and their number of digits.
#[inline]
fn digits(word: u64) -> (u64, usize) {
    let digits = word ^ (ONES * u64::from(b'0'));
    // A carry only runs upwards, past a byte that is marked already.
    let others = (digits.wrapping_add(ONES * 0x76) | digits) & HIGH;
    let count = (others.trailing_zeros() / 8) as usize;
    if count == 0 {
        return (0, 0);
    }
    // The last digit goes into the highest byte, zeros come in front.
    (joined(digits << (64 - 8 * count)), count)
}

/// Eight digits, the first in the lowest byte, as a number.
#[inline]
fn joined(digits: u64) -> u64 {
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_FFFF_0000_FFFF;
    fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xFFFF_FFFF
}

/// Digits without a zero in front, at most sixteen: their number, and how many they are.
#[inline]
fn natural(bytes: &[u8]) -> Option<(u64, usize)> {
    let (high, count) = digits(word(bytes)?);
    if count == 0 || (bytes[0] == b'0' && count > 1) {
        return None;
    }
    if count < 8 {
        return Some((high, count));
    }
    let (low, more) = digits(word(&bytes[8..])?);
    if more == 8 {
        return None;
    }
    Some((high * TENS[more] + low, 8 + more))
}

/// Powers of ten.
const TENS: [u64; 16] = {
    let mut tens = [1; 16];
    let mut at = 1;
    while at < tens.len() {
        tens[at] = tens[at - 1] * 10;
        at += 1;
    }
    tens
};

#[inline]
fn int(bytes: &[u8]) -> Option<(i64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let sign = usize::from(negative);
    let (number, length) = natural(&bytes[sign..])?;
    let number = number as i64;
    Some((if negative { -number } else { number }, sign + length))
}

/// A number without an exponent whose digits are fewer than sixteen: both its digits and the power of ten are doubles
/// without an error then, and one division rounds as the nearest double has it (Clinger, "How to Read Floating Point
/// Numbers Accurately").
#[inline]
fn float(bytes: &[u8]) -> Option<(f64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let mut at = usize::from(negative);
    let (mut mantissa, length) = natural(&bytes[at..])?;
    at += length;
    let mut scale = 0;
    if bytes.get(at) == Some(&b'.') {
        let (fraction, more) = digits(word(&bytes[at + 1..])?);
        if more == 0 || more == 8 || length + more > 15 {
            return None;
        }
        mantissa = mantissa * TENS[more] + fraction;
        scale = more;
        at += 1 + more;
    } else if length > 15 {
        return None;
    }
    let number = mantissa as f64 / TENS[scale] as f64;
    Some((if negative { -number } else { number }, at))
}

/// Characters of a UUID.
const UUID_BYTES: usize = 36;

/// The sixteen bytes of a UUID in quotes, hexadecimal digits in either case.
#[inline]
fn uuid(bytes: &[u8]) -> Option<[u8; 16]> {
    let text: &[u8; UUID_BYTES + 2] = bytes.first_chunk()?;
    if text[0] != b'"' || text[37] != b'"' || [9, 14, 19, 24].iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut digits = [0; 32];
    digits[..8].copy_from_slice(&text[1..9]);
    digits[8..12].copy_from_slice(&text[10..14]);
    digits[12..16].copy_from_slice(&text[15..19]);
    digits[16..20].copy_from_slice(&text[20..24]);
    digits[20..].copy_from_slice(&text[25..37]);
    // Written so that the compiler makes it sixteen bytes at a time.
    let mut wrong = 0;
    for digit in &mut digits {
        let number = digit.wrapping_sub(b'0');
        let letter = (*digit | 0x20).wrapping_sub(b'a');
        let is_number = number < 10;
        let is_letter = letter < 6;
        wrong |= u8::from(!(is_number | is_letter));
        *digit = if is_number {
            number
        } else {
            letter.wrapping_add(10)
        };
    }
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = pair[0] << 4 | (pair[1] & 0x0F);
    }
    (wrong == 0).then_some(uuid)
}

/// `"2024-01-01T09:30:00.123Z"`, with up to seven digits of a fraction or none, in UTC.
#[inline]
fn rfc3339(bytes: &[u8], day: &mut Day) -> Option<(i64, usize)> {
    let head: &[u8; 20] = bytes.first_chunk()?;
    let date: &[u8; 10] = head[1..].first_chunk()?;
    if head[0] != b'"' || head[11] != b'T' {
        return None;
    }
    if day.text != *date {
        let begin = [date.as_slice(), b"T00:00:00Z"].concat();
        day.micros = parse_rfc3339(&begin)?;
        day.text = *date;
    }
    let time = micros_of_day(head[12..].first_chunk()?)?;
    let mut at = head.len();
    let mut micros = 0;
    if bytes.get(at) == Some(&b'.') {
        let (fraction, count) = digits(word(&bytes[at + 1..])?);
        micros = match count {
            1..=6 => fraction * TENS[6 - count],
            7 => fraction / 10,
            _ => return None,
        };
        at += 1 + count;
    }
    let rest = bytes.get(at..)?;
    let zone = if rest.starts_with(b"Z\"") {
        2
    } else if rest.starts_with(b"+00:00\"") {
        7
    } else {
        return None;
    };
    Some((day.micros + time + micros as i64, at + zone))
}
