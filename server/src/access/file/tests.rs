//! What a file of tokens may say, what it may not, and what a refusal shows.

use super::*;
use crate::access::new_token;

const HASH: &str = "sha256:718aeeb88cfc70ead8e01082d6bd1b059b011f54cceeb5e3f8dfa14a3f384964";

fn problems_of(text: &str) -> String {
    parse(text).expect_err("refused")
}

#[test]
fn an_entry_is_read_as_it_is_written() {
    let hash = Digest::of_token(new_token().expect("random").as_bytes()).expect("a token");
    let grants = Grants {
        write: Streams::Named(BTreeSet::from(["music".to_owned(), "running".to_owned()])),
        read: Streams::All,
        admin: Streams::No,
    };
    let expires = parse_moment("2027-01-01T00:00:00Z");
    for name in ["ci", "team.a-1", "UPPER_lower"] {
        let name = TokenName::parse(name).expect("a name");
        let token = Token::new(name.clone(), hash, grants.clone(), expires);
        let text = entry(&token);
        let read = parse(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        let read = read.iter().next().expect("one");
        assert_eq!((&read.name, read.hash == hash), (&name, true), "{text}");
        assert_eq!((&read.grants, read.expires), (&grants, expires), "{text}");
    }
}

#[test]
fn a_time_may_be_text_or_tomls_own_and_has_a_zone() {
    let with =
        |expires: &str| format!("[tokens.a]\nhash = \"{HASH}\"\nread = \"all\"\nexpires = {expires}\n");
    let found = |expires: &str| {
        let tokens = parse(&with(expires)).expect("fine");
        tokens.iter().next().and_then(|token| token.expires)
    };
    let midnight = parse_moment("2027-01-01T00:00:00Z");
    assert!(midnight.is_some());
    for same in [
        "\"2027-01-01T00:00:00Z\"",
        "2027-01-01T00:00:00Z",
        "\"2027-01-01T01:00:00+01:00\"",
    ] {
        assert_eq!(found(same), midnight, "{same}");
    }
    for wrong in [
        "\"2027-01-01\"",
        "2027-01-01",
        "2027-01-01T00:00:00",
        "1",
        "\"never\"",
    ] {
        assert!(problems_of(&with(wrong)).contains("`expires`"), "{wrong}");
    }
    assert_eq!(
        midnight.map(written).as_deref(),
        Some("2027-01-01T00:00:00Z"),
        "and it is written as it is read"
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_no_value_is_shown() {
    let secret = new_token().expect("random");
    let found = problems_of(&format!(
        "other = 1\n\
         [tokens.pasted]\nhash = \"{secret}\"\nread = \"all\"\n\
         [tokens.idle]\nhash = \"{HASH}\"\n\
         [tokens.bare]\nread = \"all\"\n\
         [tokens.rejects]\nhash = \"{HASH}\"\nread = [\"_rejects\"]\n\
         [tokens.empty]\nhash = \"{HASH}\"\nwrite = []\n\
         [tokens.word]\nhash = \"{HASH}\"\nwrite = \"{secret}\"\n\
         [tokens.typo]\nhash = \"{HASH}\"\nread = \"all\"\nexpire = 1\n\
         [tokens.\"a b\"]\nhash = \"{HASH}\"\nread = \"all\"\n"
    ));
    for part in [
        "`other` is unknown",
        "`tokens.pasted`: `hash` is not",
        "`tokens.idle`: it may do nothing",
        "`tokens.bare`: `hash` is missing",
        "`tokens.rejects`: `read` names",
        "`tokens.empty`: `write` is an empty list",
        "`tokens.word`: `write` is not \"all\"",
        "`tokens.typo`: `expire` is unknown",
        "`tokens.a b`: a token's name has",
    ] {
        assert!(found.contains(part), "{part:?} in {found}");
    }
    assert!(!found.contains(&secret[9..]), "{found}");
}

#[test]
fn what_is_not_toml_is_refused_with_its_line_and_without_its_text() {
    let secret = new_token().expect("random");
    let found = problems_of(&format!("[tokens.a]\nread = \"all\"\nhash = {secret}\n"));
    assert!(
        found.contains("line 3") && !found.contains(&secret[9..]),
        "{found}"
    );
    assert!(problems_of("tokens = 1").contains("[tokens.NAME]"));
    assert!(problems_of("tokens.a = 1").contains("[tokens.NAME]"));
}

#[test]
fn two_entries_of_one_hash_are_refused_and_none_is_fine() {
    let entry = |name: &str| format!("[tokens.{name}]\nhash = \"{HASH}\"\nread = \"all\"\n");
    let found = problems_of(&format!("{}{}", entry("a"), entry("b")));
    assert!(found.contains("`b` has the hash of `a`"), "{found}");
    assert_eq!(parse("").expect("nobody may do anything").len(), 0);
}

#[test]
fn more_tokens_than_are_compared_are_refused() {
    let mut text = String::new();
    for number in 0..=TOKENS_MAX {
        text.push_str(&format!(
            "[tokens.t{number}]\nhash = \"sha256:{number:064x}\"\nread = \"all\"\n"
        ));
    }
    assert!(problems_of(&text).contains("exceed the limit"));
}
