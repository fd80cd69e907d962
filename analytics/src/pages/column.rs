//! Values of a column: from the bytes of a page into a buffer, and from there into an array.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, TimeUnit};
use parquet::basic::{Encoding, Type};

use super::delta::Delta;
use super::dictionaries::Dictionary;
use super::hybrid::Hybrid;
use super::inflate::PageBytes;

/// Bytes of texts that are decoded at once. One text in a dictionary may stand for thousands of rows: what is more is left
/// to the general reader, which goes in batches.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Values that were decoded.
pub(super) enum Values {
    Int(Vec<i64>),
    Small(Vec<i32>),
    Float(Vec<f64>),
    Bool(Vec<bool>),
    Text { ends: Vec<i32>, bytes: Vec<u8> },
}

impl Values {
    /// A buffer for values of an Arrow type that lie in the file as that type of Parquet; `None` for what only the
    /// general reader knows.
    pub(super) fn of(data_type: &DataType, physical: Type) -> Option<Self> {
        Some(match (data_type, physical) {
            (DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _), Type::INT64) => {
                Self::Int(Vec::new())
            }
            (DataType::Int32, Type::INT32) => Self::Small(Vec::new()),
            (DataType::Float64, Type::DOUBLE) => Self::Float(Vec::new()),
            (DataType::Boolean, Type::BOOLEAN) => Self::Bool(Vec::new()),
            (DataType::Utf8, Type::BYTE_ARRAY) => Self::Text {
                ends: Vec::new(),
                bytes: Vec::new(),
            },
            _ => return None,
        })
    }

    /// Appends what stands where there is no value.
    pub(super) fn push_null(&mut self) {
        match self {
            Self::Int(values) => values.push(0),
            Self::Small(values) => values.push(0),
            Self::Float(values) => values.push(0.0),
            Self::Bool(values) => values.push(false),
            Self::Text { ends, .. } => ends.push(ends.last().copied().unwrap_or(0)),
        }
    }

    /// As an array; `None` when it would not be a valid one.
    pub(super) fn array(self, data_type: &DataType, nulls: Option<NullBuffer>) -> Option<ArrayRef> {
        Some(match self {
            Self::Int(values) => match data_type {
                DataType::Timestamp(_, zone) => {
                    let times = TimestampMicrosecondArray::try_new(values.into(), nulls).ok()?;
                    Arc::new(times.with_timezone_opt(zone.clone()))
                }
                _ => Arc::new(Int64Array::try_new(values.into(), nulls).ok()?),
            },
            Self::Small(values) => Arc::new(Int32Array::try_new(values.into(), nulls).ok()?),
            Self::Float(values) => Arc::new(Float64Array::try_new(values.into(), nulls).ok()?),
            Self::Bool(values) => Arc::new(BooleanArray::new(values.into(), nulls)),
            Self::Text { ends, bytes } => {
                let mut offsets = Vec::with_capacity(ends.len() + 1);
                offsets.push(0);
                offsets.extend(ends);
                // Checks that it is UTF-8, as the general reader does.
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                Arc::new(StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls).ok()?)
            }
        })
    }
}

/// The values of a page that are not null, one after the other.
pub(super) enum Source<'a> {
    /// With where the next value begins.
    Plain {
        page: PageBytes<'a>,
        at: usize,
    },
    Delta(Delta<'a>),
    /// Texts without anything between them, with where each of them ends, and where the next one begins.
    Lengths {
        page: PageBytes<'a>,
        ends: std::vec::IntoIter<usize>,
        at: usize,
    },
    Numbers(Hybrid<'a>, Dictionary<'a>),
}

impl<'a> Source<'a> {
    /// Of delta-packed integers or of numbers of a dictionary.
    pub(super) fn packed(bytes: &'a [u8], encoding: Encoding, texts: Option<Dictionary<'a>>) -> Option<Self> {
        match encoding {
            Encoding::DELTA_BINARY_PACKED => Some(Self::Delta(Delta::new(bytes)?)),
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => {
                let (width, numbers) = bytes.split_first()?;
                Some(Self::Numbers(Hybrid::new(numbers, usize::from(*width))?, texts?))
            }
            _ => None,
        }
    }

    /// Of texts whose lengths stand before them, at most `values_max`.
    pub(super) fn lengths(mut page: PageBytes<'a>, at: usize, values_max: usize) -> Option<Self> {
        let inflated = page.first(at.checked_add(1)?)?.get(at..)?;
        // Lengths that differ may take more than what is inflated at once.
        let (lengths, count) = match text_lengths(inflated, values_max) {
            Some(lengths) => lengths,
            None => text_lengths(page.whole()?.get(at..)?, values_max)?,
        };
        let begin = at.checked_add(count)?;
        let mut end = Some(begin);
        let ends = lengths.into_iter().map(|length| {
            end = end?.checked_add(usize::try_from(length).ok()?);
            end
        });
        let ends: Vec<usize> = ends.collect::<Option<_>>()?;
        (ends.last().copied().unwrap_or(begin) <= page.count()).then_some(())?;
        Some(Self::Lengths {
            page,
            ends: ends.into_iter(),
            at: begin,
        })
    }

