//! MySQL and MariaDB as destinations, on a real server (`MYSQL_URL`) and on servers that are killed and paused.
//!
//! Method: append seeded records to an embedded journal, let the sink run, end it in order or abruptly, hurt the
//! server, and compare the tables with what was appended (I-2).

mod faults;
mod mappings;
mod refill;
mod speed;
mod unique;
mod values;
mod world;
