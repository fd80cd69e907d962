//! Placeholder while dependencies are first built.
