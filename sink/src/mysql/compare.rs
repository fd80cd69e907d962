//! An existing table against what the declaration and the mapping say.
//!
//! New optional fields become columns. Whatever else differs is an error that names it, because rows would be refused
//! one by one or changed on their way. A table that somebody made for a declared mapping may have narrower or other
//! columns of the same family (`INT` for `BIGINT`, `ENUM` for text); what does not fit into them is a refused row.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::error::failed;
use super::tables::{ColumnType, column_types};
use crate::database::{ColumnKind, DatabaseError, TargetTable};

/// A column as the server describes it.
#[derive(Debug)]
struct Found {
    name: String,
    data_type: String,
    nullable: bool,
    characters: Option<u64>,
    character_set: Option<String>,
    fraction_digits: Option<u64>,
    has_default: bool,
    extra: String,
}

type FoundRow = (
    String,
    String,
    String,
    Option<u64>,
    Option<String>,
    Option<u64>,
    Option<String>,
    String,
);

/// Numbers of the columns that are to be added.
///
/// # Errors
/// [`DatabaseError::Differs`] for any other difference.
pub(super) async fn missing_columns(
    conn: &mut Conn,
    table: &TargetTable,
) -> Result<Vec<usize>, DatabaseError> {
    let found = columns(conn, table).await?;
    let differs = |difference: String| DatabaseError::Differs {
        table: table.name.clone(),
        difference,
    };
    let engine = engine(conn, table).await?;
    if !engine
        .as_deref()
        .is_some_and(|engine| engine.eq_ignore_ascii_case("InnoDB"))
    {
        let engine = engine.unwrap_or_else(|| "nothing".to_owned());
        return Err(differs(format!(
            "its engine is `{engine}`, transactions need `InnoDB`"
        )));
    }
    let mut missing = Vec::new();
    for (index, (column, column_type)) in table.columns.iter().zip(column_types(table)).enumerate() {
        match found
            .iter()
            .find(|found| found.name.eq_ignore_ascii_case(&column.name))
        {
            Some(found) => {
                if let Some(difference) = difference(table, index, column_type, found) {
                    return Err(differs(format!("column `{}` {difference}", column.name)));
                }
            }
            None if column.nullable => missing.push(index),
            None => return Err(differs(format!("required column `{}` is not there", column.name))),
        }
    }
    let ours = |found: &&Found| {
        table
            .columns
            .iter()
            .any(|column| column.name.eq_ignore_ascii_case(&found.name))
    };
    let filled = |found: &&Found| found.nullable || found.has_default || !found.extra.is_empty();
    if let Some(other) = found.iter().find(|found| !ours(found) && !filled(found)) {
        let name = &other.name;
        return Err(differs(format!(
            "column `{name}` is not of the stream, is `NOT NULL` and has no default"
        )));
    }
    for filled in table.filled_columns() {
        let there = found
            .iter()
            .find(|found| found.name.eq_ignore_ascii_case(&filled.name));
        if !there.is_some_and(|found| found.has_default || !found.extra.is_empty()) {
            let name = &filled.name;
            return Err(differs(format!(
                "column `{name}` is not there, or the database does not fill it by itself"
            )));
        }
    }
    // What is only appended to needs nothing that tells its rows apart.
    if table.serial.is_none() {
        check_key(conn, table).await?;
    }
    Ok(missing)
}

