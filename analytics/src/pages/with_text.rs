//! Rows that have one of a few texts: their numbers are looked for, and no text is looked at but those of a dictionary.

use std::fs::File;
use std::sync::Arc;

use arrow_array::ArrayRef;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Encoding;

use super::hybrid::{Hybrid, Numbers};
use super::{Chunk, Header, Kind, PAGE_ROWS_MAX, Pages, levels};

/// Most texts that are looked for among the bytes of a dictionary, one after the other.
const SOUGHT_MAX: usize = 4;

impl Pages {
    /// Whether the dictionary of a column of that number is in memory.
    pub(crate) fn keeps_texts(&self, path: &str, (group, column): (usize, usize)) -> bool {
        self.dictionaries.kept(&(path.into(), group, column)).is_some()
    }

    /// Goes through the rows of a row group, whose column of that number has numbers ([`super::has_numbers`]): `see`
    /// gets runs of rows, and whether their text there is one of `texts`. `None` when `see` says so, or when the general
    /// reader is needed; what was seen is of no meaning then.
    pub(crate) fn with_texts(
        &self,
        path: &str,
        file: &File,
        footer: &ArrowReaderMetadata,
        (group, column): (usize, usize),
        texts: &[String],
        mut see: impl FnMut(bool, usize) -> Option<()>,
    ) -> Option<()> {
        let chunk = Chunk::new(&Arc::from(path), file, footer, group, column)?;
        let kept = self.dictionaries.kept(&chunk.name);
        // A bloom filter says yes a few times in a hundred where it should not, and nobody needs a hundred thousand texts
        // decoded to see that one is not among their bytes.
        if kept.is_none() && texts.len() <= SOUGHT_MAX && !chunk.may_have(texts)? {
            return see(false, chunk.rows);
        }
        let dictionary = match kept {
            Some(kept) => kept,
            None => self.dictionaries.keep(&chunk.name, chunk.dictionary()?),
        };
        let numbers = dictionary.numbers_of(texts);
        if numbers.is_empty() {
            return see(false, chunk.rows);
        }
        chunk.look_through(Wanted::of(&numbers, dictionary.count()), false, see)
    }

    /// As [`Pages::with_texts`], of the rows that pass: `judge` is given the texts of the row group, half as
    /// many as there are rows at most, and says of each of them, and of a row without one, whether it does.
    pub(crate) fn with_passing_texts(
        &self,
        path: &str,
        file: &File,
        footer: &ArrowReaderMetadata,
        (group, column): (usize, usize),
        judge: impl FnOnce(&ArrayRef) -> Option<(Vec<bool>, bool)>,
        mut see: impl FnMut(bool, usize) -> Option<()>,
    ) -> Option<()> {
        let chunk = Chunk::new(&Arc::from(path), file, footer, group, column)?;
        let count_max = chunk.rows / 2;
        let read = || chunk.dictionary_of(count_max);
        let dictionary = self.dictionaries.get(&chunk.name, read)?;
        // One that is kept may have more.
        (dictionary.count() <= count_max).then_some(())?;
        let (pass, absent_passes) = judge(&dictionary.array()?)?;
        if !absent_passes && !pass.contains(&true) {
            return see(false, chunk.rows);
        }
        chunk.look_through(Wanted::Are(pass), absent_passes, see)
    }
}

