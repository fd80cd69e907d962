//! Embedded journal: append-only segment files in one directory.
