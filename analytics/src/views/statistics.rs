//! Counts and statistics of one stream or several in one body.
//!
//! Places are `$counts` (an object of stream and count), `$statistics` (an object of stream and all that the general
//! route says of it), and `$STREAM.…`: a part of what it says, as `$running.count` or `$running.fields.duration.max`.
//! A part that is not there is null.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use event::{StreamName, Template};
use serde_json::{Map, Value};

use super::StatisticsView;
use super::answer::json;
use super::parameters::Asked;
use crate::analytics::Shared;
use crate::http::compute;
use crate::stats::{StatsQuestion, stats};
use crate::{Analytics, QueryError};

/// The place of every count.
const COUNTS: &str = "counts";
/// The place of everything.
const STATISTICS: &str = "statistics";

/// What is told of streams.
#[derive(Clone, Debug, PartialEq)]
pub struct StatisticsBody(Template);

impl StatisticsBody {
    /// The body with places for what is known about `streams`.
    ///
    /// # Errors
    /// What is wrong with the template, for a person.
    pub fn new(streams: &[StreamName], template: &Template) -> Result<Self, String> {
        for place in template.places() {
            let (stream, _) = place.split_once('.').unwrap_or((place, ""));
            let known = place == COUNTS || place == STATISTICS;
            if !known && !streams.iter().any(|name| name.as_str() == stream) {
                return Err(format!(
                    "`${place}` is no place: there are `$counts`, `$statistics` and parts of streams, as \
                     `$stream.count`"
                ));
            }
        }
        Ok(Self(template.clone()))
    }

    /// An object of streams and counts.
    #[must_use]
    pub fn counts() -> Self {
        Self(Template::place(COUNTS))
    }

    /// An object of streams and counts, and beside them `statistics` with all that is known.
    ///
    /// # Errors
    /// When a stream is called so as well.
    pub fn all(streams: &[StreamName]) -> Result<Self, String> {
        if streams.iter().any(|name| name.as_str() == STATISTICS) {
            return Err(
                "is missing: a stream is called `statistics`, so the body must be written down".to_owned(),
            );
        }
        let counts: Vec<_> = streams
            .iter()
            .map(|name| (name.as_str(), format!("{name}.count")))
            .collect();
        let members = counts.iter().map(|(name, place)| (*name, place.as_str()));
        Ok(Self(Template::object(members.chain([(STATISTICS, STATISTICS)]))))
    }

    fn write(&self, found: &Map<String, Value>) -> Vec<u8> {
        let mut out = Vec::new();
        let never: Result<(), std::convert::Infallible> = self.0.write(&mut out, |place, out| {
            let text = match place {
                COUNTS => {
                    let counts = found
                        .iter()
                        .map(|(name, stats)| (name.clone(), stats["count"].clone()));
                    Value::Object(counts.collect()).to_string()
                }
                STATISTICS => Value::Object(found.clone()).to_string(),
                _ => part(found, place).to_string(),
            };
            out.extend_from_slice(text.as_bytes());
            Ok(())
        });
        never.unwrap_or_else(|never| match never {});
        out.push(b'\n');
        out
    }
}

/// The part of what was found that a place names.
fn part<'a>(found: &'a Map<String, Value>, place: &str) -> &'a Value {
    let mut steps = place.split('.');
    let first = steps.next().and_then(|stream| found.get(stream));
    steps.fold(first.unwrap_or(&Value::Null), |value, step| &value[step])
}

/// Answers with statistics.
pub(super) async fn answer(
    analytics: &Analytics,
    view: StatisticsView,
    asked: Asked,
) -> Result<Response, QueryError> {
    let view = Arc::new(view);
    let question = StatsQuestion {
        filter: asked.filter,
        interval: asked.interval,
        by: asked.by,
        exact: false,
    };
    let work = {
        let view = Arc::clone(&view);
        move |shared: Arc<Shared>| {
            let (view, question) = (Arc::clone(&view), question.clone());
            async move {
                let mut found = Map::new();
                for stream in &view.streams {
                    let of_one = stats(&shared, stream.as_str(), &question).await?;
                    found.insert(stream.to_string(), of_one);
                }
                Ok(found)
            }
        }
    };
    let found = compute(analytics, "view", work).await?;
    Ok(json(Body::from(view.body.write(&found))))
}
