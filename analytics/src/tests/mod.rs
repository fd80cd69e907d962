//! Questions against a model: files and tail are real, the table is the test's own.

mod model;
mod questions;
mod sql;
mod views;
mod world;
