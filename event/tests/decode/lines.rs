//! Generated lines for any declaration: mostly in one shape, with everything that may be different about one.

use std::sync::Arc;

use event::{FieldType, StreamDeclaration};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::values;

/// Streams of every type, required and optional, nested and not, with every policy of unknown fields.
pub(crate) fn declarations() -> Vec<Arc<StreamDeclaration>> {
    let types = r#"
        n = { type = "int", min = -5, max = 1000 }
        wide = { type = "int", optional = true }
        x = { type = "float", optional = true }
        part = { type = "float", min = -1.5, max = 2.5, optional = true }
        yes = { type = "bool", optional = true }
        text = { type = "string", max_bytes = 16, optional = true }
        long_text_with_a_long_name = { type = "string", max_bytes = 40, optional = true }
        kind = { type = "enum", values = ["a", "b c", "é", "a_value_of_more_than_32_bytes_in_all"], optional = true }
        user = { type = "uuid", optional = true }
        at = { type = "timestamp", optional = true }
        s = { type = "timestamp", unit = "s", optional = true }
        ms = { type = "timestamp", unit = "ms", optional = true }
        us = { type = "timestamp", unit = "us", optional = true }
        doc = { type = "json", optional = true }
    "#;
    let nested = r#"
        page = { type = "string", optional = true, from = "meta.page" }
        count = { type = "int", optional = true, from = "meta.deep.count" }
        meta = { type = "json", optional = true }
        first = { type = "int", optional = true, from = "parent.first" }
        moment = { type = "timestamp", optional = true, from = "parent.inner.at" }
        inner_doc = { type = "json", optional = true, from = "parent.inner.doc" }
        same_doc = { type = "json", optional = true, from = "doc" }
    "#;
    let flat = "user = \"uuid\"\nduration = { type = \"int\", min = 0 }\nx = \"float\"\nat = \"timestamp\"";
    let shared = r#"
        a = { type = "int", optional = true, from = "v" }
        b = { type = "float", optional = true, from = "v" }
        c = { type = "json", optional = true, from = "v" }
        d = { type = "string", optional = true, from = "o.s" }
        e = { type = "json", optional = true, from = "o.s" }
        f = { type = "json", optional = true, from = "o" }
    "#;
    let keys = (0..20)
        .map(|level| format!("l{level}"))
        .collect::<Vec<_>>()
        .join(".");
    let deep = format!(
        "end = {{ type = \"int\", optional = true, from = \"{keys}\" }}\ndoc = {{ type = \"json\", optional = true }}"
    );
    let required = r#"
        text = "string"
        kind = { type = "enum", values = ["x", "y"] }
        yes = "bool"
        page = { type = "string", from = "meta.page" }
        doc = "json"
    "#;
    let wide: String = (0..90)
        .map(|n| {
            let kind = ["int", "string", "json", "bool", "float", "uuid", "timestamp"][n % 7];
            format!("field_{n} = {{ type = \"{kind}\", optional = true }}\n")
        })
        .collect();
    let (every, place) = (
        format!("{types}{nested}"),
        "\nplace = { type = \"string\", optional = true }",
    );
    let mut text = String::new();
    for policy in ["reject", "keep", "ignore"] {
        for (name, fields) in [
            ("types", types),
            ("every", &every),
            ("flat", flat),
            ("shared", shared),
            ("deep", &deep),
            ("required", required),
            ("wide", &wide),
        ] {
            text += &format!(
                "[{name}_{policy}]\nunknown_fields = \"{policy}\"\n[{name}_{policy}.fields]\n{fields}{place}\n"
            );
        }
    }
    let streams = event::stream::parse_streams(&text.parse().expect("TOML"));
    streams.expect("right").into_iter().map(Arc::new).collect()
}

/// Keys that no stream declares.
const UNDECLARED: [&str; 6] = ["other", "z", "", "a key", "é", "a_key_longer_than_one_block"];

/// Keys that lead to fields.
struct Node {
    key: String,
    kinds: Vec<FieldType>,
    inside: Vec<Node>,
}

/// How a line is written.
#[derive(Clone, Copy)]
struct Style {
    after_colon: &'static str,
    after_comma: &'static str,
    elsewhere: &'static str,
}

