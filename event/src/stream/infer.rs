//! Infers a declaration from a sample of events, so that a new user begins with something that works.
//!
//! The promise: every event of the sample is accepted under the declaration that comes out. Where the sample
//! leaves a choice, the wider one is taken: mixed types become `json`, a field that is absent or null anywhere
//! becomes optional, and undeclared fields are kept rather than rejected.

use serde_json::{Map, Number, Value};

use crate::limits::{FIELDS_MAX, LINE_BYTES_MAX, STRING_BYTES_MAX};
use crate::name::check_name;
use crate::{
    FieldDeclaration, FieldType, RecordFormat, StreamDeclaration, StreamName, TimeUnit, UnknownFields,
};

/// Most scalar members of an object that get columns of their own; an object with more is a map, not a record.
const MEMBERS_MAX: usize = 24;
/// Most keys that are told apart at the top of the sample's events; more are kept in `_extra`, as undeclared ones.
const KEYS_MAX: usize = 1_024;
/// Fields left free for what somebody adds by hand.
const FIELDS_SPARE: usize = 64;

/// Names that the time field of a stream usually has, likeliest first.
const TIME_NAMES: &[&str] = &[
    "timestamp",
    "time",
    "event_time",
    "created_at",
    "occurred_at",
    "date",
    "ts",
];
/// Names that the key of a stream usually has, likeliest first.
const KEY_NAMES: &[&str] = &[
    "user_id",
    "actor_id",
    "session_id",
    "customer_id",
    "account_id",
    "device_id",
];

/// Gathers what a sample's events have in common.
#[derive(Debug, Default)]
pub struct Sample {
    events: u64,
    members: Vec<Member>,
}

/// One key of the sample's objects, and the values that it had.
#[derive(Debug)]
struct Member {
    key: String,
    values: Values,
}

/// What was seen at one place of the sample's events.
#[derive(Debug, Default)]
struct Values {
    present: u64,
    nulls: u64,
    bools: u64,
    integers: Range,
    wide_numbers: u64,
    floats: u64,
    texts: u64,
    text_bytes: usize,
    uuids: u64,
    moments: u64,
    arrays: u64,
    objects: u64,
    members: Vec<Member>,
    /// Whether an object had more members than are looked at.
    map: bool,
}

#[derive(Debug, Default)]
struct Range {
    count: u64,
    min: i64,
    max: i64,
}

impl Sample {
    /// An empty sample.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one event.
    pub fn add(&mut self, event: &Map<String, Value>) {
        self.events += 1;
        observe(&mut self.members, event, 0);
    }

    /// How many events were added.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The declaration under which every event of the sample is accepted.
    #[must_use]
    pub fn declaration(&self, name: StreamName) -> StreamDeclaration {
        let mut fields = Vec::new();
        for member in self.members.iter().take(FIELDS_MAX - FIELDS_SPARE) {
            self.declare(member, &[], &mut fields);
        }
        for member in &self.members {
            let worth_columns = member.values.is_object() && !member.values.map;
            for inner in member
                .values
                .members
                .iter()
                .filter(|inner| worth_columns && inner.values.is_scalar())
            {
                if fields.len() < FIELDS_MAX - FIELDS_SPARE {
                    self.declare(inner, &[&member.key], &mut fields);
                }
            }
        }
        let time = guess(&fields, TIME_NAMES, true, |field| {
            !field.optional && matches!(field.kind, FieldType::Timestamp { .. })
        });
        let key = guess(&fields, KEY_NAMES, false, |field| {
            matches!(
                field.kind,
                FieldType::String { .. } | FieldType::Uuid | FieldType::Int { .. }
            )
        });
        StreamDeclaration {
            name,
            version: 1,
            description: format!("Inferred from {} events", self.events),
            routes: Vec::new(),
            time,
            key,
            unique: None,
            unknown_fields: UnknownFields::Keep,
            topic: None,
            format: RecordFormat::Record,
            retention: None,
            rollup: None,
            fields,
        }
    }

    fn declare(&self, member: &Member, parents: &[&str], fields: &mut Vec<FieldDeclaration>) {
        let path: Vec<String> = parents
            .iter()
            .copied()
            .chain([member.key.as_str()])
            .map(str::to_owned)
            .collect();
        let wanted = column_name(&path.join("_"));
        let taken = |name: &str| fields.iter().any(|field| field.name == name);
        let numbered = (2..).map(|n| format!("{}_{n}", wanted.chars().take(58).collect::<String>()));
        let free = std::iter::once(wanted.clone())
            .chain(numbered)
            .find(|name| !taken(name));
        fields.push(FieldDeclaration {
            name: free.expect("there is always a free number"),
            kind: member.values.kind(&member.key),
            optional: member.values.present < self.events || member.values.nulls > 0,
            description: String::new(),
            path,
        });
    }
}

