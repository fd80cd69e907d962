//! The statements that create tables: a stream's from its declaration, and Tidemill's own two.

use crate::database::{
    Column, ColumnKind, DeclaredType, MappingError, POSITIONS_TABLE, REFUSED_TABLE, TargetTable,
};

/// Longest text that becomes a VARCHAR; longer ones are TEXT, which costs a row 12 bytes instead of its length.
const VARCHAR_BYTES_MAX: usize = 255;

/// Bytes that all VARCHAR columns of a table may take of a row. The server's limit for a row is 65,535 bytes; the
/// rest is for 256 columns of the other types, of which CHAR(36) in ASCII is the largest.
const VARCHAR_ROW_BYTES_MAX: usize = 48_000;

/// Bytes that the server reckons for a character of `utf8mb4`.
const CHARACTER_BYTES: usize = 4;

/// Largest key of InnoDB, in bytes.
const KEY_BYTES_MAX: usize = 3_072;

/// Characters of an enum's column: room for values that later declarations add.
const ENUM_CHARACTERS: usize = 255;

/// What a server calls the binary collation that does not ignore spaces at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavor {
    /// MariaDB.
    MariaDb,
    /// MySQL 8 and later.
    Mysql,
    /// MySQL 5: only the collation that ignores spaces at the end.
    Mysql5,
}

impl Flavor {
    fn collation(self) -> &'static str {
        match self {
            Self::MariaDb => "utf8mb4_nopad_bin",
            Self::Mysql => "utf8mb4_0900_bin",
            Self::Mysql5 => "utf8mb4_bin",
        }
    }
}

/// A column's type, as `CREATE TABLE` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnType {
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Double,
    DateTime,
    /// A moment until 2038.
    Timestamp,
    /// ASCII of exactly so many characters.
    Char(usize),
    /// So many characters.
    VarChar(usize),
    Text,
    MediumText,
    LongText,
}

impl ColumnType {
    fn sql(self, flavor: Flavor) -> String {
        let text = |name: &str| format!("{name} CHARACTER SET utf8mb4 COLLATE {}", flavor.collation());
        match self {
            Self::TinyInt => "TINYINT(1)".to_owned(),
            Self::SmallInt => "SMALLINT".to_owned(),
            Self::Int => "INT".to_owned(),
            Self::BigInt => "BIGINT".to_owned(),
            Self::Double => "DOUBLE".to_owned(),
            Self::DateTime => "DATETIME(6)".to_owned(),
            Self::Timestamp => "TIMESTAMP(6)".to_owned(),
            Self::Char(characters) => format!("CHAR({characters}) CHARACTER SET ascii COLLATE ascii_bin"),
            Self::VarChar(characters) => text(&format!("VARCHAR({characters})")),
            Self::Text => text("TEXT"),
            Self::MediumText => text("MEDIUMTEXT"),
            Self::LongText => text("LONGTEXT"),
        }
    }

    /// Characters that it holds at least.
    pub(super) fn characters(self) -> Option<usize> {
        match self {
            Self::TinyInt
            | Self::SmallInt
            | Self::Int
            | Self::BigInt
            | Self::Double
            | Self::DateTime
            | Self::Timestamp => None,
            Self::Char(characters) | Self::VarChar(characters) => Some(characters),
            Self::Text => Some(65_535 / CHARACTER_BYTES),
            Self::MediumText => Some(16_777_215 / CHARACTER_BYTES),
            Self::LongText => Some(usize::MAX),
        }
    }
}

/// The type of each column. What a column gets depends on earlier ones only, so that a field that is added later
/// changes none.
pub(super) fn column_types(table: &TargetTable) -> Vec<ColumnType> {
    let mut row_bytes = 0;
    let mut types = Vec::with_capacity(table.columns.len());
    for (index, column) in table.columns.iter().enumerate() {
        let in_key = table.key.contains(&index);
        if let Some(declared) = column.declared_type {
            types.push(declared_type(declared, column.kind));
            continue;
        }
        let found = match column.kind {
            ColumnKind::Bool => ColumnType::TinyInt,
            ColumnKind::Int => ColumnType::BigInt,
            ColumnKind::Int32 => ColumnType::Int,
            ColumnKind::Float => ColumnType::Double,
            ColumnKind::Uuid => ColumnType::Char(36),
            ColumnKind::TraceId => ColumnType::Char(32),
            ColumnKind::Timestamp => ColumnType::DateTime,
            ColumnKind::Json => ColumnType::LongText,
            ColumnKind::Text { max_bytes } => text(max_bytes, in_key, &mut row_bytes),
            ColumnKind::Enum { longest_bytes } => {
                text(longest_bytes.max(ENUM_CHARACTERS), in_key, &mut row_bytes)
            }
        };
        types.push(found);
    }
    types
}

