//! How one scenario is measured: a server of its own, load, and everything that is looked at meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::Anything;
use benches::kafka::{self, Topics};
use benches::process::{self, Process};
use benches::report::Measured;
use benches::spread::Spread;
use benches::sync_probe::SyncProbe;
use serde_json::Value;
use server::load::generate::{EVENTS_MAX, GeneratorOptions};
use server::load::replay::{self, Options, Pace, Progress, Report, Source, Target};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::scenario::{Beat, Load, Place, Scenario};
use crate::{course, visible};

/// How long the sink may take to have its partitions, and to catch up before the measurement says that it did not.
const PATIENCE: Duration = Duration::from_secs(120);

/// The time of a file that is sent to its end, for how often it is looked at: longer ones have more looks.
const TIME_OF_FILES: Duration = Duration::from_secs(20);

impl Scenario {
    /// Sends to a server of its own: for `time`, or a file to its end without one. `maximum` is what the
    /// scenario reached that this one sends half of.
    ///
    /// # Errors
    /// When something does not start or answer; what went wrong with requests is in the report.
    pub(super) async fn measure(
        &self,
        time: Option<Duration>,
        maximum: Option<f64>,
    ) -> Result<Measured, Anything> {
        let topics = match self.place {
            Place::Embedded => None,
            Place::Kafka(_) => Some(Topics::new(kafka::brokers().ok_or("needs KAFKA_BROKERS")?)?),
        };
        let config = match (&topics, self.place, &self.load) {
            (Some(topics), Place::Kafka(roles), _) => topics.configuration(roles),
            (_, _, Load::Files(dataset)) => dataset.config.clone(),
            _ => String::new(),
        };
        let directory = process::directory()?;
        let options = self.options(directory.path(), time, maximum)?;
        let server = Process::start(directory.path(), &config)?;
        self.wait_for_sink(&server).await?;
        let seen = self.send(&server, options, directory.path()).await?;
        Ok(Measured {
            name: self.name.clone(),
            about: self.about(),
            half_of: maximum,
            rss_anon_peak: server.stop()?,
            ..seen
        })
    }

    /// Sends, waits for the sink, and looks on all the while.
    async fn send(&self, server: &Process, options: SendTo, directory: &Path) -> Result<Measured, Anything> {
        let target = Target::parse(&format!("http://{}", server.address()), Some(self.stream()))?;
        let options = Options {
            connections: self.connections,
            batch: self.batch,
            pace: options.pace,
            duration: options.duration,
            ..Options::new(options.source, target)
        };
        let time = options.duration.unwrap_or(TIME_OF_FILES);
        let progress = Arc::new(Progress::default());
        let (sent, drained) = (CancellationToken::new(), CancellationToken::new());
        // Whatever way this ends, nobody goes on looking.
        let _guards = (sent.clone().drop_guard(), drained.clone().drop_guard());
        let probe = SyncProbe::start(directory)?;
        let before = server.processors()?;
        let sending = async {
            let report = replay::run(options, Arc::clone(&progress), CancellationToken::new()).await;
            sent.cancel();
            let used = server.processors().map(|after| before.until(&after));
            let sync = probe.stop();
            let lag = drain(server).await;
            drained.cancel();
            Ok::<(Report, _, _, _), Anything>((report?, used?, sync?, lag?))
        };
        let looking = async {
            match self.looks_for_visible() {
                true => visible::watch(server.address(), &sent).await,
                false => Ok(Vec::new()),
            }
        };
        let (done, course, times) =
            tokio::join!(sending, course::watch(server, &progress, time, &drained), looking);
        let (report, used, sync, lag) = done?;
        Ok(Measured {
            name: String::new(),
            about: String::new(),
            report,
            half_of: None,
            used,
            rss_anon_peak: 0,
            lag_records: lag.records,
            lag_gone_s: lag.gone_s,
            fdatasync_ms: Some(sync),
            visible_ms: Spread::of(times?),
            course,
        })
    }

    fn options(
        &self,
        directory: &Path,
        time: Option<Duration>,
        maximum: Option<f64>,
    ) -> Result<SendTo, Anything> {
        let pace = match &self.beat {
            Beat::Closed => Pace::FullSpeed,
            Beat::Rate(rate) => Pace::Rate(*rate),
            Beat::HalfOf(other) => {
                Pace::Rate(maximum.ok_or_else(|| format!("`{other}` was not measured"))? / 2.0)
            }
            Beat::Events { field, speed } => Pace::Recorded {
                field: field.clone(),
                speed: *speed,
            },
        };
        let source = match &self.load {
            Load::Made(starter) => Source::Generated {
                starter: *starter,
                count: EVENTS_MAX,
                options: GeneratorOptions {
                    users: 100_000,
                    seed: 1,
                },
            },
            Load::Files(dataset) => {
                // By their own times events come once.
                let again = time.filter(|_| !matches!(self.beat, Beat::Events { .. }));
                Source::Files(dataset.prepare(directory, again)?)
            }
        };
        Ok(SendTo {
            source,
            pace,
            duration: time,
        })
    }

    /// Waits until the sink, if there is one, has its partition: members of a group take some seconds to agree.
    async fn wait_for_sink(&self, server: &Process) -> Result<(), Anything> {
        let begun = Instant::now();
        loop {
            let ready = server.readiness().await?;
            let ours = |one: &Value| one["stream"] == self.stream();
            if ready["sink"]
                .as_array()
                .is_none_or(|streams| streams.iter().any(ours))
            {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err("the sink gets no partition".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What is sent, and when.
struct SendTo {
    source: Source,
    pace: Pace,
    duration: Option<Duration>,
}

/// What the sink had not read when the last answer came.
struct Lag {
    records: Option<u64>,
    gone_s: Option<f64>,
}

/// Waits until the sink has read everything, for as long as patience lasts.
async fn drain(server: &Process) -> Result<Lag, Anything> {
    let begun = Instant::now();
    let records = server.lag().await?;
    let mut left = records;
    while left.is_some_and(|left| left > 0) && begun.elapsed() < PATIENCE {
        sleep(Duration::from_millis(20)).await;
        left = server.lag().await?;
    }
    Ok(Lag {
        records,
        gone_s: (left == Some(0)).then(|| begun.elapsed().as_secs_f64()),
    })
}
