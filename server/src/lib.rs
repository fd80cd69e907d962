//! What the binary is made of.
