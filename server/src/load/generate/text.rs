//! Numbers and ids as text, written by hand: the formatting machinery costs more than all draws together.

/// Two digits of every number below a hundred.
const PAIRS: [[u8; 2]; 100] = pairs();
/// Two hexadecimal digits of every byte.
const HEX: [[u8; 2]; 256] = hex();

const fn pairs() -> [[u8; 2]; 100] {
    let mut table = [[0; 2]; 100];
    let mut at = 0;
    while at < 100 {
        table[at] = [b'0' + (at / 10) as u8, b'0' + (at % 10) as u8];
        at += 1;
    }
    table
}

const fn hex() -> [[u8; 2]; 256] {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut at = 0;
    while at < 256 {
        table[at] = [digits[at >> 4], digits[at & 15]];
        at += 1;
    }
    table
}

/// The two digits of a number below a hundred.
#[inline]
pub(super) fn pair(number: u64) -> [u8; 2] {
    PAIRS[number as usize]
}

/// Appends a number in decimal.
#[inline]
pub(super) fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    while number >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&pair(number % 100));
        number /= 100;
    }
    if number >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&pair(number));
    } else {
        at -= 1;
        digits[at] = b'0' + number as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a number below ten thousand with four digits.
#[inline]
pub(super) fn four_digits(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&pair(number / 100 % 100));
    out.extend_from_slice(&pair(number % 100));
}

/// Appends a uuid in its hyphenated form.
#[inline]
pub(super) fn uuid(out: &mut Vec<u8>, uuid: u128) {
    let mut text = *b"00000000-0000-0000-0000-000000000000";
    let mut at = 0;
    for (index, byte) in uuid.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at..at + 2].copy_from_slice(&HEX[byte as usize]);
        at += 2;
    }
    out.extend_from_slice(&text);
}

/// Appends 64 bits as sixteen hexadecimal digits.
#[inline]
pub(super) fn hexadecimal(out: &mut Vec<u8>, bits: u64) {
    for byte in bits.to_be_bytes() {
        out.extend_from_slice(&HEX[byte as usize]);
    }
}

/// The uuid (version 4 in form) of a user.
#[inline]
pub(super) fn uuid_of(seed: u64, user: u64) -> u128 {
    as_version_4(u128::from(mixed(seed, user, 1)) << 64 | u128::from(mixed(seed, user, 2)))
}

/// Sets the bits that every uuid of version 4 has.
#[inline]
pub(super) fn as_version_4(bits: u128) -> u128 {
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0b11 << 62;
    (bits & !VERSION & !VARIANT) | 4 << 76 | 0b10 << 62
}

/// 64 bits that depend on all three numbers; the finaliser is the one of SplitMix64.
#[inline]
pub(super) fn mixed(seed: u64, number: u64, purpose: u64) -> u64 {
    let mut bits = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(number.wrapping_mul(0xd134_2543_de82_ef95))
        .wrapping_add(purpose.wrapping_mul(0xa076_1d64_78bd_642f));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
