//! Events from databases and brokers into the journal.
