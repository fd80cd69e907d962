//! What a question asks of a column's value, that it is one of some, looked for as the journal has the values: a uuid is
//! compared as 16 bytes and never written as text.

use std::collections::HashSet;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::DataType;
use datafusion::common::ScalarValue;
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee};
use event::{StreamDeclaration, schema};

use crate::tail_run::Part;

/// Values that are compared one after the other; more are looked up.
const COMPARED_MAX: usize = 4;

/// What a question asks of a column's value: that it is one of these.
#[derive(Debug)]
pub(crate) struct OneOf {
    pub(crate) column: String,
    /// As bytes of the journal's form. A text that no uuid and no trace id has is none.
    pub(crate) values: HashSet<Vec<u8>>,
}

impl OneOf {
    /// What a condition says, if it says such a thing.
    pub(crate) fn new(guarantee: &LiteralGuarantee, stream: &StreamDeclaration) -> Option<Self> {
        if guarantee.guarantee != Guarantee::In {
            return None;
        }
        let column = guarantee.column.name.clone();
        let form = Form::of(&column, stream)?;
        let mut values = HashSet::new();
        for literal in &guarantee.literals {
            // A null is equal to nothing.
            if !literal.is_null() {
                values.extend(form.bytes(literal)?);
            }
        }
        Some(Self { column, values })
    }

    /// Those of some rows whose value is one of these; `None` when that cannot be told.
    pub(crate) fn rows(&self, part: &Part, rows: impl Iterator<Item = u32>) -> Option<Vec<u32>> {
        let few: Vec<&[u8]> = self
            .values
            .iter()
            .map(Vec::as_slice)
            .take(COMPARED_MAX + 1)
            .collect();
        let is_in = |value: &[u8]| match few.len() {
            0..=COMPARED_MAX => few.contains(&value),
            _ => self.values.contains(value),
        };
        if self.column == schema::TRACE_ID {
            let mut requests = part
                .requests
                .iter()
                .map(|request| (request.end, is_in(request.trace_id.as_bytes())));
            let mut request = requests.next();
            return Some(
                rows.filter(|row| {
                    while let Some((end, _)) = request
                        && end <= *row
                    {
                        request = requests.next();
                    }
                    request.is_none_or(|(_, wanted)| wanted)
                })
                .collect(),
            );
        }
        let column = part.rows.column_by_name(&self.column)?;
        let valid = |row: &u32| column.is_valid(*row as usize);
        Some(match column.data_type() {
            DataType::FixedSizeBinary(16) => {
                let (ids, _) = column.as_fixed_size_binary().value_data().as_chunks::<16>();
                // Two comparisons of a register each, in place of a call.
                let few: Vec<u128> = few
                    .iter()
                    .filter_map(|value| Some(u128::from_ne_bytes((*value).try_into().ok()?)))
                    .collect();
                let is_in = |id: &[u8; 16]| match &few[..] {
                    _ if self.values.len() > COMPARED_MAX => self.values.contains(&id[..]),
                    [one] => *one == u128::from_ne_bytes(*id),
                    few => few.contains(&u128::from_ne_bytes(*id)),
                };
                rows.filter(|row| is_in(&ids[*row as usize]) && valid(row))
                    .collect()
            }
            DataType::Utf8 => {
                let values = column.as_string::<i32>();
                rows.filter(|row| is_in(values.value(*row as usize).as_bytes()) && valid(row))
                    .collect()
            }
            DataType::Int64 => {
                let values = column.as_primitive::<Int64Type>().values();
                rows.filter(|row| is_in(&values[*row as usize].to_le_bytes()) && valid(row))
                    .collect()
            }
            _ => return None,
        })
    }
}

/// How the journal has values of a column.
enum Form {
    Uuid,
    TraceId,
    Text,
    Int,
}

impl Form {
    fn of(column: &str, stream: &StreamDeclaration) -> Option<Self> {
        if column == schema::TRACE_ID {
            return Some(Self::TraceId);
        }
        let wire = schema::wire(stream);
        match wire.field_with_name(column).ok()?.data_type() {
            DataType::FixedSizeBinary(16) => Some(Self::Uuid),
            DataType::Utf8 => Some(Self::Text),
            DataType::Int64 => Some(Self::Int),
            _ => None,
        }
    }

    /// A value that is not null: its bytes, none when no row can have it. `None` altogether when it is of a type that
    /// the column does not have.
    fn bytes(&self, value: &ScalarValue) -> Option<Option<Vec<u8>>> {
        if let Self::Int = self {
            return match value {
                ScalarValue::Int64(Some(number)) => Some(Some(number.to_le_bytes().to_vec())),
                _ => None,
            };
        }
        let text = value.try_as_str()??;
        Some(match self {
            Self::Text => Some(text.as_bytes().to_vec()),
            // Rows have the one form of the lake, so a text in another form is equal to none.
            Self::Uuid => uuid::Uuid::try_parse(text)
                .ok()
                .filter(|uuid| uuid.hyphenated().to_string() == text)
                .map(|uuid| uuid.as_bytes().to_vec()),
            Self::TraceId => u128::from_str_radix(text, 16)
                .ok()
                .filter(|number| format!("{number:032x}") == text)
                .map(|number| number.to_be_bytes().to_vec()),
            Self::Int => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, FixedSizeBinaryArray, RecordBatch};

    use super::*;

    /// Rows 10 to 60 of a column of uuids, every seventh of which is null.
    fn part() -> (Part, Vec<Option<[u8; 16]>>) {
        let id = |row: u128| (row % 20).to_be_bytes();
        let ids: Vec<_> = (0..60_u128).map(|row| (row % 7 > 0).then(|| id(row))).collect();
        let column = FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids.iter().copied(), 16);
        let column: ArrayRef = Arc::new(column.expect("all have 16 bytes"));
        let rows = RecordBatch::try_from_iter([("user_id", column)]).expect("one column");
        (Part::new(0, rows.slice(10, 50), &[]), ids[10..].to_vec())
    }

    #[test]
    fn rows_of_one_few_and_many_uuids_are_those_that_have_one_of_them_and_no_nulls() {
        let (part, ids) = part();
        for count in [0, 1, 2, COMPARED_MAX, COMPARED_MAX + 1, 12] {
            let values = (3_u128..).step_by(2).take(count);
            // A null's place may hold anything, zeros here.
            let values = values.map(|value| if value == 5 { 0 } else { value });
            let one_of = OneOf {
                column: "user_id".to_owned(),
                values: values.map(|value| value.to_be_bytes().to_vec()).collect(),
            };
            let wanted = |row: &u32| ids[*row as usize].is_some_and(|id| one_of.values.contains(&id[..]));
            let expected: Vec<u32> = (5..50).filter(wanted).collect();
            assert_eq!(expected.is_empty(), count == 0, "{count} values");
            assert_eq!(one_of.rows(&part, 5..50), Some(expected), "{count} values");
        }
    }
}
