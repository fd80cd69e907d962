//! The file `target/services/env`: how the servers are reached, as lines that a shell reads.
//!
//! ```sh
//! set -a; . target/services/env; set +a
//! ```

use std::fs;
use std::path::Path;

use super::home::write_private;

/// Names and values, in the order in which they are written.
pub(crate) type Variables = Vec<(String, String)>;

/// Writes the file, which only its owner reads: it has passwords.
pub(super) fn write(path: &Path, variables: &Variables) -> Result<(), String> {
    let lines: String = variables
        .iter()
        .map(|(name, value)| format!("{name}={}\n", quoted(value)))
        .collect();
    write_private(path, &lines)
}

/// Reads what `write` wrote; nothing when there is no such file.
pub(super) fn read(path: &Path) -> Option<Variables> {
    let text = fs::read_to_string(path).ok()?;
    let lines = text.lines().filter_map(|line| line.split_once('='));
    Some(
        lines
            .map(|(name, value)| (name.to_owned(), unquoted(value)))
            .collect(),
    )
}

/// A word for a shell: as it is where no shell reads it as something else, in single quotes otherwise.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@%+=".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn unquoted(word: &str) -> String {
    match word.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\'')) {
        Some(inner) => inner.replace(r"'\''", "'"),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_what_was_written() {
        let values = [
            "127.0.0.1:9092",
            "--host=127.0.0.1 --port=3306",
            "mysql://a:b@127.0.0.1:1/c?x=1&y=2",
            "it's $HOME `id` \\ \"x\"",
            "/a b/*;#c",
            "",
        ];
        let variables: Variables = values
            .iter()
            .enumerate()
            .map(|(at, value)| (format!("V{at}"), (*value).to_owned()))
            .collect();
        let path = std::env::temp_dir().join(format!("tidemill-env-{}", std::process::id()));
        write(&path, &variables).expect("writes");
        let script = r#"set -a; . "$0"; set +a; for at in 0 1 2 3 4 5; do printenv "V$at"; done"#;
        let output = Command::new("sh").args(["-c", script]).arg(&path).output();
        let again = read(&path);
        fs::remove_file(&path).expect("was written");
        let output = output.expect("sh runs").stdout;
        let seen = String::from_utf8(output).expect("UTF-8");
        assert_eq!(seen.lines().collect::<Vec<_>>(), values);
        assert_eq!(again, Some(variables));
    }
}
