//! Questions against a model: files and tail are real, the table is the test's own.

mod model;
mod pruned;
mod questions;
mod sql;
mod tail;
mod texts;
mod views;
mod world;
