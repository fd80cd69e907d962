//! How a declaration may change once events are stored under it.
//!
//! It may gain optional fields and enum values, and nothing else of what decides what an event is; then its version
//! rises by one. The window of `unique` and its bound, description, routes, topic, format, retention, how a
//! rollup is computed (but not what from) and `unknown_fields = "reject"` or `"ignore"` decide nothing that is
//! stored, so they change freely.

use super::{FieldDeclaration, FieldType, StreamDeclaration, UnknownFields};

/// A change that stored events forbid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stream `{stream}`: {message}; only optional fields and enum values may be added")]
pub struct ForbiddenChange {
    /// The stream.
    pub stream: String,
    /// What differs.
    pub message: String,
}

/// The declaration with its version, now that events may be stored under an earlier one.
///
/// # Errors
/// Every [`ForbiddenChange`].
pub fn evolve(
    stored: &StreamDeclaration,
    declared: &StreamDeclaration,
) -> Result<StreamDeclaration, Vec<ForbiddenChange>> {
    let mut changes = Changes {
        stream: declared,
        grown: false,
        forbidden: Vec::new(),
    };
    changes.same("time", &stored.time, &declared.time);
    changes.same("key", &stored.key, &declared.key);
    let source = |stream: &StreamDeclaration| stream.rollup.as_ref().map(|rollup| rollup.from.to_string());
    changes.same("rollup.from", &source(stored), &source(declared));
    let unique = |stream: &StreamDeclaration| stream.unique.as_ref().map(|unique| unique.field.clone());
    // What is stored was stored under the old rule: a table of a database may hold an id twice already.
    changes.same("unique", &unique(stored), &unique(declared));
    let (kept, keeps) = (
        stored.unknown_fields == UnknownFields::Keep,
        declared.unknown_fields == UnknownFields::Keep,
    );
    if kept && !keeps {
        changes.forbid("unknown fields were kept, and no longer are".to_owned());
    }
    changes.grown |= keeps && !kept;
    for field in &stored.fields {
        match declared.field(&field.name) {
            Some(now) => changes.field(field, now),
            None => changes.forbid(format!("field `{}` is gone", field.name)),
        }
    }
    for field in declared
        .fields
        .iter()
        .filter(|field| stored.field(&field.name).is_none())
    {
        changes.grown = true;
        if !field.optional {
            changes.forbid(format!("new field `{}` is not optional", field.name));
        }
    }
    if !changes.forbidden.is_empty() {
        return Err(changes.forbidden);
    }
    let version = stored.version.saturating_add(u32::from(changes.grown));
    Ok(StreamDeclaration {
        version,
        ..declared.clone()
    })
}

struct Changes<'a> {
    stream: &'a StreamDeclaration,
    /// Whether something was added.
    grown: bool,
    forbidden: Vec<ForbiddenChange>,
}

impl Changes<'_> {
    fn forbid(&mut self, message: String) {
        self.forbidden.push(ForbiddenChange {
            stream: self.stream.name.to_string(),
            message,
        });
    }

    fn same(&mut self, what: &str, before: &Option<String>, now: &Option<String>) {
        if before != now {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
            self.forbid(format!("`{what}` was {}, and is {}", text(before), text(now)));
        }
    }

    fn field(&mut self, before: &FieldDeclaration, now: &FieldDeclaration) {
        let name = &now.name;
        if before.optional != now.optional {
            self.forbid(format!(
                "field `{name}` was {}, and is not",
                if before.optional { "optional" } else { "required" }
            ));
        }
        if before.path != now.path {
            self.forbid(format!(
                "field `{name}` came from `{}`, and comes from `{}`",
                before.path.join("."),
                now.path.join(".")
            ));
        }
        match (&before.kind, &now.kind) {
            (FieldType::Enum { values: before }, FieldType::Enum { values: now }) => {
                if let Some(gone) = before.iter().find(|value| !now.contains(value)) {
                    self.forbid(format!("value `{gone}` of field `{name}` is gone"));
                }
                self.grown |= now.len() > before.len();
            }
            (before, now) if before == now => {}
            (before, now) if before.name() == now.name() => {
                self.forbid(format!("the bounds or unit of field `{name}` differ"));
            }
            (before, now) => self.forbid(format!(
                "field `{name}` was {}, and is {}",
                before.name(),
                now.name()
            )),
        }
    }
}
