//! Distinct counts in 4 KiB: HyperLogLog with 4,096 registers, standard error 1.6 %.

use std::hash::Hasher;

const BITS: u32 = 12;
const REGISTERS: usize = 1 << BITS;

/// Relative standard error, 1.04 / sqrt(4096).
pub(crate) const STANDARD_ERROR: f64 = 0.016_25;

/// FNV-1a with a final mix: the same in every version and process, because sketches are kept on disk.
pub(crate) struct StableHasher(u64);

impl StableHasher {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

/// The same in every version and process, because sketches are kept on disk; by words, because each row of a file
/// is hashed.
fn stable_hash(value: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9fb2_1c65_1e98_df25;
    let mut hash = FACTOR ^ value.len() as u64;
    let (words, rest) = value.as_chunks::<8>();
    let mut take = |word: [u8; 8]| {
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
        hash ^= hash >> 29;
    };
    for word in words {
        take(*word);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        take(word);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A distinct count.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sketch {
    /// Empty until the first value, so that small groups cost nothing.
    registers: Vec<u8>,
}

impl Sketch {
    /// Counts a value.
    pub(crate) fn add(&mut self, value: &[u8]) {
        let hash = stable_hash(value);
        self.registers.resize(REGISTERS, 0);
        let register = (hash >> (64 - BITS)) as usize;
        let rank = ((hash << BITS) | (1 << (BITS - 1))).leading_zeros() as u8 + 1;
        self.registers[register] = self.registers[register].max(rank);
    }

    /// Adds what another has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.registers.is_empty() {
            return;
        }
        self.registers.resize(REGISTERS, 0);
        for (mine, other) in self.registers.iter_mut().zip(&other.registers) {
            *mine = (*mine).max(*other);
        }
    }

    /// About how many different values there were.
    pub(crate) fn estimate(&self) -> u64 {
        if self.registers.is_empty() {
            return 0;
        }
        let m = REGISTERS as f64;
        let sum: f64 = self
            .registers
            .iter()
            .map(|rank| 2f64.powi(-i32::from(*rank)))
            .sum();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let zeros = self.registers.iter().filter(|rank| **rank == 0).count();
        let estimate = if raw <= 2.5 * m && zeros > 0 {
            m * (m / zeros as f64).ln()
        } else {
            raw
        };
        estimate.round() as u64
    }

    /// The registers, two hexadecimal digits each.
    pub(crate) fn to_hex(&self) -> String {
        self.registers.iter().map(|rank| format!("{rank:02x}")).collect()
    }

    /// The reverse of [`to_hex`](Self::to_hex).
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        if !text.is_ascii() || (!text.is_empty() && text.len() != 2 * REGISTERS) {
            return None;
        }
        let digits = (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok());
        Some(Self {
            registers: digits.collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_stay_within_four_standard_errors_and_survive_merging_and_text() {
        for count in [0u64, 1, 10, 1_000, 20_000, 500_000] {
            let (mut odd, mut even) = (Sketch::default(), Sketch::default());
            for value in 0..count {
                let half = if value % 2 == 0 { &mut even } else { &mut odd };
                half.add(value.to_string().as_bytes());
            }
            odd.merge(&Sketch::from_hex(&even.to_hex()).expect("own text"));
            let error = odd.estimate().abs_diff(count) as f64;
            assert!(
                error <= 1.0 + 4.0 * STANDARD_ERROR * count as f64,
                "{count}: {}",
                odd.estimate()
            );
        }
    }
}
