//! Configuration: parse → check → run, each with types of its own.
//!
//! ```text
//! defaults < files, in order < TIDEMILL_… < flags      sources.rs   one merged TOML table
//!                     │
//!                     ▼  settings.rs says what there is: key, kind, bounds, default
//!                 check.rs      all problems at once ──► Problems
//!                     │
//!                     ▼
//!                  Config       (run.rs) what the server is started with
//! ```
//!
//! Nothing is silently mended: an unknown key, a value without a unit or beyond its bounds refuses the start,
//! with key, value and bound. Nothing else in the program reads the environment; files may name any variable of it
//! (interpolation.rs).

mod access;
mod assign;
mod channels;
mod check;
mod cors;
mod demo;
mod destinations;
mod effective;
mod event_sources;
mod interpolation;
mod live;
mod messages;
mod problem;
mod reading;
mod routes;
mod run;
mod secret;
mod settings;
mod sources;
mod worker;

pub use self::assign::{AssignConfig, AssignPlace};
pub use access::{AccessConfig, TlsConfig};
pub use channels::ChannelsConfig;
pub use cors::{CorsConfig, CorsOrigins, CorsPolicy};
pub use demo::DemoConfig;
pub use destinations::{DestinationConfig, DestinationKind, OnConflict, TableConfig};
pub use event_sources::{EventSourceConfig, EventSourceKind, OutboxConfig, QueueConfig, ResponsesConfig};
pub use interpolation::Variables;
pub use live::{LAKE, LiveConfig};
pub use messages::MessagesConfig;
pub use problem::{Problem, Problems};
pub use routes::{
    AnswerConfig, FixedConfig, GetConfig, PostConfig, RouteConfig, RouteKind, RouteMethod, RoutePath,
    WsConfig,
};
pub use run::{
    AnalyticsConfig, Config, IngestConfig, JournalConfig, JournalKind, KafkaConfig, LakeConfig, Roles,
};
pub use secret::{Properties, Secret};
pub use settings::{SETTINGS, Setting};
pub use sources::{Sources, outbox_url_of_environment, token_of_environment};
pub(crate) use worker::of_worker;

/// The configuration from files, environment and flags, checked.
///
/// # Errors
/// [`Problems`], all of them at once.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    let merged = sources::merge(sources)?;
    let mut config = check::check(&merged)?;
    config.for_worker = worker::WorkerSettings::of(&merged);
    Ok(config)
}

/// The effective configuration as TOML, without secrets: what `tidemill check` prints.
#[must_use]
pub fn effective(config: &Config) -> String {
    effective::render(config)
}

#[cfg(test)]
mod tests;
