//! Many processes around real servers: ingest into Kafka, sinks into the lake, MariaDB and PostgreSQL, analyzers over
//! the lake and the tail of the topic.
//!
//! Five suites. `late` starts before there is a broker. `json` fills a topic as other programs do and compares what is found of it; `killed` posts batches through three ingest processes, kills whatever it likes, and compares what every
//! place holds with what was acknowledged, by the servers' own clients and Python `deltalake` (I-1, I-2); `servers_away`
//! does the same to the servers. `same` asks
//! the same questions of an embedded journal and of Kafka with one partition, and wants the same answers (I-6).
//!
//! Needs `cargo xtask services up`; its variables say where the servers are.

#[path = "crash/client.rs"]
mod client;
mod harness;
#[path = "cluster/json.rs"]
mod json;
#[path = "cluster/killed.rs"]
mod killed;
#[path = "cluster/late.rs"]
mod late;
#[path = "cluster/processes.rs"]
mod processes;
#[path = "crash/python.rs"]
mod python;
#[path = "cluster/same.rs"]
mod same;
#[path = "cluster/servers.rs"]
mod servers;
#[path = "cluster/servers_away.rs"]
mod servers_away;
