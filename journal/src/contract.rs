//! The contract of a journal as a test suite that every implementation runs.