fn observe(members: &mut Vec<Member>, object: &Map<String, Value>, depth: usize) {
    for (key, value) in object {
        if let Some(member) = members.iter_mut().find(|member| member.key == *key) {
            member.values.add(value, depth);
        } else if members.len() < KEYS_MAX {
            let mut values = Values::default();
            values.add(value, depth);
            members.push(Member {
                key: key.clone(),
                values,
            });
        }
    }
}

impl Values {
    fn add(&mut self, value: &Value, depth: usize) {
        self.present += 1;
        match value {
            Value::Null => self.nulls += 1,
            Value::Bool(_) => self.bools += 1,
            Value::Number(number) => self.add_number(number),
            Value::String(text) => {
                self.texts += 1;
                self.text_bytes = self.text_bytes.max(text.len());
                self.uuids += u64::from(is_uuid(text));
                self.moments += u64::from(is_moment(text));
            }
            Value::Array(_) => self.arrays += 1,
            Value::Object(object) => {
                self.objects += 1;
                if depth == 0 && object.len() <= MEMBERS_MAX {
                    observe(&mut self.members, object, depth + 1);
                }
                self.map |= object.len() > MEMBERS_MAX || self.members.len() > MEMBERS_MAX;
            }
        }
    }

    fn add_number(&mut self, number: &Number) {
        if let Some(integer) = number.as_i64() {
            let range = &mut self.integers;
            let first = range.count == 0;
            range.min = if first { integer } else { range.min.min(integer) };
            range.max = if first { integer } else { range.max.max(integer) };
            range.count += 1;
        } else if number.is_f64() {
            self.floats += 1;
        } else {
            self.wide_numbers += 1;
        }
    }

    fn is_object(&self) -> bool {
        self.objects > 0 && self.objects + self.nulls == self.present
    }

    fn is_scalar(&self) -> bool {
        self.objects + self.arrays == 0 && self.nulls < self.present
    }

    /// The narrowest type that takes every value that was seen.
    fn kind(&self, key: &str) -> FieldType {
        let values = self.present - self.nulls;
        let all = |count: u64| values > 0 && count == values;
        if all(self.bools) {
            FieldType::Bool
        } else if all(self.integers.count) {
            self.integer_kind(key)
        } else if all(self.integers.count + self.floats) {
            FieldType::Float {
                min: f64::MIN,
                max: f64::MAX,
            }
        } else if all(self.uuids) {
            FieldType::Uuid
        } else if all(self.moments) {
            FieldType::Timestamp { unit: None }
        } else if all(self.texts) {
            let larger = self.text_bytes.next_power_of_two().min(LINE_BYTES_MAX);
            FieldType::String {
                max_bytes: larger.max(STRING_BYTES_MAX),
            }
        } else {
            FieldType::Json
        }
    }

    /// An integer is a moment when its name says so and all its values lie between 2001 and 2286 in one unit.
    fn integer_kind(&self, key: &str) -> FieldType {
        let name = key.to_ascii_lowercase();
        let named = ["time", "date", "ts"].iter().any(|word| name.contains(word)) || name.ends_with("_at");
        let within = |second: i64| {
            self.integers.min >= 1_000_000_000 * second && self.integers.max < 10_000_000_000 * second
        };
        let unit = [
            (1, TimeUnit::Seconds),
            (1_000, TimeUnit::Milliseconds),
            (1_000_000, TimeUnit::Microseconds),
        ]
        .into_iter()
        .find_map(|(second, unit)| within(second).then_some(unit));
        match unit {
            Some(unit) if named => FieldType::Timestamp { unit: Some(unit) },
            _ => FieldType::Int {
                min: i64::MIN,
                max: i64::MAX,
            },
        }
    }
}

/// The field with the likeliest name, else the first that fits if `any` will do.
fn guess(
    fields: &[FieldDeclaration],
    names: &[&str],
    any: bool,
    fits: impl Fn(&FieldDeclaration) -> bool,
) -> Option<String> {
    let named = names
        .iter()
        .find_map(|name| fields.iter().find(|field| field.name == *name && fits(field)));
    let first = || fields.iter().find(|field| any && fits(field));
    named.or_else(first).map(|field| field.name.clone())
}

