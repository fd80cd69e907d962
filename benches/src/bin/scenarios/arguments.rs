//! What the program is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use benches::Anything;
use event::units::{parse_bytes, parse_duration};
use server::load::generate::Starter;
use server::load::replay::BatchSize;

const USAGE: &str = "\
usage: scenarios [--quick | --seconds N] [--only NAME]… [--no-history]
       scenarios --dataset FILE… --declaration TOML [--stream NAME] [SENDING]… [--no-history]
       scenarios --starter NAME [SENDING]… [--no-history]
       scenarios --render        the page anew, of the figures that are there
SENDING: --pace full|events|N/s   as fast as answers come, at the events' own pace, or so many events a second
         --speed FACTOR           with --pace events, so many times as fast
         --for DURATION           for so long, as 20s; a file at full speed is sent again and again
         --batch N|SIZE  --connections N";

/// How long each scenario sends.
const TIME: Duration = Duration::from_secs(20);
const TIME_QUICK: Duration = Duration::from_secs(3);

/// What the program is asked to do.
pub(super) struct Arguments {
    /// For how long each scenario sends, when it was said.
    pub(super) time: Option<Duration>,
    pub(super) only: Vec<String>,
    pub(super) history: bool,
    pub(super) render: bool,
    pub(super) datasets: Vec<PathBuf>,
    pub(super) declaration: Option<PathBuf>,
    pub(super) stream: Option<String>,
    pub(super) starter: Option<Starter>,
    pub(super) pace: PaceAsked,
    pub(super) speed: f64,
    pub(super) batch: Option<BatchSize>,
    pub(super) connections: usize,
}

/// A pace as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum PaceAsked {
    Full,
    Events,
    Rate(f64),
}

impl Arguments {
    /// For how long each scenario of the list sends.
    pub(super) fn time_of_scenarios(&self) -> Duration {
        self.time.unwrap_or(TIME)
    }

    /// Reads them.
    ///
    /// # Errors
    /// When something is unknown, has no value, or does not go with the rest.
    pub(super) fn read(mut given: impl Iterator<Item = String>) -> Result<Self, Anything> {
        let mut arguments = Self {
            time: None,
            only: Vec::new(),
            history: true,
            render: false,
            datasets: Vec::new(),
            declaration: None,
            stream: None,
            starter: None,
            pace: PaceAsked::Full,
            speed: 1.0,
            batch: None,
            connections: 4,
        };
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or(format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--quick" => arguments.time = Some(TIME_QUICK),
                "--seconds" => arguments.time = Some(Duration::from_secs(value()?.parse()?)),
                "--for" => {
                    arguments.time = Some(parse_duration(&value()?).map_err(|error| error.to_string())?)
                }
                "--only" => arguments.only.push(value()?),
                "--no-history" => arguments.history = false,
                "--render" => arguments.render = true,
                "--dataset" => arguments.datasets.push(value()?.into()),
                "--declaration" => arguments.declaration = Some(value()?.into()),
                "--stream" => arguments.stream = Some(value()?),
                "--starter" => arguments.starter = Some(value()?.parse()?),
                "--pace" => arguments.pace = pace(&value()?)?,
                "--speed" => arguments.speed = value()?.parse()?,
                "--batch" => arguments.batch = Some(batch(&value()?)?),
                "--connections" => arguments.connections = value()?.parse()?,
                "--help" => return Err(USAGE.into()),
                // Files after the first one need no flag, as a shell's pattern gives them.
                file if !file.starts_with('-') && !arguments.datasets.is_empty() => {
                    arguments.datasets.push(file.into());
                }
                _ => return Err(format!("`{argument}` is not known\n{USAGE}").into()),
            }
        }
        arguments.check()?;
        Ok(arguments)
    }

    fn check(&self) -> Result<(), Anything> {
        if self.datasets.is_empty() != self.declaration.is_none() {
            return Err("--dataset and --declaration go together".into());
        }
        if self.starter.is_some() && !self.datasets.is_empty() {
            return Err("--starter and --dataset exclude each other".into());
        }
        if self.time.is_some_and(|time| time.is_zero()) {
            return Err("nothing can be measured in no time".into());
        }
        Ok(())
    }
}

fn pace(text: &str) -> Result<PaceAsked, Anything> {
    match text {
        "full" => Ok(PaceAsked::Full),
        "events" => Ok(PaceAsked::Events),
        rate => match rate.strip_suffix("/s").map(str::parse) {
            Some(Ok(rate)) => Ok(PaceAsked::Rate(rate)),
            _ => Err(format!("a pace of `{text}`: write full, events, or a number as 50000/s").into()),
        },
    }
}

fn batch(text: &str) -> Result<BatchSize, Anything> {
    if let Ok(events) = text.parse() {
        return Ok(BatchSize::Events(events));
    }
    let bytes = parse_bytes(text).map_err(|error| error.to_string())?;
    Ok(BatchSize::Bytes(usize::try_from(bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Arguments, String> {
        Arguments::read(text.split_whitespace().map(str::to_owned)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_dataset_needs_a_declaration_and_takes_a_pace() {
        let asked =
            "--dataset a.gz b.gz --declaration d.toml --pace events --speed 60 --for 20s --batch 1MiB";
        let Ok(arguments) = read(asked) else {
            panic!("`{asked}` is not understood");
        };
        assert_eq!(arguments.datasets.len(), 2);
        assert_eq!((arguments.pace, arguments.speed), (PaceAsked::Events, 60.0));
        assert_eq!(arguments.time_of_scenarios(), TIME);
        assert_eq!(arguments.batch, Some(BatchSize::Bytes(1 << 20)));
        for wrong in [
            "--dataset a.gz",
            "--declaration d.toml",
            "--pace fast",
            "--for 0s",
            "--starter sleeping",
            "file.gz",
            "--only",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
