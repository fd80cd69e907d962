//! DELTA_BINARY_PACKED: integers as differences to the one before, packed in bits.

use super::header::{varint, zigzag};

/// Miniblocks of a block; what we write has four.
const MINIBLOCKS_MAX: u64 = 512;

/// The integers of a page, one after the other.
pub(super) struct Delta<'a> {
    bytes: &'a [u8],
    at: usize,
    in_miniblock: usize,
    miniblocks: usize,
    /// Values that are left, the next one included.
    left: usize,
    /// The next value, while it is the first.
    first: Option<i64>,
    last: i64,
    smallest: i64,
    /// Widths of the block's miniblocks that are left.
    widths: &'a [u8],
    /// Bits of a difference, the bit where the next one begins, and how many are left in the miniblock.
    width: usize,
    bit: usize,
    differences: usize,
}

impl<'a> Delta<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        let block = varint(bytes, &mut at)?;
        let miniblocks = varint(bytes, &mut at)?;
        let left = usize::try_from(varint(bytes, &mut at)?).ok()?;
        let first = zigzag(varint(bytes, &mut at)?);
        if miniblocks == 0 || miniblocks > MINIBLOCKS_MAX || block == 0 || block % miniblocks != 0 {
            return None;
        }
        let in_miniblock = usize::try_from(block / miniblocks).ok()?;
        if !in_miniblock.is_multiple_of(8) || in_miniblock > 1 << 20 {
            return None;
        }
        Some(Self {
            bytes,
            at,
            in_miniblock,
            miniblocks: usize::try_from(miniblocks).ok()?,
            left,
            first: Some(first),
            last: 0,
            smallest: 0,
            widths: &[],
            width: 0,
            bit: 0,
            differences: 0,
        })
    }

    /// How many values are left.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Where the bytes end, when no value is left: other values may follow.
    pub(super) fn end(&self) -> Option<usize> {
        (self.left == 0 && self.at <= self.bytes.len()).then_some(self.at)
    }

    /// Calls `see` with the next `count` values.
    pub(super) fn next(&mut self, mut count: usize, mut see: impl FnMut(i64)) -> Option<()> {
        self.left = self.left.checked_sub(count)?;
        if count > 0
            && let Some(first) = self.first.take()
        {
            self.last = first;
            see(first);
            count -= 1;
        }
        while count > 0 {
            if self.differences == 0 {
                self.begin_miniblock()?;
            }
            let taken = count.min(self.differences);
            let mask = u64::MAX
                .checked_shr(u32::try_from(64 - self.width).ok()?)
                .unwrap_or(0);
            for _ in 0..taken {
                let difference = self.packed(mask)?;
                self.last = self.last.wrapping_add(self.smallest).wrapping_add(difference);
                see(self.last);
                self.bit += self.width;
            }
            self.differences -= taken;
            count -= taken;
        }
        Some(())
    }

    /// The difference that begins at the next bit.
    fn packed(&self, mask: u64) -> Option<i64> {
        let (byte, shift) = (self.bit / 8, self.bit % 8);
        let packed = match self.bytes.get(byte..byte + 8) {
            Some(eight) => {
                let low = u64::from_le_bytes(eight.try_into().ok()?) >> shift;
                // A ninth byte has the rest of the widest.
                match self.width + shift > 64 {
                    true => low | u64::from(*self.bytes.get(byte + 8)?) << (64 - shift),
                    false => low,
                }
            }
            None => {
                if self.bit + self.width > self.bytes.len() * 8 {
                    return None;
                }
                let mut eight = [0; 8];
                let rest = self.bytes.get(byte..)?;
                eight[..rest.len()].copy_from_slice(rest);
                u64::from_le_bytes(eight) >> shift
            }
        };
        Some((packed & mask).cast_signed())
    }

    fn begin_miniblock(&mut self) -> Option<()> {
        if self.widths.is_empty() {
            self.smallest = zigzag(varint(self.bytes, &mut self.at)?);
            let end = self.at.checked_add(self.miniblocks)?;
            self.widths = self.bytes.get(self.at..end)?;
            self.at = end;
        }
        let (width, rest) = self.widths.split_first()?;
        self.widths = rest;
        self.width = usize::from(*width);
        if self.width > 64 || self.at > self.bytes.len() {
            return None;
        }
        self.bit = self.at.checked_mul(8)?;
        self.differences = self.in_miniblock;
        // The last miniblock may be cut behind its last value; `packed` looks at what is there.
        self.at = self
            .at
            .checked_add(self.in_miniblock.checked_mul(self.width)? / 8)?;
        Some(())
    }
}
