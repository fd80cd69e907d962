//! The statements of one outbox table, made when the table has been looked at.
//!
//! A row becomes JSON in the server, each field from its column in the form that the decoder reads: moments as RFC 3339
//! in UTC (one without a zone counts as UTC) or as the epoch that the field declares, texts as texts whatever the
//! column's type, JSON as it is. No cast in there can fail, so a strange row is a refused event and no failed
//! statement.

use std::collections::BTreeMap;

use event::{FieldDeclaration, FieldType, StreamDeclaration, TimeUnit};

use super::connection::Connection;
use super::options::OutboxOptions;
use crate::SourceError;

/// Rows that the backlog is counted up to: counting more would cost seconds each time.
const BACKLOG_ROWS_MAX: u64 = 1_000_000;

/// Longest name in PostgreSQL; what is longer would be cut.
const NAME_BYTES_MAX: usize = 63;

/// Asks for the columns of a table: name, type as SQL writes it, the type below a domain, whether it may be null, and
/// whether it alone is unique.
const COLUMNS: &str = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), \
     format_type(COALESCE(NULLIF(t.typbasetype, 0), a.atttypid), NULL), a.attnotnull, \
     EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid \
       AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) \
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
     WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped";

/// The statements of one table.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// `$1` most rows, `$2` ids to leave out; gives id and event.
    pub(super) pick: String,
    /// `$1` ids.
    pub(super) mark_sent: String,
    /// `$1` ids, `$2` reasons.
    pub(super) mark_refused: String,
    /// Gives the number of rows that wait, and the age of the oldest in seconds.
    pub(super) backlog: String,
    /// `$1` ids, `$2` values of the state column; gives the ids that there are.
    pub(super) respond: String,
}

struct Column {
    sql_type: String,
    base_type: String,
    not_null: bool,
    unique: bool,
}

impl Plan {
    /// Looks at the table, and refuses one that cannot be relayed.
    pub(super) async fn make(
        connection: &Connection,
        options: &OutboxOptions,
        stream: &StreamDeclaration,
    ) -> Result<Self, SourceError> {
        let table = quoted_table(&options.table);
        let rows = connection.query("look at the table", COLUMNS, &[&table]).await?;
        let mut columns = BTreeMap::new();
        for row in rows {
            let column = Column {
                sql_type: row.get(1),
                base_type: row.get(2),
                not_null: row.get(3),
                unique: row.get(4),
            };
            columns.insert(row.get::<_, String>(0), column);
        }
        Self::of(&table, &columns, options, stream).map_err(|message| SourceError::Away {
            operation: "look at the table",
            message: format!("table {table}: {message}"),
        })
    }

    fn of(
        table: &str,
        columns: &BTreeMap<String, Column>,
        options: &OutboxOptions,
        stream: &StreamDeclaration,
    ) -> Result<Self, String> {
        if columns.is_empty() {
            return Err("is not there".to_owned());
        }
        let column = |name: &str| columns.get(name).ok_or_else(|| format!("has no column `{name}`"));
        let id = column(&options.id)?;
        if !id.unique || !id.not_null {
            return Err(format!(
                "column `{}` must be unique by itself and not null, or rows that were never read would be marked too",
                options.id
            ));
        }
        let state = &options.state;
        let state_type = &column(&state.column)?.sql_type;
        if let Some(reason) = &state.reason {
            column(reason)?;
        }
        let fields = mapped(options, stream)?;
        let selected = fields
            .into_iter()
            .map(|(field, name)| Ok((field, expression(field, name, column(name)?))))
            .collect::<Result<Vec<_>, String>>()?;
        let event = object(&selected)?;
        let (id_name, id_type) = (quoted(&options.id), &id.sql_type);
        let state_name = quoted(&state.column);
        let order = options.order.as_ref().unwrap_or(&options.id);
        let order_type = column(order)?.base_type.as_str();
        let order_name = quoted(order);
        let pending = match &state.pending {
            Some(value) => format!("o.{state_name} = {}", literal(value)),
            None => format!("o.{state_name} IS NULL"),
        };
        let age = if is_moment(order_type) {
            format!("EXTRACT(EPOCH FROM now() - min(waiting.{order_name}))::float8")
        } else {
            "NULL::float8".to_owned()
        };
        let reason = state
            .reason
            .as_ref()
            .map(|reason| format!(", {} = d.reason", quoted(reason)));
        Ok(Self {
            pick: format!(
                "SELECT o.{id_name}::text, {event}::text FROM {table} o \
                 WHERE {pending} AND NOT (o.{id_name}::text = ANY($2::text[])) \
                 ORDER BY o.{order_name}, o.{id_name} LIMIT $1 FOR UPDATE OF o SKIP LOCKED"
            ),
            mark_sent: format!(
                "UPDATE {table} SET {state_name} = {} WHERE {id_name} = ANY($1::text[]::{id_type}[])",
                literal(&state.sent)
            ),
            mark_refused: format!(
                "UPDATE {table} o SET {state_name} = {}{} FROM unnest($1::text[], $2::text[]) AS d(id, reason) \
                 WHERE o.{id_name} = d.id::{id_type}",
                literal(&state.refused),
                reason.unwrap_or_default()
            ),
            backlog: format!(
                "SELECT count(*), {age} FROM (SELECT o.{order_name} FROM {table} o WHERE {pending} \
                 LIMIT {BACKLOG_ROWS_MAX}) waiting"
            ),
            respond: format!(
                "UPDATE {table} o SET {state_name} = d.state::{state_type} \
                 FROM unnest($1::text[], $2::text[]) AS d(id, state) WHERE o.{id_name} = d.id::{id_type} \
                 RETURNING d.id"
            ),
        })
    }
}

