//! Where a client stands in a stream, and how that is written.
//!
//! | written | means |
//! |---|---|
//! | `partition:offset:row` | an event: whoever resumes goes on behind it |
//! | `partition:offset` | a position: whoever resumes goes on with that record |
//!
//! Both may stand in `?from=`, in `Last-Event-ID` and in the ids that are given out. A stream of several partitions
//! has ids that name each of them, with commas: first the event's own, then where the client is in the others. So an
//! id alone says everything that was received.

use event::{Offset, Partition};

use crate::QueryError;

/// Longest text of places: as many partitions as a topic sensibly has, with the largest numbers.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// The next event of one partition: the first one at or after this row of this record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) offset: Offset,
    pub(super) row: u32,
}

impl Place {
    /// The first event of a record.
    pub(super) fn record(offset: Offset) -> Self {
        Self { offset, row: 0 }
    }

    /// Behind an event.
    pub(super) fn behind(offset: Offset, row: u32) -> Self {
        Self {
            offset,
            row: row.saturating_add(1),
        }
    }

    /// Appends it as it is written, for a partition.
    pub(super) fn write(self, partition: Partition, out: &mut String) {
        use std::fmt::Write;
        let written = match self.row.checked_sub(1) {
            Some(row) => write!(out, "{partition}:{}:{row}", self.offset),
            None => write!(out, "{partition}:{}", self.offset),
        };
        written.expect("a `String` takes any text");
    }
}

/// Where a client begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// With the oldest record that the journal has.
    Start,
    /// With what comes next.
    End,
    /// Here; partitions that are not named begin with what comes next.
    At(Vec<(Partition, Place)>),
}

impl Begin {
    /// Reads `start`, `end` or places; `name` is the parameter's.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, QueryError> {
        match text {
            "start" => return Ok(Self::Start),
            "end" => return Ok(Self::End),
            _ => {}
        }
        let error = |reason: &str| {
            let shown: String = text.chars().take(64).collect();
            QueryError::Invalid(format!(
                "`{name}` is `{shown}`, {reason}: expected start, end, partition:offset or partition:offset:row, \
                 several with commas"
            ))
        };
        if text.len() > TEXT_BYTES_MAX {
            return Err(error("which is too long"));
        }
        let mut places: Vec<(Partition, Place)> = Vec::new();
        for one in text.split(',') {
            let (partition, place) = parse_place(one.trim()).ok_or_else(|| error("which is no position"))?;
            if places.iter().any(|(other, _)| *other == partition) {
                return Err(error("which names a partition twice"));
            }
            places.push((partition, place));
        }
        Ok(Self::At(places))
    }
}

fn parse_place(text: &str) -> Option<(Partition, Place)> {
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(())
            .and_then(|()| text.parse::<u64>().ok())
    };
    let mut parts = text.split(':');
    let partition = Partition(u32::try_from(number(parts.next()?)?).ok()?);
    let offset = Offset(number(parts.next()?)?);
    let place = match parts.next() {
        None => Place::record(offset),
        // Rows are numbered as Int32 wherever they are stored.
        Some(row) => Place::behind(
            offset,
            u32::try_from(number(row)?).ok().filter(|row| *row < 1 << 31)?,
        ),
    };
    parts.next().is_none().then_some((partition, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_means_the_same() {
        for (text, offset, row) in [
            ("0:7", 7, 0),
            ("0:7:0", 7, 1),
            ("3:18446744073709551615:9", u64::MAX, 10),
        ] {
            let Begin::At(places) = Begin::parse("from", text).expect("a place") else {
                panic!("{text} is a place");
            };
            let (partition, place) = places[0];
            assert_eq!((place.offset.0, place.row), (offset, row), "{text}");
            let mut written = String::new();
            place.write(partition, &mut written);
            assert_eq!(written, text);
        }
        assert_eq!(Begin::parse("from", "start").expect("a word"), Begin::Start);
        let several = Begin::parse("from", "1:2:3,0:5").expect("places");
        assert!(matches!(several, Begin::At(places) if places.len() == 2));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for wrong in [
            "",
            ":",
            "0",
            "0:",
            "0:x",
            "0:1:",
            "0:1:2:3",
            "-1:0",
            "+1:0",
            "0:1,0:2",
            "0:1,",
            "now",
            "0:1:2147483648",
            "4294967296:0",
            "0:18446744073709551616",
        ] {
            assert!(Begin::parse("from", wrong).is_err(), "{wrong:?}");
        }
    }
}
