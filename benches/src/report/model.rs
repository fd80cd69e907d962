//! What the files beside the page hold: `report.json`, `peers.json` and `growth.json`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use server::load::replay::Report;

use crate::processors::Used;
use crate::spread::{Spread, median};

/// `report.json`: the end-to-end scenarios of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// Date, commit, machine and its load average before the run.
    pub head: Map<String, Value>,
    /// How long each scenario was to send.
    pub seconds: f64,
    /// In the order in which they ran.
    pub scenarios: Vec<Measured>,
    /// Medians of the last criterion run in this build directory, in nanoseconds, by the benches' names.
    pub criterion_median_ns: Map<String, Value>,
}

/// One scenario, measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Its name, the same in every run.
    pub name: String,
    /// What is sent how, in one sentence.
    pub about: String,
    /// Bodies, of so many connections, with what came of it. Latency counts from intended starts when its loop is
    /// open; in a closed loop these are times of service, and no claim.
    pub report: Report,
    /// The maximum that this one sends half of, when it does: events a second.
    pub half_of: Option<f64>,
    /// Processor time from the first request to the last answer.
    pub used: Used,
    /// The most anonymous memory that the server had, in bytes, looked at every 50 ms.
    pub rss_anon_peak: u64,
    /// Records that the sink had not read when the last answer came; none when the process has no sink.
    pub lag_records: Option<u64>,
    /// Seconds from then until it had read all; none when it did not within two minutes.
    pub lag_gone_s: Option<f64>,
    /// One fdatasync of a page on the same disk during the run, in milliseconds.
    pub fdatasync_ms: Option<Spread>,
    /// From an event's answer until a SQL answer had it, in milliseconds.
    pub visible_ms: Option<Spread>,
    /// What was seen all the while.
    pub course: Vec<Sample>,
}

/// One look at the server.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the first request.
    pub at_s: f64,
    /// Answered events a second since the look before.
    pub events_per_second: f64,
    /// The same in millions of bytes.
    pub megabytes_per_second: f64,
    /// Anonymous memory, in bytes.
    pub rss_anon: u64,
    /// Records of the journal that the sink has not read; none without a sink.
    pub lag_records: Option<u64>,
}

impl Measured {
    /// Seconds of processor time for a million answered events: of the server, the load generator, all others.
    #[must_use]
    pub fn cpu_per_million(&self) -> [f64; 3] {
        let millions = (self.report.accepted + self.report.rejected).max(1) as f64 / 1e6;
        [self.used.server_s, self.used.load_s, self.used.others_s].map(|seconds| seconds / millions)
    }

    /// The p99 of the answer in fdatasync times (their p50) of the same run. Only of an open loop: of a closed one
    /// it says nothing.
    #[must_use]
    pub fn p99_in_syncs(&self) -> Option<f64> {
        let sync = self.fdatasync_ms.filter(|_| self.report.open_loop)?;
        Some(self.report.latency.p99_ms / sync.p50)
    }

    /// Whether there is a sink, and it had not caught up within two minutes.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.lag_records.is_some() && self.lag_gone_s.is_none()
    }
}

/// `peers.json`: the same work, by us and by others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peers {
    /// Date, commit, machine and its load average before the run.
    pub head: Map<String, Value>,
    /// What was compared.
    pub works: Vec<Work>,
}

/// One piece of work that several did in turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    /// What it belongs to, as `questions`.
    pub group: String,
    /// Its name.
    pub name: String,
    /// The unit of the figures.
    pub unit: String,
    /// Whether less is better, as of times.
    pub less_is_better: bool,
    /// Us first.
    pub sides: Vec<Side>,
}

/// What one of them did, round for round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Side {
    /// Name and version.
    pub name: String,
    /// How it was set, and what its success means.
    pub settings: String,
    /// Rounds with the same number were made one after the other.
    pub rounds: Vec<f64>,
    /// Processor seconds of each round, of the programs of this side.
    pub cpu_seconds: Vec<f64>,
    /// The same of everybody else on the machine, where that is part of the work: a broker's. Empty otherwise.
    pub others_cpu_seconds: Vec<f64>,
    /// What went wrong, if something did; then the figures say nothing.
    pub trouble: Option<String>,
}