/// The fields that come from columns.
fn mapped<'a>(
    options: &'a OutboxOptions,
    stream: &'a StreamDeclaration,
) -> Result<Vec<(&'a FieldDeclaration, &'a str)>, String> {
    let Some(columns) = &options.columns else {
        // A field that lies inside of another one comes with it.
        let top = stream.fields.iter().filter(|field| field.path.len() == 1);
        return Ok(top.map(|field| (field, field.name.as_str())).collect());
    };
    let field = |(name, column): (&'a String, &'a String)| {
        let field = stream.field(name);
        let field = field.ok_or_else(|| format!("the stream has no field `{name}`"))?;
        Ok((field, column.as_str()))
    };
    columns.iter().map(field).collect()
}

fn is_moment(base_type: &str) -> bool {
    ["timestamp with time zone", "timestamp without time zone", "date"].contains(&base_type)
}

/// What a field's value is made of.
fn expression(field: &FieldDeclaration, name: &str, column: &Column) -> String {
    let name = format!("o.{}", quoted(name));
    match &field.kind {
        FieldType::Timestamp { unit: None } if is_moment(&column.base_type) => {
            // The session's zone is UTC. What RFC 3339 cannot say goes as the server writes it, and is refused.
            format!(
                "CASE WHEN isfinite({name}) AND {name} >= '0001-01-01' AND {name} < '10000-01-01' \
                 THEN to_char({name}::timestamp, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') ELSE {name}::text END"
            )
        }
        FieldType::Timestamp { unit: Some(unit) } if is_moment(&column.base_type) => {
            let factor = match unit {
                TimeUnit::Seconds => "1",
                TimeUnit::Milliseconds => "1000",
                TimeUnit::Microseconds => "1000000",
            };
            format!(
                "CASE WHEN isfinite({name}) THEN floor(EXTRACT(EPOCH FROM {name})::numeric * {factor}) END"
            )
        }
        FieldType::String { .. }
        | FieldType::Enum { .. }
        | FieldType::Uuid
        | FieldType::Timestamp { unit: None } => {
            format!("{name}::text")
        }
        FieldType::Bool
        | FieldType::Int { .. }
        | FieldType::Float { .. }
        | FieldType::Timestamp { .. }
        | FieldType::Json => name,
    }
}

/// SQL of a JSON object with these fields, each where its declaration says that it comes from.
fn object(fields: &[(&FieldDeclaration, String)]) -> Result<String, String> {
    object_below(
        fields
            .iter()
            .map(|(field, sql)| (&field.path[..], sql.as_str()))
            .collect(),
    )
}

/// Where a value belongs, and its SQL.
type Placed<'a> = (&'a [String], &'a str);

fn object_below(fields: Vec<Placed<'_>>) -> Result<String, String> {
    let mut members: Vec<(&str, Vec<Placed<'_>>)> = Vec::new();
    for (path, sql) in fields {
        let [key, inside @ ..] = path else {
            return Err(
                "a field lies inside of another one, and both have a column: map only one of them".to_owned(),
            );
        };
        match members.iter_mut().find(|(name, _)| name == key) {
            Some((_, below)) => below.push((inside, sql)),
            None => members.push((key, vec![(inside, sql)])),
        }
    }
    let mut selected = Vec::new();
    for (key, below) in members {
        if key.len() > NAME_BYTES_MAX {
            return Err(format!(
                "the name `{key}` exceeds PostgreSQL's limit of {NAME_BYTES_MAX} bytes"
            ));
        }
        let sql = match below.as_slice() {
            [([], sql)] => (*sql).to_owned(),
            _ => object_below(below)?,
        };
        selected.push(format!("{sql} AS {}", quoted(key)));
    }
    Ok(format!(
        "(SELECT row_to_json(r) FROM (SELECT {}) r)",
        selected.join(", ")
    ))
}

/// A name for SQL, whatever is in it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's name, perhaps with its schema.
pub(crate) fn quoted_table(name: &str) -> String {
    name.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

/// A text for SQL, whatever is in it; its type is that of what it is compared with.
pub(crate) fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_cannot_leave_their_quotes() {
        assert_eq!(quoted("a\"; DROP TABLE b; --"), "\"a\"\"; DROP TABLE b; --\"");
        assert_eq!(quoted_table("shop.events"), "\"shop\".\"events\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\'"), "E'\\\\'''");
    }

    #[test]
    fn nested_fields_become_nested_objects_and_a_field_inside_of_another_is_refused() {
        let text = "[s.fields]\na = \"int\"\nb = { type = \"int\", from = \"m.x\" }\nc = { type = \"int\", from = \"m.y.z\" }\nm = { type = \"json\", optional = true }";
        let streams = event::stream::parse_streams(&text.parse().expect("TOML")).expect("right");
        let of = |names: &[&str]| {
            let field = |name: &&str| (streams[0].field(name).expect("there"), format!("o.{name}"));
            object(&names.iter().map(field).collect::<Vec<_>>())
        };
        let nested = of(&["a", "b", "c"]).expect("fits");
        assert_eq!(
            nested,
            "(SELECT row_to_json(r) FROM (SELECT o.a AS \"a\", (SELECT row_to_json(r) FROM (SELECT o.b AS \"x\", \
             (SELECT row_to_json(r) FROM (SELECT o.c AS \"z\") r) AS \"y\") r) AS \"m\") r)"
        );
        assert!(of(&["m", "b"]).is_err());
        assert!(of(&["b", "m"]).is_err());
    }
}