/// A column's name for a key of any spelling: `userId` and `User-Id` become `user_id`.
fn column_name(key: &str) -> String {
    let mut name = String::new();
    let mut lower_before = false;
    for letter in key.chars() {
        if letter.is_ascii_uppercase() && lower_before {
            name.push('_');
        }
        let kept = if letter.is_ascii_alphanumeric() {
            letter.to_ascii_lowercase()
        } else {
            '_'
        };
        if kept != '_' || !name.ends_with('_') {
            name.push(kept);
        }
        lower_before = letter.is_ascii_lowercase() || letter.is_ascii_digit();
    }
    let name = name.trim_matches('_');
    let name = if name.starts_with(|first: char| first.is_ascii_lowercase()) {
        name.to_owned()
    } else {
        format!("field_{name}")
    };
    let name: String = name.chars().take(60).collect();
    debug_assert!(check_name(&name).is_ok());
    name
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

/// Whether a text is certainly a moment by RFC 3339: a narrow form of it, so that no doubtful text is one.
fn is_moment(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u32> {
        let digits = bytes.get(from..to)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
    };
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if bytes.len() < 20 || punctuation.iter().any(|(at, byte)| bytes[*at] != *byte) {
        return false;
    }
    let within = |from: usize, to: usize, min: u32, max: u32| {
        number(from, to).is_some_and(|n| (min..=max).contains(&n))
    };
    // Days 29 to 31 depend on the month; the calendar is looked at only there.
    let day = within(8, 10, 1, 28)
        || matches!((number(0, 4), number(5, 7), number(8, 10)), (Some(year), Some(month), Some(day)) if day <= days_of(year, month));
    let clock = within(11, 13, 0, 23) && within(14, 16, 0, 59) && within(17, 19, 0, 59);
    if !(within(0, 4, 1, 9_999) && within(5, 7, 1, 12) && day && number(8, 10) != Some(0) && clock) {
        return false;
    }
    let mut zone = &bytes[19..];
    if let Some(fraction) = zone.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || digits > 9 {
            return false;
        }
        zone = &fraction[digits..];
    }
    let at = bytes.len() - zone.len();
    let offset = zone.len() == 6 && matches!(zone[0], b'+' | b'-') && zone[3] == b':';
    zone == b"Z" || offset && within(at + 1, at + 3, 0, 23) && within(at + 4, at + 6, 0, 59)
}

fn days_of(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inferred(lines: &[&str]) -> StreamDeclaration {
        let mut sample = Sample::new();
        for line in lines {
            sample.add(&serde_json::from_str(line).expect("a JSON object"));
        }
        sample.declaration(StreamName::parse("sample").expect("allowed"))
    }

    #[test]
    fn the_narrowest_type_that_takes_every_value_is_declared() {
        let found = inferred(&[
            r#"{"userId":"d290f1ee-6c54-4b01-90e6-d701748f0851","n":1,"x":1,"at":"2024-09-10T09:12:33.001Z","mixed":1,"meta":{"page url":"a"}}"#,
            r#"{"userId":"d290f1ee-6c54-4b01-90e6-d701748f0852","n":2,"x":1.5,"at":"2024-09-10T09:12:33+02:00","mixed":"a","meta":{"page url":null},"late":true}"#,
        ]);
        let kind = |name: &str| {
            found
                .field(name)
                .unwrap_or_else(|| panic!("{name} in {found:?}"))
                .kind
                .clone()
        };
        assert_eq!(kind("user_id"), FieldType::Uuid);
        assert_eq!(
            kind("n"),
            FieldType::Int {
                min: i64::MIN,
                max: i64::MAX
            }
        );
        assert_eq!(
            kind("x"),
            FieldType::Float {
                min: f64::MIN,
                max: f64::MAX
            }
        );
        assert_eq!(kind("at"), FieldType::Timestamp { unit: None });
        assert_eq!(kind("mixed"), FieldType::Json);
        assert_eq!(kind("meta"), FieldType::Json);
        let nested = found
            .field("meta_page_url")
            .expect("a scalar member gets a column");
        assert_eq!(nested.path, ["meta", "page url"]);
        assert!(nested.optional && found.field("late").expect("declared").optional);
        assert!(!found.field("n").expect("declared").optional);
        assert_eq!(
            (found.time.as_deref(), found.key.as_deref()),
            (Some("at"), Some("user_id"))
        );
    }

    #[test]
    fn epoch_integers_are_moments_when_their_name_says_so() {
        let found = inferred(&[r#"{"timestamp":1725959553001,"serial":1725959553001}"#]);
        let unit = Some(TimeUnit::Milliseconds);
        assert_eq!(
            found.field("timestamp").expect("declared").kind,
            FieldType::Timestamp { unit }
        );
        assert!(matches!(
            found.field("serial").expect("declared").kind,
            FieldType::Int { .. }
        ));
    }

    #[test]
    fn texts_that_only_resemble_moments_stay_texts() {
        for text in [
            "2024-02-30T00:00:00Z",
            "2024-09-10T09:12:33",
            "2024-09-10 09:12:33Z",
            "2024-09-10T24:00:00Z",
            "2024-13-01T00:00:00Z",
        ] {
            assert!(!is_moment(text), "{text}");
        }
        assert!(is_moment("2024-02-29T23:59:59.123456789Z"));
        assert!(!is_moment("2023-02-29T00:00:00Z"));
    }

    #[test]
    fn keys_of_any_spelling_become_allowed_names() {
        for (key, name) in [
            ("userId", "user_id"),
            ("@timestamp", "timestamp"),
            ("9lives", "field_9lives"),
            ("Ünï", "n"),
            ("a--b", "a_b"),
            ("", "field_"),
        ] {
            assert_eq!(column_name(key), name);
            assert!(check_name(&column_name(key)).is_ok());
        }
    }
}
