//! Mappings of a stream to a table: the default, declared ones, and what is refused in a declaration.

use event::{FieldDeclaration, StreamName};

use super::*;

fn stream() -> Arc<StreamDeclaration> {
    let field = |name: &str, kind, optional| FieldDeclaration {
        name: name.to_owned(),
        kind,
        optional,
        description: String::new(),
        path: vec![name.to_owned()],
    };
    Arc::new(StreamDeclaration {
        name: StreamName::parse("running").expect("allowed"),
        fields: vec![
            field("user_id", FieldType::Uuid, false),
            field("note", FieldType::String { max_bytes: 99 }, true),
        ],
        ..StreamDeclaration::rejects()
    })
}

fn columns_of(pairs: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    let pairs = pairs.iter();
    Some(
        pairs
            .map(|(field, column)| ((*field).to_owned(), (*column).to_owned()))
            .collect(),
    )
}

fn names(table: &TargetTable) -> Vec<&str> {
    table.columns.iter().map(|column| column.name.as_str()).collect()
}

#[test]
fn without_a_mapping_every_column_is_there_and_the_position_is_the_key() {
    let table = TargetTable::resolve(stream(), "app_", None).expect("resolves");
    assert_eq!(table.name, "app_running");
    let all = [
        "user_id",
        "note",
        "_received_at",
        "_trace_id",
        "_partition",
        "_offset",
        "_row",
    ];
    assert_eq!(names(&table), all);
    assert_eq!((table.key.as_slice(), table.own_key), (&[4, 5, 6][..], false));
    assert_eq!(table.columns[1].kind, ColumnKind::Text { max_bytes: 99 });
    assert!(table.columns[1].nullable && !table.columns[0].nullable);
}

#[test]
fn a_mapping_picks_renames_and_keeps_the_whole_event() {
    let mapping = TableMapping {
        table: Some("Runs".to_owned()),
        columns: columns_of(&[("user_id", "runner")]),
        event: Some("doc".to_owned()),
        ..TableMapping::default()
    };
    let table = TargetTable::resolve(stream(), "app_", Some(&mapping)).expect("resolves");
    assert_eq!(table.name, "Runs");
    assert_eq!(names(&table), ["runner", "_partition", "_offset", "_row", "doc"]);
    assert_eq!(table.key, [1, 2, 3]);
    let own = TableMapping {
        key: vec!["runner".to_owned()],
        on_conflict: OnConflict::Update,
        ..mapping
    };
    let table = TargetTable::resolve(stream(), "", Some(&own)).expect("resolves");
    assert_eq!(names(&table), ["runner", "doc"]);
    assert_eq!((table.key.as_slice(), table.own_key), (&[0][..], true));
}

#[test]
fn what_cannot_be_a_table_is_named() {
    let resolve =
        |mapping: &TableMapping| TargetTable::resolve(stream(), "", Some(mapping)).expect_err("wrong");
    let long = "a".repeat(65);
    for name in ["", "a`b", "a b", "a\"b", "1a", "ä", "a;drop", "a\0", &long] {
        let table = TableMapping {
            table: Some(name.to_owned()),
            ..TableMapping::default()
        };
        assert!(
            matches!(resolve(&table), MappingError::Name { what: "table", .. }),
            "{name:?}"
        );
        let column = TableMapping {
            event: Some(name.to_owned()),
            ..TableMapping::default()
        };
        assert!(
            matches!(resolve(&column), MappingError::Name { what: "column", .. }),
            "{name:?}"
        );
    }
    let with = |change: fn(&mut TableMapping)| {
        let mut mapping = TableMapping::default();
        change(&mut mapping);
        resolve(&mapping)
    };
    let reserved = with(|mapping| mapping.table = Some("TideMill_Positions".to_owned()));
    assert!(matches!(reserved, MappingError::Reserved { .. }));
    let unknown = with(|mapping| mapping.columns = columns_of(&[("other", "x")]));
    assert!(matches!(unknown, MappingError::NoField { .. }));
    let twice = with(|mapping| mapping.event = Some("NOTE".to_owned()));
    assert!(matches!(twice, MappingError::Twice { .. }));
    let no_column = with(|mapping| mapping.key = vec!["x".to_owned()]);
    assert!(matches!(no_column, MappingError::NoKeyColumn { .. }));
    let optional = with(|mapping| mapping.key = vec!["note".to_owned()]);
    assert!(matches!(optional, MappingError::KeyColumn { .. }));
    let conflict = with(|mapping| mapping.on_conflict = OnConflict::Ignore);
    assert!(matches!(conflict, MappingError::ConflictWithoutKey));
}

