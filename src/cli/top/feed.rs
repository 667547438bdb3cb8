//! What is asked of the daemon: looks, commands, and the live stream of decisions.

use super::page::Content;
use super::state::{Command, Picture, Target, Want, Window};
use crate::api::commands::{Disarm, Maintenance, Nothing, Reject, Settle};
use crate::api::elements::{ElementFilter, ElementView};
use crate::api::embots::{EmbotFilter, EmbotView};
use crate::api::events::EventFilter;
use crate::api::recent::{Position, RecordView};
use crate::api::state::ReplyView;
use crate::api::status::StatusView;
use crate::api::usage::{UsageFilter, UsageView};
use crate::cli::client::{Client, segment};
use crate::cli::events::{Following, Told};
use crate::cli::failure::Failure;
use crate::error::Style;
use crate::model::Span;
use crate::usage::Metric;
use std::collections::BTreeMap;

/// The last minutes of a host.
const MINUTES: Span = Span::minutes(5);

/// So many of the latest decisions of each sort are shown at the start.
const LATEST: u32 = 100;

/// A failure in one line.
pub fn said(failure: &Failure) -> String {
    let text = failure.text(Style::Plain);
    let text = text.trim().trim_start_matches("error: ");
    text.replace("\n hint: ", "; ").replace('\n', " ")
}

/// One look: the plane itself, and what is in sight. Where the plane answers and a part of it cannot be had, the picture says so.
pub async fn fetch(client: &Client, want: Want) -> Result<Picture, Failure> {
    let status: StatusView = client.get("/v1/status").await?;
    let plan = client.get("/v1/plan").await?;
    let mut complaint = None;
    let hosts = elements(client, want.hosts, &mut complaint, |element| match element {
        ElementView::Host(host) => Some(host),
        _ => None,
    });
    let hosts = hosts.await;
    let guests = elements(client, want.guests, &mut complaint, |element| match element {
        ElementView::Vm(vm) => Some(*vm),
        _ => None,
    });
    let guests = guests.await;
    let suspended = match want.attention {
        true if status.embots_suspended.is_empty() => Some(Vec::new()),
        true => {
            let filter = EmbotFilter { suspended: Some(true), ..EmbotFilter::default() };
            noted(client.find("/v1/embots", &filter).await, &mut complaint)
        }
        false => None,
    };
    let migrations = match want.attention || want.peers {
        true => noted(client.get("/v1/migrations").await, &mut complaint),
        false => None,
    };
    let peers = match want.peers {
        true => noted(client.get("/v1/peers").await, &mut complaint),
        false => None,
    };
    let mut trends = BTreeMap::new();
    for host in want.trends {
        let filter = UsageFilter { span: Some(MINUTES), metric: Some(Metric::Cpu) };
        let path = format!("/v1/usage/{}", segment(&format!("host:{host}")));
        let usage: Option<UsageView> = noted(client.find(&path, &filter).await, &mut complaint);
        let values = usage.into_iter().flat_map(|usage| usage.metrics.into_values()).flat_map(|metric| metric.values);
        trends.insert(host, values.collect());
    }
    let page = match want.page {
        Some(target) => {
            let content = page(client, &target).await.map_err(|failure| failure.text(Style::Plain));
            Some((target, content))
        }
        None => None,
    };
    Ok(Picture { status, plan, hosts, guests, suspended, migrations, peers, trends, page, complaint })
}

/// Keeps the first failure in words.
fn noted<T>(result: Result<T, Failure>, complaint: &mut Option<String>) -> Option<T> {
    result.map_err(|failure| complaint.get_or_insert_with(|| said(&failure)).len()).ok()
}

async fn elements<T>(
    client: &Client,
    filter: Option<ElementFilter>,
    complaint: &mut Option<String>,
    pick: impl Fn(ElementView) -> Option<T>,
) -> Option<Window<T>> {
    let filter = filter?;
    let found: Vec<ElementView> = noted(client.find("/v1/elements", &filter).await, complaint)?;
    Some(Window { rows: found.into_iter().filter_map(pick).collect(), filter })
}

async fn page(client: &Client, target: &Target) -> Result<Content, Failure> {
    Ok(match target {
        Target::Host(host) => {
            Content::Element(client.get(&format!("/v1/elements/{}", segment(&format!("host:{host}")))).await?)
        }
        Target::Guest(vm) => Content::Element(client.get(&format!("/v1/elements/{}", segment(&format!("vm:{vm}")))).await?),
        Target::Action(id) => Content::Action(client.get(&format!("/v1/actions/{id}")).await?),
        Target::Refusal(number) => Content::Refusal(client.get(&format!("/v1/refusals/r{number}")).await?),
        Target::Embot(embot) => {
            let (module, element) = embot.split_once('@').unwrap_or((embot, "plane"));
            let filter = EmbotFilter { module: Some(module.to_owned()), element: Some(element.to_owned()), suspended: None };
            let found: Vec<EmbotView> = client.find("/v1/embots", &filter).await?;
            let gone = || Failure::wrong(format!("there is no embot {embot} any more"));
            let embot = found.into_iter().next().ok_or_else(gone)?;
            let module = client.get(&format!("/v1/modules/{}", segment(module))).await?;
            Content::Embot(Box::new(embot), module)
        }
        Target::Migration(id) => Content::Migration(Box::new(crate::cli::migrations::one(client, id).await?)),
    })
}

/// Gives a command.
pub async fn command(client: &Client, command: Command) -> Result<ReplyView, Failure> {
    match command {
        Command::Approve(action) => client.post("/v1/commands/approve", &Settle { action, reason: None }).await,
        Command::Reject(action, reason) => {
            client.post("/v1/commands/reject", &Reject { action, reason: Some(reason), rest: None }).await
        }
        Command::Cancel(action) => client.post("/v1/commands/cancel", &Settle { action, reason: None }).await,
        Command::Maintenance(host, on) => client.post("/v1/commands/maintenance", &Maintenance { host, on }).await,
        Command::Disarm => client.post("/v1/commands/disarm", &Disarm { cancel: false }).await,
        Command::Arm => client.post("/v1/commands/arm", &Nothing {}).await,
    }
}

/// Hears of decisions until the daemon goes away: the latest first, unless `since` says what is known already; then those to
/// come. `hear` is told each.
pub async fn follow(
    client: &Client,
    since: &mut Option<Position>,
    mut hear: impl FnMut(Vec<RecordView>),
) -> Result<(), Failure> {
    if since.is_none() {
        let newest = EventFilter { limit: Some(1), ..EventFilter::default() };
        let newest: Vec<RecordView> = client.find("/v1/events", &newest).await?;
        *since = newest.last().map(|record| record.position);
        for sort in ["plan", "refused", "action", "fault", "notice"] {
            let filter = EventFilter {
                record: Some(sort.to_owned()),
                details: Some(false),
                limit: Some(LATEST),
                ..EventFilter::default()
            };
            hear(client.find("/v1/events", &filter).await?);
        }
    }
    let filter = EventFilter { since: *since, details: Some(false), ..EventFilter::default() };
    let mut following = Following::open(client, &filter).await?;
    while let Some(told) = following.next().await? {
        // The stream says by itself when it ends.
        if let Told::Record(record) = told {
            *since = Some(record.position);
            hear(vec![*record]);
        }
    }
    Ok(())
}
