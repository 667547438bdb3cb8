//! What the API says when it does not do what was asked: an HTTP status and `{"error": ..., "hint": ...}`.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the answer to an unknown path begins.
pub const NO_SUCH_PATH: &str = "there is nothing at";

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What failed, and on what.
    pub error: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A problem with its status.
///
/// | status | means |
/// |---|---|
/// | 400 | the request cannot be read |
/// | 401 | who asks is not known: no token, or one that is not accepted |
/// | 403 | the role of who asks is too small |
/// | 404 | what it names is not known |
/// | 409 | understood, and the answer is no |
/// | 408 | the request did not come, or was not answered, in time |
/// | 413 | the request is too large |
/// | 422 | the request can be read, and makes no sense: a name fits several, values contradict each other |
/// | 429 | too many tokens of this address were not accepted |
/// | 503 | the plane is stopping, is asked too much at once, or did not answer in time |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What and why.
    pub problem: Problem,
}

impl ApiError {
    /// An error with this status.
    pub fn new(status: StatusCode, error: impl Into<String>) -> ApiError {
        ApiError { status, problem: Problem { error: error.into(), hint: None } }
    }

    /// The request cannot be read.
    pub fn bad_request(error: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, error)
    }

    /// Who asks is not known.
    pub fn unauthorized(error: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, error)
    }

    /// The request can be read, and makes no sense.
    pub fn senseless(error: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    /// What the request names is not known.
    pub fn not_found(error: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, error)
    }

    /// The answer is no.
    pub fn refused(error: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, error)
    }

    /// The plane cannot answer now.
    pub fn unavailable(error: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }

    /// The same with what to do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> ApiError {
        self.problem.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self.problem)).into_response();
        let more = match status {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            StatusCode::TOO_MANY_REQUESTS => Some((RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => None,
        };
        response.headers_mut().extend(more);
        response
    }
}
