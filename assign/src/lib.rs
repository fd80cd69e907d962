//! Hands events to people, and keeps who has what.
