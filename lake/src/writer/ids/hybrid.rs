//! Parquet's hybrid of runs and packed bits, as levels and dictionary indices are written.
//!
//! The format's "RLE / Bit-Packing Hybrid": a run of one value, or groups of eight values with so many bits each, in
//! any order, each with its kind and length before it.

/// Values of a packed group.
const GROUP: usize = 8;
/// Equal values in a row that are written as a run, and not as packed groups.
const RUN_MIN: usize = 2 * GROUP;

/// Bits that the indices of a dictionary of so many values need; one at least, since readers differ on none.
pub(super) fn width(values: usize) -> u8 {
    let bits = usize::BITS - values.saturating_sub(1).leading_zeros();
    bits.max(1) as u8
}

/// Appends values, each of which has at most `width` bits (1 to 32).
pub(super) fn encode(values: &[u32], width: u8, out: &mut Vec<u8>) {
    let (mut packed, mut at) = (0, 0);
    while at < values.len() {
        let first = values[at];
        let run = values[at..].iter().take_while(|value| **value == first).count();
        if run < RUN_MIN {
            at = (at + GROUP).min(values.len());
            continue;
        }
        pack(&values[packed..at], width, out);
        header(run << 1, out);
        out.extend(&first.to_le_bytes()[..usize::from(width).div_ceil(8)]);
        at += run;
        packed = at;
    }
    pack(&values[packed..], width, out);
}

/// Whole groups; the last one of all is filled up with zeros.
fn pack(values: &[u32], width: u8, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(GROUP);
    header(groups << 1 | 1, out);
    let end = out.len() + groups * usize::from(width);
    out.reserve(groups * usize::from(width));
    let (mut bits, mut count) = (0_u64, 0);
    for value in values {
        bits |= u64::from(*value) << count;
        count += u32::from(width);
        if count >= u32::BITS {
            out.extend((bits as u32).to_le_bytes());
            bits >>= u32::BITS;
            count -= u32::BITS;
        }
    }
    out.extend(&bits.to_le_bytes()[..(count as usize).div_ceil(8)]);
    out.resize(end, 0);
}

/// A number in base 128, lowest digits first.
fn header(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
