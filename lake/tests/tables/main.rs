//! Tables as their users see them: one binary, so that Delta is linked once.

mod compaction;
mod fixture;
mod golden;
mod ids;
mod power;
mod python;
mod readers;
mod simulated;
mod sources;
mod speed;
mod upkeep;
