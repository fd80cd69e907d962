//! Runs and packed bits in turns: levels that say which values are null, and numbers of a dictionary.

use super::header::varint;

/// Numbers that are unpacked at once: enough that the compiler's loops over them are worth while.
const BLOCK: usize = 256;

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

/// Numbers that follow each other.
pub(super) enum Numbers<'n> {
    /// One number, so many times.
    Same(u32, usize),
    Each(&'n [u32]),
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
        self.several(count, |numbers| match numbers {
            Numbers::Same(value, count) => (0..count).for_each(|_| see(value)),
            Numbers::Each(values) => values.iter().for_each(|value| see(*value)),
        })
    }

    /// Calls `see` with the next `count` numbers, as many at once as there are.
    pub(super) fn several(&mut self, count: usize, mut see: impl FnMut(Numbers<'_>)) -> Option<()> {
        let mut wanted = count;
        let mut block = [0; BLOCK];
        while wanted > 0 {
            let taken = match &mut self.run {
                Run::Same { left: 0, .. } | Run::Packed { left: 0, .. } => {
                    self.begin_run()?;
                    continue;
                }
                Run::Same { value, left } => {
                    let taken = wanted.min(*left);
                    see(Numbers::Same(*value, taken));
                    *left -= taken;
                    taken
                }
                Run::Packed { bit, left } => {
                    let taken = wanted.min(*left).min(BLOCK);
                    let values = &mut block[..taken];
                    unpack(self.bytes, *bit, self.width, values)?;
                    see(Numbers::Each(values));
                    *bit += taken * self.width;
                    *left -= taken;
                    taken
                }
            };
            wanted -= taken;
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

/// The numbers of `width` bits that begin at that bit.
fn unpack(bytes: &[u8], bit: usize, width: usize, out: &mut [u32]) -> Option<()> {
    let (eights, _) = out.as_chunks_mut();
    // A run begins with a byte, and eight numbers end with one; in between one may begin after some were passed over.
    let done = match bit % 8 {
        0 => 8 * unpack_eights(bytes.get(bit / 8..)?, width, eights),
        _ => 0,
    };
    for (at, number) in out.iter_mut().enumerate().skip(done) {
        *number = packed(bytes, bit + at * width, width)?;
    }
    Some(())
}

/// Unpacks eight numbers at a time, where bytes follow that may be read with them; gives how many eights.
fn unpack_eights(bytes: &[u8], width: usize, out: &mut [[u32; 8]]) -> usize {
    macro_rules! of_width {
        ($($width:literal)*) => {
            match width {
                $($width => unpack_eights_of::<$width>(bytes, out),)*
                _ => 0,
            }
        };
    }
    of_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32)
}

/// The width is known when this is compiled, so that shifts are.
fn unpack_eights_of<const WIDTH: usize>(bytes: &[u8], out: &mut [[u32; 8]]) -> usize {
    let mask = u32::MAX >> (32 - WIDTH);
    let mut done = 0;
    for eight in out {
        let Some(there) = bytes.get(done * WIDTH..).and_then(|rest| rest.get(..WIDTH + 8)) else {
            break;
        };
        for (at, number) in eight.iter_mut().enumerate() {
            let (byte, shift) = (at * WIDTH / 8, at * WIDTH % 8);
            let mut word = [0; 8];
            word.copy_from_slice(&there[byte..byte + 8]);
            // What is cut off is of the numbers behind.
            #[expect(clippy::cast_possible_truncation, reason = "the mask takes these bits away")]
            let low = (u64::from_le_bytes(word) >> shift) as u32;
            *number = low & mask;
        }
        done += 1;
    }
    done
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of a width, packed: the first one in the lowest bits.
    fn pack(numbers: &[u32], width: usize) -> Vec<u8> {
        let mut bytes = vec![0; (numbers.len() * width).div_ceil(8)];
        for (at, number) in numbers.iter().enumerate() {
            for bit in 0..width {
                let place = at * width + bit;
                bytes[place / 8] |= ((number >> bit & 1) as u8) << (place % 8);
            }
        }
        bytes
    }

    #[test]
    fn packed_numbers_of_every_width_are_read_from_any_of_them_on() {
        for width in 0..=32 {
            let mask = ((1u64 << width) - 1) as u32;
            let count = 3 * BLOCK as u32;
            let numbers: Vec<u32> = (0..count).map(|at| at.wrapping_mul(0x9e37_79b9) & mask).collect();
            let eights = count / 8;
            let mut bytes = vec![(eights << 1 | 1) as u8 | 0x80, (eights >> 6) as u8];
            bytes.extend(pack(&numbers, width));
            for passed in [0, 1, 7, 8, 300] {
                let mut hybrid = Hybrid::new(&bytes, width).expect("not too wide");
                hybrid.skip(passed).expect("there are as many");
                let mut read = Vec::new();
                let all = hybrid.next(numbers.len() - passed, |number| read.push(number));
                assert_eq!((all, &read[..]), (Some(()), &numbers[passed..]), "{width} bits");
                // What is not there is not read as zeros.
                assert_eq!(hybrid.next(1, |_| {}), None, "{width} bits");
            }
        }
    }
}
