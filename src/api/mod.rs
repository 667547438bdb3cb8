//! The plane's HTTP API on a unix socket: everything the command line shows and does, and the reverse.
//!
//! | path | what |
//! |---|---|
//! | `GET /v1/status` | the plane at a glance |
//! | `GET /v1/elements?kind=&name=&sort=&skip=&limit=`, `/v1/elements/{name}` | hosts, guests and their parts |
//! | `GET /v1/events`, `/v1/events/follow?since=` | recent records, and live ones (server-sent events) |
//! | `GET /v1/actions?state=&element=&module=&limit=`, `/v1/actions/{id}` | actions, and the whole chain behind one |
//! | `GET /v1/plan` | what is open, what waits for an admin, what was refused |
//! | `GET /v1/modules`, `/v1/modules/{name}`, `/v1/embots` | what is deployed |
//! | `GET /v1/usage/{element}?span=&metric=` | what an element used |
//! | `GET /v1/journal/export?from=` | the journal as JSON lines |
//! | `GET /v1/audit?since=&by=&element=&limit=`, `/v1/audit/head`, `/v1/audit/export` | who did what, and the chain's end |
//! | `GET /v1/backup` | a backup of the store, as it is at that moment |
//! | `GET /metrics` | figures for Prometheus, see [`metrics`] |
//! | `POST /v1/commands/*` | what an admin asks, see [`commands`] |
//!
//! It guarantees: a command is answered only once the journal has it; a slow or silent client holds up nobody; input that is
//! not understood is refused with what is wrong and what to do ([`error::Problem`]). Types on the wire are their own, so that
//! the model can change without breaking those who use the API.

pub mod actions;
pub mod audit;
pub mod backup;
pub mod commands;
pub mod elements;
pub mod embots;
pub mod error;
pub mod events;
pub mod explain;
pub mod journal;
pub mod metrics;
pub mod migrations;
pub mod modules;
pub mod names;
pub mod recent;
pub mod reload;
pub mod request;
pub mod socket;
pub mod stamp;
pub mod state;
pub mod status;
#[cfg(test)]
pub mod testing;
pub mod usage;
pub mod words;

pub use socket::{SocketError, listen};
pub use state::Doors;

use crate::manager::Handle;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use error::ApiError;
use recent::Recent;
use request::{BODY_LIMIT_BYTES, Caller};
use state::Api;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::watch;

/// A request must be read and its answer begun within this.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that still talk when the daemon stops get this long to finish.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves the API until `shutdown` comes, then ends streams, lets answers under way finish, and returns.
pub async fn serve(
    listener: UnixListener,
    handle: Handle,
    doors: Doors,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let recent = Arc::new(Recent::default());
    let keeper = tokio::spawn(recent::keep(handle.clone(), recent.clone()));
    let observer = tokio::spawn(metrics::observe(handle.clone(), doors.metrics.clone(), doors.clock.clone()));
    let (stop, stopping) = watch::channel(false);
    let mut stopped = stopping.clone();
    let router = routes(Api { handle, recent, doors, stopping });
    let service = router.into_make_service_with_connect_info::<Caller>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
        shutdown.await;
        stop.send(true).ok();
    });
    let overdue = async {
        // An error means that the sender is gone, which happens only after it has sent.
        stopped.wait_for(|stopping| *stopping).await.ok();
        tokio::time::sleep(FAREWELL).await;
    };
    let result = tokio::select! {
        result = serving.into_future() => result,
        () = overdue => {
            tracing::warn!("a client of the API did not hang up in time; stopping without it");
            Ok(())
        }
    };
    keeper.abort();
    observer.abort();
    result
}

fn routes(api: Api) -> Router {
    let v1 = Router::new()
        .route("/status", get(status::get))
        .route("/elements", get(elements::get_list))
        .route("/elements/{*name}", get(elements::get_one))
        .route("/events", get(events::get_list))
        .route("/events/follow", get(events::follow))
        .route("/actions", get(actions::get_list))
        .route("/actions/{id}", get(explain::get_one))
        .route("/refusals/{number}", get(explain::get_refusal))
        .route("/plan", get(actions::get_plan))
        .route("/migrations", get(migrations::get_list))
        .route("/migrations/{*name}", get(migrations::get_one))
        .route("/peers", get(migrations::get_peers))
        .route("/migrate/dry-run", axum::routing::post(migrations::dry_run))
        .route("/modules", get(modules::get_list))
        .route("/modules/{name}", get(modules::get_one))
        .route("/embots", get(embots::get_list))
        .route("/usage/{*name}", get(usage::get_one))
        .route("/journal/export", get(journal::export))
        .route("/audit", get(audit::get_list))
        .route("/audit/head", get(audit::get_head))
        .route("/audit/export", get(audit::export))
        .route("/backup", get(backup::get))
        .nest("/commands", commands::routes());
    Router::new()
        .nest("/v1", v1)
        .route("/metrics", get(metrics::get_text))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
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
    ApiError::not_found(format!("there is nothing at {}", request.uri().path()))
        .with_hint("paths begin with /v1/, for example /v1/status")
}

async fn no_such_method(request: Request) -> ApiError {
    let error = format!("{} is not possible at {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, error).with_hint("commands are POSTed, everything else is read with GET")
}
