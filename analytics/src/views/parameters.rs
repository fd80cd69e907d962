//! What the parameters of a view mean, and what a request asks with them.
//!
//! An empty value is the same as none: forms and clients that build a query string send those. A parameter that is
//! there twice is refused, since servers of this world disagree which one counts.

use std::collections::BTreeMap;

use event::{FieldType, StreamDeclaration};

use crate::QueryError;
use crate::http::pairs;
use crate::parameters::{Filter, interval, moment, moment_in_utc, wanted};

/// What a parameter means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The first moment of the stream's time that is asked for.
    Start,
    /// The moment after the last.
    End,
    /// Most events.
    Limit,
    /// How many events are skipped.
    Offset,
    /// Where the last page ended.
    Cursor,
    /// The number of an event.
    Index,
    /// The length of the intervals that statistics are told for.
    Interval,
    /// The field whose values statistics are told for.
    By,
    /// What this field must equal.
    Field(String),
}

/// What is let pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lenient {
    /// A limit, offset or index that is negative or no number counts as if it was not there (an index as 0).
    pub numbers: bool,
    /// A value that no event can have finds none.
    pub values: bool,
    /// A parameter that nobody declared is not looked at.
    pub parameters: bool,
}

/// The values of one field that stand for several, by name.
pub type Aliases = BTreeMap<String, Vec<String>>;

/// What the parameters of a view mean.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// Names with their meanings; each of both at most once.
    pub named: Vec<(String, Meaning)>,
    /// Names that must be there.
    pub required: Vec<String>,
    /// By field: values that stand for several.
    pub aliases: BTreeMap<String, Aliases>,
    /// What is let pass.
    pub lenient: Lenient,
    /// Moments without a zone are UTC.
    pub utc: bool,
}

/// What a request asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) filter: Filter,
    pub(crate) limit: Option<usize>,
    pub(crate) offset: usize,
    pub(crate) cursor: Option<String>,
    pub(crate) index: Option<u64>,
    pub(crate) interval: Option<i64>,
    pub(crate) by: Option<String>,
    /// No event can pass.
    pub(crate) nothing: bool,
}

/// A number of a request.
enum Number {
    Found(u64),
    /// It counts as if it was not there.
    Ignored,
}

impl Parameters {
    /// Reads the parameters of a request about these streams.
    pub(crate) fn read(
        &self,
        streams: &[&StreamDeclaration],
        path: Vec<(String, String)>,
        query: Option<&str>,
    ) -> Result<Asked, QueryError> {
        let mut given = path;
        for (name, text) in pairs(query)? {
            if given.iter().any(|(other, _)| *other == name) {
                return Err(QueryError::Invalid(format!("`{name}` is there twice")));
            }
            given.push((name, text));
        }
        given.retain(|(_, text)| !text.is_empty());
        let missing = |name: &&String| !given.iter().any(|(given, _)| given == *name);
        if let Some(name) = self.required.iter().find(missing) {
            return Err(QueryError::Invalid(format!("`{name}` is missing")));
        }
        let mut asked = Asked::default();
        for (name, text) in given {
            match self.named.iter().find(|(known, _)| *known == name) {
                Some((_, meaning)) => self.take(&mut asked, streams, meaning, &name, text)?,
                None if self.lenient.parameters => {}
                None => {
                    let known: Vec<_> = self.named.iter().map(|(name, _)| name.as_str()).collect();
                    return Err(QueryError::Invalid(format!(
                        "`{}` is no parameter here; there are: {}",
                        shown(&name),
                        known.join(", ")
                    )));
                }
            }
        }
        Ok(asked)
    }

    fn take(
        &self,
        asked: &mut Asked,
        streams: &[&StreamDeclaration],
        meaning: &Meaning,
        name: &str,
        text: String,
    ) -> Result<(), QueryError> {
        match meaning {
            Meaning::Start => asked.filter.start = Some(self.moment(name, &text)?),
            Meaning::End => asked.filter.end = Some(self.moment(name, &text)?),
            Meaning::Limit => {
                if let Number::Found(limit) = self.number(name, &text)? {
                    asked.limit = Some(usize::try_from(limit).unwrap_or(usize::MAX));
                }
            }
            Meaning::Offset => {
                if let Number::Found(offset) = self.number(name, &text)? {
                    asked.offset = usize::try_from(offset).unwrap_or(usize::MAX);
                }
            }
            Meaning::Index => {
                asked.index = Some(match self.number(name, &text)? {
                    Number::Found(index) => index,
                    Number::Ignored => 0,
                });
            }
            Meaning::Cursor => asked.cursor = Some(text),
            Meaning::Interval => asked.interval = Some(interval(&text)?),
            Meaning::By => asked.by = Some(text),
            Meaning::Field(field) => self.narrow(asked, streams, field, name, &text)?,
        }
        Ok(())
    }

    fn moment(&self, name: &str, text: &str) -> Result<i64, QueryError> {
        if self.utc {
            moment_in_utc(name, text)
        } else {
            moment(name, text)
        }
    }

    fn number(&self, name: &str, text: &str) -> Result<Number, QueryError> {
        let number: Option<i128> = text.trim().parse().ok();
        match number {
            // What no 64 bits hold is as large as can be.
            Some(number) if number >= 0 => Ok(Number::Found(u64::try_from(number).unwrap_or(u64::MAX))),
            _ if self.lenient.numbers => Ok(Number::Ignored),
            _ => Err(QueryError::Invalid(format!(
                "`{name}` is `{}`, expected a whole number from 0 on",
                shown(text)
            ))),
        }
    }

    fn narrow(
        &self,
        asked: &mut Asked,
        streams: &[&StreamDeclaration],
        field: &str,
        name: &str,
        text: &str,
    ) -> Result<(), QueryError> {
        let aliases = self.aliases.get(field).and_then(|aliases| aliases.get(text));
        let values = aliases.map_or_else(
            || vec![text],
            |values| values.iter().map(String::as_str).collect(),
        );
        let Some(stream) = streams.first() else {
            return Ok(());
        };
        let mut any = Vec::new();
        for value in values {
            match wanted(stream, field, value) {
                Ok(wanted) => any.push(wanted),
                Err(_) if self.lenient.values => {}
                Err(_) => {
                    let kind = stream.field(field).map_or("value", |field| expected(&field.kind));
                    return Err(QueryError::Invalid(format!(
                        "`{name}` is `{}`, expected {kind}",
                        shown(text)
                    )));
                }
            }
        }
        asked.nothing |= any.is_empty();
        asked.filter.any.push((field.to_owned(), any));
        Ok(())
    }
}

/// What a value of a field looks like.
fn expected(kind: &FieldType) -> &'static str {
    match kind {
        FieldType::Bool => "true or false",
        FieldType::Int { .. } => "an integer",
        FieldType::Float { .. } => "a number",
        FieldType::String { .. } => "a text",
        FieldType::Enum { .. } => "one of the declared values",
        FieldType::Uuid => "a uuid",
        FieldType::Timestamp { .. } => "a moment as RFC 3339 with a zone",
        FieldType::Json => "nothing: JSON cannot be asked for",
    }
}

/// The beginning of a text of a request, for an error.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}
