//! The nth event of a stream.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;

use super::EventView;
use super::answer::json;
use super::parameters::Asked;
use super::shape::EventShape;
use crate::events::nth_of;
use crate::http::{compute, put_as_of};
use crate::{Analytics, QueryError};

/// Answers with one event.
pub(super) async fn answer(
    analytics: &Analytics,
    view: EventView,
    asked: Asked,
) -> Result<Response, QueryError> {
    let Some(index) = asked.index else {
        return Err(QueryError::Invalid(
            "the index of the event is missing".to_owned(),
        ));
    };
    let view = Arc::new(view);
    let question = {
        let view = Arc::clone(&view);
        move |shared: Arc<crate::analytics::Shared>| {
            let view = Arc::clone(&view);
            async move {
                let stream = shared.stream(view.stream.as_str())?;
                let shape = view.shape.clone().unwrap_or_else(|| EventShape::general(stream));
                nth_of(&shared, stream.name.as_str(), index, &[], &shape).await
            }
        }
    };
    let (event, as_of) = compute(analytics, "view", question).await?;
    let mut body = Vec::with_capacity(event.len() + 64);
    view.body.write(&mut body, &event);
    let mut response = json(Body::from(body));
    put_as_of(&mut response, &as_of);
    Ok(response)
}
