//! Questions over a lake of a million `running` events, through the router and without a socket: the nth event,
//! ranges, statistics, SQL.

use std::hint::black_box;
use std::path::Path;

use benches::Questions;
use criterion::{Criterion, criterion_group, criterion_main};
use http::Request;

const EVENTS: u64 = 1_000_000;

fn ask(criterion: &mut Criterion) {
    let questions = Questions::over(Path::new(env!("CARGO_TARGET_TMPDIR")), EVENTS)
        .expect("a lake with a million events");
    let mut group = criterion.benchmark_group("questions");
    let mut index = 0;
    group.bench_function("nth_event", |bencher| {
        bencher.iter(|| {
            // Another one each time, all over the file.
            index = (index + 617_231) % EVENTS;
            let path = format!("/v1/streams/running/events/{index}");
            black_box(questions.ask(Request::get(path), "").expect("an event"))
        });
    });
    let range = "?start=2024-01-02T12:00:00Z&end=2024-01-02T13:00:00Z&limit=1000";
    let day = "?start=2024-01-02T12:00:00Z&end=2024-01-03T12:00:00Z";
    for (name, path) in [
        ("range_1000", format!("/v1/streams/running/events{range}")),
        ("stats_all", "/v1/streams/running/stats".to_owned()),
        ("stats_day", format!("/v1/streams/running/stats{day}")),
        ("stats_by_day", "/v1/streams/running/stats?interval=1d".to_owned()),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(questions.ask(Request::get(&path), "").expect("an answer")));
        });
    }
    for (name, statement) in [
        ("sql_count", "select count(*) from running"),
        (
            "sql_group_by_user",
            "select user_id, sum(distance) from running group by user_id order by 2 desc limit 10",
        ),
        (
            "sql_filter",
            "select count(*), avg(duration) from running where distance > 20000",
        ),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let request = Request::post("/v1/sql").header("content-type", "text/plain");
                black_box(questions.ask(request, statement).expect("rows"))
            });
        });
    }
    group.finish();
}

criterion_group!(all, ask);
criterion_main!(all);
