//! What the API offers, in one table: the way, who may use it, and what answers. The router and the OpenAPI document are
//! made from it.

use super::access::allow;
use super::caller::{Caller, Role};
use super::openapi::Wire;
use super::state::{Api, ReplyView};
use super::tokens::views::TokenView;
use super::{
    actions, audit, backup, commands, elements, embots, events, explain, journal, migrations, modules, openapi, recent, status,
};
use super::{tokens, usage};
use crate::store::AuditHead;
use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{Next, from_fn};
use axum::routing::{MethodRouter, get, post};
use utoipa::ToSchema;

/// One way of the API.
pub(super) struct Route {
    pub(super) method: Method,
    /// Below `/v1`, as the router has it.
    pub(super) path: String,
    /// Who may use it.
    pub(super) role: Role,
    /// What it is for, in a sentence.
    pub(super) about: &'static str,
    pub(super) asked: Asked,
    pub(super) answer: Answer,
    answers: MethodRouter<Api>,
}

/// What a request says, beside its path.
pub(super) enum Asked {
    Nothing,
    Query(Wire),
    Body(Wire),
}

/// What a request that succeeds is answered with.
pub(super) enum Answer {
    One(Wire),
    List(Wire),
    /// Some object.
    Any,
    /// A text of this type of content.
    Text(&'static str),
}

impl Route {
    /// Something to look at.
    fn get<H: Handler<T, Api>, T: 'static>(path: &str, about: &'static str, answer: Answer, handler: H) -> Route {
        let (path, answers) = (path.to_owned(), get(handler));
        Route { method: Method::GET, path, role: Role::Viewer, about, asked: Asked::Nothing, answer, answers }
    }

    /// A command.
    pub(super) fn command<T: ToSchema>(name: &str, role: Role, about: &'static str, answers: MethodRouter<Api>) -> Route {
        let (path, asked) = (format!("/commands/{name}"), Asked::Body(Wire::of::<T>()));
        Route { method: Method::POST, path, role, about, asked, answer: one::<ReplyView>(), answers }
    }

    /// The same with a query.
    fn by<T: ToSchema>(self) -> Route {
        Route { asked: Asked::Query(Wire::of::<T>()), ..self }
    }

    /// The same for those with this role only.
    fn only(self, role: Role) -> Route {
        Route { role, ..self }
    }

    /// The same with another answer.
    pub(super) fn gives<T: ToSchema>(self) -> Route {
        Route { answer: one::<T>(), ..self }
    }

    /// The types on the wire that it names itself.
    pub(super) fn wires(&self) -> impl Iterator<Item = Wire> {
        let asked = match self.asked {
            Asked::Body(wire) => Some(wire),
            // Queries are described field by field.
            Asked::Nothing | Asked::Query(_) => None,
        };
        let answer = match self.answer {
            Answer::One(wire) | Answer::List(wire) => Some(wire),
            Answer::Any | Answer::Text(_) => None,
        };
        asked.into_iter().chain(answer)
    }
}

const fn one<T: ToSchema>() -> Answer {
    Answer::One(Wire::of::<T>())
}

const fn list<T: ToSchema>() -> Answer {
    Answer::List(Wire::of::<T>())
}