#[test]
fn a_unique_field_is_the_key_of_its_table_whatever_the_mapping_says() {
    let mut unique = StreamDeclaration::clone(&stream());
    unique.unique = Some(event::Unique {
        field: "user_id".to_owned(),
        window: event::Unique::WINDOW,
        ids_max: event::Unique::IDS_MAX,
    });
    let resolve =
        |mapping: Option<&TableMapping>| TargetTable::resolve(Arc::new(unique.clone()), "", mapping);
    let table = resolve(None).expect("resolves");
    assert_eq!(
        (table.key.as_slice(), table.unique, table.own_key),
        (&[0][..], Some(0), true)
    );
    assert_eq!(names(&table).len(), 7);
    let renamed = TableMapping {
        columns: columns_of(&[("_received_at", "at"), ("user_id", "id"), ("note", "text")]),
        key: vec!["ID".to_owned()],
        on_conflict: OnConflict::Ignore,
        ..TableMapping::default()
    };
    let table = resolve(Some(&renamed)).expect("resolves");
    assert_eq!(names(&table), ["id", "text", "at"]);
    assert_eq!((table.key, table.on_conflict), (vec![0], OnConflict::Refuse));
    let wrong = |change: fn(&mut TableMapping)| {
        let mut mapping = renamed.clone();
        change(&mut mapping);
        resolve(Some(&mapping)).expect_err("wrong")
    };
    let unmapped = wrong(|mapping| mapping.columns = columns_of(&[("note", "id")]));
    assert!(
        matches!(unmapped, MappingError::UniqueUnmapped { .. }),
        "{unmapped}"
    );
    let other = wrong(|mapping| mapping.key = vec!["id".to_owned(), "at".to_owned()]);
    assert!(matches!(other, MappingError::UniqueKey { .. }), "{other}");
    let update = wrong(|mapping| mapping.on_conflict = OnConflict::Update);
    assert!(matches!(update, MappingError::UniqueUpdate { .. }), "{update}");
}

#[test]
fn two_streams_share_a_table_only_with_keys_of_their_own() {
    let shared = |key: &[&str]| {
        let mapping = TableMapping {
            table: Some("all_events".to_owned()),
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            ..TableMapping::default()
        };
        Arc::new(TargetTable::resolve(stream(), "", Some(&mapping)).expect("resolves"))
    };
    assert!(check_shared(&[shared(&[]), shared(&["user_id"])]).is_err());
    assert!(check_shared(&[shared(&["user_id"]), shared(&["user_id"])]).is_ok());
}

#[test]
fn a_table_that_the_database_numbers_has_no_other_key_and_its_types_are_checked() {
    let mapping = TableMapping {
        columns: columns_of(&[("_received_at", "timestamp"), ("note", "note")]),
        serial: Some("id".to_owned()),
        inserted_at: Some("created_at".to_owned()),
        types: columns_of(&[
            ("timestamp", "TIMESTAMP"),
            ("id", "bigint"),
            ("note", "varchar( 40 )"),
        ])
        .expect("some"),
        ..TableMapping::default()
    };
    let table = TargetTable::resolve(stream(), "", Some(&mapping)).expect("resolves");
    assert_eq!(names(&table), ["note", "timestamp"]);
    assert!(table.key.is_empty() && !table.own_key);
    let types: Vec<_> = table.columns.iter().map(|column| column.declared_type).collect();
    assert_eq!(
        types,
        [Some(DeclaredType::VarChar(40)), Some(DeclaredType::Timestamp)]
    );
    let filled: Vec<_> = table
        .filled_columns()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(filled, ["id", "created_at"]);
    let with = |change: fn(&mut TableMapping)| {
        let mut mapping = mapping.clone();
        change(&mut mapping);
        TargetTable::resolve(stream(), "", Some(&mapping)).expect_err("refused")
    };
    let keyed = with(|mapping| mapping.key = vec!["timestamp".to_owned()]);
    assert_eq!(keyed, MappingError::SerialWithKey);
    let twice = with(|mapping| mapping.serial = Some("Note".to_owned()));
    assert!(matches!(twice, MappingError::Twice { .. }), "{twice}");
    let nobody = with(|mapping| drop(mapping.types.insert("x".to_owned(), "text".to_owned())));
    assert!(matches!(nobody, MappingError::NoTypedColumn { .. }), "{nobody}");
    for (column, written) in [
        ("timestamp", "integer"),
        ("note", "varchar(0)"),
        ("id", "text; DROP TABLE x"),
    ] {
        let mut mapping = mapping.clone();
        mapping.types.insert(column.to_owned(), written.to_owned());
        let error = TargetTable::resolve(stream(), "", Some(&mapping)).expect_err("refused");
        assert!(matches!(error, MappingError::Type { .. }), "{written}: {error}");
    }
}
