//! What the API offers, in one table: the way, who may use it, and what answers. The router and the OpenAPI document are
//! made from it.

use super::access::allow;
use super::caller::{Caller, Role};
use super::state::Api;
use super::{actions, commands, elements, embots, events, explain, journal, migrations, modules, status, tokens, usage};
use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{Next, from_fn};
use axum::routing::{MethodRouter, get, post};

/// One way of the API.
pub(super) struct Route {
    pub(super) method: Method,
    /// Below `/v1`, as the router has it.
    pub(super) path: String,
    /// Who may use it.
    pub(super) role: Role,
    /// What it is for, in a sentence.
    pub(super) about: &'static str,
    answers: MethodRouter<Api>,
}

impl Route {
    /// Something to look at.
    fn get<H: Handler<T, Api>, T: 'static>(path: &str, about: &'static str, handler: H) -> Route {
        Route { method: Method::GET, path: path.to_owned(), role: Role::Viewer, about, answers: get(handler) }
    }

    /// A command.
    pub(super) fn command(name: &str, role: Role, about: &'static str, answers: MethodRouter<Api>) -> Route {
        Route { method: Method::POST, path: format!("/commands/{name}"), role, about, answers }
    }

    /// The same for those with this role only.
    fn only(self, role: Role) -> Route {
        Route { role, ..self }
    }
}

/// All ways of the API.
pub(super) fn all() -> Vec<Route> {
    let mut all = vec![
        Route::get("/status", "The plane at a glance.", status::get),
        Route::get("/elements", "Hosts and guests, or elements of one kind.", elements::get_list),
        Route::get("/elements/{*name}", "An element, with what concerns it.", elements::get_one),
        Route::get("/events", "The latest records.", events::get_list),
        Route::get("/events/follow", "Records as they come, as server-sent events.", events::follow),
        Route::get("/actions", "Actions, the newest first.", actions::get_list),
        Route::get("/actions/{id}", "Why an action was decided, and what became of it.", explain::get_one),
        Route::get("/refusals/{number}", "Why a proposal was refused.", explain::get_refusal),
        Route::get("/plan", "What is open, what waits for an admin, what was refused.", actions::get_plan),
        Route::get("/migrations", "Guests that go to other planes and come from them.", migrations::get_list),
        Route::get("/migrations/{*name}", "One of these migrations.", migrations::get_one),
        Route::get("/peers", "The other planes.", migrations::get_peers),
        Route::get("/modules", "What is deployed.", modules::get_list),
        Route::get("/modules/{name}", "A module, with its versions.", modules::get_one),
        Route::get("/embots", "The embots, and what they remember.", embots::get_list),
        Route::get("/usage/{*name}", "What an element used, over time.", usage::get_one),
        Route::get("/journal/export", "The journal, as JSON lines.", journal::export),
        Route::get("/tokens", "Who may ask over the network.", tokens::views::get_list).only(Role::Admin),
        Route {
            method: Method::POST,
            path: "/migrate/dry-run".to_owned(),
            role: Role::Viewer,
            about: "What would come of a migration.",
            answers: post(migrations::dry_run),
        },
    ];
    all.extend(commands::routes());
    all.push(Route::command("create_token", Role::Admin, "Make a token.", post(tokens::views::create)));
    all.push(Route::command("revoke_token", Role::Admin, "Take a token back.", post(tokens::views::revoke)));
    all
}

/// The router of all of them. Each asks first whether the caller's role is large enough.
pub(super) fn router() -> Router<Api> {
    all().into_iter().fold(Router::new(), |router, Route { path, role, answers, .. }| {
        let guard = move |caller: Caller, request: Request, next: Next| allow(role, caller, request, next);
        router.route(&format!("/v1{path}"), answers.route_layer(from_fn(guard)))
    })
}
