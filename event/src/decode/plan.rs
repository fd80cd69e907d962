//! The plan of a stream: which key of an event leads to which column.

use std::collections::HashMap;

use crate::{FieldType, StreamDeclaration, TimeUnit, UnknownFields};

/// What the decoder does with each key of one object.
#[derive(Debug)]
pub(super) struct Node {
    /// The declared keys.
    pub(super) keys: Vec<Member>,
    by_name: HashMap<Box<[u8]>, usize>,
    /// The key that stood at each place of the last object: the next object most likely has the same order.
    order: Vec<usize>,
    /// Whether undeclared keys are fine because the object is itself a `json` field.
    pub(super) open: bool,
}

/// One declared key.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Box<[u8]>,
    /// The columns of its value; several fields may have the same `from`.
    pub(super) leaves: Vec<Leaf>,
    /// What is inside, when fields come from there.
    pub(super) inside: Option<Node>,
}

/// One field's column.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// The column's number.
    pub(super) column: usize,
    pub(super) kind: Kind,
}

impl Leaf {
    /// Whether the column has the value's own text.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Json)
    }
}

/// A field's type, ready for parsing.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    Float {
        min: f64,
        max: f64,
    },
    String {
        max_bytes: usize,
    },
    /// The allowed texts, sorted.
    Enum {
        values: Vec<Box<[u8]>>,
    },
    Uuid,
    Rfc3339,
    /// An integer in units of so many microseconds.
    Epoch {
        unit_micros: i64,
    },
    Json,
}

/// A stream's plan.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) top: Node,
    /// The fields' names by column.
    pub(super) names: Vec<String>,
    pub(super) unknown: UnknownFields,
    /// The column of `_extra`, when unknown fields are kept.
    pub(super) extra: Option<usize>,
}

impl Plan {
    pub(super) fn new(stream: &StreamDeclaration) -> Self {
        let mut top = Node::new();
        for (column, field) in stream.fields.iter().enumerate() {
            top.insert(
                &field.path,
                Leaf {
                    column,
                    kind: Kind::new(&field.kind),
                },
            );
        }
        top.finish(false);
        let extra = (stream.unknown_fields == UnknownFields::Keep).then_some(stream.fields.len());
        let names = stream.fields.iter().map(|field| field.name.clone()).collect();
        Self {
            top,
            names,
            unknown: stream.unknown_fields,
            extra,
        }
    }
}

impl Node {
    fn new() -> Self {
        Self {
            keys: Vec::new(),
            by_name: HashMap::new(),
            order: Vec::new(),
            open: false,
        }
    }

    fn insert(&mut self, path: &[String], leaf: Leaf) {
        let Some((key, rest)) = path.split_first() else {
            return;
        };
        let name: Box<[u8]> = key.as_bytes().into();
        let at = *self.by_name.entry(name.clone()).or_insert_with(|| {
            self.keys.push(Member {
                name,
                leaves: Vec::new(),
                inside: None,
            });
            self.keys.len() - 1
        });
        if rest.is_empty() {
            self.keys[at].leaves.push(leaf);
        } else {
            self.keys[at]
                .inside
                .get_or_insert_with(Self::new)
                .insert(rest, leaf);
        }
    }

    fn finish(&mut self, open: bool) {
        self.open = open;
        for member in &mut self.keys {
            let declared = !member.leaves.is_empty();
            if let Some(inside) = &mut member.inside {
                inside.finish(open || declared);
            }
        }
    }

    /// The declared key of that name.
    pub(super) fn member(&self, name: &[u8]) -> Option<&Member> {
        self.by_name.get(name).map(|at| &self.keys[*at])
    }

    /// The declared key of that name; `place` is its number in the object.
    #[inline]
    pub(super) fn find(&mut self, name: &[u8], place: usize) -> Option<usize> {
        if let Some(&guess) = self.order.get(place)
            && *self.keys[guess].name == *name
        {
            return Some(guess);
        }
        let found = *self.by_name.get(name)?;
        if place < self.order.len() {
            self.order[place] = found;
        } else if place == self.order.len() && place < self.keys.len() * 2 {
            self.order.push(found);
        }
        Some(found)
    }
}

impl Kind {
    pub(super) fn new(kind: &FieldType) -> Self {
        match kind {
            FieldType::Bool => Self::Bool,
            FieldType::Int { min, max } => Self::Int { min: *min, max: *max },
            FieldType::Float { min, max } => Self::Float { min: *min, max: *max },
            FieldType::String { max_bytes } => Self::String {
                max_bytes: *max_bytes,
            },
            FieldType::Enum { values } => {
                let mut values: Vec<Box<[u8]>> = values.iter().map(|value| value.as_bytes().into()).collect();
                values.sort();
                Self::Enum { values }
            }
            FieldType::Uuid => Self::Uuid,
            FieldType::Timestamp { unit: None } => Self::Rfc3339,
            FieldType::Timestamp { unit: Some(unit) } => Self::Epoch {
                unit_micros: match unit {
                    TimeUnit::Seconds => 1_000_000,
                    TimeUnit::Milliseconds => 1_000,
                    TimeUnit::Microseconds => 1,
                },
            },
            FieldType::Json => Self::Json,
        }
    }
}
