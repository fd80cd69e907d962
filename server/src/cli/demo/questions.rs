//! Questions that a demo asks over HTTP, each printed as the request that anybody can repeat, and its answer.

use std::net::SocketAddr;
use std::time::Instant;

use http::Request;
use serde_json::Value;

use super::table::Table;
use crate::cli::failure::Failure;
use crate::load::ask::ask;
use crate::load::replay::grouped;

const BUSIEST: &str = "select user_id, count(*) as runs, sum(distance) / 1000 as km from running group by user_id order by km desc limit 5";
const BY_HOUR: &str = "select date_part('hour', \"timestamp\") as hour, count(*) as runs, avg(duration) / 60 as minutes from running group by hour order by runs desc limit 5";

/// Asks for the event in the middle, for statistics, and for two results of SQL.
pub(super) async fn ask_all(address: SocketAddr, events: u64) -> Result<(), Failure> {
    let index = events / 2;
    let event = get(address, &format!("/v1/streams/running/events/{index}")).await?;
    println!("{}", members(&event));
    let stats = get(address, "/v1/streams/running/stats").await?;
    println!("{}", statistics(&stats));
    for statement in [BUSIEST, BY_HOUR] {
        sql(address, statement).await?;
    }
    Ok(())
}

/// Prints what to try, ready to paste.
pub(super) fn invite(address: SocketAddr) {
    let sample = r#"{"user_id":"d290f1ee-6c54-4b01-90e6-d701748f0851","duration":3600,"distance":5000,"timestamp":"2024-09-10T09:12:33.001Z"}"#;
    println!("try:");
    println!(
        "  curl http://{address}/v1/streams/running/events -H 'content-type: application/json' -d '{sample}'"
    );
    println!("  curl http://{address}/v1/streams/running/events/12345");
    println!(
        "  curl 'http://{address}/v1/streams/running/events?start=2024-01-02T00:00:00Z&end=2024-01-03T00:00:00Z&limit=3'"
    );
    println!("  curl 'http://{address}/v1/streams/running/stats?interval=1d'");
    println!(
        "  curl http://{address}/v1/sql -H 'accept: text/plain' -d 'select count(*), max(distance) from running'"
    );
    println!("documentation: http://{address}/docs   metrics: http://{address}/metrics");
}

async fn get(address: SocketAddr, path: &str) -> Result<Value, Failure> {
    println!("$ curl http://{address}{path}");
    let begun = Instant::now();
    let answer = ask(&address.to_string(), Request::get(path), "").await?;
    told(begun);
    if !answer.status.is_success() {
        return Err(refused(&answer.body, answer.status));
    }
    Ok(serde_json::from_slice(&answer.body)?)
}

async fn sql(address: SocketAddr, statement: &str) -> Result<(), Failure> {
    println!(
        "$ curl http://{address}/v1/sql -H 'accept: text/plain' -d '{}'",
        statement.replace('\'', "'\\''")
    );
    let begun = Instant::now();
    let request = Request::post("/v1/sql")
        .header("content-type", "text/plain")
        .header("accept", "text/plain");
    let answer = ask(&address.to_string(), request, statement.to_owned()).await?;
    told(begun);
    if !answer.status.is_success() {
        return Err(refused(&answer.body, answer.status));
    }
    println!("{}", String::from_utf8_lossy(&answer.body));
    Ok(())
}

fn told(begun: Instant) {
    println!("({:.1} ms)", begun.elapsed().as_secs_f64() * 1e3);
}

fn refused(body: &[u8], status: http::StatusCode) -> Failure {
    Failure::from(format!("{status}: {}", String::from_utf8_lossy(body)))
}

/// An object, one member a row.
fn members(event: &Value) -> Table {
    let mut table = Table::new(&["member", "value"]);
    for (name, value) in event.as_object().into_iter().flatten() {
        table.row([name.clone(), plain(value)]);
    }
    table
}

fn statistics(stats: &Value) -> Table {
    let mut table = Table::new(&["what", "count", "min", "avg", "max"]);
    let whole = [&stats["count"], &stats["first"], &Value::Null, &stats["last"]];
    table.row([String::from("events")].into_iter().chain(whole.map(plain)));
    let key = &stats["key"];
    table.row([
        format!("different {} (about)", plain(&key["field"])),
        plain(&key["distinct"]),
    ]);
    for (name, field) in stats["fields"].as_object().into_iter().flatten() {
        let cells = ["count", "min", "avg", "max"].map(|what| plain(&field[what]));
        table.row([name.clone()].into_iter().chain(cells));
    }
    table
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(count), _) => grouped(count),
            (None, Some(float)) => format!("{float:.1}"),
            (None, None) => number.to_string(),
        },
        other => other.to_string(),
    }
}
