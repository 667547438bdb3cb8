//! `GET /v1/tokens`, and the commands that make tokens and take them back.

use super::super::caller::{Caller, Role};
use super::super::error::ApiError;
use super::super::request::{Body, Query};
use super::super::stamp::Stamp;
use super::super::state::Api;
use super::{Token, TokenError, Tokens};
use crate::model::{Command, Deed, Span, Timestamp};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// `valid`, `expired` or `revoked`.
    pub state: String,
    /// When it was made.
    pub created: Stamp,
    /// By whom.
    pub by: String,
    /// From when on it is over; absent: never.
    pub expires: Option<Stamp>,
    /// Since when it is revoked.
    pub revoked: Option<Stamp>,
}

impl TokenView {
    fn new(token: Token, now: Timestamp) -> TokenView {
        let state = match &token.revoked {
            Some(_) => "revoked",
            None if token.is_valid(now) => "valid",
            None => "expired",
        };
        let Token { name, role, created, by, expires, revoked, hash: _ } = token;
        TokenView { name, role, state: state.to_owned(), created, by, expires, revoked }
    }
}

/// A token that was just made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewTokenView {
    /// What it is.
    pub token: TokenView,
    /// What its bearer shows. It is kept nowhere.
    pub secret: String,
}

/// Which tokens are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenFilter {
    /// `true`: those that are over, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
}

/// Make a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// For how long; without it, until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Span>,
}

/// Take a token back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeToken {
    /// Which.
    pub name: String,
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> ApiError {
        match &error {
            TokenError::Name(_) | TokenError::Never => ApiError::senseless(error.to_string()),
            TokenError::None(_) => ApiError::not_found(error.to_string()),
            TokenError::Taken(_) | TokenError::Many | TokenError::Unread(_) => ApiError::refused(error.to_string()),
            TokenError::Random | TokenError::File(_) | TokenError::Write(_) => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
        }
    }
}

fn tokens(api: &Api) -> Result<Arc<Tokens>, ApiError> {
    let none = || {
        ApiError::refused("this plane is not reached over the network, so it has no tokens")
            .with_hint("add a section `api` with `listen`, `certificate` and `key` to plane.yaml")
    };
    api.doors.tokens.clone().ok_or_else(none)
}

/// Files are written on a thread that may wait for the disk.
async fn change<T: Send + 'static>(work: impl FnOnce() -> Result<T, TokenError> + Send + 'static) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::unavailable("the plane is stopping"))?.map_err(ApiError::from)
}

pub(in crate::api) async fn get_list(
    State(api): State<Api>,
    Query(filter): Query<TokenFilter>,
) -> Result<Json<Vec<TokenView>>, ApiError> {
    let tokens = tokens(&api)?;
    let now = tokens.now();
    let wanted = tokens.list().into_iter().filter(|token| filter.all == Some(true) || token.is_valid(now));
    Ok(Json(wanted.map(|token| TokenView::new(token, now)).collect()))
}

pub(in crate::api) async fn create(
    State(api): State<Api>,
    by: Caller,
    Body(request): Body<CreateToken>,
) -> Result<Json<NewTokenView>, ApiError> {
    let tokens = tokens(&api)?;
    let now = tokens.now();
    let (maker, keeper, lives) = (by.name.clone(), tokens.clone(), request.expires);
    let made = change(move || {
        let CreateToken { name, role, expires } = request;
        let (token, secret) = keeper.create(&name, role, expires, &maker)?;
        tracing::info!(token = %name, %role, by = %maker, "a token was made");
        Ok((token, secret))
    });
    let (token, secret) = made.await?;
    let (name, role) = (token.name.as_str().into(), token.role.to_string().into());
    let deed = Deed::CreateToken { name, role, lives };
    if let Err(error) = api.command(Command::Audit { deed }, by.name).await {
        // What nobody has to answer for is not given out.
        change(move || tokens.revoke(&token.name)).await?;
        return Err(error);
    }
    Ok(Json(NewTokenView { token: TokenView::new(token, now), secret }))
}

pub(in crate::api) async fn revoke(
    State(api): State<Api>,
    by: Caller,
    Body(RevokeToken { name }): Body<RevokeToken>,
) -> Result<Json<TokenView>, ApiError> {
    let tokens = tokens(&api)?;
    let now = tokens.now();
    let revoker = by.name.clone();
    let token = change(move || {
        let token = tokens.revoke(&name)?;
        tracing::info!(token = %name, by = %revoker, "a token was revoked");
        Ok(token)
    });
    let token = token.await?;
    let deed = Deed::RevokeToken { name: token.name.as_str().into() };
    api.command(Command::Audit { deed }, by.name).await?;
    Ok(Json(TokenView::new(token, now)))
}
