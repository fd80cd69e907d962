//! Clients who watch such a stream: each kept event once, in order, whether it comes from a ring, the lake or the
//! journal, and wherever the lake ends when they come back.

use std::time::Duration;

use analytics::live::{Gate, Live, LiveOptions};
use event::StreamName;
use http_body_util::BodyExt;
use tokio::sync::watch;

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// One who watches over Server-Sent Events.
struct Client {
    body: Body,
    /// Read and not looked at yet.
    text: String,
    /// The id of its last event.
    last: Option<String>,
    /// Events that it has had, of those that are kept.
    seen: usize,
}

impl Client {
    /// Somebody new, or one who comes back.
    async fn open(live: &Live, last: Option<String>, seen: usize) -> Self {
        let mut request = Request::get("/v1/streams/s/tail?from=start");
        if let Some(last) = &last {
            request = request.header("last-event-id", last);
        }
        let response = live.answer(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(response.status(), StatusCode::OK);
        Self {
            body: response.into_body(),
            text: String::new(),
            last,
            seen,
        }
    }

    /// Takes its next event, which must be the next one that is kept.
    async fn take(&mut self, world: &World) {
        let event = loop {
            let Some((message, rest)) = self.text.split_once("\n\n") else {
                let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
                let frame = frame.expect("in time").expect("goes on").expect("a piece");
                let bytes = frame.into_data().expect("text");
                self.text.push_str(std::str::from_utf8(&bytes).expect("UTF-8"));
                continue;
            };
            let (message, rest) = (message.to_owned(), rest.to_owned());
            self.text = rest;
            let part = |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
            assert_eq!(part("event: "), None, "nothing is missed: {message}");
            if let Some(data) = part("data: ") {
                self.last = part("id: ").map(str::to_owned);
                break serde_json::from_str::<Value>(data).expect("JSON");
            }
        };
        let (id, n) = &world.kept[self.seen];
        assert_eq!(
            (&event["id"], &event["n"]),
            (&json!(id), &json!(n)),
            "{:?}",
            self.last
        );
        self.seen += 1;
    }
}

/// Shows what the lake has.
#[derive(Debug)]
struct Committed(watch::Sender<u64>);

impl Gate for Committed {
    fn passed(&self, _: &StreamName, _: Partition) -> Option<Offset> {
        Some(Offset(*self.0.borrow()))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

fn live(world: &World, analytics: &Analytics, gate: Option<&Arc<Committed>>, memory_bytes: usize) -> Live {
    let gate = gate.map(|gate| Arc::<Committed>::clone(gate) as Arc<dyn Gate>);
    let options = LiveOptions {
        memory_bytes,
        gates: gate
            .map(|gate| (world.stream.name.clone(), gate))
            .into_iter()
            .collect(),
        kept: Some(analytics.kept()),
        ..LiveOptions::default()
    };
    let journal: Arc<dyn Journal> = Arc::<EmbeddedJournal>::clone(&world.journal);
    let catalog = Catalog::new([StreamDeclaration::clone(&world.stream)]);
    let tables = [Arc::clone(&world.table)];
    Live::new(&catalog, journal, &tables, Vec::new(), options).expect("opens")
}

/// Kept events in records below an offset.
async fn shown(world: &World, below: Offset) -> usize {
    let mut model = Seen::new(&world.stream).expect("it is unique");
    let mut decoder = RecordDecoder::new(Arc::clone(&world.stream));
    let from = Position::new(Partition(0), Offset(0));
    let reader = world.journal.reader(&world.stream.name, from).await;
    let mut reader = reader.expect("a reader");
    let (mut count, mut at) = (0, Offset(0));
    while at < below {
        for record in reader.next(1).await.expect("records") {
            let Decoded::Batch(batch) = decoder.decode(&record).expect("a record") else {
                panic!("the record holds events")
            };
            let kept = model.admit(&batch, &world.stream).expect("decides");
            count += kept.map_or(batch.len(), |kept| kept.true_count());
            at = record.offset.next();
        }
    }
    count
}

async fn run(seed: u64, gated: bool, memory_bytes: usize) {
    let mut world = World::new(seed).await;
    world.append().await;
    let mut analytics = world.analytics(0).await;
    let gate = gated.then(|| Arc::new(Committed(watch::channel(0).0)));
    let mut watched = live(&world, &analytics, gate.as_ref(), memory_bytes);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::open(&watched, None, 0).await);
    }
    for step in 1..steps().max(240) {
        match world.random.random_range(0..12) {
            // One page of the comparison has not more.
            0..4 if world.kept.len() < 9_900 => world.append().await,
            4..6 => world.roll().await,
            6 => world.compact().await,
            7 => {
                let which = world.random.random_range(0..3_usize);
                let Client { last, seen, .. } = clients.remove(which);
                clients.push(Client::open(&watched, last, seen).await);
            }
            8 if step % 3 == 0 => {
                // Another process.
                let places: Vec<_> = clients
                    .drain(..)
                    .map(|client| (client.last, client.seen))
                    .collect();
                watched.close();
                analytics = world.analytics(step).await;
                watched = live(&world, &analytics, gate.as_ref(), memory_bytes);
                for (last, seen) in places {
                    clients.push(Client::open(&watched, last, seen).await);
                }
            }
            9 => world.check(&analytics).await,
            _ => {
                let all = match &gate {
                    Some(gate) => {
                        let stored = world.table.snapshot().await.expect("a version");
                        let stored = stored.position(Partition(0)).offset;
                        gate.0.send_replace(stored.0);
                        shown(&world, stored).await
                    }
                    None => world.kept.len(),
                };
                let which = world.random.random_range(0..3_usize);
                let count: usize = world.random.random_range(0..120);
                let client = &mut clients[which];
                for _ in 0..count.min(all.saturating_sub(client.seen)) {
                    client.take(&world).await;
                }
            }
        }
    }
    let end = world.journal.end(&world.stream.name).await.expect("an end")[0];
    if let Some(gate) = &gate {
        gate.0.send_replace(end.offset.0);
    }
    clients.push(Client::open(&watched, None, 0).await);
    for client in &mut clients {
        while client.seen < world.kept.len() {
            client.take(&world).await;
        }
    }
    watched.close();
    world.journal.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_sees_each_id_once_wherever_the_lake_ends() {
    // Rings that have everything, and rings that everybody is behind of.
    run(11, false, 64 << 20).await;
    run(12, false, 2 << 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_what_the_lake_has_sees_each_id_once() {
    run(13, true, 64 << 20).await;
    run(14, true, 2 << 10).await;
}
