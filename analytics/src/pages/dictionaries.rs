//! The dictionaries of text columns, decoded once and kept.
//!
//! A dictionary belongs to a row group and has megabytes where a hundred thousand users repeat: inflating it for one
//! event would cost more than everything else that the event needs. Uuids are kept as 16 bytes. What does not fit into
//! the bound is decoded each time: slower, and the same answer.

use std::iter;
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use arrow_buffer::OffsetBuffer;
use uuid::Uuid;

use crate::cache::Cache;

/// Bytes of all dictionaries: of uuids those of forty row groups with 100,000 each.
const BYTES_MAX: usize = 64 << 20;

/// A column of a row group of a file, by the file's name and its numbers there.
pub(super) type Name = (Arc<str>, usize, usize);

/// The texts of a dictionary.
#[derive(Debug)]
pub(super) enum Texts {
    /// Each a uuid in lower-case letters.
    Uuids(Vec<[u8; 16]>),
    /// `ends[n]` is where text n ends.
    Any { ends: Vec<u32>, bytes: Vec<u8> },
}

impl Texts {
    /// Texts as a plain page has them.
    pub(super) fn decode(bytes: &[u8], count: usize) -> Option<Self> {
        let texts = || {
            let mut rest = bytes;
            (0..count).map(move |_| {
                let (length, behind) = rest.split_first_chunk::<4>()?;
                let (text, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                rest = behind;
                Some(text)
            })
        };
        // Each text has four bytes at least, so a count that is made up reserves nothing.
        if count > bytes.len() / 4 {
            return None;
        }
        let mut uuids = Vec::with_capacity(count);
        for text in texts() {
            match canonical(text?) {
                Some(uuid) => uuids.push(uuid),
                None => break,
            }
        }
        if uuids.len() == count {
            return Some(Self::Uuids(uuids));
        }
        let (mut ends, mut all) = (Vec::with_capacity(count), Vec::with_capacity(bytes.len()));
        for text in texts() {
            all.extend_from_slice(text?);
            ends.push(u32::try_from(all.len()).ok()?);
        }
        Some(Self::Any { ends, bytes: all })
    }

    /// Appends the text of that number.
    pub(super) fn append(&self, number: u32, out: &mut Vec<u8>) -> Option<()> {
        let number = number as usize;
        match self {
            Self::Uuids(uuids) => {
                let mut text = Uuid::encode_buffer();
                let uuid = Uuid::from_bytes(*uuids.get(number)?);
                out.extend_from_slice(uuid.hyphenated().encode_lower(&mut text).as_bytes());
            }
            Self::Any { ends, bytes } => {
                let begin = match number.checked_sub(1) {
                    Some(before) => *ends.get(before)? as usize,
                    None => 0,
                };
                out.extend_from_slice(bytes.get(begin..*ends.get(number)? as usize)?);
            }
        }
        Some(())
    }

    /// All of them.
    pub(super) fn array(&self) -> Option<ArrayRef> {
        let mut offsets = Vec::with_capacity(self.count() + 1);
        offsets.push(0);
        let mut bytes = Vec::new();
        for number in 0..u32::try_from(self.count()).ok()? {
            self.append(number, &mut bytes)?;
            offsets.push(i32::try_from(bytes.len()).ok()?);
        }
        let offsets = OffsetBuffer::new(offsets.into());
        // Checks that it is UTF-8.
        Some(Arc::new(StringArray::try_new(offsets, bytes.into(), None).ok()?))
    }

    /// How many texts there are.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Uuids(uuids) => uuids.len(),
            Self::Any { ends, .. } => ends.len(),
        }
    }

    /// The numbers of those texts that are among `wanted`, in order.
    pub(super) fn numbers_of(&self, wanted: &[String]) -> Vec<usize> {
        match self {
            Self::Uuids(uuids) => {
                let wanted = wanted.iter().filter_map(|text| canonical(text.as_bytes()));
                places_of(uuids.iter(), wanted.collect::<Vec<_>>().iter())
            }
            Self::Any { ends, bytes } => {
                let begins = iter::once(0).chain(ends.iter().copied());
                let texts = begins
                    .zip(ends)
                    .map(|(begin, end)| bytes.get(begin as usize..*end as usize).unwrap_or_default());
                places_of(texts, wanted.iter().map(String::as_bytes))
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Uuids(uuids) => uuids.len() * 16,
            Self::Any { ends, bytes } => ends.len() * 4 + bytes.capacity(),
        }
    }
}

/// Where among `all` those are that are wanted.
fn places_of<T: Eq + Ord>(all: impl Iterator<Item = T>, wanted: impl Iterator<Item = T>) -> Vec<usize> {
    let mut wanted: Vec<T> = wanted.collect();
    wanted.sort_unstable();
    let all = all.enumerate();
    let found: Vec<_> = match &wanted[..] {
        // Usually one is, and comparing with it is all that a search would do first.
        [one] => all.filter(|(_, text)| text == one).map(|(at, _)| at).collect(),
        several => all
            .filter(|(_, text)| several.binary_search(text).is_ok())
            .map(|(at, _)| at)
            .collect(),
    };
    found
}

/// The uuid whose only text this is.
fn canonical(text: &[u8]) -> Option<[u8; 16]> {
    let parsed = Uuid::try_parse_ascii(text).ok().filter(|_| text.len() == 36)?;
    let mut again = Uuid::encode_buffer();
    let same = parsed.hyphenated().encode_lower(&mut again).as_bytes() == text;
    same.then(|| parsed.into_bytes())
}

/// What is kept.
pub(super) struct Dictionaries(Cache<Name, Arc<Texts>>);

impl Default for Dictionaries {
    fn default() -> Self {
        Self(Cache::new(BYTES_MAX))
    }
}

impl Dictionaries {
    /// A dictionary if it is there.
    pub(super) fn kept(&self, name: &Name) -> Option<Arc<Texts>> {
        self.0.get(name)
    }

    /// A dictionary; `read` decodes it when it is not there.
    pub(super) fn get(&self, name: &Name, read: impl FnOnce() -> Option<Texts>) -> Option<Arc<Texts>> {
        self.kept(name).or_else(|| Some(self.keep(name, read()?)))
    }

    /// Keeps one that was not there, if there is room.
    pub(super) fn keep(&self, name: &Name, texts: Texts) -> Arc<Texts> {
        let texts = Arc::new(texts);
        self.0
            .keep(name.clone(), Arc::clone(&texts), bytes_of(name, &texts));
        texts
    }
}

/// With what a place among them costs.
fn bytes_of(name: &Name, texts: &Texts) -> usize {
    texts.bytes() + name.0.len() + 128
}
