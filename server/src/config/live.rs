//! Who watches events as they arrive: bounds, what events wait for, and the bus between processes.
//!
//! `after` names what must have committed an event before anybody is shown it: `journal` (the default), `lake`, or a
//! destination. A process can only wait for what it hears of: over the embedded journal for the destinations that it
//! writes itself, and everywhere for those whose positions come over the bus. What cannot be waited for is refused.

use std::time::Duration;

use super::check::hint;
use super::destinations::{DestinationConfig, DestinationKind};
use super::problem::Problems;
use super::routes::RouteKind;
use super::run::{Config, JournalKind, Roles};
use super::secret::Secret;

/// What `after` calls the journal.
const JOURNAL: &str = "journal";
/// What `after` calls the lake.
pub const LAKE: &str = "lake";

/// Settings of those who watch.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// Most clients at once.
    pub clients: u64,
    /// Bytes of the newest events that are kept for them.
    pub memory_bytes: u64,
    /// What must have committed an event before it is shown; nothing but the journal when absent.
    pub after: Option<String>,
    /// Where the bus is.
    pub bus: Option<Secret>,
    /// The name of its channel.
    pub bus_channel: String,
    /// How often positions are looked for that nobody told.
    pub poll: Duration,
}

/// What is known of a process when an `after` is checked.
pub(super) struct Surroundings<'a> {
    pub(super) roles: Roles,
    pub(super) journal: JournalKind,
    pub(super) destinations: &'a [DestinationConfig],
    pub(super) bus: bool,
}

/// The bus: a URL, or the name of a destination of the kind `redis`.
pub(super) fn bus(
    written: &str,
    destinations: &[DestinationConfig],
    problems: &mut Problems,
) -> Option<Secret> {
    if written.is_empty() {
        return None;
    }
    let url = if written.contains("://") {
        Secret(written.to_owned())
    } else {
        let redis = |one: &&DestinationConfig| one.kind == DestinationKind::Redis;
        let names = destinations.iter().filter(redis).map(|one| one.name.as_str());
        let Some(found) = destinations.iter().filter(redis).find(|one| one.name == written) else {
            let hint = hint(written, names);
            let message = format!(
                "no destination `{written}` of the kind `redis` is configured, and it is no URL{hint}"
            );
            problems.push("live.bus", message);
            return None;
        };
        found.url.clone()
    };
    if let Err(error) = sink::Bus::new(url.reveal(), "") {
        problems.push("live.bus", error.to_string());
        return None;
    }
    Some(url)
}

/// What an `after` means; `None` for the journal.
pub(super) fn after(
    key: &str,
    written: &str,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> Option<String> {
    if written.is_empty() || written == JOURNAL {
        return None;
    }
    if written == LAKE {
        return Some(written.to_owned());
    }
    if !around.destinations.iter().any(|one| one.name == written) {
        let names = around.destinations.iter().map(|one| one.name.as_str());
        let hint = hint(written, names.chain([JOURNAL, LAKE]));
        problems.push(
            key,
            format!("`{written}` is not `{JOURNAL}`, `{LAKE}` or a destination{hint}"),
        );
        return None;
    }
    let own = around.roles.sink && around.journal == JournalKind::Embedded;
    if around.roles.analytics && !own && !around.bus {
        let reason = match around.journal {
            JournalKind::Embedded => "another process writes it",
            JournalKind::Kafka => "other processes may write a part of it",
        };
        problems.push(
            key,
            format!(
                "this process cannot see how far `{written}` is ({reason}): set `live.bus` in all of them"
            ),
        );
    }
    Some(written.to_owned())
}

/// Checks what the WebSockets of the configuration wait for.
pub(super) fn check_routes(config: &Config, problems: &mut Problems) {
    let around = Surroundings {
        roles: config.roles,
        journal: config.journal.kind,
        destinations: &config.destinations,
        bus: config.live.bus.is_some(),
    };
    for route in &config.routes {
        let RouteKind::Ws(ws) = &route.kind else {
            continue;
        };
        if let Some(written) = &ws.after {
            let key = format!("routes.\"{}\".after", route.name());
            after(&key, written, &around, problems);
        }
    }
}

impl LiveConfig {
    /// What must have committed an event of a route that says so, or says nothing.
    #[must_use]
    pub fn after_of<'a>(&'a self, written: Option<&'a str>) -> Option<&'a str> {
        match written {
            None => self.after.as_deref(),
            Some(written) => Some(written).filter(|written| !written.is_empty() && *written != JOURNAL),
        }
    }
}
