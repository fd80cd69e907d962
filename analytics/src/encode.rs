//! Rows as bytes of an answer, in every format of `Accept`.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_csv::WriterBuilder;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use crate::QueryError;
use crate::json::{write_text, write_value};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Format {
    /// One JSON document.
    Json,
    /// A JSON object a line.
    Ndjson,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
    /// A table for people.
    Text,
}

impl Format {
    const ALL: [(Self, &'static [&'static str]); 6] = [
        (Self::Json, &["application/json"]),
        (
            Self::Ndjson,
            &["application/x-ndjson", "application/jsonl", "application/ndjson"],
        ),
        (Self::Csv, &["text/csv"]),
        (Self::Arrow, &["application/vnd.apache.arrow.stream"]),
        (
            Self::Parquet,
            &["application/vnd.apache.parquet", "application/parquet"],
        ),
        (Self::Text, &["text/plain"]),
    ];

    /// The media type of the answer.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    /// Whether rows leave as they come; the others are one document.
    #[must_use]
    pub fn streams(self) -> bool {
        !matches!(self, Self::Json | Self::Text)
    }

    /// The best format for an `Accept` header: by quality, then by the header's order. `*/*` means JSON.
    ///
    /// # Errors
    /// [`QueryError::NotAcceptable`] when none can be made.
    pub fn negotiate(accept: Option<&str>) -> Result<Self, QueryError> {
        let Some(accept) = accept.map(str::trim).filter(|accept| !accept.is_empty()) else {
            return Ok(Self::Json);
        };
        let mut best: Option<(f32, Self)> = None;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(Ok(1.0), str::parse);
            let quality: f32 = quality.unwrap_or(0.0);
            let found = match media.as_str() {
                "*/*" | "application/*" => Some(Self::Json),
                "text/*" => Some(Self::Text),
                media => Self::ALL
                    .iter()
                    .find(|(_, names)| names.contains(&media))
                    .map(|(format, _)| *format),
            };
            if let Some(format) = found.filter(|_| quality > 0.0)
                && best.is_none_or(|(other, _)| quality > other)
            {
                best = Some((quality, format));
            }
        }
        best.map(|(_, format)| format)
            .ok_or_else(|| QueryError::NotAcceptable(accept.chars().take(200).collect()))
    }
}

