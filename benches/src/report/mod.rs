//! The page `target/bench/report.html` and the files of figures beside it.
//!
//! Each program of the benches writes its figures into a file of its own and then has the page made anew of all that
//! are there. The page is one file: it loads nothing, works offline, and is light or dark as its reader's system is.

mod chart;
mod model;
mod page;
mod scale;
mod sections;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use model::{Course, Document, Figure, Growth, Measured, Peers, Sample, Side, Work};

use crate::{Anything, history};

const REPORT: &str = "report.json";
const PEERS: &str = "peers.json";
const GROWTH: &str = "growth.json";

/// The directory of the report, below the build directory.
///
/// # Errors
/// When it cannot be made.
pub fn directory() -> Result<PathBuf, Anything> {
    let here = std::env::current_exe()?;
    let target = here.parent().and_then(Path::parent).ok_or("no build directory")?;
    let directory = target.join("bench");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

impl Document {
    /// Writes `report.json`, and the page with it. Gives the page.
    ///
    /// # Errors
    /// When they cannot be written, or what is there already not be read.
    pub fn write(&self) -> Result<PathBuf, Anything> {
        write(REPORT, self)
    }
}

impl Peers {
    /// Writes `peers.json`, and the page with it. Gives the page.
    ///
    /// # Errors
    /// As [`Document::write`].
    pub fn write(&self) -> Result<PathBuf, Anything> {
        write(PEERS, self)
    }
}

impl Growth {
    /// Writes `growth.json`, and the page with it. Gives the page.
    ///
    /// # Errors
    /// As [`Document::write`].
    pub fn write(&self) -> Result<PathBuf, Anything> {
        write(GROWTH, self)
    }
}

fn write(name: &str, figures: &impl Serialize) -> Result<PathBuf, Anything> {
    let mut text = serde_json::to_vec_pretty(figures)?;
    text.push(b'\n');
    std::fs::write(directory()?.join(name), text)?;
    render()
}

/// Makes the page of the figures that are there. Gives the page.
///
/// # Errors
/// When figures cannot be read, or the page not be written.
pub fn render() -> Result<PathBuf, Anything> {
    let parts = Parts {
        scenarios: read(REPORT)?,
        peers: read(PEERS)?,
        growth: read(GROWTH)?,
        history: history::lines()?,
    };
    let path = directory()?.join("report.html");
    std::fs::write(&path, page::page(&parts))?;
    Ok(path)
}

fn read<T: DeserializeOwned>(name: &str) -> Result<Option<T>, Anything> {
    let path = directory()?.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let figures = serde_json::from_slice(&std::fs::read(&path)?);
    figures.map_err(|error| format!("read `{}`: {error}", path.display()).into())
}

/// What a page is made of.
struct Parts {
    scenarios: Option<Document>,
    peers: Option<Peers>,
    growth: Option<Growth>,
    /// The recorded runs, oldest first.
    history: Vec<Value>,
}

/// Text as it stands in HTML and SVG.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests;
