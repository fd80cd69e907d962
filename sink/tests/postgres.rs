//! The PostgreSQL destination on a real server: every type, refused rows, exactly once (I-2), faults, tables of others.
//!
//! Method: lines go through the decoder into an embedded journal, a sink runs, and the server is asked what it has.
//! Tests on the shared server (`POSTGRES_URL`) use a schema of their own; those that kill a server start one.

#[path = "postgres/breaking.rs"]
mod breaking;
#[path = "postgres/faults.rs"]
mod faults;
#[path = "postgres/once.rs"]
mod once;
#[path = "postgres/refused.rs"]
mod refused;
#[path = "postgres/speed.rs"]
mod speed;
#[path = "postgres/tables.rs"]
mod tables;
#[path = "postgres/types.rs"]
mod types;
#[path = "postgres/unique.rs"]
mod unique;
#[path = "postgres/world.rs"]
mod world;
