//! Runs and packed bits in turns: levels that say which values are null, and numbers of a dictionary.

use super::header::varint;

/// Small numbers of one width, one after the other.
pub(super) struct Hybrid<'a> {
    bytes: &'a [u8],
    at: usize,
    width: usize,
    run: Run,
}

#[derive(Clone, Copy)]
enum Run {
    Same { value: u32, left: usize },
    Packed { bit: usize, left: usize },
}

impl<'a> Hybrid<'a> {
    /// Numbers of so many bits, 32 at the most.
    pub(super) fn new(bytes: &'a [u8], width: usize) -> Option<Self> {
        (width <= 32).then_some(Self {
            bytes,
            at: 0,
            width,
            run: Run::Same { value: 0, left: 0 },
        })
    }

    /// Calls `see` with the next `count` numbers.
    pub(super) fn next(&mut self, count: usize, mut see: impl FnMut(u32)) -> Option<()> {
        let mut wanted = count;
        while wanted > 0 {
            match &mut self.run {
                Run::Same { left: 0, .. } | Run::Packed { left: 0, .. } => self.begin_run()?,
                Run::Same { value, left } => {
                    let taken = wanted.min(*left);
                    (0..taken).for_each(|_| see(*value));
                    *left -= taken;
                    wanted -= taken;
                }
                Run::Packed { bit, left } => {
                    let taken = wanted.min(*left);
                    for _ in 0..taken {
                        see(packed(self.bytes, *bit, self.width)?);
                        *bit += self.width;
                    }
                    *left -= taken;
                    wanted -= taken;
                }
            }
        }
        Some(())
    }

    /// Passes over `count` numbers.
    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        let mut wanted = count;
        while wanted > 0 {
            match &mut self.run {
                Run::Same { left: 0, .. } | Run::Packed { left: 0, .. } => self.begin_run()?,
                Run::Same { left, .. } => {
                    let taken = wanted.min(*left);
                    *left -= taken;
                    wanted -= taken;
                }
                Run::Packed { bit, left } => {
                    let taken = wanted.min(*left);
                    *bit += taken * self.width;
                    *left -= taken;
                    wanted -= taken;
                }
            }
        }
        Some(())
    }

    fn begin_run(&mut self) -> Option<()> {
        let head = usize::try_from(varint(self.bytes, &mut self.at)?).ok()?;
        let length = head >> 1;
        if length == 0 {
            return None;
        }
        if head & 1 == 1 {
            let (left, bytes) = (length.checked_mul(8)?, length.checked_mul(self.width)?);
            // The last run may be cut behind its last number.
            let there = bytes.min(self.bytes.len().checked_sub(self.at)?);
            self.run = Run::Packed {
                bit: self.at.checked_mul(8)?,
                left,
            };
            self.at += there;
        } else {
            let end = self.at.checked_add(self.width.div_ceil(8))?;
            let mut value = [0; 4];
            let stored = self.bytes.get(self.at..end)?;
            value[..stored.len()].copy_from_slice(stored);
            self.run = Run::Same {
                value: u32::from_le_bytes(value),
                left: length,
            };
            self.at = end;
        }
        Some(())
    }
}

/// The number of `width` bits that begins at that bit.
fn packed(bytes: &[u8], bit: usize, width: usize) -> Option<u32> {
    let (byte, shift) = (bit / 8, bit % 8);
    let mut eight = [0; 8];
    match bytes.get(byte..byte + 8) {
        Some(there) => eight.copy_from_slice(there),
        None => {
            if bit + width > bytes.len() * 8 {
                return None;
            }
            let rest = bytes.get(byte..)?;
            eight[..rest.len()].copy_from_slice(rest);
        }
    }
    let mask = (1u64 << width) - 1;
    u32::try_from((u64::from_le_bytes(eight) >> shift) & mask).ok()
}
