//! As much of YAML as our Compose file uses: block maps and lists, flow lists of scalars, anchors of maps and
//! merges of them. Whatever else is written there makes the test fail rather than be misread.

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Yaml {
    /// Text, without its quotes.
    Text(String),
    /// A list.
    List(Vec<Yaml>),
    /// Keys and values in their order, merges resolved.
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    /// Reads a file whose top is a map.
    pub(crate) fn parse(text: &str) -> Self {
        let lines: Vec<Line<'_>> = text.lines().filter_map(Line::of).collect();
        let mut reader = Reader {
            lines: &lines,
            at: 0,
            anchors: Vec::new(),
        };
        let value = reader.block(0);
        assert_eq!(reader.at, lines.len(), "not understood: {:?}", lines[reader.at]);
        value
    }

    /// The value of a key of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let entry = self.entries().iter().find(|(name, _)| name == key);
        entry.map(|(_, value)| value)
    }

    /// Keys and values of a map.
    pub(crate) fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Map(entries) => entries,
            other => panic!("not a map: {other:?}"),
        }
    }

    /// Values of a list.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            other => panic!("not a list: {other:?}"),
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("not a text: {other:?}"),
        }
    }
}

/// A line that says something.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    indent: usize,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        (!text.is_empty() && !text.starts_with('#')).then_some(Self { indent, text })
    }
}

struct Reader<'a> {
    lines: &'a [Line<'a>],
    at: usize,
    anchors: Vec<(String, Yaml)>,
}

impl<'a> Reader<'a> {
    fn next_at(&self, indent: usize) -> Option<Line<'a>> {
        let line = self.lines.get(self.at).copied();
        line.filter(|line| line.indent == indent)
    }

    fn block(&mut self, indent: usize) -> Yaml {
        match self
            .next_at(indent)
            .is_some_and(|line| line.text.starts_with("- "))
        {
            true => self.list(indent),
            false => self.map(indent),
        }
    }

    fn list(&mut self, indent: usize) -> Yaml {
        let mut items = Vec::new();
        while let Some(line) = self.next_at(indent) {
            let Some(item) = line.text.strip_prefix("- ") else {
                break;
            };
            self.at += 1;
            let deeper = self.lines.get(self.at).map_or(0, |next| next.indent);
            let entry = item
                .split_once(": ")
                .filter(|_| !item.starts_with('"') && deeper > indent);
            items.push(match entry {
                // A map whose first key stands behind the dash.
                Some((key, value)) => {
                    let mut entries = vec![(key.to_owned(), scalar(value))];
                    entries.extend(self.map(deeper).entries().to_vec());
                    Yaml::Map(entries)
                }
                None => scalar(item),
            });
        }
        Yaml::List(items)
    }

    fn map(&mut self, indent: usize) -> Yaml {
        let mut entries: Vec<(String, Yaml)> = Vec::new();
        while let Some(line) = self.next_at(indent) {
            let (key, rest) = line
                .text
                .split_once(':')
                .unwrap_or_else(|| panic!("not a key: {line:?}"));
            self.at += 1;
            let rest = rest.trim();
            if key == "<<" {
                let merged = self.anchor(rest);
                entries.extend(merged.entries().to_vec());
                continue;
            }
            let value = match rest.strip_prefix('&') {
                Some(name) => {
                    let value = self.nested(indent);
                    self.anchors.push((name.to_owned(), value.clone()));
                    value
                }
                None if rest.is_empty() => self.nested(indent),
                None => scalar(rest),
            };
            // What is written beside a merge goes before it.
            entries.retain(|(name, _)| name != key);
            entries.push((key.to_owned(), value));
        }
        Yaml::Map(entries)
    }

    /// What is indented below a key; an empty text when nothing is.
    fn nested(&mut self, indent: usize) -> Yaml {
        match self.lines.get(self.at) {
            Some(line) if line.indent > indent => self.block(line.indent),
            _ => Yaml::Text(String::new()),
        }
    }

    fn anchor(&self, reference: &str) -> Yaml {
        let name = reference.strip_prefix('*').expect("a reference");
        let found = self.anchors.iter().find(|(anchor, _)| anchor == name);
        found.expect("the anchor stands above").1.clone()
    }
}

fn scalar(text: &str) -> Yaml {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Yaml::List(inner.split(',').map(|item| scalar(item.trim())).collect());
    }
    assert!(
        !text.starts_with(['{', '|', '>', '*', '\'']),
        "not understood: {text}"
    );
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    Yaml::Text(quoted.unwrap_or(text).to_owned())
}
