//! Reading requests: bodies and queries, with complaints in the API's own form.

use super::error::ApiError;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserializer;
use serde::de::{self, DeserializeOwned, Unexpected, Visitor};
use std::fmt;
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

/// Reads a whole number, also one that is written `4096.0`: in JSON that is the same.
pub fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(deserializer: D) -> Result<T, D::Error> {
    struct Whole;
    impl Visitor<'_> for Whole {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number")
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
            // Beyond this, not every whole number can be written so.
            const MOST: f64 = 9_007_199_254_740_992.0;
            if number.fract() == 0.0 && (0.0..=MOST).contains(&number) {
                Ok(number as u64)
            } else {
                Err(E::invalid_value(Unexpected::Float(number), &self))
            }
        }
    }
    let number = deserializer.deserialize_any(Whole)?;
    T::try_from(number).map_err(|_| de::Error::invalid_value(Unexpected::Unsigned(number), &"a smaller number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::commands::SetVcpus;

    #[test]
    fn whole_numbers_may_be_written_with_a_point() {
        let read = |vcpus: &str| {
            let read: Result<SetVcpus, _> = read_body(format!(r#"{{"vm": "web-1", "vcpus": {vcpus}}}"#).as_bytes());
            read.map(|request| request.vcpus).map_err(|error| error.problem.error)
        };
        assert_eq!((read("4"), read("4.0"), read("4e1"), read("4294967295")), (Ok(4), Ok(4), Ok(40), Ok(u32::MAX)));
        for odd in ["4.5", "-1", "-1.0", "4294967296", "1e300", "\"4\"", "null", "true", "[4]"] {
            assert!(read(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn fields_are_told_by_their_names_only() {
        assert!(read_body::<SetVcpus>(br#"["web-1", 4, null]"#).is_err());
    }
}