fn difference(table: &TargetTable, index: usize, expected: ColumnType, found: &Found) -> Option<String> {
    let column = &table.columns[index];
    let data_type = found.data_type.as_str();
    let allowed: &[&str] = match column.kind {
        ColumnKind::Bool | ColumnKind::Int | ColumnKind::Int32 => {
            &["tinyint", "smallint", "mediumint", "int", "bigint", "decimal"]
        }
        ColumnKind::Float => &["double"],
        ColumnKind::Timestamp => &["datetime", "timestamp"],
        ColumnKind::Json => &["text", "mediumtext", "longtext", "json"],
        ColumnKind::Uuid => &[
            "char",
            "varchar",
            "tinytext",
            "text",
            "mediumtext",
            "longtext",
            "uuid",
        ],
        ColumnKind::Text { .. } | ColumnKind::Enum { .. } | ColumnKind::TraceId => &[
            "char",
            "varchar",
            "tinytext",
            "text",
            "mediumtext",
            "longtext",
            "enum",
        ],
    };
    if !allowed.contains(&data_type) {
        return Some(format!(
            "is `{data_type}`, expected one of {}",
            allowed.join(", ")
        ));
    }
    if column.nullable && !found.nullable {
        return Some("is `NOT NULL`, but its field is optional".to_owned());
    }
    if column.kind == ColumnKind::Timestamp && found.fraction_digits != Some(6) {
        let digits = found.fraction_digits.unwrap_or(0);
        return Some(format!(
            "keeps {digits} digits of a second, expected 6: `DATETIME(6)`"
        ));
    }
    if table.declared {
        return None;
    }
    if let (Some(expected), Some(characters)) = (expected.characters(), found.characters)
        && characters < expected as u64
        && !data_type.ends_with("text")
    {
        return Some(format!("holds {characters} characters, expected {expected}"));
    }
    let unicode = found.character_set.as_deref().is_none_or(|set| set == "utf8mb4");
    let needs_unicode = !matches!(column.kind, ColumnKind::Uuid | ColumnKind::TraceId);
    if needs_unicode && !unicode {
        let set = found.character_set.as_deref().unwrap_or_default();
        return Some(format!("has the character set `{set}`, expected `utf8mb4`"));
    }
    None
}

async fn columns(conn: &mut Conn, table: &TargetTable) -> Result<Vec<Found>, DatabaseError> {
    let query = format!(
        "SELECT COLUMN_NAME, DATA_TYPE, IS_NULLABLE, CAST(CHARACTER_MAXIMUM_LENGTH AS UNSIGNED), \
         CHARACTER_SET_NAME, CAST(DATETIME_PRECISION AS UNSIGNED), CAST(COLUMN_DEFAULT AS CHAR), EXTRA \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{}' \
         ORDER BY ORDINAL_POSITION",
        table.name
    );
    let rows: Vec<FoundRow> = conn
        .query(query)
        .await
        .map_err(|error| failed("read the table's columns", &error))?;
    let found = rows.into_iter().map(|row| {
        let (name, data_type, nullable, characters, character_set, fraction_digits, default, extra) = row;
        Found {
            name,
            data_type: data_type.to_ascii_lowercase(),
            nullable: nullable.eq_ignore_ascii_case("YES"),
            characters,
            character_set,
            fraction_digits,
            has_default: default.is_some(),
            extra,
        }
    });
    Ok(found.collect())
}

async fn engine(conn: &mut Conn, table: &TargetTable) -> Result<Option<String>, DatabaseError> {
    let query = format!(
        "SELECT ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{}'",
        table.name
    );
    let engine: Option<Option<String>> = conn
        .query_first(query)
        .await
        .map_err(|error| failed("read the table's engine", &error))?;
    Ok(engine.flatten())
}

/// The key must be unique in the table too: it is what an event is told apart by.
async fn check_key(conn: &mut Conn, table: &TargetTable) -> Result<(), DatabaseError> {
    let query = format!(
        "SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() \
         AND TABLE_NAME = '{}' AND NON_UNIQUE = 0 AND SUB_PART IS NULL ORDER BY INDEX_NAME, SEQ_IN_INDEX",
        table.name
    );
    let rows: Vec<(String, String)> = conn
        .query(query)
        .await
        .map_err(|error| failed("read the table's keys", &error))?;
    let mut expected: Vec<_> = table
        .key_columns()
        .map(|column| column.name.to_ascii_lowercase())
        .collect();
    expected.sort();
    let unique = rows.chunk_by(|one, other| one.0 == other.0).any(|index| {
        let mut columns: Vec<_> = index
            .iter()
            .map(|(_, column)| column.to_ascii_lowercase())
            .collect();
        columns.sort();
        columns == expected
    });
    if unique {
        return Ok(());
    }
    Err(DatabaseError::Differs {
        table: table.name.clone(),
        difference: format!("it has no unique key over ({})", expected.join(", ")),
    })
}
