//! Rows that have one of a few texts: their numbers are looked for, and no text is looked at but those of a dictionary.

use std::fs::File;
use std::sync::Arc;

use arrow_array::ArrayRef;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Encoding;

use super::hybrid::{Hybrid, Numbers};
use super::{Chunk, Header, Kind, Pages, levels};

/// Most texts that are looked for among the bytes of a dictionary, one after the other.
const SOUGHT_MAX: usize = 4;

impl Pages {
    /// Whether the dictionary of a column of that number is in memory.
    pub(crate) fn keeps_texts(&self, path: &str, (group, column): (usize, usize)) -> bool {
        self.dictionaries.kept(&(path.into(), group, column)).is_some()
    }

    /// Goes through the rows of a row group: `see` gets runs of them, and whether their text in the column of that
    /// number is one of `texts`. `None` when `see` says so, or when the general reader is needed; what was seen is of no
    /// meaning then.
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
        if kept.is_none() && texts.len() <= SOUGHT_MAX && chunk.is_numbers() && !chunk.may_have(texts)? {
            return see(false, chunk.rows);
        }
        let dictionary = match kept {
            Some(kept) => kept,
            None => self.dictionaries.keep(&chunk.name, chunk.dictionary()?),
        };
        let numbers = dictionary.numbers_of(texts);
        if numbers.is_empty() && chunk.is_numbers() {
            return see(false, chunk.rows);
        }
        // Pages that are not of numbers may have it all the same, so they are looked through in any case.
        chunk.look_through(Wanted::of(&numbers, dictionary.count()), false, see)
    }

    /// As [`Pages::with_texts`], of the rows that pass: `judge` is given the texts of the row group, fewer than
    /// half as many as there are rows, and says of each of them, and of a row without one, whether it does.
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
        let dictionary = self.dictionaries.get(&chunk.name, || chunk.dictionary())?;
        if dictionary.count() > chunk.rows / 2 {
            return None;
        }
        let (pass, absent_passes) = judge(&dictionary.array()?)?;
        if !absent_passes && !pass.contains(&true) && chunk.is_numbers() {
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
            if header.values != rows.end.checked_sub(rows.start)? || !is_numbers {
                return None;
            }
            let mut page = self.inflated(&bytes, &header)?;
            let (mut at, mut valid) = (0, Vec::new());
            if optional {
                let mut levels = levels(&mut page, &mut at)?;
                levels.next(rows.len(), |level| valid.push(level == 1))?;
            }
            let (width, numbers) = page.whole()?.get(at..)?.split_first()?;
            let mut numbers = Hybrid::new(numbers, usize::from(*width))?;
            if valid.iter().all(|valid| *valid) {
                numbers.several(rows.len(), |numbers| seen.numbers(&numbers))?;
            } else {
                for valid in valid {
                    if valid {
                        numbers.several(1, |numbers| seen.numbers(&numbers))?;
                    } else {
                        seen.rows(absent_wanted, 1);
                    }
                }
            }
            (!seen.given_up).then_some(())?;
        }
        seen.end()
    }
}

/// The numbers that are looked for.
enum Wanted {
    One(u32),
    /// Of each number of the dictionary whether it is.
    Are(Vec<bool>),
}

impl Wanted {
    /// Those of `numbers`, of a dictionary of so many texts.
    fn of(numbers: &[usize], count: usize) -> Self {
        if let [one] = numbers
            && let Ok(one) = u32::try_from(*one)
        {
            return Self::One(one);
        }
        let mut are = vec![false; count];
        numbers.iter().for_each(|number| are[*number] = true);
        Self::Are(are)
    }

    /// Whether one of them may be.
    fn has_any(&self, numbers: &[u32]) -> bool {
        match self {
            Self::One(one) => numbers.iter().fold(false, |any, number| any | (number == one)),
            Self::Are(are) => {
                let is = |number: &u32| are.get(*number as usize).copied().unwrap_or(true);
                numbers.iter().fold(false, |any, number| any | is(number))
            }
        }
    }

    /// Nothing for a number that the dictionary does not have.
    fn has(&self, number: u32) -> Option<bool> {
        match self {
            Self::One(one) => Some(number == *one),
            Self::Are(are) => are.get(number as usize).copied(),
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
        match (numbers, &self.wanted) {
            (Numbers::Same(number, count), wanted) => match wanted.has(*number) {
                Some(is) => self.rows(is, *count),
                None => self.given_up = true,
            },
            // Hardly any of so many numbers is wanted, and that is seen soonest without a branch for each.
            (Numbers::Each(numbers), wanted) if !wanted.has_any(numbers) => self.others += numbers.len(),
            (Numbers::Each(numbers), _) => {
                for number in *numbers {
                    match self.wanted.has(*number) {
                        Some(is) => self.rows(is, 1),
                        None => self.given_up = true,
                    }
                }
            }
        }
    }

    fn rows(&mut self, are: bool, count: usize) {
        if are {
            let others = std::mem::take(&mut self.others);
            let go_on = (self.see)(false, others).and_then(|()| (self.see)(true, count));
            self.given_up |= go_on.is_none();
        } else {
            self.others += count;
        }
    }

    fn end(mut self) -> Option<()> {
        (!self.given_up).then_some(())?;
        (self.see)(false, self.others)
    }
}
