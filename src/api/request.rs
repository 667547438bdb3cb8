//! Reading requests: bodies and queries, with complaints in the API's own form.

use super::error::ApiError;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The largest request body.
pub const BODY_LIMIT_BYTES: usize = 1024 * 1024;

/// A request's body must be there within this.
pub const BODY_TIME: Duration = Duration::from_secs(15);

/// A JSON body. The content type does not matter, an empty body is `{}`, unknown fields are refused by the types themselves.
#[derive(Debug, Clone, Copy)]
pub struct Body<T>(pub T);

/// Reads a body. Separate from the extractor, so that tests can throw anything at it.
pub fn read_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = match bytes.trim_ascii_start().first() {
        None => b"{}",
        // Fields without their names would be taken from a list, too.
        Some(b'[') => return Err(ApiError::bad_request("the request is not understood: it is a list, not an object")),
        Some(_) => bytes,
    };
    serde_json::from_slice(bytes).map_err(|error| {
        let what = if error.is_data() { "the request is not understood" } else { "the request is not JSON" };
        ApiError::bad_request(format!("{what}: {error}"))
    })
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, ApiError> {
        let late = |_| {
            let error = format!("the request's body did not come within {} s", BODY_TIME.as_secs());
            ApiError::new(StatusCode::REQUEST_TIMEOUT, error)
        };
        let body = tokio::time::timeout(BODY_TIME, axum::body::Bytes::from_request(request, state));
        let bytes = body.await.map_err(late)?.map_err(|rejection| match rejection {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request is larger than {BODY_LIMIT_BYTES} bytes"))
                    .with_hint("a module's manifest and policies together must fit; split the module")
            }
            other => ApiError::bad_request(format!("the request broke off: {}", other.body_text())),
        })?;
        read_body(&bytes).map(Body)
    }
}

/// The part of the path that names something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Name, ApiError> {
        let found = axum::extract::Path::from_request_parts(parts, state).await;
        let axum::extract::Path(name) = found
            .map_err(|rejection| ApiError::bad_request(format!("the path is not understood: {}", rejection.body_text())))?;
        Ok(Name(name))
    }
}

/// A query string.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>, ApiError> {
        axum::extract::Query::try_from_uri(&parts.uri).map(|axum::extract::Query(query)| Query(query)).map_err(|rejection| {
            let text = rejection.body_text();
            let what = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            ApiError::bad_request(format!("the query is not understood: {what}"))
        })
    }
}