impl Chunk<'_> {
    /// Goes through the rows, each of which has the number of a text, or none.
    fn look_through(
        &self,
        wanted: Wanted,
        absent_wanted: bool,
        see: impl FnMut(bool, usize) -> Option<()>,
    ) -> Option<()> {
        let mut seen = Seen::new(wanted, see);
        let optional = self.meta.column_descr().max_def_level() == 1;
        for page in self.pages() {
            let (location, rows) = page?;
            let bytes = self.bytes(location.offset, location.compressed_page_size)?;
            let header = Header::read(&bytes).filter(|header| header.kind == Kind::Data)?;
            let is_numbers = matches!(
                header.encoding,
                Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY
            );
            let count = rows.end.checked_sub(rows.start)?;
            if header.values != count || count > PAGE_ROWS_MAX || !is_numbers {
                return None;
            }
            let mut page = self.inflated(&bytes, &header)?;
            let (mut at, mut valid) = (0, Vec::new());
            if optional {
                let mut levels = levels(&mut page, &mut at)?;
                levels.next(rows.len(), |level| valid.push(level == 1))?;
            } else {
                valid.resize(rows.len(), true);
            }
            let (width, numbers) = page.whole()?.get(at..)?.split_first()?;
            let mut numbers = Hybrid::new(numbers, usize::from(*width))?;
            for valid in valid.chunk_by(PartialEq::eq) {
                if valid.first() == Some(&true) {
                    numbers.several(valid.len(), |numbers| seen.numbers(&numbers))?;
                } else {
                    seen.rows(absent_wanted, valid.len());
                }
            }
            (!seen.given_up).then_some(())?;
        }
        seen.end()
    }
}

/// The numbers that are looked for.
enum Wanted {
    /// One of so many.
    One { number: u32, count: u32 },
    /// Of each number of the dictionary whether it is.
    Are(Vec<bool>),
}

impl Wanted {
    /// Those of `numbers`, of a dictionary of so many texts.
    fn of(numbers: &[usize], count: usize) -> Self {
        if let [one] = numbers
            && let (Ok(number), Ok(count)) = (u32::try_from(*one), u32::try_from(count))
        {
            return Self::One { number, count };
        }
        let mut are = vec![false; count];
        numbers.iter().for_each(|number| are[*number] = true);
        Self::Are(are)
    }

    /// Whether one of them may be, or is none of the dictionary's.
    fn has_any(&self, numbers: &[u32]) -> bool {
        match self {
            Self::One { number, count } => {
                let is = |other: &u32| (other == number) | (other >= count);
                numbers.iter().fold(false, |any, other| any | is(other))
            }
            Self::Are(are) => {
                let is = |number: &u32| are.get(*number as usize).copied().unwrap_or(true);
                numbers.iter().fold(false, |any, number| any | is(number))
            }
        }
    }

    /// Nothing for a number that the dictionary does not have.
    fn has(&self, other: u32) -> Option<bool> {
        match self {
            Self::One { number, count } => (other < *count).then_some(other == *number),
            Self::Are(are) => are.get(other as usize).copied(),
        }
    }
}

/// Puts rows together that are alike before they are seen.
struct Seen<F> {
    wanted: Wanted,
    see: F,
    /// Rows that have none of the texts, and were not told yet.
    others: usize,
    /// A number is none of the dictionary's, or nobody wants to see more.
    given_up: bool,
}

impl<F: FnMut(bool, usize) -> Option<()>> Seen<F> {
    fn new(wanted: Wanted, see: F) -> Self {
        Self {
            wanted,
            see,
            others: 0,
            given_up: false,
        }
    }

    fn numbers(&mut self, numbers: &Numbers<'_>) {
        match numbers {
            Numbers::Same(number, count) => self.number(*number, *count),
            // Hardly any of so many numbers is wanted, and that is seen soonest without a branch for each.
            Numbers::Each(numbers) if !self.wanted.has_any(numbers) => self.rows(false, numbers.len()),
            Numbers::Each(numbers) => numbers.iter().for_each(|number| self.number(*number, 1)),
        }
    }

    fn number(&mut self, number: u32, count: usize) {
        match self.wanted.has(number) {
            Some(is) => self.rows(is, count),
            None => self.given_up = true,
        }
    }

    fn rows(&mut self, are: bool, count: usize) {
        if self.given_up {
            return;
        }
        if !are {
            self.others += count;
            return;
        }
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            self.given_up |= (self.see)(false, others).is_none();
        }
        self.given_up |= (self.see)(true, count).is_none();
    }

    fn end(mut self) -> Option<()> {
        (!self.given_up).then_some(())?;
        (self.see)(false, self.others)
    }
}
