//! Files of somebody's events, with the declaration of their stream.

use std::fs::File;
use std::io::{BufReader, BufWriter, copy};
use std::path::{Path, PathBuf};
use std::time::Duration;

use benches::Anything;
use event::{StreamDeclaration, stream};

/// More than any server here takes: a file is listed as often as that fills the time.
const BYTES_PER_SECOND_MAX: u64 = 4_000_000_000;

/// Most times that a file is sent.
const TIMES_MAX: u64 = 100_000;

/// Files of events, and how they are declared.
pub(super) struct Dataset {
    pub(super) files: Vec<PathBuf>,
    /// The configuration that declares them, as it was written.
    pub(super) config: String,
    pub(super) stream: StreamDeclaration,
}

impl Dataset {
    /// Reads the declaration; the files are read when they are sent.
    ///
    /// # Errors
    /// When it is no configuration with this stream, or with one and none was named, or a file is not there.
    pub(super) fn open(files: &[PathBuf], declaration: &Path, name: Option<&str>) -> Result<Self, Anything> {
        let shown = declaration.display();
        let config =
            std::fs::read_to_string(declaration).map_err(|error| format!("read `{shown}`: {error}"))?;
        let parsed: toml::Table = config
            .parse()
            .map_err(|error| format!("read `{shown}`: {error}"))?;
        let streams = parsed.get("streams").and_then(toml::Value::as_table);
        let streams = streams.ok_or_else(|| format!("`{shown}` has no [streams.NAME]"))?;
        let mut declared = stream::parse_streams(streams).map_err(|problems| {
            let problems: Vec<_> = problems
                .iter()
                .map(|problem| format!("{}: {}", problem.key, problem.message))
                .collect();
            format!("`{shown}`: {}", problems.join("; "))
        })?;
        if let Some(name) = name {
            declared.retain(|stream| stream.name.as_str() == name);
        }
        let [stream] = <[_; 1]>::try_from(declared).map_err(|declared| {
            format!(
                "`{shown}` declares `{}` such streams: say which by --stream NAME",
                declared.len()
            )
        })?;
        for file in files {
            File::open(file).map_err(|error| format!("open `{}`: {error}", file.display()))?;
        }
        Ok(Self {
            files: files.to_vec(),
            config,
            stream,
        })
    }

    /// The member that has an event's time, dots between the keys of nested objects.
    ///
    /// # Errors
    /// When the stream declares no time.
    pub(super) fn time_path(&self) -> Result<String, Anything> {
        let name = &self.stream.name;
        let time = self.stream.time.as_ref();
        let time =
            time.ok_or_else(|| format!("stream `{name}` declares no `time`, so its events have no pace"))?;
        let field = self.stream.field(time).ok_or("a declared time is a field")?;
        Ok(match field.path.is_empty() {
            true => field.name.clone(),
            false => field.path.join("."),
        })
    }

    /// The files as they are sent: inflated into `directory` before, since that is no work of a server's clients,
    /// and so often that they fill `time`, if one is given.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub(super) fn prepare(&self, directory: &Path, time: Option<Duration>) -> Result<Vec<PathBuf>, Anything> {
        let mut plain = Vec::with_capacity(self.files.len());
        let mut bytes = 0;
        for (number, file) in self.files.iter().enumerate() {
            let file = match file.extension().is_some_and(|extension| extension == "gz") {
                true => inflate(file, &directory.join(format!("dataset-{number}.ndjson")))?,
                false => file.clone(),
            };
            bytes += std::fs::metadata(&file)?.len();
            plain.push(file);
        }
        let times = time.map_or(1, |time| {
            let most = BYTES_PER_SECOND_MAX.saturating_mul(time.as_secs().saturating_add(1));
            (most / bytes.max(1) + 1).min(TIMES_MAX)
        });
        let count = plain.len().saturating_mul(usize::try_from(times)?);
        Ok(plain.into_iter().cycle().take(count).collect())
    }
}

fn inflate(from: &Path, to: &Path) -> Result<PathBuf, Anything> {
    let failed = |error: std::io::Error| format!("inflate `{}`: {error}", from.display());
    let mut input = flate2::bufread::MultiGzDecoder::new(BufReader::new(File::open(from).map_err(failed)?));
    let mut output = BufWriter::new(File::create(to)?);
    copy(&mut input, &mut output).map_err(failed)?;
    output.into_inner()?;
    Ok(to.to_owned())
}
