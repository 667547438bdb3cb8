//! The API and its client together: a real plane behind a real socket.

use super::client::Client;
use super::failure::Failure;
use crate::api::actions::{ActionView, PlanView, RejectionView};
use crate::api::commands::{
    Disarm, LoadModule, Maintenance, Manage, Migrate, Module, ModuleMode, Nothing, Reject, Settle, Unsuspend,
};
use crate::api::elements::{ElementDetail, ElementView};
use crate::api::embots::EmbotView;
use crate::api::explain::Explanation;
use crate::api::modules::{ModuleDetail, ModuleView};
use crate::api::recent::{Position, RecordView};
use crate::api::state::ReplyView;
use crate::api::status::StatusView;
use crate::api::usage::UsageView;
use crate::api::{listen, serve, testing};
use crate::error::Style;
use crate::model::{Mode, Span};
use serde_json::json;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A plane, its API and a client of it.
struct Plane {
    client: Client,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    _folder: TempDir,
}

async fn plane() -> Plane {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("embot.sock");
    let listener = listen(&socket).await.unwrap();
    let (handle, doors) = testing::plane();
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(serve(listener, None, handle, doors, async move { drop(stopped.await) }));
    Plane { client: Client::Socket(socket), stop, serving, _folder: folder }
}

fn said<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Ok(answer) => format!("unexpected: {answer:?}"),
        Err(failure) => format!("{}=> {:?}\n", failure.text(Style::Plain), failure.code()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_can_be_read() {
    let plane = plane().await;
    let client = &plane.client;
    let status: StatusView = client.get("/v1/status").await.unwrap();
    assert_eq!((status.plane.as_str(), status.hosts, status.starting), ("home", 3, false));
    assert_eq!(status.guests["running"], 3);
    let elements: Vec<ElementView> = client.get("/v1/elements?kind=vm&name=web-*").await.unwrap();
    assert_eq!(elements.iter().map(ElementView::name).collect::<Vec<_>>(), ["web-1", "web-2", "web-3"]);
    for name in ["web-3", "host-a", "plane", "web-1/vda", "vm:00000000-0000-0000-0000-000000000003"] {
        let detail: ElementDetail = client.get(&format!("/v1/elements/{name}")).await.unwrap();
        assert!(!detail.element.name().is_empty(), "{name}");
    }
    let plan: PlanView = client.get("/v1/plan").await.unwrap();
    assert_eq!(plan.advised.iter().map(|action| action.id).collect::<Vec<_>>(), [18]);
    let failed: Vec<ActionView> = client.get("/v1/actions?state=failed&element=web-3").await.unwrap();
    assert_eq!(failed.iter().map(|action| action.id).collect::<Vec<_>>(), [9]);
    let explanation: Explanation = client.get("/v1/actions/9").await.unwrap();
    let place = explanation.place.unwrap();
    assert!(place.source.unwrap().contains("migrate("), "the line of the script itself");
    let modules: Vec<ModuleView> = client.get("/v1/modules").await.unwrap();
    assert_eq!((modules.len(), modules[0].embots, modules[0].suspended), (1, 3, 1));
    let module: ModuleDetail = client.get("/v1/modules/relieve-hot-host").await.unwrap();
    assert_eq!(module.versions.len(), 1);
    let embots: Vec<EmbotView> = client.get("/v1/embots?suspended=true").await.unwrap();
    assert_eq!(embots.len(), 1);
    let usage: UsageView = client.get("/v1/usage/host-a?span=1h&metric=cpu").await.unwrap();
    assert_eq!(usage.metrics["cpu"].samples, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_carried_out_and_recorded() {
    let plane = plane().await;
    let client = &plane.client;
    let post = async |path: &str, request: serde_json::Value| -> String {
        let reply: ReplyView = client.post(&format!("/v1/commands/{path}"), &request).await.unwrap();
        format!("{path}: {}", reply.message)
    };
    let mut lines = client.stream("/v1/events/follow", &json!({})).await.unwrap();
    let replies = [
        post("maintenance", json!(Maintenance { host: "host-b".into(), on: false })).await,
        post("reject", json!(Reject { action: 18, reason: Some("after the backup".into()), rest: None })).await,
        post("manage", json!(Manage { vms: vec!["db-1".into()], all: false, mode: Mode::Observe })).await,
        post("module_mode", json!(ModuleMode { module: "relieve-hot-host".into(), mode: Mode::Observe })).await,
        post("unsuspend", json!(Unsuspend { embot: "relieve-hot-host@host-a".into() })).await,
        post("disarm", json!(Disarm { cancel: false })).await,
        post("arm", json!(Nothing {})).await,
        post("unload_module", json!(Module { module: "relieve-hot-host".into() })).await,
    ];
    insta::assert_snapshot!(replies.join("\n"));
    let mut records: Vec<RecordView> = Vec::new();
    while !records.iter().any(|record| record.milestone.as_deref().is_some_and(|step| step.starts_with("rejected"))) {
        let line = lines.next().await.unwrap().expect("the stream goes on");
        records.extend(line.strip_prefix("data:").and_then(|data| serde_json::from_str(data.trim()).ok()));
    }
    let last = records.last().unwrap();
    assert!(last.text.contains("18 start db-1 on host-b"), "{last:?}");
    assert!(!last.text.ends_with("by "), "the caller's name: {last:?}");
    // Whoever comes later sees it among the recent ones, and in the action's time line.
    let since = Position { batch: last.position.batch, index: 0 }.batch.saturating_sub(1);
    let recent: Vec<RecordView> = client.get(&format!("/v1/events?record=action&since={since}")).await.unwrap();
    assert!(recent.iter().any(|record| record == last));
    let explanation: Explanation = client.get("/v1/actions/18").await.unwrap();
    assert!(explanation.timeline.iter().any(|step| step.text.starts_with("rejected by")), "{:?}", explanation.timeline);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejection_is_listed_and_lifted() {
    let plane = plane().await;
    let client = &plane.client;
    let reject = Reject { action: 18, reason: Some("after the backup".into()), rest: Some(Span::hours(24 * 7)) };
    let _: ReplyView = client.post("/v1/commands/reject", &reject).await.unwrap();
    let standing: Vec<RejectionView> = client.get("/v1/rejections").await.unwrap();
    let [one] = &standing[..] else { panic!("{standing:?}") };
    assert_eq!((one.action, &*one.verb, &*one.vm_name, one.reason.as_deref()), (18, "start", "db-1", Some("after the backup")));
    assert_eq!(one.until.0, testing::NOW + Span::hours(24 * 7));
    let lift = || Settle { action: 18, reason: Some("it is done".into()) };
    let reply: ReplyView = client.post("/v1/commands/lift", &lift()).await.unwrap();
    assert_eq!(reply.message, "the rejection of action 18 is lifted: module relieve-hot-host may advise to start db-1 again");
    assert!(client.get::<Vec<RejectionView>>("/v1/rejections").await.unwrap().is_empty());
    let again = said(client.post::<ReplyView>("/v1/commands/lift", &lift()).await);
    assert!(again.contains("`embot plan rejections`"), "{again}");
    let explanation: Explanation = client.get("/v1/actions/18").await.unwrap();
    let steps: Vec<&str> = explanation.timeline.iter().map(|step| step.text.split(' ').next().unwrap()).collect();
    assert!(steps.ends_with(&["rejected", "lifted"]), "{:?}", explanation.timeline);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_said() {
    let plane = plane().await;
    let client = &plane.client;
    let get = async |path: &str| said(client.get::<serde_json::Value>(path).await);
    let post = async |path: &str, request: serde_json::Value| {
        said(client.post::<ReplyView>(&format!("/v1/commands/{path}"), &request).await)
    };
    let all = [
        get("/v2/status").await,
        get("/v1/elements?knd=vm").await,
        get("/v1/elements?name=%5B").await,
        get("/v1/elements/wbe-1").await,
        get("/v1/actions/99").await,
        get("/v1/actions/first").await,
        get("/v1/actions?state=finished").await,
        get("/v1/events?record=things").await,
        get("/v1/events?since=yesterday").await,
        get("/v1/modules/relieve-hot-hosts").await,
        get("/v1/usage/host-a?metric=heat").await,
        get("/v1/commands/arm").await,
        post("migrate", json!(Migrate { vm: "web".into(), to: None, live: None, force_after: None, reason: None })).await,
        post(
            "migrate",
            json!(Migrate { vm: "web-1".into(), to: Some("hostb".into()), live: None, force_after: None, reason: None }),
        )
        .await,
        post(
            "migrate",
            json!(Migrate { vm: "web-1".into(), to: Some("host-b".into()), live: None, force_after: None, reason: None }),
        )
        .await,
        post("migrate", json!({ "vm": "web-1", "to": "host-b", "live": false, "force_after": "30s" })).await,
        post("migrate", json!({ "vm": "web-1", "force_after": "30s" })).await,
        post("cancel_migration", json!({ "migration": "site-a" })).await,
        post("cancel_migration", json!({ "migration": "site-a/7" })).await,
        post("resolve_migration", json!({ "migration": "site-a/7", "owner": "site-b", "fenced": "host-x" })).await,
        post("start", json!({ "vm": "web-1", "force": true })).await,
        post("approve", json!(Settle { action: 9, reason: None })).await,
        post("manage", json!({ "mode": "act" })).await,
        post("roll_back", json!(Module { module: "relieve-hot-host".into() })).await,
        post("unsuspend", json!(Unsuspend { embot: "relieve-hot-host".into() })).await,
        post("load_module", json!(LoadModule { file: "x.yaml".into(), manifest: "modul: x\n".into(), policies: [].into() }))
            .await,
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_and_too_odd_is_refused() {
    let plane = plane().await;
    let huge = json!({ "vm": "x".repeat(crate::api::request::BODY_LIMIT_BYTES) });
    let answer = said(plane.client.post::<ReplyView>("/v1/commands/start", &huge).await);
    assert!(answer.contains("larger than"), "{answer}");
    let mut raw = UnixStream::connect(plane.client.to_string()).await.unwrap();
    raw.write_all(b"\x00\xff\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    raw.read_to_end(&mut answer).await.ok();
    let status: StatusView = plane.client.get("/v1/status").await.unwrap();
    assert_eq!(status.plane, "home", "the daemon goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_is_streamed() {
    let plane = plane().await;
    for on in [true, false] {
        let request = json!(Maintenance { host: "host-a".into(), on });
        plane.client.post::<ReplyView>("/v1/commands/maintenance", &request).await.unwrap();
    }
    let mut lines = plane.client.stream("/v1/journal/export", &json!({ "from": 0 })).await.unwrap();
    let mut text = String::new();
    while let Some(line) = lines.next().await.unwrap() {
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
        text += &line;
    }
    assert!(text.contains("maintenance"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_follower_is_dropped_and_holds_up_nobody() {
    let (handle, doors) = testing::plane();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("embot.sock");
    let listener = listen(&socket).await.unwrap();
    let (_stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve(listener, None, handle.clone(), doors, async move { drop(stopped.await) }));
    let client = Client::Socket(socket);
    let mut slow = client.stream("/v1/events/follow", &json!({})).await.unwrap();
    // Far more than the socket's buffers and the backlog hold, while nobody reads.
    for _ in 0..240 {
        let command = |on| crate::model::Command::Maintenance { host: "host-a".into(), on };
        let replies: Vec<_> = (0..50).map(|round| handle.command(command(round % 2 == 0), "ada".into())).collect();
        for reply in replies {
            reply.await.unwrap();
        }
    }
    let status: StatusView = client.get("/v1/status").await.unwrap();
    assert_eq!(status.plane, "home");
    let mut dropped = None;
    let mut event = String::new();
    while let Ok(Some(line)) = slow.next().await {
        if let Some(name) = line.strip_prefix("event:") {
            name.trim().clone_into(&mut event);
        } else if line.starts_with("data:") && event == "dropped" {
            dropped = Some(line);
        }
    }
    let dropped = dropped.expect("the client is told why");
    assert!(dropped.contains("reads too slowly") && dropped.contains("since="), "{dropped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_streams_and_is_quick() {
    let plane = plane().await;
    let mut lines = plane.client.stream("/v1/events/follow", &json!({})).await.unwrap();
    plane.stop.send(()).unwrap();
    let mut heard = String::new();
    while let Ok(Some(line)) = lines.next().await {
        heard += &line;
        heard += "\n";
    }
    assert!(heard.contains("event: end") || heard.contains("event:end"), "{heard}");
    let ended = tokio::time::timeout(Duration::from_secs(30), plane.serving).await;
    ended.expect("the API stops").unwrap();
    assert!(said(plane.client.get::<StatusView>("/v1/status").await).contains("no daemon answers"));
}
