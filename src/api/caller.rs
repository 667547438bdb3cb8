//! Who asks, and what they may ask for.

use super::error::ApiError;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use tokio::net::UnixStream;

/// What somebody may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See everything but tokens.
    Viewer,
    /// Give everyday commands: guests, hosts, approvals, the kill switch.
    Operator,
    /// Say what the plane decides by, and who may ask it.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        })
    }
}

/// Who asks: the user at the other end of the socket, as the kernel tells it, or who shows a token: `token:NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name that stands in the journal.
    pub name: Arc<str>,
    /// What they may do.
    pub role: Role,
}

impl Caller {
    /// Whoever shows a token. No user of the machine has a colon in their name, so that none is taken for another.
    pub(super) fn of_token(name: &str, role: Role) -> Caller {
        Caller { name: format!("token:{name}").into(), role }
    }

    /// The user at the other end of the socket, who may do everything.
    pub(super) fn of_socket(stream: &UnixStream) -> Caller {
        let name = stream.peer_cred().ok().map(|credentials| {
            let id = nix::unistd::Uid::from_raw(credentials.uid());
            let name = nix::unistd::User::from_uid(id).ok().flatten().map(|user| user.name);
            name.unwrap_or_else(|| format!("user {id}"))
        });
        Caller { name: name.as_deref().unwrap_or("unknown user").into(), role: Role::Admin }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, ApiError> {
        // Whoever comes this far was admitted; should that ever fail, it fails closed.
        parts.extensions.get().cloned().ok_or_else(|| ApiError::unauthorized("it is not known who asks"))
    }
}
