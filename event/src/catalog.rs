//! The catalog: every stream that this process serves, by name. Never changes while the process runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::{Table, Value};

use crate::stream::{self, ForbiddenChange, parse_streams};
use crate::{StreamDeclaration, StreamName};

/// The newest form of a stored catalog.
const FORMAT: i64 = 1;

/// Why streams cannot follow the stored ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct EvolutionError(pub Vec<ForbiddenChange>);

/// Why a stored catalog cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CatalogError(String);

/// The declared streams with their versions, after those that are stored. Stored streams that are no longer
/// declared stay, without their routes: their events can be asked for, and the journal is not held back by
/// records that nobody reads.
///
/// # Errors
/// [`EvolutionError`] with everything that stored events forbid.
pub fn evolve(
    stored: Vec<StreamDeclaration>,
    declared: Vec<StreamDeclaration>,
) -> Result<Vec<StreamDeclaration>, EvolutionError> {
    let (mut evolved, mut forbidden) = (Vec::new(), Vec::new());
    for declaration in &declared {
        match stored.iter().find(|stored| stored.name == declaration.name) {
            None => evolved.push(declaration.clone()),
            Some(stored) => match stream::evolve(stored, declaration) {
                Ok(declaration) => evolved.push(declaration),
                Err(changes) => forbidden.extend(changes),
            },
        }
    }
    let gone = |stored: &StreamDeclaration| declared.iter().all(|declared| declared.name != stored.name);
    let without_routes = |stored| StreamDeclaration {
        routes: Vec::new(),
        ..stored
    };
    evolved.extend(stored.into_iter().filter(gone).map(without_routes));
    evolved.sort_by(|a, b| a.name.cmp(&b.name));
    if forbidden.is_empty() {
        Ok(evolved)
    } else {
        Err(EvolutionError(forbidden))
    }
}

/// Streams and their versions as text, for the file that remembers them.
#[must_use]
pub fn to_toml(streams: &[StreamDeclaration]) -> String {
    let mut text = format!("format = {FORMAT}\n\n[versions]\n");
    for stream in streams {
        text += &format!("{} = {}\n", stream.name, stream.version);
    }
    for stream in streams {
        text += &format!("\n{}", stream.to_toml());
    }
    text
}

/// Reads what [`to_toml`] wrote.
///
/// # Errors
/// [`CatalogError`] when the text is not that, or of a newer form.
pub fn from_toml(text: &str) -> Result<Vec<StreamDeclaration>, CatalogError> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| CatalogError(error.message().to_owned()))?;
    let format = table.get("format").and_then(Value::as_integer);
    if format != Some(FORMAT) {
        let found = format.map_or_else(|| "none".to_owned(), |format| format.to_string());
        return Err(CatalogError(format!(
            "format {found} is not {FORMAT}, the one that this program reads"
        )));
    }
    let section = |name: &str| {
        let section = table.get(name).and_then(Value::as_table);
        section.ok_or_else(|| CatalogError(format!("section `{name}` is missing")))
    };
    let versions = section("versions")?;
    // A catalog without streams has no section of them.
    let none = Table::new();
    let declared = match table.get("streams") {
        None => &none,
        Some(_) => section("streams")?,
    };
    let mut streams = parse_streams(declared).map_err(|problems| {
        let first = problems
            .first()
            .map(|problem| format!("{}: {}", problem.key, problem.message));
        CatalogError(first.unwrap_or_default())
    })?;
    for stream in &mut streams {
        let version = versions.get(stream.name.as_str()).and_then(Value::as_integer);
        let version = version
            .and_then(|version| u32::try_from(version).ok())
            .filter(|version| *version > 0);
        stream.version =
            version.ok_or_else(|| CatalogError(format!("stream `{}` has no version", stream.name)))?;
    }
    Ok(streams)
}

/// The declared streams and the built-in ones. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalog {
    streams: Arc<BTreeMap<StreamName, Arc<StreamDeclaration>>>,
}

impl Catalog {
    /// A catalog of `declared` streams plus the built-in stream `_rejects`.
    #[must_use]
    pub fn new(declared: impl IntoIterator<Item = StreamDeclaration>) -> Self {
        let streams = declared
            .into_iter()
            .chain([StreamDeclaration::rejects()])
            .map(|declaration| (declaration.name.clone(), Arc::new(declaration)))
            .collect();
        Self {
            streams: Arc::new(streams),
        }
    }

    /// The declaration of a stream, if there is one of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<StreamDeclaration>> {
        self.streams.get(name)
    }

    /// All streams in the order of their names, built-in ones first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<StreamDeclaration>> {
        self.streams.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(text: &str) -> Vec<StreamDeclaration> {
        parse_streams(&text.parse().expect("TOML")).expect("right")
    }

    #[test]
    fn the_stored_catalog_gives_back_streams_and_versions() {
        let mut starters = StreamDeclaration::starters();
        starters.sort_by(|a, b| a.name.cmp(&b.name));
        starters[1].version = 7;
        let mut found = from_toml(&to_toml(&starters)).expect("readable");
        found.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(found, starters);
        assert!(from_toml(&to_toml(&starters).replace("format = 1", "format = 2")).is_err());
        assert!(from_toml("").is_err());
        assert_eq!(from_toml(&to_toml(&[])), Ok(Vec::new()));
    }

    #[test]
    fn optional_fields_and_enum_values_may_be_added_and_raise_the_version() {
        let stored = streams("[s.fields]\na = \"int\"\nk = { type = \"enum\", values = [\"x\"] }");
        let same = evolve(stored.clone(), stored.clone()).expect("nothing changed");
        assert_eq!(same[0].version, 1);
        let grown = "[s.fields]\na = \"int\"\nk = { type = \"enum\", values = [\"y\", \"x\"] }\nb = { type = \"json\", optional = true }";
        let grown = evolve(stored.clone(), streams(grown)).expect("allowed");
        assert_eq!(grown[0].version, 2);
        let described = streams(
            "[s]\nroutes = [\"/x\"]\n[s.fields]\na = \"int\"\nk = { type = \"enum\", values = [\"x\"] }",
        );
        assert_eq!(evolve(stored, described).expect("allowed")[0].version, 1);
    }

    #[test]
    fn every_other_change_is_refused_and_named() {
        let stored =
            streams("[s]\nkey = \"a\"\n[s.fields]\na = \"int\"\nk = { type = \"enum\", values = [\"x\"] }");
        let changed = "[s.fields]\na = { type = \"int\", min = 0 }\nb = \"int\"\nk = { type = \"enum\", values = [\"y\"], optional = true }";
        let error = evolve(stored.clone(), streams(changed))
            .expect_err("forbidden")
            .to_string();
        for part in [
            "`key` was a",
            "bounds or unit of field `a`",
            "new field `b`",
            "value `x` of field `k`",
            "field `k` was required",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
        let retyped = streams("[s]\nkey = \"a\"\n[s.fields]\na = { type = \"string\", from = \"z.a\" }");
        let error = evolve(stored, retyped).expect_err("forbidden").to_string();
        for part in [
            "field `a` was int, and is string",
            "field `a` came from `a`",
            "field `k` is gone",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
