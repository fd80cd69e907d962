//! The text of a token and what is kept of it.
//!
//! A token is 256 random bits, made here and nowhere else, as hexadecimal digits behind a prefix by which people and
//! scanners of leaked secrets know it. Nobody can guess it or find it from its SHA-256 by trying, so one round
//! without salt is enough: slow hashes and salts are for what people make up. That is also why only texts of this
//! form are looked up: whoever writes the hash of a word into the file has a token that never works.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// What every token begins with.
const PREFIX: &str = "tidemill_";

/// Random bytes of a token.
const SECRET_BYTES: usize = 32;

/// What the text of a digest begins with.
const HASH_PREFIX: &str = "sha256:";

/// The SHA-256 of a token, in words so that comparing is quick.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest([u64; 4]);

/// A new token's text, to be shown once.
///
/// # Errors
/// When the system has no randomness to give.
pub(crate) fn new_token() -> Result<String, String> {
    let mut secret = [0; SECRET_BYTES];
    let provider = rustls::crypto::ring::default_provider();
    let filled = provider.secure_random.fill(&mut secret);
    filled.map_err(|_| "the system gives no random bytes".to_owned())?;
    let mut text = String::from(PREFIX);
    for byte in secret {
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(text)
}

impl Digest {
    /// Of a token as it was presented; `None` when it has not the form of one.
    pub(crate) fn of_token(text: &[u8]) -> Option<Self> {
        let secret = text.strip_prefix(PREFIX.as_bytes())?;
        let hexadecimal = secret
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if secret.len() != 2 * SECRET_BYTES || !hexadecimal {
            return None;
        }
        Some(Self::from_bytes(Sha256::digest(text).into()))
    }

    /// As a file has it: `sha256:` and 64 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(HASH_PREFIX)?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self::from_bytes(bytes))
    }

    fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        Self(words)
    }
}

impl ConstantTimeEq for Digest {
    fn ct_eq(&self, other: &Self) -> Choice {
        let words = self.0.iter().zip(&other.0);
        let differing = words.fold(0, |differing, (one, other)| differing | (one ^ other));
        differing.ct_eq(&0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HASH_PREFIX)?;
        self.0.iter().try_for_each(|word| write!(f, "{word:016x}"))
    }
}

/// Not for logs either: whoever collects them needs no hashes.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_the_hash_that_sha256sum_gives() {
        let token = format!("{PREFIX}{}", "0123456789abcdef".repeat(4));
        let digest = Digest::of_token(token.as_bytes()).expect("a token");
        // printf %s tidemill_0123… | sha256sum
        let known = "sha256:718aeeb88cfc70ead8e01082d6bd1b059b011f54cceeb5e3f8dfa14a3f384964";
        assert_eq!(digest.to_string(), known);
        assert_eq!(Digest::parse(known), Some(digest));
        assert!(bool::from(digest.ct_eq(&digest)));
    }

    #[test]
    fn new_tokens_differ_and_have_the_form_of_one() {
        let (one, other) = (new_token().expect("random"), new_token().expect("random"));
        assert_ne!(one, other);
        let digests = [&one, &other].map(|text| Digest::of_token(text.as_bytes()).expect("a token"));
        assert!(!bool::from(digests[0].ct_eq(&digests[1])));
    }

    #[test]
    fn what_has_not_the_form_of_a_token_or_a_hash_is_none() {
        let digits = "0".repeat(64);
        for text in [
            String::new(),
            "secret".to_owned(),
            PREFIX.to_owned(),
            digits.clone(),
            format!("{PREFIX}{}", "A".repeat(64)),
            format!("{PREFIX}{digits}0"),
            format!(" {PREFIX}{digits}"),
        ] {
            assert!(Digest::of_token(text.as_bytes()).is_none(), "{text:?}");
        }
        for text in [
            String::new(),
            digits.clone(),
            format!("sha256:{digits}0"),
            format!("sha512:{digits}"),
            format!("sha256:{}", "g".repeat(64)),
            format!("sha256:+{}", "0".repeat(63)),
        ] {
            assert!(Digest::parse(&text).is_none(), "{text:?}");
        }
        assert!(Digest::parse(&format!("sha256:{}", "F".repeat(64))).is_some());
    }
}
