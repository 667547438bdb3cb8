//! What the API says when it does not do what was asked: an HTTP status and `{"error": ..., "hint": ...}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
/// | 400 | the request cannot be read, or a name in it fits several |
/// | 404 | what it names is not known |
/// | 409 | understood, and the answer is no |
/// | 413 | the request is too large |
/// | 503 | the plane is stopping, or did not answer in time |
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
        (self.status, Json(self.problem)).into_response()
    }
}
