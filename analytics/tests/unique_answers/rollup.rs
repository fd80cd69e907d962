//! A rollup of such a stream: its rows say what SQL says about their ranges, whoever computes them and wherever the lake
//! ends at that moment.

use std::collections::BTreeMap;
use std::time::Duration;

use analytics::rollup::{RollupOptions, Rollups};
use journal::ChainedJournal;

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

const ROLLUP: &str = r#"
[s]
unique = "id"
unique_window = "60s"
[s.fields]
id = "uuid"
n = "int"

[r.rollup]
from = "s"
every = "10s"
rows = 7
sql = "SELECT count(DISTINCT id) AS ids, sum(n) AS total FROM s"
[r.fields]
ids = "int"
total = { type = "int", optional = true }
"#;

/// A process that answers questions and computes the rollup.
struct Process {
    analytics: Analytics,
    _rollups: Rollups,
}

impl Process {
    async fn start(world: &World, number: usize) -> Self {
        let streams = parse_streams(&ROLLUP.parse().expect("TOML")).expect("right");
        let streams: Vec<_> = streams.into_iter().map(Arc::new).collect();
        let own: Arc<dyn Journal> = Arc::<EmbeddedJournal>::clone(&world.journal);
        let journal = ChainedJournal::over(own, &streams);
        let options = LakeOptions {
            read_only: true,
            ..LakeOptions::new(
                world.directory.path().join("lake"),
                world.journal.id().to_string(),
            )
        };
        let lake = Lake::open(options).await.expect("opens");
        let options = AnalyticsOptions::new(world.directory.path().join(format!("rollup-{number}")));
        let catalog = Catalog::new(streams.iter().map(|stream| StreamDeclaration::clone(stream)));
        let analytics = Analytics::open(catalog, lake, Arc::clone(&journal), options).await;
        let analytics = analytics.expect("opens");
        let options = RollupOptions {
            kept: Some(analytics.kept()),
            ..RollupOptions::default()
        };
        let tables = [Arc::clone(&world.table)];
        let rollups = Rollups::start(&journal, &streams, &tables, &options).await;
        Self {
            analytics,
            _rollups: rollups.expect("starts"),
        }
    }

    async fn number(&self, statement: &str) -> i64 {
        let rows = sql(&self.analytics, statement).await;
        rows[0][0].as_i64().expect("a number")
    }

    /// Waits until rows count so many events.
    async fn counted(&self, events: i64) {
        let counting = async {
            while self.number("SELECT coalesce(sum(source_rows), 0) FROM r").await < events {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let counted = tokio::time::timeout(PATIENCE, counting).await;
        counted.unwrap_or_else(|_| panic!("{events} events are not in rows in time"));
    }

    /// Ranges follow one another, and each row equals a recount of its range.
    async fn check(&self) {
        let statement = "SELECT ids, total, source_rows, source FROM r ORDER BY _offset, _row";
        let rows = sql(&self.analytics, statement).await;
        let mut reached: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for row in rows.as_array().expect("rows") {
            let source: Value = match &row[3] {
                Value::String(text) => serde_json::from_str(text).expect("JSON"),
                other => other.clone(),
            };
            for range in source["ranges"].as_array().expect("ranges") {
                let of = |key: &str| range[key].as_u64().expect("a number");
                let (from, to) = ((of("from"), of("from_row")), (of("to"), of("to_row")));
                let before = reached.insert(of("partition"), to).unwrap_or_default();
                assert_eq!(before, from, "{row}: contiguous");
                let recount = format!(
                    "SELECT count(DISTINCT id), sum(n), count(*) FROM s WHERE \
                     (_offset > {0} OR _offset = {0} AND _row >= {1}) AND \
                     (_offset < {2} OR _offset = {2} AND _row < {3})",
                    from.0, from.1, to.0, to.1
                );
                let recount = sql(&self.analytics, &recount).await;
                assert_eq!(recount, json!([[row[0], row[1], row[2]]]), "{row}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_of_a_rollup_equals_a_recount_wherever_the_lake_ends() {
    let mut world = World::new(21).await;
    world.append().await;
    let mut process = Process::start(&world, 0).await;
    for step in 1..steps() {
        match world.random.random_range(0..10) {
            0..4 => world.append().await,
            4..7 => world.roll().await,
            7 => world.compact().await,
            // It goes on from time to time, so the lake is ahead of it or behind.
            8 => process.counted(world.kept.len() as i64 * 2 / 3).await,
            _ => {
                // As a crash: whatever was on its way.
                drop(process);
                process = Process::start(&world, step).await;
            }
        }
    }
    process.counted(world.kept.len() as i64 * 9 / 10).await;
    process.check().await;
    // Somebody who comes when the lake has everything goes on in it.
    for _ in 0..3 {
        world.append().await;
    }
    drop(process);
    loop {
        let stored = world.table.snapshot().await.expect("a version");
        if stored.position(Partition(0)) >= end(&world).await {
            break;
        }
        world.roll().await;
    }
    let process = Process::start(&world, steps()).await;
    process.counted(world.kept.len() as i64).await;
    process.check().await;
    assert_eq!(
        process.number("SELECT sum(source_rows) FROM r").await,
        world.kept.len() as i64,
        "no row counts what is stored nowhere"
    );
    drop(process);
    world.journal.close().await;
}
