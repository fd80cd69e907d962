//! Decisions: which token is found, what it may do, and that nobody gets in by another way.

use std::time::Duration;

use http::HeaderValue;
use http::header::AUTHORIZATION;

use super::*;

/// Entries with a token each, in a file of their own.
struct Given {
    _directory: tempfile::TempDir,
    access: Access,
    texts: Vec<String>,
}

fn given(entries: &[&str]) -> Given {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("tokens.toml");
    let (mut text, mut texts) = (String::new(), Vec::new());
    for (number, entry) in entries.iter().enumerate() {
        let token = new_token().expect("random");
        let hash = Digest::of_token(token.as_bytes()).expect("a token");
        text.push_str(&format!("[tokens.t{number}]\nhash = \"{hash}\"\n{entry}\n"));
        texts.push(token);
    }
    std::fs::write(&path, text).expect("written");
    Given {
        access: Access::open(path).expect("good tokens"),
        _directory: directory,
        texts,
    }
}

impl Given {
    fn decide(&self, token: &str, need: &Need<'_>) -> Result<Caller, Refusal> {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::try_from(format!("Bearer {token}")).expect("visible");
        headers.insert(AUTHORIZATION, value);
        self.access.admit(&headers, need)
    }
}

#[test]
fn each_token_is_found_among_many_and_no_other_text_is() {
    let entries = vec!["read = \"all\""; 300];
    let given = given(&entries);
    for (number, text) in given.texts.iter().enumerate() {
        let caller = given.decide(text, &Need::Token);
        let Ok(Caller::Token(token)) = caller else {
            panic!("{caller:?}")
        };
        assert_eq!(token.name.as_str(), format!("t{number}"));
        let mut other = text.clone().into_bytes();
        let last = other.last_mut().expect("not empty");
        *last = if *last == b'0' { b'1' } else { b'0' };
        let other = String::from_utf8(other).expect("UTF-8");
        assert_eq!(
            given.decide(&other, &Need::Token).expect_err("refused"),
            Refusal::Invalid
        );
    }
    for text in [
        "",
        "x",
        "tidemill_",
        &given.texts[0][..72],
        &format!("{}0", given.texts[0]),
    ] {
        assert_eq!(
            given.decide(text, &Need::Token).expect_err("refused"),
            Refusal::Invalid
        );
    }
    let nothing = given.access.admit(&HeaderMap::new(), &Need::Token);
    assert_eq!(nothing.expect_err("refused"), Refusal::NoToken);
}

#[test]
fn a_scope_reaches_its_streams_and_no_further() {
    let given = given(&[
        "write = [\"running\"]",
        "read = [\"running\"]",
        "admin = [\"running\"]",
        "write = \"all\"",
        "read = \"all\"",
        "admin = \"all\"",
    ]);
    let (write, read) = (Scope::Write, Scope::Read);
    // One letter for each of the tokens above: `+` passes, `-` is refused.
    for (need, expected) in [
        (Need::Nothing, "++++++"),
        (Need::Token, "++++++"),
        (Need::Operations, "--+--+"),
        (Need::SomeStream, "-+--+-"),
        (Need::Stream(write, "running"), "+--+--"),
        (Need::Stream(read, "running"), "-+--+-"),
        (Need::Stream(write, "music"), "---+--"),
        (Need::Stream(read, "music"), "----+-"),
        (Need::Stream(read, "nobody"), "----+-"),
        (Need::Stream(read, "_rejects"), "----+-"),
        (Need::OwnRoute("running"), "+--+--"),
        (Need::OwnRoute("music"), "---+--"),
        (Need::Unknown, "---++-"),
    ] {
        let found: String = given
            .texts
            .iter()
            .map(|text| {
                if given.decide(text, &need).is_ok() {
                    '+'
                } else {
                    '-'
                }
            })
            .collect();
        assert_eq!(found, expected, "{need:?}");
    }
}

#[test]
fn what_is_refused_looks_the_same_whether_there_is_such_a_stream_or_not() {
    let given = given(&["read = [\"running\"]\nwrite = [\"running\"]"]);
    let answer = |need: Need<'_>| {
        let refusal = given.decide(&given.texts[0], &need).expect_err("refused");
        let trace = ingest::TraceContext::from_headers(&HeaderMap::new());
        let response = refusal.problem().into_response(&trace, http::Version::HTTP_11);
        let challenge = response.headers()["www-authenticate"].to_str().map(str::to_owned);
        (response.status().as_u16(), challenge.expect("ASCII"))
    };
    let scoped = |scope: &str| {
        let challenge = format!("Bearer realm=\"tidemill\", error=\"insufficient_scope\", scope=\"{scope}\"");
        (403, challenge)
    };
    assert_eq!(answer(Need::Stream(Scope::Read, "music")), scoped("read"));
    assert_eq!(answer(Need::Stream(Scope::Read, "nobody")), scoped("read"));
    assert_eq!(answer(Need::Stream(Scope::Write, "music")), scoped("write"));
    assert_eq!(answer(Need::OwnRoute("music")), answer(Need::Unknown));
}

#[test]
fn a_token_ends_at_its_time() {
    let given = given(&[
        "read = \"all\"\nexpires = \"2001-01-01T00:00:00Z\"",
        "read = \"all\"\nexpires = \"9000-01-01T00:00:00Z\"",
    ]);
    let refusal = given.decide(&given.texts[0], &Need::Token).expect_err("refused");
    assert_eq!(refusal.reason(), "expired_token");
    assert_eq!(refusal.name(), Some("t0"));
    assert!(given.decide(&given.texts[1], &Need::Token).is_ok());
    let token = Token::new(
        TokenName::parse("a").expect("a name"),
        Digest::of_token(given.texts[0].as_bytes()).expect("a token"),
        Grants::default(),
        Some(UNIX_EPOCH + Duration::from_secs(10)),
    );
    assert!(!token.expired(UNIX_EPOCH + Duration::from_millis(9_999)));
    assert!(token.expired(UNIX_EPOCH + Duration::from_secs(10)));
}

#[test]
fn who_may_read_some_streams_is_shown_those() {
    let given = given(&["read = [\"running\"]", "write = [\"music\"]", "read = \"all\""]);
    let caller = |at: usize| given.decide(&given.texts[at], &Need::Token).expect("passes");
    let readable = caller(0).readable().expect("not everything");
    assert!(readable.allows("running") && !readable.allows("music") && !readable.allows("_rejects"));
    assert!(caller(0).sees("running") && !caller(0).sees("music"));
    let nothing = caller(1).readable().expect("not everything");
    assert!(!nothing.allows("music") && caller(1).sees("music"));
    assert!(caller(2).readable().is_none() && caller(2).sees("_rejects"));
    assert!(!Caller::Nobody.sees("running"));
}

#[test]
fn neither_a_token_nor_its_hash_is_in_what_is_shown_for_diagnostics() {
    let given = given(&["read = \"all\""]);
    let caller = given.decide(&given.texts[0], &Need::Token).expect("passes");
    let shown = format!("{:?} {caller:?}", given.access);
    let digest = Digest::of_token(given.texts[0].as_bytes())
        .expect("a token")
        .to_string();
    assert!(
        !shown.contains(&given.texts[0]) && !shown.contains(&digest[7..]),
        "{shown}"
    );
}