    /// Passes over `count` values, each like those in `like`.
    pub(super) fn skip(&mut self, count: usize, like: &Values) -> Option<()> {
        match self {
            Self::Delta(delta) => delta.next(count, |_| {}),
            Self::Numbers(numbers, _) => numbers.skip(count),
            Self::Lengths { ends, at, .. } => {
                if let Some(last) = count.checked_sub(1) {
                    *at = ends.nth(last)?;
                }
                Some(())
            }
            Self::Plain { page, at } => match like {
                Values::Int(_) | Values::Float(_) => {
                    *at = at.checked_add(count.checked_mul(8)?)?;
                    Some(())
                }
                Values::Small(_) => {
                    *at = at.checked_add(count.checked_mul(4)?)?;
                    Some(())
                }
                // Booleans are packed in bits, which nobody here takes apart.
                Values::Bool(_) => None,
                Values::Text { .. } => {
                    for _ in 0..count {
                        *at = text_end(page, *at)?;
                    }
                    Some(())
                }
            },
        }
    }

    /// Appends the next `count` values.
    pub(super) fn take(&mut self, count: usize, out: &mut Values) -> Option<()> {
        match (self, out) {
            (Self::Delta(delta), Values::Int(values)) => delta.next(count, |value| values.push(value)),
            // What was cut off is the sign's.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "differences of 32 bits add up modulo 2^32"
            )]
            (Self::Delta(delta), Values::Small(values)) => {
                delta.next(count, |value| values.push(value as i32))
            }
            (Self::Numbers(numbers, texts), Values::Text { ends, bytes }) => {
                let mut whole = true;
                numbers.next(count, |number| {
                    whole = whole && bytes.len() <= TEXT_BYTES_MAX && texts.append(number, bytes).is_some();
                    ends.push(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
                })?;
                (whole && i32::try_from(bytes.len()).is_ok()).then_some(())
            }
            (Self::Plain { page, at }, Values::Int(values)) => {
                fixed(page, at, count, |eight| values.push(i64::from_le_bytes(eight)))
            }
            (Self::Plain { page, at }, Values::Float(values)) => {
                fixed(page, at, count, |eight| values.push(f64::from_le_bytes(eight)))
            }
            (Self::Plain { page, at }, Values::Small(values)) => {
                fixed(page, at, count, |four| values.push(i32::from_le_bytes(four)))
            }
            (Self::Plain { page, at }, Values::Text { ends, bytes }) => {
                for _ in 0..count {
                    let end = text_end(page, *at)?;
                    append_text(page, *at + 4..end, ends, bytes)?;
                    *at = end;
                }
                Some(())
            }
            (Self::Lengths { page, ends, at }, Values::Text { ends: all, bytes }) => {
                for _ in 0..count {
                    let end = ends.next()?;
                    append_text(page, *at..end, all, bytes)?;
                    *at = end;
                }
                Some(())
            }
            _ => None,
        }
    }
}

/// Appends the text that lies there in a page.
fn append_text(
    page: &mut PageBytes<'_>,
    place: Range<usize>,
    ends: &mut Vec<i32>,
    bytes: &mut Vec<u8>,
) -> Option<()> {
    if bytes.len() > TEXT_BYTES_MAX {
        return None;
    }
    bytes.extend_from_slice(page.first(place.end)?.get(place)?);
    ends.push(i32::try_from(bytes.len()).ok()?);
    Some(())
}

/// Lengths of at most `count_max` texts, and how many bytes those lengths take.
fn text_lengths(bytes: &[u8], count_max: usize) -> Option<(Vec<i64>, usize)> {
    let mut delta = Delta::new(bytes)?;
    let count = delta.left();
    if count > count_max {
        return None;
    }
    let mut lengths = Vec::with_capacity(count);
    delta.next(count, |length| lengths.push(length))?;
    Some((lengths, delta.end()?))
}

/// Where the plain text that begins there ends.
fn text_end(page: &mut PageBytes<'_>, at: usize) -> Option<usize> {
    let begin = at.checked_add(4)?;
    let length: [u8; 4] = page.first(begin)?.get(at..begin)?.try_into().ok()?;
    begin.checked_add(u32::from_le_bytes(length) as usize)
}

/// Values of so many bytes each.
fn fixed<const BYTES: usize>(
    page: &mut PageBytes<'_>,
    at: &mut usize,
    count: usize,
    mut see: impl FnMut([u8; BYTES]),
) -> Option<()> {
    let end = at.checked_add(count.checked_mul(BYTES)?)?;
    let (values, _) = page.first(end)?.get(*at..end)?.as_chunks();
    values.iter().for_each(|value| see(*value));
    *at = end;
    Some(())
}
