//! Rows that have one of a few texts: their numbers are looked for, and no text is looked at but those of a dictionary.

use std::fs::File;
use std::sync::Arc;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Encoding;

use super::hybrid::Hybrid;
use super::{Chunk, Header, Kind, Pages, levels};

/// Most texts that are looked for among the bytes of a dictionary, one after the other.
const SOUGHT_MAX: usize = 4;

impl Pages {
    /// Goes through the rows of a row group: `see` gets runs of them, and whether their text in the column of that
    /// number is one of `texts`. `None` when the general reader is needed; what was seen is of no meaning then.
    pub(crate) fn with_texts(
        &self,
        path: &str,
        file: &File,
        footer: &ArrowReaderMetadata,
        (group, column): (usize, usize),
        texts: &[String],
        mut see: impl FnMut(bool, usize),
    ) -> Option<()> {
        let chunk = Chunk::new(&Arc::from(path), file, footer, group, column)?;
        let kept = self.dictionaries.kept(&chunk.name);
        // A bloom filter says yes a few times in a hundred where it should not, and nobody needs a hundred thousand texts
        // decoded to see that one is not among their bytes.
        if kept.is_none() && texts.len() <= SOUGHT_MAX && chunk.is_numbers() && !chunk.may_have(texts)? {
            see(false, chunk.rows);
            return Some(());
        }
        let dictionary = match kept {
            Some(kept) => kept,
            None => self.dictionaries.get(&chunk.name, || chunk.dictionary())?,
        };
        let are = dictionary.are(texts);
        if !are.contains(&true) && chunk.is_numbers() {
            see(false, chunk.rows);
            return Some(());
        }
        let mut one = are
            .iter()
            .enumerate()
            .filter(|(_, is)| **is)
            .map(|(number, _)| number);
        let one = match (one.next(), one.next()) {
            (Some(one), None) => u32::try_from(one).ok(),
            _ => None,
        };
        // Pages that are not of numbers may have it all the same, so they are looked through in any case.
        let (mut others, mut damaged) = (0, false);
        let mut look = |number: Option<u32>| {
            let is = match (number, one) {
                (Some(number), Some(one)) => number == one,
                (Some(number), None) => are.get(number as usize).copied().unwrap_or_else(|| {
                    damaged = true;
                    false
                }),
                (None, _) => false,
            };
            if is {
                see(false, std::mem::take(&mut others));
                see(true, 1);
            } else {
                others += 1;
            }
        };
        let optional = chunk.meta.column_descr().max_def_level() == 1;
        for page in chunk.pages() {
            let (location, rows) = page?;
            let bytes = chunk.bytes(location.offset, location.compressed_page_size)?;
            let header = Header::read(&bytes).filter(|header| header.kind == Kind::Data)?;
            let is_numbers = matches!(
                header.encoding,
                Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY
            );
            if header.values != rows.end.checked_sub(rows.start)? || !is_numbers {
                return None;
            }
            let mut page = chunk.inflated(&bytes, &header)?;
            let (mut at, mut valid) = (0, Vec::new());
            if optional {
                let mut levels = levels(&mut page, &mut at)?;
                levels.next(rows.len(), |level| valid.push(level == 1))?;
            }
            let (width, numbers) = page.whole()?.get(at..)?.split_first()?;
            let mut numbers = Hybrid::new(numbers, usize::from(*width))?;
            if valid.iter().all(|valid| *valid) {
                numbers.next(rows.len(), |number| look(Some(number)))?;
                continue;
            }
            for valid in valid {
                if valid {
                    numbers.next(1, |number| look(Some(number)))?;
                } else {
                    look(None);
                }
            }
        }
        see(false, others);
        (!damaged).then_some(())
    }
}