fn declared_type(declared: DeclaredType, kind: ColumnKind) -> ColumnType {
    match declared {
        DeclaredType::SmallInt => ColumnType::SmallInt,
        DeclaredType::Integer => ColumnType::Int,
        DeclaredType::BigInt => ColumnType::BigInt,
        DeclaredType::Timestamp => ColumnType::Timestamp,
        // Refused by `check`.
        DeclaredType::TimestampTz => ColumnType::DateTime,
        DeclaredType::VarChar(characters) => ColumnType::VarChar(characters.into()),
        // Any text is valid in it; MySQL's own JSON would change what it is given.
        DeclaredType::Json => ColumnType::LongText,
        DeclaredType::Text if kind == ColumnKind::Json => ColumnType::LongText,
        DeclaredType::Text => ColumnType::Text,
    }
}

fn text(max_bytes: usize, in_key: bool, row_bytes: &mut usize) -> ColumnType {
    // A character is a byte at least, so as many characters as bytes are always room enough.
    let cost = max_bytes.saturating_mul(CHARACTER_BYTES);
    if in_key || (max_bytes <= VARCHAR_BYTES_MAX && *row_bytes + cost <= VARCHAR_ROW_BYTES_MAX) {
        *row_bytes = row_bytes.saturating_add(cost);
        // `VARCHAR(0)` holds nothing but the empty text, which is what the declaration allows; one is no loss.
        return ColumnType::VarChar(max_bytes.max(1));
    }
    match max_bytes {
        ..=65_535 => ColumnType::Text,
        65_536..=16_777_215 => ColumnType::MediumText,
        _ => ColumnType::LongText,
    }
}

/// Whether InnoDB can have such a table.
pub(super) fn check(table: &TargetTable) -> Result<(), MappingError> {
    let declared = table
        .columns
        .iter()
        .map(|column| (&column.name, column.declared_type));
    let filled = table
        .filled_columns()
        .map(|column| (&column.name, column.declared_type));
    if let Some((name, _)) = declared
        .chain(filled)
        .find(|(_, declared)| *declared == Some(DeclaredType::TimestampTz))
    {
        return Err(MappingError::Unsupported {
            table: table.name.clone(),
            reason: format!("column `{name}` is `timestamptz`, which this kind of database does not have"),
        });
    }
    let types = column_types(table);
    let bytes = |index: &usize| match types[*index] {
        ColumnType::VarChar(characters) => characters.saturating_mul(CHARACTER_BYTES),
        ColumnType::Char(characters) => characters,
        _ => 8,
    };
    let key_bytes = table.key.iter().map(bytes).fold(0, usize::saturating_add);
    if key_bytes > KEY_BYTES_MAX {
        return Err(MappingError::Unsupported {
            table: table.name.clone(),
            reason: format!(
                "its key takes {key_bytes} bytes, InnoDB has {KEY_BYTES_MAX}: a string in the key needs a smaller \
                 `max_bytes`, each of which counts {CHARACTER_BYTES} times"
            ),
        });
    }
    Ok(())
}

/// A column as `CREATE TABLE` and `ADD COLUMN` write it.
pub(super) fn column_definition(column: &Column, column_type: ColumnType, flavor: Flavor) -> String {
    let null = if column.nullable { "NULL" } else { "NOT NULL" };
    format!("`{}` {} {null}", column.name, column_type.sql(flavor))
}