impl Work {
    /// How we are beside the best of the others, as the median of the rounds' ratios: 1 is even, above 1 we are
    /// slower when less is better, and faster when more is.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let (us, others) = self.sides.split_first()?;
        let ratios = us.rounds.iter().enumerate().filter_map(|(round, ours)| {
            let theirs = others.iter().filter(|side| side.trouble.is_none());
            let theirs = theirs.filter_map(|side| side.rounds.get(round).copied());
            let best = if self.less_is_better {
                theirs.fold(f64::INFINITY, f64::min)
            } else {
                theirs.fold(0.0, f64::max)
            };
            (best.is_finite() && best > 0.0).then(|| ours / best)
        });
        let ratios: Vec<f64> = ratios.collect();
        (!ratios.is_empty() && us.trouble.is_none()).then(|| median(&ratios))
    }
}

impl Work {
    /// The same of processor seconds, by medians: what it costs, however busy the machine is. None when it costs
    /// less than the clock can tell, or when others than the two sides work on it, as a broker does.
    #[must_use]
    pub fn cpu_ratio(&self) -> Option<f64> {
        let (us, others) = self.sides.split_first()?;
        if self.sides.iter().any(|side| !side.others_cpu_seconds.is_empty()) || us.trouble.is_some() {
            return None;
        }
        let theirs = others.iter().filter(|side| side.trouble.is_none());
        let best = theirs
            .map(|side| median(&side.cpu_seconds))
            .fold(f64::INFINITY, f64::min);
        let ours = median(&us.cpu_seconds);
        (ours >= CPU_S_TOLD && best.is_finite() && best > 0.0).then(|| ours / best)
    }
}

/// Our processor time is counted in ticks of 10 ms.
const CPU_S_TOLD: f64 = 0.03;

/// `growth.json`: what things cost when there is more of something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Growth {
    /// Date, commit, machine and its load average before the run.
    pub head: Map<String, Value>,
    /// Each figure over each size.
    pub figures: Vec<Figure>,
}

/// One figure at several sizes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// What there is more of, as `events`.
    pub of: String,
    /// What was measured.
    pub name: String,
    /// In what.
    pub unit: String,
    /// Size and value, smallest first.
    pub points: Vec<(f64, f64)>,
}

/// How a figure grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// At most twice, however large the factor of sizes.
    Flat,
    /// Less than half as much as the size.
    Slower,
    /// As much as the size, or more.
    Linear,
    /// It gets less.
    Falling,
}

impl Course {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Slower => "less than linear",
            Self::Linear => "linear",
            Self::Falling => "falls",
        }
    }
}

impl Figure {
    /// By which factors the size and the value grow from the first point to the last.
    #[must_use]
    pub fn factors(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        (first.0 > 0.0 && first.1 > 0.0).then(|| (last.0 / first.0, last.1 / first.1))
    }

    /// How it grows.
    #[must_use]
    pub fn course(&self) -> Option<Course> {
        let (size, value) = self.factors()?;
        Some(match value {
            ..0.5 => Course::Falling,
            ..=2.0 => Course::Flat,
            _ if value < size / 2.0 => Course::Slower,
            _ => Course::Linear,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_flat_while_it_does_not_double() {
        let course = |last: f64| {
            let figure = Figure {
                of: "events".to_owned(),
                name: "start".to_owned(),
                unit: "ms".to_owned(),
                points: vec![(1e4, 10.0), (1e5, 10.0), (1e6, last)],
            };
            figure.course().expect("two points")
        };
        assert_eq!(
            [4.0, 12.0, 100.0, 900.0].map(course),
            [Course::Falling, Course::Flat, Course::Slower, Course::Linear]
        );
    }

    #[test]
    fn we_are_compared_with_the_best_of_the_others_in_the_same_round() {
        let side = |rounds: &[f64], trouble: Option<&str>| Side {
            name: String::new(),
            settings: String::new(),
            rounds: rounds.to_vec(),
            cpu_seconds: Vec::new(),
            others_cpu_seconds: Vec::new(),
            trouble: trouble.map(str::to_owned),
        };
        let mut work = Work {
            group: "questions".to_owned(),
            name: "count".to_owned(),
            unit: "ms".to_owned(),
            less_is_better: true,
            sides: vec![
                side(&[2.0, 4.0, 6.0], None),
                side(&[1.0, 8.0, 3.0], None),
                side(&[4.0, 4.0, 4.0], None),
                side(&[0.1, 0.1, 0.1], Some("a wrong answer")),
            ],
        };
        assert_eq!(work.ratio(), Some(2.0));
        work.sides.truncate(1);
        assert_eq!(work.ratio(), None);
    }
}