/// Writes rows of one of the streaming formats.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each running query, never many in a row"
)]
pub(crate) enum Encoder {
    Ndjson(Vec<u8>),
    /// What waits, which is the header at first.
    Csv(Vec<u8>),
    Arrow(StreamWriter<Vec<u8>>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

impl Encoder {
    /// Begins an answer. JSON and text are documents and are made elsewhere; they fall back to NDJSON here.
    pub(crate) fn new(format: Format, schema: &SchemaRef) -> Result<Self, QueryError> {
        Self::begin(format, schema).map_err(|error| unwritable(format, &error))
    }

    fn begin(format: Format, schema: &SchemaRef) -> Result<Self, ParquetError> {
        Ok(match format {
            Format::Csv => {
                let empty = RecordBatch::new_empty(Arc::clone(schema));
                Self::Csv(csv(&empty, true)?)
            }
            Format::Arrow => Self::Arrow(StreamWriter::try_new(Vec::new(), schema)?),
            Format::Parquet => {
                let empty = RecordBatch::new_empty(Arc::clone(schema));
                let writer = ArrowWriter::try_new(Vec::new(), flat(&empty, union)?.schema(), None)?;
                Self::Parquet(Box::new(writer))
            }
            Format::Ndjson | Format::Json | Format::Text => Self::Ndjson(Vec::new()),
        })
    }

    /// Adds rows and gives what can leave.
    pub(crate) fn batch(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        let format = self.format();
        self.add(rows).map_err(|error| unwritable(format, &error))
    }

    fn format(&self) -> Format {
        match self {
            Self::Ndjson(_) => Format::Ndjson,
            Self::Csv(_) => Format::Csv,
            Self::Arrow(_) => Format::Arrow,
            Self::Parquet(_) => Format::Parquet,
        }
    }

    fn add(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, ParquetError> {
        match self {
            Self::Ndjson(out) => {
                for row in 0..rows.num_rows() {
                    write_object(out, rows, row)?;
                    out.push(b'\n');
                }
                Ok(std::mem::take(out))
            }
            Self::Csv(waiting) => {
                let mut out = std::mem::take(waiting);
                out.extend(csv(rows, false)?);
                Ok(out)
            }
            Self::Arrow(writer) => {
                writer.write(rows)?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Parquet(writer) => {
                writer.write(&flat(rows, union)?)?;
                // A row group is held until it is full; 64 MiB bound it.
                if writer.in_progress_size() > 64 << 20 {
                    writer.flush()?;
                }
                Ok(std::mem::take(writer.inner_mut()))
            }
        }
    }

    /// Ends the answer.
    pub(crate) fn finish(self) -> Result<Vec<u8>, QueryError> {
        let format = self.format();
        let ended = match self {
            Self::Ndjson(out) | Self::Csv(out) => Ok(out),
            Self::Arrow(writer) => writer.into_inner().map_err(ParquetError::from),
            Self::Parquet(writer) => writer.into_inner(),
        };
        ended.map_err(|error| unwritable(format, &error))
    }
}

/// Everything is written to memory, so what fails is a value that the format has no way to say.
pub(crate) fn unwritable(format: Format, error: &dyn std::error::Error) -> QueryError {
    QueryError::Invalid(format!(
        "this answer cannot be written as {}: {error}",
        format.media_type()
    ))
}

fn csv(rows: &RecordBatch, header: bool) -> Result<Vec<u8>, ArrowError> {
    let rows = &flat(rows, |kind| kind.is_nested() || union(kind))?;
    let mut writer = WriterBuilder::new()
        .with_header(header)
        .with_timestamp_tz_format("%Y-%m-%dT%H:%M:%S%.fZ".to_owned())
        .build(Vec::new());
    writer.write(rows)?;
    Ok(writer.into_inner())
}

/// What JSON functions give: a value of any type. Parquet has no form for it.
fn union(kind: &DataType) -> bool {
    matches!(kind, DataType::Union(..))
}

/// The rows with JSON text in place of values that a format has no form for.
fn flat(rows: &RecordBatch, formless: impl Fn(&DataType) -> bool) -> Result<RecordBatch, ArrowError> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        if !formless(column.data_type()) {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
            continue;
        }
        let mut texts = StringBuilder::new();
        for row in 0..rows.num_rows() {
            let mut text = Vec::new();
            write_value(&mut text, column, row)?;
            match String::from_utf8(text) {
                Ok(text) if text != "null" => texts.append_value(text),
                _ => texts.append_null(),
            }
        }
        fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
        columns.push(Arc::new(texts.finish()) as ArrayRef);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

/// One row as a JSON object, in column order.
fn write_object(out: &mut Vec<u8>, rows: &RecordBatch, row: usize) -> Result<(), ArrowError> {
    out.push(b'{');
    for (at, (field, column)) in rows.schema_ref().fields().iter().zip(rows.columns()).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_text(out, field.name());
        out.push(b':');
        write_value(out, column, row)?;
    }
    out.push(b'}');
    Ok(())
}

/// One row as a JSON list.
pub(crate) fn write_row(out: &mut Vec<u8>, rows: &RecordBatch, row: usize) -> Result<(), ArrowError> {
    out.push(b'[');
    for (at, column) in rows.columns().iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_value(out, column, row)?;
    }
    out.push(b']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_accept_with_its_qualities() {
        let cases = [
            (None, Format::Json),
            (Some("*/*"), Format::Json),
            (Some("text/csv"), Format::Csv),
            (Some("text/plain;q=0.5, application/x-ndjson"), Format::Ndjson),
            (Some("image/png, text/plain"), Format::Text),
            (Some("application/vnd.apache.parquet"), Format::Parquet),
        ];
        for (accept, expected) in cases {
            assert_eq!(
                Format::negotiate(accept).expect("acceptable"),
                expected,
                "{accept:?}"
            );
        }
        assert!(Format::negotiate(Some("image/png")).is_err());
        assert!(Format::negotiate(Some("application/json;q=0")).is_err());
    }
}
