//! The head of a page: Thrift's compact form, of which the few members are taken that decoding needs.

use parquet::basic::Encoding;

/// Members and bytes of a head that are looked at; statistics of long texts may be in it.
const MEMBERS_MAX: usize = 1_000;
/// Members within members, as deep as a head has them.
const DEPTH_MAX: usize = 8;

/// What the head of a page says.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Bytes of the page without its head, as they lie in the file.
    pub(super) stored_bytes: usize,
    /// The same when they are inflated.
    pub(super) bytes: usize,
    /// Values, nulls included.
    pub(super) values: usize,
    pub(super) encoding: Encoding,
    /// Where the page begins behind its head.
    pub(super) end: usize,
}

/// What kind of page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of the first version, whose levels are inflated with its values.
    Data,
    Dictionary,
}

impl Header {
    /// Reads what `bytes` begin with; `None` when it is anything else.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut compact = Compact { bytes, at: 0 };
        let (mut kind, mut stored, mut inflated, mut said) = (None, None, None, None);
        let mut member = 0;
        for _ in 0..MEMBERS_MAX {
            match compact.member(&mut member)? {
                None => {
                    return Some(Self {
                        kind: kind?,
                        stored_bytes: usize::try_from(stored?).ok()?,
                        bytes: usize::try_from(inflated?).ok()?,
                        values: usize::try_from(said.as_ref().map(|(values, _)| *values)?).ok()?,
                        encoding: said?.1,
                        end: compact.at,
                    });
                }
                Some(I32) if member == 1 => {
                    kind = Some(match compact.integer()? {
                        0 => Kind::Data,
                        2 => Kind::Dictionary,
                        _ => return None,
                    });
                }
                Some(I32) if member == 2 => inflated = Some(compact.integer()?),
                Some(I32) if member == 3 => stored = Some(compact.integer()?),
                Some(STRUCT) if member == 5 || member == 7 => said = Some(compact.values_and_encoding()?),
                Some(kind) => compact.skip(kind, DEPTH_MAX)?,
            }
        }
        None
    }
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const I8: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const STRUCT: u8 = 12;

struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// The next member's type, or that there is none; `last` becomes its number.
    fn member(&mut self, last: &mut i64) -> Option<Option<u8>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        *last = match byte >> 4 {
            0 => self.integer()?,
            step => last.checked_add(i64::from(step))?,
        };
        Some(Some(byte & 15))
    }

    fn integer(&mut self) -> Option<i64> {
        let coded = varint(self.bytes, &mut self.at)?;
        Some(zigzag(coded))
    }

    /// The first two members that the heads of pages with data and with a dictionary have in common.
    fn values_and_encoding(&mut self) -> Option<(i64, Encoding)> {
        let (mut values, mut encoding, mut member) = (None, None, 0);
        for _ in 0..MEMBERS_MAX {
            match self.member(&mut member)? {
                None => return Some((values?, encoding?)),
                Some(I32) if member == 1 => values = Some(self.integer()?),
                Some(I32) if member == 2 => {
                    encoding = Some(match self.integer()? {
                        0 => Encoding::PLAIN,
                        // Of old: the plain values of a dictionary, and numbers of them.
                        2 => Encoding::PLAIN_DICTIONARY,
                        5 => Encoding::DELTA_BINARY_PACKED,
                        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
                        8 => Encoding::RLE_DICTIONARY,
                        _ => return None,
                    });
                }
                // Levels of another encoding than the usual one.
                Some(I32) if member == 3 || member == 4 => {
                    let levels = self.integer()?;
                    if levels != 3 && levels > 2 {
                        return None;
                    }
                }
                Some(kind) => self.skip(kind, DEPTH_MAX)?,
            }
        }
        None
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            TRUE | FALSE => {}
            I8 => drop(self.byte()?),
            I16 | I32 | I64 => drop(self.integer()?),
            DOUBLE => self.at = self.at.checked_add(8)?,
            BINARY => {
                let length = usize::try_from(varint(self.bytes, &mut self.at)?).ok()?;
                self.at = self.at.checked_add(length)?;
            }
            STRUCT => {
                let mut member = 0;
                for _ in 0..MEMBERS_MAX {
                    match self.member(&mut member)? {
                        None => return Some(()),
                        Some(kind) => self.skip(kind, depth.checked_sub(1)?)?,
                    }
                }
                return None;
            }
            _ => return None,
        }
        Some(())
    }
}

/// A number of seven bits a byte.
pub(super) fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).wrapping_shl(shift);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A number whose lowest bit is its sign.
pub(super) fn zigzag(coded: u64) -> i64 {
    (coded >> 1).cast_signed() ^ (coded & 1).cast_signed().wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_and_a_torn_one_is_none() {
        // type 0, 300 bytes of 200, a data page of 7 plain values with both levels in RLE, and a statistic to skip.
        let head = [
            0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x90, 0x03, 0x2c, 0x15, 0x0e, 0x15, 0x00, 0x15, 0x06, 0x15,
            0x06, 0x1c, 0x18, 0x02, b'a', b'b', 0x00, 0x00, 0x00,
        ];
        let expected = Header {
            kind: Kind::Data,
            stored_bytes: 200,
            bytes: 300,
            values: 7,
            encoding: Encoding::PLAIN,
            end: head.len(),
        };
        assert_eq!(Header::read(&head), Some(expected));
        for end in 0..head.len() {
            assert_eq!(Header::read(&head[..end]), None);
        }
        assert_eq!([0, 1, 2, 3, u64::MAX].map(zigzag), [0, -1, 1, -2, i64::MIN]);
    }
}
