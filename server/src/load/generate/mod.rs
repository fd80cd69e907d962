//! Seeded events of the starter streams, as NDJSON.
//!
//! The same stream, number of users and seed give the same bytes on every machine and in every later version:
//! the samples in `datasets/` hold that. So every draw is an integer (floating-point functions differ between
//! machines) of ChaCha8, whose output is specified, and nothing depends on the time or the locale.
//!
//! Every event of a stream is later than the one before by at least a millisecond, so no two lines are equal
//! and nothing on the way can profit from repetition. Lines are written by hand into a buffer: a generator
//! that runs beside the server on the same cores must cost little of them.

mod activity;
mod calendar;
mod detection;
mod draws;
mod music;
mod running;
mod text;
mod tracking;

use calendar::Clock;
use draws::Draws;
use text::{mixed, uuid_of};

/// Most events of one generator: at the longest mean gap of any stream the year 9999 is still far away.
pub const EVENTS_MAX: u64 = 10_000_000_000;

/// Most users: their numbers stay below what a person would read as a phone number.
pub const USERS_MAX: u64 = 1_000_000_000;

/// A stream that events can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starter {
    /// Finished runs.
    Running,
    /// Songs that were listened to.
    Music,
    /// What users did on a site.
    Activity,
    /// Events of a browser tracker, with nested objects.
    Tracking,
    /// What cameras saw.
    Detection,
}

/// No events can be made of a stream of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no events can be made of `{0}`: write running, music, activity, tracking or detection")]
pub struct UnknownStarter(pub String);

impl Starter {
    /// Every one of them.
    pub const ALL: [Self; 5] = [
        Self::Running,
        Self::Music,
        Self::Activity,
        Self::Tracking,
        Self::Detection,
    ];

    /// The stream's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Music => "music",
            Self::Activity => "activity",
            Self::Tracking => "tracking",
            Self::Detection => "detection",
        }
    }

    /// The mean time between two events in the busiest hour, in milliseconds.
    fn gap_ms(self) -> u64 {
        match self {
            Self::Running => 200,
            Self::Music => 90,
            Self::Activity | Self::Tracking => 40,
            Self::Detection => 500,
        }
    }
}

impl std::str::FromStr for Starter {
    type Err = UnknownStarter;

    fn from_str(name: &str) -> Result<Self, UnknownStarter> {
        let found = Self::ALL.into_iter().find(|starter| starter.name() == name);
        found.ok_or_else(|| UnknownStarter(name.to_owned()))
    }
}

/// What decides the bytes of a generator, besides the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratorOptions {
    /// How many users (or devices) the events are about, 1 to [`USERS_MAX`]. Default: 10,000.
    pub users: u64,
    /// Everything that is drawn follows from it. Default: 1.
    pub seed: u64,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        Self {
            users: 10_000,
            seed: 1,
        }
    }
}

/// Makes the events of one stream, one after the other.
#[derive(Debug)]
pub struct Generator {
    starter: Starter,
    stage: Stage,
}

/// What events are made with.
#[derive(Debug)]
struct Stage {
    draws: Draws,
    clock: Clock,
    users: u64,
    seed: u64,
    /// Number of the current event, from 0.
    number: u64,
}

impl Stage {
    /// Draws a user. Some are far more eager than others: the product of two uniform draws.
    fn user(&mut self) -> u64 {
        let eager = self.draws.below(self.users) + 1;
        self.draws.below(eager)
    }

    /// A number of 64 bits that belongs to a user for ever.
    fn trait_of(&self, user: u64) -> u64 {
        mixed(self.seed, user, 3)
    }

    fn uuid_of(&self, user: u64) -> u128 {
        uuid_of(self.seed, user)
    }
}

impl Generator {
    /// A generator at its first event. Numbers of users outside of 1 to [`USERS_MAX`] are taken as the nearer
    /// bound; the command line refuses them.
    #[must_use]
    pub fn new(starter: Starter, options: GeneratorOptions) -> Self {
        Self {
            starter,
            stage: Stage {
                draws: Draws::new(options.seed, starter.name()),
                clock: Clock::new(starter.gap_ms()),
                users: options.users.clamp(1, USERS_MAX),
                seed: options.seed,
                number: 0,
            },
        }
    }

    /// The stream that its events are of.
    #[must_use]
    pub fn starter(&self) -> Starter {
        self.starter
    }

    /// Appends the next event, one line with its newline, and gives its time in milliseconds since 1970.
    pub fn write_event(&mut self, out: &mut Vec<u8>) -> u64 {
        let stage = &mut self.stage;
        stage.clock.advance(&mut stage.draws);
        match self.starter {
            Starter::Running => running::write(stage, out),
            Starter::Music => music::write(stage, out),
            Starter::Activity => activity::write(stage, out),
            Starter::Tracking => tracking::write(stage, out),
            Starter::Detection => detection::write(stage, out),
        }
        out.push(b'\n');
        stage.number += 1;
        stage.clock.ms()
    }
}

#[cfg(test)]
mod tests;
