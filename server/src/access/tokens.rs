//! The tokens that there are, and the look-up among them, which takes the same time whichever is found and whether.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use analytics::Readable;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::{Digest, Grants, Streams};

/// Most tokens: every request is compared with each of them.
pub(super) const TOKENS_MAX: usize = 1_024;

/// Longest name of a token, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// The name of a token, which is no secret: letters, digits, `_`, `-` and `.`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenName(Arc<str>);

/// One entry of the file.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) name: TokenName,
    pub(crate) hash: Digest,
    pub(crate) grants: Grants,
    /// From then on it is as good as none.
    pub(crate) expires: Option<SystemTime>,
    /// The same as `grants.read`; `None` for every stream.
    pub(super) readable: Option<Readable>,
}

/// Every entry of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens(Vec<Arc<Token>>);

impl TokenName {
    /// Takes a name from outside.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed) {
            return Ok(Self(name.into()));
        }
        Err(format!(
            "a token's name has 1 to {NAME_BYTES_MAX} letters, digits, `_`, `-` and `.`"
        ))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Token {
    /// A token of that name.
    pub(crate) fn new(name: TokenName, hash: Digest, grants: Grants, expires: Option<SystemTime>) -> Self {
        let readable = match &grants.read {
            Streams::All => None,
            Streams::Named(names) => Some(Readable::only(names.iter().cloned())),
            Streams::No => Some(Readable::only::<String>([])),
        };
        Self {
            name,
            hash,
            grants,
            expires,
            readable,
        }
    }

    /// Whether its time is over.
    pub(crate) fn expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }
}

impl Tokens {
    /// These, in this order.
    pub(super) fn new(tokens: Vec<Arc<Token>>) -> Self {
        Self(tokens)
    }

    /// The token with that hash. Every entry is compared, in the same time whether and which one it is.
    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<Token>> {
        let (mut at, mut found) = (0_u32, Choice::from(0));
        for (number, token) in (0_u32..).zip(&self.0) {
            let equal = token.hash.ct_eq(digest);
            at.conditional_assign(&number, equal);
            found |= equal;
        }
        let token = self.0.get(at as usize)?;
        bool::from(found).then(|| Arc::clone(token))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, in the order of the file.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Token> {
        self.0.iter().map(Arc::as_ref)
    }
}
