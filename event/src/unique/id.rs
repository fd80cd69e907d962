//! What is remembered of an id.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, Int64Array, StringArray};
use arrow_schema::{ArrowError, DataType};

use crate::{FieldType, StreamDeclaration};

/// An id: the value itself where it has no more than 128 bits, else a hash. Means something in this process only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id([u64; 2]);

/// Two keys, so that a hash has 128 bits.
static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);

/// The ids of some rows, as the journal or the lake has them.
#[derive(Debug)]
pub struct Ids<'a>(Values<'a>);

#[derive(Debug)]
enum Values<'a> {
    Int(&'a Int64Array),
    /// A uuid in the journal.
    Bytes(&'a FixedSizeBinaryArray),
    /// A uuid in the lake.
    UuidText(&'a StringArray),
    Text(&'a StringArray),
}

impl<'a> Ids<'a> {
    /// The ids in a column of the stream's unique field.
    ///
    /// # Errors
    /// When the column has no type that the field can have.
    pub fn of(column: &'a ArrayRef, stream: &StreamDeclaration) -> Result<Self, ArrowError> {
        let field = stream.unique.as_ref().map(|unique| unique.field.as_str());
        let kind = field
            .and_then(|field| stream.field(field))
            .map(|field| &field.kind);
        let values = match (column.data_type(), kind) {
            (DataType::Int64, Some(FieldType::Int { .. })) => Values::Int(column.as_primitive::<Int64Type>()),
            (DataType::FixedSizeBinary(16), Some(FieldType::Uuid)) => {
                Values::Bytes(column.as_fixed_size_binary())
            }
            (DataType::Utf8, Some(FieldType::Uuid)) => Values::UuidText(column.as_string()),
            (DataType::Utf8, Some(FieldType::String { .. })) => Values::Text(column.as_string()),
            (found, _) => {
                let message = format!("a column of type {found} has no ids of stream `{}`", stream.name);
                return Err(ArrowError::InvalidArgumentError(message));
            }
        };
        Ok(Self(values))
    }

    /// The id of a row.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn get(&self, row: usize) -> Id {
        match &self.0 {
            Values::Int(values) => Id([values.value(row).cast_unsigned(), 0]),
            Values::Bytes(values) => {
                let bytes = uuid::Uuid::from_slice(values.value(row)).expect("the column has 16 bytes a row");
                of_uuid(bytes)
            }
            Values::UuidText(values) => match uuid::Uuid::parse_str(values.value(row)) {
                Ok(uuid) => of_uuid(uuid),
                // Nobody but us writes the lake; whatever else it holds is told apart all the same.
                Err(_) => of_text(values.value(row)),
            },
            Values::Text(values) => of_text(values.value(row)),
        }
    }
}

fn of_uuid(uuid: uuid::Uuid) -> Id {
    let (high, low) = uuid.as_u64_pair();
    Id([high, low])
}

fn of_text(text: &str) -> Id {
    let [one, other] = &*KEYS;
    Id([one.hash_one(text), other.hash_one(text)])
}