const STYLES: [Style; 5] = [
    style("", "", ""),
    style("", "", ""),
    style(" ", " ", ""),
    style(" ", "", ""),
    style(" ", "\t", " "),
];

const fn style(after_colon: &'static str, after_comma: &'static str, elsewhere: &'static str) -> Style {
    Style {
        after_colon,
        after_comma,
        elsewhere,
    }
}

/// Writes the lines of one body.
pub(crate) struct Lines<'a> {
    random: &'a mut ChaCha8Rng,
    top: Vec<Node>,
    style: Style,
    /// How likely anything about a line is unlike the others.
    odd: f64,
    out: Vec<u8>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(stream: &StreamDeclaration, random: &'a mut ChaCha8Rng) -> Self {
        let mut top = Vec::new();
        for field in &stream.fields {
            insert(&mut top, &field.path, &field.kind);
        }
        let mut lines = Self {
            style: STYLES[random.random_range(0..STYLES.len())],
            odd: [0.0, 0.0, 0.002, 0.02, 0.15][random.random_range(0..5)],
            random,
            top,
            out: Vec::new(),
        };
        if lines.random.random_bool(0.5) {
            let mut top = std::mem::take(&mut lines.top);
            lines.shuffle(&mut top);
            lines.top = top;
        }
        lines
    }

    /// So many lines, all in one shape but for what is odd about some bodies.
    #[allow(dead_code, reason = "the fuzz target's only, which shares this file")]
    pub(crate) fn usual(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.line()).collect()
    }

    /// Some lines; perhaps strange ones first, so that what is learned of them is of no use later.
    #[allow(dead_code, reason = "the tests' only, which share this file")]
    pub(crate) fn body(&mut self) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let count = [3, 12, 40, 150][self.random.random_range(0..4)];
        for _ in 0..count {
            if self.random.random_bool(0.01) || (lines.len() < 5 && self.random.random_bool(0.05)) {
                let hostile = self.hostile();
                lines.extend(hostile);
            }
            let mut line = self.line();
            if self.random.random_bool(0.03) {
                for _ in 0..self.random.random_range(1..4) {
                    self.mutate(&mut line);
                }
            }
            match self.random.random_range(0..60) {
                0 => line.push(b'\r'),
                1 => line.extend_from_slice(b" \r"),
                2 => line.insert(0, b' '),
                3 => line = b" \t\r"[..self.random.random_range(0..4)].to_vec(),
                _ => {}
            }
            lines.push(line);
        }
        lines
    }

    fn odd(&mut self) -> bool {
        self.random.random_bool(self.odd)
    }

    fn line(&mut self) -> Vec<u8> {
        self.out.clear();
        let style = self.style;
        if self.odd() {
            self.style = STYLES[self.random.random_range(0..STYLES.len())];
        }
        let mut top = std::mem::take(&mut self.top);
        if self.odd() {
            self.shuffle(&mut top);
        }
        self.object(&top, 1);
        self.top = top;
        self.style = style;
        self.out.clone()
    }

    fn shuffle(&mut self, nodes: &mut [Node]) {
        for at in (1..nodes.len()).rev() {
            nodes.swap(at, self.random.random_range(0..=at));
        }
    }

    fn object(&mut self, nodes: &[Node], depth: usize) {
        self.out.push(b'{');
        self.push(self.style.elsewhere);
        let mut first = true;
        let left_out = [0.02, 0.02, 0.5][self.random.random_range(0..3)];
        for node in nodes {
            if self.random.random_bool(left_out) {
                continue;
            }
            for _ in 0..1 + usize::from(self.odd()) {
                self.key(node.key.as_bytes(), &mut first);
                self.member(node, depth);
            }
            if self.odd() {
                let key = UNDECLARED[self.random.random_range(0..UNDECLARED.len())];
                self.key(key.as_bytes(), &mut first);
                values::any(self.random, depth, &mut self.out);
            }
        }
        self.push(self.style.elsewhere);
        self.out.push(b'}');
    }

    fn key(&mut self, key: &[u8], first: &mut bool) {
        if !std::mem::take(first) {
            self.out.push(b',');
            self.push(self.style.after_comma);
        }
        self.out.push(b'"');
        let escaped = if self.odd() {
            self.random.random_range(0..=key.len())
        } else {
            key.len()
        };
        for (at, byte) in key.iter().enumerate() {
            if at == escaped && byte.is_ascii() {
                self.out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
            } else {
                self.out.push(*byte);
            }
        }
        self.out.push(b'"');
        if self.odd() {
            self.out.push(b' ');
        }
        self.out.push(b':');
        self.push(self.style.after_colon);
    }

    fn member(&mut self, node: &Node, depth: usize) {
        let null = if node.inside.is_empty() { 0.02 } else { 0.1 };
        if self.random.random_bool(null) {
            self.push("null");
        } else if self.odd() {
            values::any(self.random, depth, &mut self.out);
        } else if node.inside.is_empty() {
            let kind = &node.kinds[self.random.random_range(0..node.kinds.len())];
            let odd = self.odd();
            values::of(kind, odd, self.random, depth, &mut self.out);
        } else {
            self.object(&node.inside, depth + 1);
        }
    }

    fn push(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Lines that teach what no other line is like.
    fn hostile(&mut self) -> Vec<Vec<u8>> {
        let (from, count) = (self.random.random_range(0..1_000), self.random.random_range(1..8));
        let kind = self.random.random_range(0..8);
        let line = |number: usize| -> String {
            let members = |count: usize, inside: &str| -> String {
                let members = (0..count).map(|key| format!("\"k{}\":{inside}", key + number * count));
                members.collect::<Vec<_>>().join(",")
            };
            match kind {
                // More keys than are learned of an object.
                0 => format!("{{{}}}", members(70, "1")),
                1 => format!("{{\"n\":1,\"doc\":{{{}}}}}", members(70, "1")),
                // More objects than are learned.
                2 => format!(
                    "{{\"n\":1,\"doc\":{{{}}}}}",
                    members(60, "{\"a\":{\"b\":{}},\"c\":[{}]}")
                ),
                3 => format!(
                    "{{\"n\":1,\"doc\":{}{}}}",
                    "[{\"a\":".repeat(31),
                    "1}]".repeat(31)
                ),
                4 => format!(
                    "{{\"doc\":{}{}}}",
                    "{\"d\":".repeat(number % 70),
                    "1 }".repeat(number % 70)
                ),
                5 => format!("{{\"doc\":[{{{}}},{{{}}}]}}", members(3, "{}"), members(2, "[]")),
                6 => format!("{{\"k{number}\":1,\"n\":1,\"n\":2}}"),
                _ => format!(
                    "{{\"meta\":null,\"parent\":null,\"doc\":\"{}\"}}",
                    "é\\n".repeat(number)
                ),
            }
        };
        (from..from + count)
            .map(|number| line(number).into_bytes())
            .collect()
    }

    /// Changes, removes, doubles or inserts something at random.
    fn mutate(&mut self, line: &mut Vec<u8>) {
        const MEANINGFUL: &[u8] = b"{}[]\",:\\ /0123456789-+.eEtTzZrufalsn\t\r\x00\x1f\x7f\xc3\xa9\xff";
        let random = &mut *self.random;
        let at = random.random_range(0..line.len().max(1));
        let byte = match random.random_range(0..3) {
            // Never a newline, which would make two lines of one.
            0 => random.random_range(11..=255),
            _ => MEANINGFUL[random.random_range(0..MEANINGFUL.len())],
        };
        match random.random_range(0..5) {
            0 | 1 if at < line.len() => line[at] = byte,
            2 if at < line.len() => drop(line.remove(at)),
            3 if at < line.len() => {
                let to = (at + random.random_range(1..40)).min(line.len());
                let piece = line[at..to].to_vec();
                line.splice(at..at, piece);
            }
            _ => line.insert(at.min(line.len()), byte),
        }
    }
}

fn insert(nodes: &mut Vec<Node>, path: &[String], kind: &FieldType) {
    let at = nodes
        .iter()
        .position(|node| node.key == path[0])
        .unwrap_or_else(|| {
            nodes.push(Node {
                key: path[0].clone(),
                kinds: Vec::new(),
                inside: Vec::new(),
            });
            nodes.len() - 1
        });
    match &path[1..] {
        [] => nodes[at].kinds.push(kind.clone()),
        rest => insert(&mut nodes[at].inside, rest, kind),
    }
}
