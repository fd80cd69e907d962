//! Whether two engines gave the same answer, however each writes numbers and times.

use serde_json::Value;

/// Sums of doubles differ by the order in which they were added.
const TOLERANCE: f64 = 1e-9;

/// The first place where two answers differ, if there is one.
pub(crate) fn difference(ours: &[Vec<Value>], theirs: &[Vec<Value>]) -> Option<String> {
    if ours.len() != theirs.len() {
        return Some(format!("we have {} rows, it has {}", ours.len(), theirs.len()));
    }
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let same = ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| is_same(a, b));
        if !same {
            return Some(format!("row {at}: we have {ours:?}, it has {theirs:?}"));
        }
    }
    None
}

fn is_same(a: &Value, b: &Value) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()),
        _ => a == b,
    }
}

/// A number, or a time as one.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => event::decode::parse_rfc3339(text.as_bytes())
            .map(|micros| micros as f64)
            .or_else(|| text.parse().ok()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_times_are_compared_by_what_they_mean() {
        let row = |value: Value| vec![vec![value, json!("a")]];
        for (a, b) in [
            (json!(3), json!(3.0)),
            (json!("12"), json!(12)),
            (
                json!("2024-01-01T00:00:00Z"),
                json!("2024-01-01T00:00:00.000000Z"),
            ),
            (json!(null), json!(null)),
        ] {
            assert_eq!(difference(&row(a.clone()), &row(b.clone())), None, "{a} {b}");
        }
        assert!(difference(&row(json!(3)), &row(json!(4))).is_some());
        assert!(difference(&row(json!("x")), &[]).is_some());
    }
}
