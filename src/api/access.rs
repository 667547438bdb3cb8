//! Who may come in: whoever opens the socket, and on the network whoever shows a token.

use super::admitted::Admitted;
use super::caller::{Caller, Role};
use super::error::ApiError;
use super::state::Api;
use super::tokens::{self, Denied};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use std::net::IpAddr;

/// Where a connection comes from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// The plane's socket. The file system has let them in.
    Socket(Caller),
    /// The network, from this address.
    Network(IpAddr),
}

/// Lets those in who are known, and remembers who they are.
pub(super) async fn admit(State(api): State<Api>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    match request.extensions_mut().remove::<Origin>() {
        Some(Origin::Socket(caller)) => {
            request.extensions_mut().insert(caller);
            Ok(next.run(request).await)
        }
        Some(Origin::Network(address)) => {
            let admitted = known(&api, address, request.headers())?;
            request.extensions_mut().insert(admitted.caller.clone());
            Ok(admitted.watch(next.run(request).await))
        }
        None => Err(ApiError::unauthorized("it is not known where this request comes from")),
    }
}

fn known(api: &Api, address: IpAddr, headers: &HeaderMap) -> Result<Admitted, ApiError> {
    let Some(tokens) = &api.doors.tokens else {
        return Err(ApiError::unauthorized("this plane has no tokens"));
    };
    let hash = tokens::hash(bearer(headers)?);
    let denied = match tokens.holder(&hash) {
        Ok(caller) => return Ok(Admitted { caller, hash, tokens: tokens.clone() }),
        Err(denied) => denied,
    };
    if !api.attempts.note(address, &denied, api.doors.clock.now()) {
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many attempts with tokens that are not accepted");
        return Err(error.with_hint(format!("the last one: {denied}; wait a second")));
    }
    let hint = match denied {
        Denied::Unknown => "an admin lists the tokens with `embot token list`, and makes one with `embot token create`",
        Denied::Expired { .. } | Denied::Revoked { .. } => "an admin makes another with `embot token create`",
    };
    Err(ApiError::unauthorized(denied.to_string()).with_hint(hint))
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let missing = || {
        ApiError::unauthorized("a token is needed")
            .with_hint("send `Authorization: Bearer TOKEN`; `embot` takes it from EMBOT_TOKEN or --token-file")
    };
    let header = headers.get(AUTHORIZATION).ok_or_else(missing)?;
    let text = header.to_str().map_err(|_| missing())?;
    let (scheme, token) = text.trim().split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(missing()) }
}

/// Lets those pass whose role is large enough.
pub(super) async fn allow(needed: Role, caller: Caller, request: Request, next: Next) -> Result<Response, ApiError> {
    if caller.role >= needed {
        return Ok(next.run(request).await);
    }
    let error = format!("this takes the role {needed}, and {} has the role {}", caller.name, caller.role);
    let hint = format!("ask an admin for a token with it: `embot token create NAME --role {needed}`");
    Err(ApiError::new(StatusCode::FORBIDDEN, error).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stand_in_the_authorization_header_and_nowhere_else() {
        let said = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned).map_err(|error| error.problem.error)
        };
        for value in ["Bearer embot_1", "bearer  embot_1 ", "BEARER embot_1"] {
            assert_eq!(said(value).as_deref(), Ok("embot_1"), "{value}");
        }
        for value in ["", "embot_1", "Basic embot_1", "Bearer"] {
            assert_eq!(said(value), Err("a token is needed".to_owned()), "{value}");
        }
        assert!(bearer(&HeaderMap::new()).is_err());
    }
}
