//! The plane's HTTP API, on a unix socket and, where that is configured, on the network: everything the command line shows
//! and does, and the reverse.
//!
//! ```text
//!  unix socket  (its owner: admin) ---\                          /-- routes: the table of what there is, and for which role
//!                                      connections -- access ---
//!  TCP, TLS 1.3 (tokens)  ------------/  (limits)    (who asks)  \-- the manager's inbox, and its answer
//! ```
//!
//! It guarantees: a command is answered only once the journal has it; a slow or silent client holds up nobody; input that is
//! not understood is refused with what is wrong and what to do ([`error::Problem`]). Types on the wire are their own, so that
//! the model can change without breaking those who use the API.

mod access;
pub mod actions;
mod admitted;
mod attempts;
pub mod audit;
pub mod backup;
pub mod caller;
pub mod commands;
mod connections;
pub mod elements;
pub mod embots;
pub mod error;
pub mod events;
pub mod explain;
mod exports;
pub mod journal;
mod locality;
pub mod metrics;
pub mod migrations;
pub mod modules;
pub mod names;
pub mod network;
pub mod openapi;
pub mod recent;
pub mod reload;
pub mod request;
mod routes;
mod schema;
pub mod socket;
pub mod stamp;
pub mod state;
pub mod status;
#[cfg(test)]
pub mod testing;
pub mod tokens;
pub mod usage;
pub mod words;

pub use caller::{Caller, Role};
pub use network::{Network, NetworkError, NetworkSettings};
pub use socket::{SocketError, listen};
pub use state::Doors;
pub use tokens::{Tokens, TokensError};

use crate::manager::Handle;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use connections::{Seats, Server};
use error::{ApiError, NO_SUCH_PATH};
use request::BODY_LIMIT_BYTES;
use state::Api;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// A request must be read and its answer begun within this.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that still talk when the daemon stops get this long to finish.
const FAREWELL: Duration = Duration::from_secs(5);

/// How the API names itself in its answers.
pub const SERVER: &str = concat!("embot/", env!("CARGO_PKG_VERSION"));

/// Serves the API until `shutdown` comes, then ends streams, lets answers under way finish, and returns. Of what becomes
/// durable from this call on, nothing is missing among recent events.
pub fn serve(
    listener: UnixListener,
    network: Option<Network>,
    handle: Handle,
    doors: Doors,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send {
    let api = Api::new(handle, doors);
    let recent = recent::keep(api.handle.clone(), api.recent.clone());
    run(listener, network, api, recent, shutdown)
}

async fn run(
    listener: UnixListener,
    network: Option<Network>,
    api: Api,
    recent: impl Future<Output = ()> + Send + 'static,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let clock = api.doors.clock.clone();
    let (stop, stopping) = (api.stop.clone(), api.stop.subscribe());
    let (alive, mut gone) = mpsc::channel(1);
    let mut tasks = vec![tokio::spawn(recent)];
    let server = Server { router: router(api), seats: Arc::new(Seats::default()), stopping, _alive: alive };
    if let Some(network) = network.map(Arc::new) {
        tasks.push(tokio::spawn(network.clone().keep_identity(move || clock.now())));
        tasks.push(tokio::spawn(server.clone().accept_network(network)));
    }
    // Seats of their own: whatever the network does, whoever is on the machine gets through.
    let local = Server { seats: Arc::default(), ..server };
    tasks.push(tokio::spawn(local.accept_local(listener)));
    shutdown.await;
    stop.send_replace(true);
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    // Nothing is ever sent: it ends with the last connection.
    if tokio::time::timeout(FAREWELL, gone.recv()).await.is_err() {
        tracing::warn!("a client of the API did not hang up in time; stopping without it");
    }
}

fn router(api: Api) -> Router {
    routes::router()
        .route(metrics::PATH, get(metrics::get_text))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(api.clone(), access::admit))
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
        .layer(from_fn(timely))
        .layer(from_fn_with_state(api.clone(), metrics::count))
        .with_state(api)
}

async fn timely(request: Request, next: Next) -> Result<Response, ApiError> {
    let late = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, format!("not answered within {} s", TIMEOUT.as_secs()));
    tokio::time::timeout(TIMEOUT, next.run(request)).await.map_err(late)
}

async fn no_such_path(request: Request) -> ApiError {
    ApiError::not_found(format!("{NO_SUCH_PATH} {}", request.uri().path()))
        .with_hint("paths begin with /v1/, for example /v1/status")
}

async fn no_such_method(request: Request) -> ApiError {
    let error = format!("{} is not possible at {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, error).with_hint("commands are POSTed, everything else is read with GET")
}
