//! One text of an object, for questions about `json` columns: found without looking at what lies behind it.

use super::quick::string_length;
use super::scan::{Keys, Scanner};

/// Bytes of a member that is stepped over, unless it is a string: readers have their own bounds on numbers and depth.
const OTHER_BYTES_MAX: usize = 1_024;

/// What a quick look at an object tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextMember<'a> {
    /// The first member of this key is this text.
    Text(&'a str),
    /// There is none, or it is no text.
    Nothing,
    /// The text is in a less common form, or is no object: somebody else must look.
    Unclear,
}

/// Looks for a member of the object `json`, at the top of it, whose value is a text. What lies before it is JSON when
/// this tells something; what lies behind it was not looked at.
#[must_use]
pub fn text_member<'a>(json: &'a str, key: &str) -> TextMember<'a> {
    look(json, key.as_bytes()).unwrap_or(TextMember::Unclear)
}

fn look<'a>(json: &'a str, key: &[u8]) -> Option<TextMember<'a>> {
    let mut scanner = Scanner::new(json.as_bytes());
    scanner.expect(b'{', "no object").ok()?;
    if scanner.peek().ok()? == b'}' {
        return Some(TextMember::Nothing);
    }
    loop {
        let is_key = string(&mut scanner)? == key;
        scanner.expect(b':', "no member").ok()?;
        let is_text = scanner.peek().ok()? == b'"';
        match (is_key, is_text) {
            (true, true) => {
                let (from, text) = (scanner.at + 1, string(&mut scanner)?);
                return json.get(from..from + text.len()).map(TextMember::Text);
            }
            (true, false) => return Some(TextMember::Nothing),
            (false, true) => {
                string(&mut scanner)?;
            }
            (false, false) => {
                let begun = scanner.at;
                scanner.value(1, &mut Keys::default()).ok()?;
                (scanner.at - begun <= OTHER_BYTES_MAX).then_some(())?;
            }
        }
        if !scanner.more(b'}', "no member").ok()? {
            return Some(TextMember::Nothing);
        }
    }
}

/// Steps over a string without escapes, and gives its bytes.
#[inline]
fn string<'a>(scanner: &mut Scanner<'a>) -> Option<&'a [u8]> {
    scanner.peek().ok()?;
    let bytes = scanner.bytes.get(scanner.at..)?;
    let length = string_length(bytes)?;
    scanner.at += length;
    bytes.get(1..length - 1)
}

#[cfg(test)]
mod tests {
    use super::TextMember::{Nothing, Text, Unclear};
    use super::text_member;

    #[test]
    fn a_text_is_found_behind_members_of_every_kind() {
        for (json, found) in [
            (r#"{"a":"x"}"#, Text("x")),
            (r#" { "b" : 1.5e3 , "a" : "größer" } "#, Text("größer")),
            (
                r#"{"b":"a","c":null,"d":true,"e":[1,{"a":"no"}],"f":{"a":"no"},"a":""}"#,
                Text(""),
            ),
            (r#"{"a":"first","a":"second"}"#, Text("first")),
            (r#"{"a":"what lies behind","#, Text("what lies behind")),
            (r#"{"b":"x"}"#, Nothing),
            ("{}", Nothing),
            (r#"{"a":1}"#, Nothing),
            (r#"{"a":{"a":"x"}}"#, Nothing),
        ] {
            assert_eq!(text_member(json, "a"), found, "{json}");
        }
    }

    #[test]
    fn what_is_written_in_another_way_or_is_no_object_is_left_to_others() {
        let long = format!(r#"{{"b":[{}1],"a":"x"}}"#, "1,".repeat(2_000));
        for json in [
            "",
            "null",
            r#"["a","x"]"#,
            r#""a""#,
            r#"{"a":"x\n"}"#,
            r#"{"\u0061":"x"}"#,
            r#"{"b":"\"","a":"x"}"#,
            r#"{"b":01,"a":"x"}"#,
            r#"{"b":tru,"a":"x"}"#,
            r#"{"b" "a":"x"}"#,
            r#"{"b":1 "a":"x"}"#,
            r#"{"b":1,}"#,
            "{\"a\":\"x\u{1}\"}",
            r#"{"a":"x"#,
            &long,
        ] {
            assert_eq!(text_member(json, "a"), Unclear, "{json}");
        }
    }
}
