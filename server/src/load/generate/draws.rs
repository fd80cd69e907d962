//! Integer draws of a seeded source.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A source of draws.
#[derive(Debug)]
pub(super) struct Draws(ChaCha8Rng);

impl Draws {
    /// The source of a seed; streams of the same seed draw differently.
    pub(super) fn new(seed: u64, stream: &str) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        for (place, byte) in key[8..].iter_mut().zip(stream.bytes()) {
            *place = byte;
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// 64 bits.
    #[inline]
    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which is not 0. The bias is below 2^-32 for every bound in use.
    #[inline]
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `least` to `most`, both included.
    #[inline]
    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// As [`Self::between`], the middle far likelier than the ends: the mean of four draws of 16 bits.
    #[inline]
    pub(super) fn about(&mut self, least: u64, most: u64) -> u64 {
        let bits = self.bits();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        least + ((sum * (most - least + 1)) >> 18)
    }

    /// Whether something happens that does so `percent` times of a hundred.
    #[inline]
    pub(super) fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several, all alike.
    #[inline]
    pub(super) fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// One of several, each with its share of a hundred; the last one takes what is left.
    #[inline]
    pub(super) fn share_of<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let mut left = self.below(100);
        for (share, choice) in choices {
            if left < *share {
                return *choice;
            }
            left -= share;
        }
        choices.last().expect("there is a choice").1
    }
}
