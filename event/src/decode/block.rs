//! Sixteen bytes of text at once: what the pass over lines in the common form compares and looks for.
//!
//! On x86-64 these are single SSE2 instructions, which every such processor has; elsewhere the same answers come from
//! a loop that the compiler is free to make as good.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64;

/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 16;

/// A set of places in a block, the first byte's in the lowest bit.
pub(super) type Places = u32;

/// Sixteen bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block(Bytes);

#[cfg(target_arch = "x86_64")]
type Bytes = x86_64::__m128i;
#[cfg(not(target_arch = "x86_64"))]
type Bytes = [u8; BLOCK_BYTES];

#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "the instructions of SSE2 are marked unsafe for processors that lack them; no x86-64 does, and none of these touches memory"
)]
impl Block {
    #[inline]
    pub(super) fn new(bytes: &[u8; BLOCK_BYTES]) -> Self {
        let bits = u128::from_le_bytes(*bytes);
        // SAFETY: every x86-64 processor has SSE2.
        Self(unsafe { x86_64::_mm_set_epi64x((bits >> 64) as i64, bits as i64) })
    }

    /// Where both have the same byte.
    #[inline]
    pub(super) fn equal(self, other: Self) -> Places {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { x86_64::_mm_movemask_epi8(x86_64::_mm_cmpeq_epi8(self.0, other.0)) as Places }
    }

    /// Where a JSON string does not simply go on: quotes, backslashes and control characters.
    #[inline]
    pub(super) fn special(self) -> Places {
        use x86_64::{_mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8};
        // SAFETY: every x86-64 processor has SSE2.
        unsafe {
            let quote = _mm_cmpeq_epi8(self.0, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(self.0, _mm_set1_epi8(b'\\' as i8));
            let control = _mm_cmpeq_epi8(_mm_min_epu8(self.0, _mm_set1_epi8(0x1F)), self.0);
            _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)) as Places
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Block {
    #[inline]
    pub(super) fn new(bytes: &[u8; BLOCK_BYTES]) -> Self {
        Self(*bytes)
    }

    /// Where both have the same byte.
    #[inline]
    pub(super) fn equal(self, other: Self) -> Places {
        places(|at| self.0[at] == other.0[at])
    }

    /// Where a JSON string does not simply go on: quotes, backslashes and control characters.
    #[inline]
    pub(super) fn special(self) -> Places {
        places(|at| matches!(self.0[at], b'"' | b'\\' | ..0x20))
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn places(holds: impl Fn(usize) -> bool) -> Places {
    (0..BLOCK_BYTES).fold(0, |places, at| places | Places::from(holds(at)) << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_is_judged_as_json_has_it() {
        for place in 0..BLOCK_BYTES {
            for byte in 0..=255_u8 {
                let mut bytes = [b'x'; BLOCK_BYTES];
                bytes[place] = byte;
                let special = matches!(byte, b'"' | b'\\' | ..0x20);
                let block = Block::new(&bytes);
                assert_eq!(
                    block.special(),
                    Places::from(special) << place,
                    "{byte} at {place}"
                );
                let other = Block::new(&[b'x'; BLOCK_BYTES]);
                let all = 0xFFFF;
                let expected = if byte == b'x' { all } else { all & !(1 << place) };
                assert_eq!(block.equal(other), expected, "{byte} at {place}");
            }
        }
    }
}
