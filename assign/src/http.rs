//! The routes of assigning, which are fixed.
//!
//! | request | answer |
//! |---|---|
//! | `POST /users/{user}/active` | the session begins, or goes on for its whole time |
//! | `DELETE /users/{user}/active` | the session ends; what is open goes to others |
//! | `PUT /assignments/{assignment}` `{"status": "completed"\|"rejected"}` | the assignment ends. Another status is 400 whatever the id; an unknown id is 404; one that ended otherwise is 409 |
//! | `GET /health` | 200 when events can be assigned, 503 and the reasons when not |

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::routing::{get, post, put};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::options::USER_BYTES_MAX;
use crate::subject::{moment, quoted};
use crate::{AssignError, Desk, Settlement};
use journal::Fault;

/// Largest body of a request, in bytes: a status has a dozen.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Whether a path is one of these.
#[must_use]
pub fn has(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    match parts.as_slice() {
        ["", "health"] => true,
        ["", "users", user, "active"] => !user.is_empty(),
        ["", "assignments", assignment] => !assignment.is_empty(),
        _ => false,
    }
}

/// The routes of a desk.
pub(crate) fn router(desk: Arc<dyn Desk>) -> Router {
    Router::new()
        .route("/users/{user}/active", post(begin).delete(end))
        .route("/assignments/{assignment}", put(settle))
        .route("/health", get(health))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(desk)
}

type At = State<Arc<dyn Desk>>;

async fn begin(State(desk): At, Path(user): Path<String>) -> Response<Body> {
    let session = match check_user(&user) {
        Ok(()) => desk.begin(&user).await,
        Err(error) => Err(error),
    };
    match session {
        Ok(session) => {
            let (user, until) = (quoted(&user), moment(session.until));
            let body = format!(r#"{{"user_id":{user},"active":true,"until":{until}}}"#);
            answer(StatusCode::OK, body)
        }
        Err(error) => refusal(&error),
    }
}

async fn end(State(desk): At, Path(user): Path<String>) -> Response<Body> {
    let ended = match check_user(&user) {
        Ok(()) => desk.end(&user).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(_) => answer(
            StatusCode::OK,
            json!({ "user_id": user, "active": false }).to_string(),
        ),
        Err(error) => refusal(&error),
    }
}

async fn settle(State(desk): At, Path(assignment): Path<String>, body: Bytes) -> Response<Body> {
    let settled = match settlement(&body) {
        Ok(how) => desk.settle(&assignment, how).await.map(|_| how),
        Err(error) => Err(error),
    };
    match settled {
        Ok(how) => {
            let status = how.status().as_str();
            let body = json!({ "assignment_id": assignment, "status": status });
            answer(StatusCode::OK, body.to_string())
        }
        Err(error) => refusal(&error),
    }
}

async fn health(State(desk): At) -> Response<Body> {
    let health = desk.health().await;
    let parts = health.parts.iter().map(|(part, state)| {
        let state = state
            .as_ref()
            .map_or_else(|reason| reason.clone(), |()| "ok".to_owned());
        ((*part).to_owned(), state.into())
    });
    let parts: serde_json::Map<_, _> = parts.collect();
    let (status, word) = if health.is_good() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    answer(status, json!({ "status": word, "parts": parts }).to_string())
}

fn check_user(user: &str) -> Result<(), AssignError> {
    if user.is_empty() || user.len() > USER_BYTES_MAX || user.chars().any(char::is_control) {
        let message = format!("a user id has from 1 to {USER_BYTES_MAX} bytes and no control characters");
        return Err(AssignError::Invalid(message));
    }
    Ok(())
}

fn settlement(body: &[u8]) -> Result<Settlement, AssignError> {
    let invalid = |message: String| AssignError::Invalid(message);
    let body: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| invalid(format!("the body is not JSON: {error}")))?;
    let status = body.get("status").and_then(serde_json::Value::as_str);
    status
        .and_then(Settlement::parse)
        .ok_or_else(|| invalid("`status` must be `completed` or `rejected`".to_owned()))
}

fn answer(status: StatusCode, body: String) -> Response<Body> {
    typed(status, "application/json", body)
}

/// A refusal, as RFC 9457 has it.
fn refusal(error: &AssignError) -> Response<Body> {
    let status = match (error, error.fault()) {
        (AssignError::Unknown, _) => StatusCode::NOT_FOUND,
        (AssignError::Ended(_), _) => StatusCode::CONFLICT,
        (_, Fault::Input) => StatusCode::BAD_REQUEST,
        (_, Fault::Overload) => StatusCode::TOO_MANY_REQUESTS,
        (_, Fault::Outage | Fault::Fatal) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("refused"),
        "status": status.as_u16(),
        "detail": error.to_string(),
    });
    let mut response = typed(status, "application/problem+json", body.to_string());
    if matches!(error.fault(), Fault::Overload | Fault::Outage) {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_those_of_others() {
        for path in [
            "/health",
            "/users/a/active",
            "/users/a%2Fb/active",
            "/assignments/x",
        ] {
            assert!(has(path), "{path}");
        }
        for path in [
            "/",
            "/users",
            "/users//active",
            "/users/a/b/active",
            "/assignments/",
            "/assignments/a/b",
            "/healthy",
        ] {
            assert!(!has(path), "{path}");
        }
    }
}