/// Creates a stream's table.
pub(super) fn create(table: &TargetTable, flavor: Flavor) -> String {
    let mut parts: Vec<_> = table
        .columns
        .iter()
        .zip(column_types(table))
        .map(|(column, column_type)| column_definition(column, column_type, flavor))
        .collect();
    if let Some(serial) = &table.serial {
        let kind = match serial.declared_type {
            Some(DeclaredType::SmallInt) => "SMALLINT",
            Some(DeclaredType::BigInt) => "BIGINT",
            _ => "INT",
        };
        parts.insert(
            0,
            format!("`{}` {kind} NOT NULL AUTO_INCREMENT PRIMARY KEY", serial.name),
        );
    }
    if let Some(filled) = &table.inserted_at {
        let kind = filled.declared_type.map_or(ColumnType::DateTime, |declared| {
            declared_type(declared, ColumnKind::Timestamp)
        });
        let kind = kind.sql(flavor);
        parts.push(format!(
            "`{}` {kind} NULL DEFAULT CURRENT_TIMESTAMP(6)",
            filled.name
        ));
    }
    if table.serial.is_none() {
        let key: Vec<_> = table
            .key_columns()
            .map(|column| format!("`{}`", column.name))
            .collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    let name = &table.name;
    format!(
        "CREATE TABLE IF NOT EXISTS `{name}` ({}) ENGINE=InnoDB",
        parts.join(", ")
    )
}

/// Creates the table of positions.
pub(super) fn create_positions() -> String {
    let name = "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL";
    format!(
        "CREATE TABLE IF NOT EXISTS `{POSITIONS_TABLE}` (`stream` {name}, `target` {name}, \
         `partition_id` INT UNSIGNED NOT NULL, `journal` VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL, \
         `next_offset` BIGINT UNSIGNED NOT NULL, `updated_at` DATETIME(6) NOT NULL, \
         PRIMARY KEY (`stream`, `target`, `partition_id`)) ENGINE=InnoDB"
    )
}

/// Creates the table of refused rows.
pub(super) fn create_refused() -> String {
    let name = "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL";
    format!(
        "CREATE TABLE IF NOT EXISTS `{REFUSED_TABLE}` (`stream` {name}, `target` {name}, `_partition` INT NOT NULL, \
         `_offset` BIGINT NOT NULL, `_row` INT NOT NULL, `code` VARCHAR(16) CHARACTER SET ascii NOT NULL, \
         `reason` VARCHAR(1000) CHARACTER SET utf8mb4 NOT NULL, `event` LONGTEXT CHARACTER SET utf8mb4 NOT NULL, \
         `refused_at` DATETIME(6) NOT NULL, \
         PRIMARY KEY (`stream`, `target`, `_partition`, `_offset`, `_row`)) ENGINE=InnoDB"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use event::{FieldDeclaration, FieldType, StreamDeclaration};

    use super::*;
    use crate::database::TableMapping;

    fn stream(lengths: &[usize]) -> Arc<StreamDeclaration> {
        let field = |(number, max_bytes): (usize, &usize)| FieldDeclaration {
            name: format!("f{number}"),
            kind: FieldType::String {
                max_bytes: *max_bytes,
            },
            optional: false,
            description: String::new(),
            path: vec![format!("f{number}")],
        };
        Arc::new(StreamDeclaration {
            fields: lengths.iter().enumerate().map(field).collect(),
            ..StreamDeclaration::rejects()
        })
    }

    #[test]
    fn a_field_that_is_added_changes_no_type_and_a_row_never_grows_too_wide() {
        let lengths = [255; 256];
        let table =
            |count: usize| TargetTable::resolve(stream(&lengths[..count]), "", None).expect("resolves");
        let all = column_types(&table(256));
        for count in [1, 40, 100] {
            assert_eq!(column_types(&table(count))[..count], all[..count]);
        }
        let wide = all
            .iter()
            .filter(|found| matches!(found, ColumnType::VarChar(_)))
            .count();
        assert_eq!(wide, 47);
    }

    #[test]
    fn a_key_that_innodb_cannot_have_is_refused_before_anybody_is_asked() {
        let mapping = TableMapping {
            key: vec!["f0".to_owned(), "f1".to_owned()],
            ..TableMapping::default()
        };
        let table =
            |lengths: &[usize]| TargetTable::resolve(stream(lengths), "", Some(&mapping)).expect("resolves");
        assert!(check(&table(&[384, 384])).is_ok());
        assert_eq!(column_types(&table(&[384, 384]))[0], ColumnType::VarChar(384));
        let error = check(&table(&[384, 385])).expect_err("too large");
        assert!(error.to_string().contains("3076 bytes"), "{error}");
    }
}