/// All ways of the API.
pub(super) fn all() -> Vec<Route> {
    use Role::Admin;
    let follow = Answer::Text("text/event-stream");
    let export = Answer::Text(journal::JSON_LINES);
    let chain = "Why an action was decided, and what became of it.";
    let mut all = vec![
        Route::get("/status", "The plane at a glance.", one::<status::StatusView>(), status::get),
        Route::get(
            "/elements",
            "Hosts and guests, or elements of one kind.",
            list::<elements::ElementView>(),
            elements::get_list,
        )
        .by::<elements::ElementFilter>(),
        Route::get(
            "/elements/{*name}",
            "An element, with what concerns it.",
            one::<elements::ElementDetail>(),
            elements::get_one,
        ),
        Route::get("/events", "The latest records.", list::<recent::RecordView>(), events::get_list)
            .by::<events::EventFilter>(),
        Route::get("/events/follow", "Records as they come, as server-sent events.", follow, events::follow)
            .by::<events::EventFilter>(),
        Route::get("/actions", "Actions, the newest first.", list::<actions::ActionView>(), actions::get_list)
            .by::<actions::ActionFilter>(),
        Route::get("/actions/{id}", chain, one::<explain::Explanation>(), explain::get_one),
        Route::get(
            "/refusals/{number}",
            "Why a proposal was refused.",
            one::<explain::RefusalExplanation>(),
            explain::get_refusal,
        ),
        Route::get(
            "/plan",
            "What is open, what waits for an admin, what was refused.",
            one::<actions::PlanView>(),
            actions::get_plan,
        ),
        Route::get(
            "/rejections",
            "Advice that admins rejected and modules may not give again yet.",
            list::<actions::RejectionView>(),
            actions::get_rejections,
        ),
        Route::get(
            "/migrations",
            "Guests that go to other planes and come from them.",
            list::<migrations::MigrationView>(),
            migrations::get_list,
        )
        .by::<migrations::MigrationFilter>(),
        Route::get("/migrations/{*name}", "One of these migrations.", one::<migrations::MigrationView>(), migrations::get_one),
        Route::get("/peers", "The other planes.", one::<migrations::PeersView>(), migrations::get_peers),
        Route::get("/modules", "What is deployed.", list::<modules::ModuleView>(), modules::get_list),
        Route::get("/modules/{name}", "A module, with its versions.", one::<modules::ModuleDetail>(), modules::get_one),
        Route::get("/embots", "The embots, and what they remember.", list::<embots::EmbotView>(), embots::get_list)
            .by::<embots::EmbotFilter>(),
        Route::get("/usage/{*name}", "What an element used, over time.", one::<usage::UsageView>(), usage::get_one)
            .by::<usage::UsageFilter>(),
        Route::get("/journal/export", "The journal, as JSON lines.", export, journal::export).by::<journal::JournalFilter>(),
        Route::get(
            "/audit",
            "Who asked what, and what became of it, the newest first.",
            list::<audit::AuditView>(),
            audit::get_list,
        )
        .by::<audit::AuditQuery>(),
        Route::get("/audit/head", "The newest entry's number and hash.", one::<AuditHead>(), audit::get_head),
        Route::get("/audit/export", "The audit, as JSON lines.", Answer::Text(journal::JSON_LINES), audit::export),
        Route::get("/backup", "A backup of all the plane holds.", Answer::Text("application/octet-stream"), backup::get)
            .only(Admin),
        Route::get("/openapi.json", "This document.", Answer::Any, openapi::get),
        Route::get("/tokens", "Who may ask over the network.", list::<TokenView>(), tokens::views::get_list)
            .by::<tokens::views::TokenFilter>()
            .only(Admin),
        Route {
            path: "/migrate/dry-run".to_owned(),
            ..Route::command::<commands::Migrate>(
                "",
                Role::Viewer,
                "What would come of a migration.",
                post(migrations::dry_run),
            )
        }
        .gives::<migrations::DryRunView>(),
        Route::command::<tokens::views::CreateToken>("create_token", Admin, "Make a token.", post(tokens::views::create))
            .gives::<tokens::views::NewTokenView>(),
        Route::command::<tokens::views::RevokeToken>("revoke_token", Admin, "Take a token back.", post(tokens::views::revoke))
            .gives::<TokenView>(),
    ];
    all.extend(commands::routes());
    all
}

/// The router of all of them. Each asks first whether the caller's role is large enough.
pub(super) fn router() -> Router<Api> {
    all().into_iter().fold(Router::new(), |router, Route { path, role, answers, .. }| {
        let guard = move |caller: Caller, request: Request, next: Next| allow(role, caller, request, next);
        router.route(&format!("/v1{path}"), answers.route_layer(from_fn(guard)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::access::Origin;
    use super::*;
    use crate::api::testing;
    use axum::body::Body;
    use axum::http::StatusCode;
    use std::collections::BTreeSet;
    use tower::ServiceExt;

    /// What comes of a request that names nothing that exists.
    async fn status(router: &Router, route: &Route, role: Role) -> StatusCode {
        let caller = Caller { name: "ada".into(), role };
        let path = route.path.replace("{*name}", "x").replace("{name}", "x").replace("{id}", "0").replace("{number}", "0");
        let request = Request::builder().method(&route.method).uri(format!("/v1{path}"));
        let mut request = request.body(Body::from(r#"{"none": 1}"#)).unwrap();
        request.extensions_mut().insert(Origin::Socket(caller));
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_way_is_open_to_its_role_and_those_above_and_to_nobody_else() {
        let (handle, doors) = testing::plane();
        let router = crate::api::router(crate::api::state::Api::new(handle, doors));
        for route in all() {
            for role in [Role::Viewer, Role::Operator, Role::Admin] {
                let refused = status(&router, &route, role).await == StatusCode::FORBIDDEN;
                assert_eq!(refused, role < route.role, "{} {} by {role}", route.method, route.path);
            }
        }
    }

    #[test]
    fn whatever_changes_something_takes_more_than_a_viewer() {
        let all = all();
        let ways: BTreeSet<(&str, &str)> = all.iter().map(|route| (route.method.as_str(), &*route.path)).collect();
        assert_eq!(ways.len(), all.len(), "each way stands there once");
        for route in all {
            let changes = route.method != Method::GET && route.path != "/migrate/dry-run";
            assert_eq!(route.role > Role::Viewer, changes || ["/tokens", "/backup"].contains(&&*route.path), "{}", route.path);
            assert!(route.about.ends_with('.'), "{}: {}", route.path, route.about);
        }
    }
}
