//! The scenarios: what is sent, how, and to what.

use benches::Anything;
use server::load::generate::Starter;
use server::load::replay::BatchSize;

use self::Beat::{Closed, HalfOf, Rate};
use self::Place::{Embedded, Kafka};
use crate::arguments::{Arguments, PaceAsked};
use crate::dataset::Dataset;

/// One way to send.
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) load: Load,
    pub(super) batch: Option<BatchSize>,
    pub(super) connections: usize,
    pub(super) beat: Beat,
}

/// What is sent.
pub(super) enum Load {
    /// Events that are made on the way, no two alike.
    Made(Starter),
    /// Somebody's files.
    Files(Box<Dataset>),
}

/// When requests begin.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Beat {
    /// When the connection has its last answer.
    Closed,
    /// So that there are so many events a second.
    Rate(f64),
    /// Half as many a second as another scenario reached in this run.
    HalfOf(&'static str),
    /// By the time in each event, so many times as fast.
    Events { field: String, speed: f64 },
}

/// Where events become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On this disk, with every role in the process.
    Embedded,
    /// On a broker, with those roles in the process.
    Kafka(&'static str),
}

const MIB: BatchSize = BatchSize::Bytes(1 << 20);
const ONE: BatchSize = BatchSize::Events(1);
const HUNDRED: BatchSize = BatchSize::Events(100);

/// Name, place, batch, connections and beat of those that send `running`. Half of a maximum follows its maximum.
const RUNNING: [(&str, Place, BatchSize, usize, Beat); 12] = [
    ("running_1mib", Embedded, MIB, 4, Closed),
    ("running_1mib_half", Embedded, MIB, 16, HalfOf("running_1mib")),
    ("running_100_events", Embedded, HUNDRED, 64, Closed),
    (
        "running_100_events_half",
        Embedded,
        HUNDRED,
        64,
        HalfOf("running_100_events"),
    ),
    ("running_single", Embedded, ONE, 64, Closed),
    ("running_single_half", Embedded, ONE, 64, HalfOf("running_single")),
    ("running_single_5000_per_second", Embedded, ONE, 64, Rate(5_000.0)),
    ("kafka_running_1mib", Kafka("ingest"), MIB, 4, Closed),
    (
        "kafka_running_1mib_8_connections",
        Kafka("ingest"),
        MIB,
        8,
        Closed,
    ),
    ("kafka_running_100_events", Kafka("ingest"), HUNDRED, 64, Closed),
    ("kafka_running_1mib_with_sink", Kafka("all"), MIB, 4, Closed),
    (
        "kafka_running_1mib_with_sink_half",
        Kafka("all"),
        MIB,
        16,
        HalfOf("kafka_running_1mib_with_sink"),
    ),
];

/// All of them: those of `running`, and every other starter stream in bodies of 1 MiB.
pub(super) fn all() -> Vec<Scenario> {
    let running = RUNNING
        .into_iter()
        .map(|(name, place, batch, connections, beat)| Scenario {
            name: name.to_owned(),
            place,
            load: Load::Made(Starter::Running),
            batch: Some(batch),
            connections,
            beat,
        });
    let others = Starter::ALL
        .into_iter()
        .filter(|starter| *starter != Starter::Running);
    let others = others.map(|starter| Scenario {
        name: format!("{}_1mib", starter.name()),
        place: Embedded,
        load: Load::Made(starter),
        batch: Some(MIB),
        connections: 4,
        beat: Closed,
    });
    running.chain(others).collect()
}

impl Scenario {
    /// The one that the arguments describe, if they describe one.
    ///
    /// # Errors
    /// When its declaration or its files cannot be used.
    pub(super) fn of(arguments: &Arguments) -> Result<Option<Self>, Anything> {
        let load = match (&arguments.declaration, arguments.starter) {
            (Some(declaration), _) => {
                let stream = arguments.stream.as_deref();
                Load::Files(Box::new(Dataset::open(&arguments.datasets, declaration, stream)?))
            }
            (None, Some(starter)) => Load::Made(starter),
            (None, None) => return Ok(None),
        };
        let beat = match arguments.pace {
            PaceAsked::Full => Closed,
            PaceAsked::Rate(rate) => Rate(rate),
            PaceAsked::Events => Beat::Events {
                field: match &load {
                    Load::Files(dataset) => dataset.time_path()?,
                    // Events that are made on the way know their own.
                    Load::Made(_) => String::new(),
                },
                speed: arguments.speed,
            },
        };
        let name = match &load {
            Load::Made(starter) => starter.name(),
            Load::Files(dataset) => dataset.stream.name.as_str(),
        };
        let pace = match arguments.pace {
            PaceAsked::Full => "full_speed".to_owned(),
            PaceAsked::Rate(rate) => format!("{rate}_per_second"),
            PaceAsked::Events => format!("own_pace_{}_times", arguments.speed),
        };
        Ok(Some(Self {
            name: format!("{name}_{pace}"),
            place: Embedded,
            load,
            batch: arguments.batch,
            connections: arguments.connections,
            beat,
        }))
    }

    /// The stream that its events are of.
    pub(super) fn stream(&self) -> &str {
        match &self.load {
            Load::Made(starter) => starter.name(),
            Load::Files(dataset) => dataset.stream.name.as_str(),
        }
    }

    /// Whether it is looked for how soon events are visible to SQL: where latency is a claim.
    pub(super) fn looks_for_visible(&self) -> bool {
        matches!(self.beat, HalfOf(_)) && self.stream() == Starter::Running.name()
    }

    /// What is sent how, in one sentence.
    pub(super) fn about(&self) -> String {
        let events = match &self.load {
            Load::Made(starter) => format!("{} events made on the way, no two alike", starter.name()),
            Load::Files(dataset) => {
                let names = dataset.files.iter().filter_map(|file| file.file_name());
                let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
                format!("{} events of {}", dataset.stream.name, names.join(", "))
            }
        };
        let bodies = match self.batch {
            Some(BatchSize::Events(1)) => "single events".to_owned(),
            Some(BatchSize::Events(count)) => format!("{count} events a request"),
            Some(BatchSize::Bytes(bytes)) => format!("{} KiB a request", bytes >> 10),
            None if self.beat == Closed => "1024 KiB a request".to_owned(),
            None => "what is due within 10 ms in one request".to_owned(),
        };
        let beat = match &self.beat {
            Closed => "closed loop".to_owned(),
            Rate(rate) => format!("open loop, {rate} events/s"),
            HalfOf(other) => format!("open loop at half of what {other} reached in this run"),
            Beat::Events { speed, .. } => format!("open loop at the events' own pace times {speed}"),
        };
        let place = match self.place {
            Embedded => "every answer after an fdatasync, with the Parquet sink".to_owned(),
            Kafka("all") => "every answer with acks=all from one broker, with the Parquet sink".to_owned(),
            Kafka(_) => "every answer with acks=all from one broker, without a sink".to_owned(),
        };
        format!(
            "{events}; {bodies} over {} connections; {beat}; {place}.",
            self.connections
        )
    }
}
