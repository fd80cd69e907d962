//! NDJSON → Parquet: a file of `running` events through everybody.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use benches::load::{USERS, file, post};
use benches::process::{self, Process};
use benches::report::{Side, Work};
use benches::{Anything, processors};
use server::load::generate::{Generator, GeneratorOptions, Starter};
use server::load::replay::{BatchSize, Report};

use crate::engine::Engine;
use crate::{Arguments, ENGINES, THREADS};

/// Writes so many events as NDJSON, and gives their bytes.
pub(crate) fn write_events(path: &Path, count: u64) -> Result<u64, Anything> {
    let options = GeneratorOptions {
        users: USERS,
        seed: 1,
    };
    let mut generator = Generator::new(Starter::Running, options);
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let mut line = Vec::with_capacity(256);
    for _ in 0..count {
        line.clear();
        generator.write_event(&mut line);
        out.write_all(&line)?;
    }
    out.into_inner()?;
    Ok(std::fs::metadata(path)?.len())
}

/// Posts them as everybody's setting says: 4 connections, 1 MiB.
pub(crate) async fn post_events(server: &Process, ndjson: &Path) -> Result<Report, Anything> {
    let (stream, batch) = (Starter::Running.name(), BatchSize::Bytes(1 << 20));
    post(server, stream, file(ndjson), batch, 4).await
}

/// Converts it in turns.
pub(crate) async fn measure(arguments: &Arguments) -> Result<Vec<Work>, Anything> {
    let directory = process::directory()?;
    let ndjson = directory.path().join("running.ndjson");
    let bytes = write_events(&ndjson, arguments.events_in_file())?;
    let mut engines = Vec::new();
    for kind in ENGINES {
        engines.push(Engine::start(&arguments.python, kind, THREADS)?);
    }
    let mut sides = vec![side(
        "Tidemill",
        "posted over HTTP (4 connections, 1 MiB), journal with fdatasync before each answer, until the server has \
         committed everything to the lake and ended"
            .to_owned(),
    )];
    for engine in &engines {
        let settings = format!("{THREADS} threads, zstd, columns given, from file to file, nothing synced");
        sides.push(side(&engine.name, settings));
    }
    for round in 0..arguments.rounds {
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            let (seconds, cpu_seconds) = if at == 0 {
                through_us(&ndjson).await?
            } else {
                let parquet = directory.path().join("out.parquet");
                let done = engines[at - 1].convert(&ndjson, &parquet)?;
                std::fs::remove_file(&parquet)?;
                (done.seconds, done.cpu_seconds)
            };
            sides[at].rounds.push(bytes as f64 / 1e6 / seconds);
            sides[at].cpu_seconds.push(cpu_seconds);
        }
    }
    let work = Work {
        group: "NDJSON to Parquet".to_owned(),
        name: format!("{:.0} MB of running", bytes as f64 / 1e6),
        unit: "MB/s".to_owned(),
        less_is_better: false,
        sides,
    };
    crate::print(&work);
    Ok(vec![work])
}

/// Seconds, and seconds of processor time of server and client.
async fn through_us(ndjson: &Path) -> Result<(f64, f64), Anything> {
    let directory = process::directory()?;
    let cpu =
        |()| -> Result<f64, Anything> { Ok(processors::of_children()? + processors::of_this_program()?) };
    let before = cpu(())?;
    let server = Process::start(directory.path(), "")?;
    let begun = Instant::now();
    post_events(&server, ndjson).await?;
    server.stop()?;
    Ok((begun.elapsed().as_secs_f64(), cpu(())? - before))
}

fn side(name: &str, settings: String) -> Side {
    Side {
        name: name.to_owned(),
        settings,
        rounds: Vec::new(),
        cpu_seconds: Vec::new(),
        others_cpu_seconds: Vec::new(),
        trouble: None,
    }
}
