//! The dictionaries of text columns, decoded once and kept.
//!
//! A dictionary belongs to a row group and has megabytes where a hundred thousand users repeat: inflating it for one
//! event would cost more than everything else that the event needs. Uuids are kept as 16 bytes. What does not fit into
//! the bound is decoded each time: slower, and the same answer. But where one of those was found to have nothing but
//! uuids, as they are, that is kept: then each of them is found in the file by its number, however many events there are.

use std::fs::File;
use std::iter;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use arrow_buffer::OffsetBuffer;
use uuid::Uuid;

use crate::cache::Cache;

/// Bytes of all dictionaries: of uuids those of forty row groups with 100,000 each.
const BYTES_MAX: usize = 64 << 20;

/// Bytes of what is known of dictionaries that lie in their files: ten thousand row groups.
const IN_FILES_BYTES_MAX: usize = 4 << 20;
/// What a place among them costs beside the name.
const PLACE_BYTES: usize = 128;
/// Bytes of a uuid in a plain page, with its length before it.
const UUID_BYTES: usize = 4 + 36;

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

/// A dictionary that was decoded, and where it begins in its file when it lies there as it is.
pub(super) struct Decoded {
    pub(super) texts: Texts,
    pub(super) stored_at: Option<u64>,
}

/// Where texts are taken from by their numbers.
pub(super) enum Dictionary<'a> {
    Kept(Arc<Texts>),
    InFile(&'a File, UuidsInFile),
}

/// So many uuids in a file, each in lower-case letters behind its length.
#[derive(Clone, Copy, Debug)]
pub(super) struct UuidsInFile {
    at: u64,
    count: usize,
}

impl Dictionary<'_> {
    /// Appends the text of that number.
    pub(super) fn append(&self, number: u32, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Kept(texts) => texts.append(number, out),
            Self::InFile(file, uuids) => {
                let mut bytes = [0; UUID_BYTES];
                let number = Some(number as usize).filter(|number| *number < uuids.count)?;
                file.read_exact_at(&mut bytes, uuids.at + (number * UUID_BYTES) as u64)
                    .ok()?;
                let (length, text) = bytes.split_first_chunk::<4>()?;
                if u32::from_le_bytes(*length) as usize != text.len() {
                    return None;
                }
                out.extend_from_slice(text);
                Some(())
            }
        }
    }
}

/// What is kept.
pub(super) struct Dictionaries {
    texts: Cache<Name, Arc<Texts>>,
    in_files: Cache<Name, UuidsInFile>,
}

impl Default for Dictionaries {
    fn default() -> Self {
        Self::of(BYTES_MAX)
    }
}

impl Dictionaries {
    /// At most so many bytes of texts.
    pub(super) fn of(bytes_max: usize) -> Self {
        Self {
            texts: Cache::new(bytes_max),
            in_files: Cache::new(IN_FILES_BYTES_MAX),
        }
    }

    /// A dictionary if it is there.
    pub(super) fn kept(&self, name: &Name) -> Option<Arc<Texts>> {
        self.texts.get(name)
    }

    /// What has a few texts of a dictionary of `file`; `read` decodes it when nothing is known of it.
    pub(super) fn few<'a>(
        &self,
        name: &Name,
        file: &'a File,
        read: impl FnOnce() -> Option<Decoded>,
    ) -> Option<Dictionary<'a>> {
        if let Some(texts) = self.kept(name) {
            return Some(Dictionary::Kept(texts));
        }
        if let Some(uuids) = self.in_files.get(name) {
            return Some(Dictionary::InFile(file, uuids));
        }
        Some(Dictionary::Kept(self.keep(name, read()?)))
    }

    /// A dictionary; `read` decodes it when it is not there.
    pub(super) fn get(&self, name: &Name, read: impl FnOnce() -> Option<Decoded>) -> Option<Arc<Texts>> {
        self.kept(name).or_else(|| Some(self.keep(name, read()?)))
    }

    /// Keeps one that was not there, if there is room, and what is known of it otherwise.
    pub(super) fn keep(&self, name: &Name, decoded: Decoded) -> Arc<Texts> {
        let place = name.0.len() + PLACE_BYTES;
        if let (Texts::Uuids(uuids), Some(at)) = (&decoded.texts, decoded.stored_at) {
            let count = uuids.len();
            self.in_files.keep(name.clone(), UuidsInFile { at, count }, place);
        }
        let texts = Arc::new(decoded.texts);
        self.texts
            .keep(name.clone(), Arc::clone(&texts), texts.bytes() + place);
        texts
    }
}
