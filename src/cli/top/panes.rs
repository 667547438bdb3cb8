//! What stands in each pane: its columns, and the rows that are in sight.

use super::grid::{Cell, Column, bar, fixed, load_tone, plain, resample, table};
use super::rows::Abroad;
use super::state::{Pane, State};
use crate::api::actions::ActionView;
use crate::api::elements::{HostView, Sort, VmView};
use crate::api::migrations::{MigrationView, PeerView};
use crate::api::words::bytes;
use crate::cli::elements::host_state;
use crate::cli::events::record_tone;
use crate::cli::screen::{Tone, tone};
use crate::cli::usage::sparkline;
use crate::cli::{migrations, plan};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// So many blocks show the last minutes of a host.
const TREND: u16 = 12;

const HOSTS: &[Column] = &[
    fixed("HOST", 12).up_to(28),
    fixed("STATE", 11),
    fixed("CPU", 12),
    fixed("MEMORY", 12).from(52),
    fixed("LAST MINUTES", TREND).from(66),
    fixed("GUESTS", 6).right().from(72),
    fixed("IN", 3).right().from(80),
    fixed("OUT", 3).right().from(80),
    fixed("SITE OR FAULT", 8).up_to(60).from(90),
];

const GUESTS: &[Column] = &[
    fixed("GUEST", 12).up_to(28),
    fixed("HOST", 8).up_to(20).from(50),
    fixed("STATE", 8),
    fixed("MODE", 7).from(58),
    fixed("CPU", 12),
    fixed("MEMORY", 12).from(64),
    fixed("BUSY WITH", 10).up_to(40).from(76),
    fixed("OWNER", 10).up_to(20).from(92),
];

const ACTIONS: &[Column] = &[
    fixed("ACTION", 6).right(),
    fixed("SINCE", 8).from(60),
    fixed("STATE", 10),
    fixed("PROGRESS", 12).from(52),
    fixed("WHAT", 16).up_to(60),
    fixed("WHY", 12).up_to(200).from(90),
];

const DECISIONS: &[Column] = &[fixed("TIME", 8), fixed("WHAT AND WHY", 20).up_to(u16::MAX)];

const ATTENTION: &[Column] = &[fixed("ABOUT", 8), fixed("WHAT", 20).up_to(u16::MAX)];

const PEERS: &[Column] =
    &[fixed("PLANE OR GUEST", 14).up_to(24), fixed("STATE", 10).up_to(14), fixed("MORE", 20).up_to(u16::MAX)];

/// Draws a pane's table below its title.
pub fn draw(buffer: &mut Buffer, area: Rect, pane: Pane, state: &State) {
    let cursor = state.cursor(pane);
    let room = usize::from(area.height.saturating_sub(1));
    let range = cursor.top..cursor.top + room;
    fn sight<T, R>(rows: Vec<T>, range: &std::ops::Range<usize>, row: impl FnMut(T) -> R) -> Vec<R> {
        rows.into_iter().skip(range.start).take(range.len()).map(row).collect()
    }
    let (columns, rows): (&[Column], Vec<Vec<Cell>>) = match pane {
        Pane::Hosts => {
            let (len, _) = state.len(pane);
            let row = |at: usize| state.hosts.get(at).map_or_else(|| vec![plain("...")], |host| host_row(host, state));
            (HOSTS, range.clone().take_while(|at| *at < len).map(row).collect())
        }
        Pane::Guests => {
            let (len, _) = state.len(pane);
            let row = |at: usize| state.guests.get(at).map_or_else(|| vec![plain("...")], |vm| guest_row(vm, state));
            (GUESTS, range.clone().take_while(|at| *at < len).map(row).collect())
        }
        Pane::Actions => (ACTIONS, sight(state.actions(), &range, |action| action_row(action, state))),
        Pane::Decisions => {
            let row = |record: &crate::api::recent::RecordView| {
                vec![(state.screen.time(record.at), Tone::Faint), (record.text.clone(), record_tone(record))]
            };
            (DECISIONS, sight(state.decisions(), &range, row))
        }
        Pane::Attention => {
            let row = |notice: super::rows::Notice| vec![(notice.word.to_owned(), notice.tone), plain(notice.text)];
            (ATTENTION, sight(state.attention(), &range, row))
        }
        Pane::Peers => {
            let row = |row: Abroad| match row {
                Abroad::Peer(peer) => peer_row(peer),
                Abroad::Handover(one) => handover_row(one),
            };
            (PEERS, sight(state.abroad(), &range, row))
        }
    };
    let selected = (state.focus == pane && !rows.is_empty()).then(|| cursor.at.saturating_sub(cursor.top));
    if rows.is_empty() {
        super::grid::put(buffer, area, empty(pane, state), super::grid::style(Tone::Faint, state.screen.color));
    } else {
        table(buffer, area, columns, &rows, selected, state.screen.color);
    }
}

fn empty(pane: Pane, state: &State) -> &'static str {
    if !state.filter(pane).is_empty() {
        return "nothing matches; Esc ends the filter";
    }
    match pane {
        Pane::Hosts => "no hosts; `hosts` in plane.yaml names them",
        Pane::Guests => "no guests yet",
        Pane::Actions => "nothing is planned or under way, and nothing waits for an answer",
        Pane::Decisions => "nothing was decided yet",
        Pane::Attention => "nothing needs attention",
        Pane::Peers => "no peers; `link` and `peers` in plane.yaml name them",
    }
}

/// The order of a pane's rows, in words.
pub fn order(pane: Pane, state: &State) -> Option<&'static str> {
    let sort = match pane {
        Pane::Hosts => state.host_sort,
        Pane::Guests => state.guest_sort,
        _ => return None,
    };
    Some(match sort {
        Sort::Name => "by name",
        Sort::State => "by state",
        Sort::Cpu => "by cpu",
        Sort::Memory => "by memory",
        Sort::Host => "by host",
        Sort::Guests => "by guests",
    })
}

/// Room for the blocks of a bar; its figures take six more.
const BAR: usize = 6;

fn load(share: f64) -> Cell {
    (bar(share, BAR), load_tone(share))
}

fn count(count: usize) -> Cell {
    if count == 0 { ("-".to_owned(), Tone::Faint) } else { plain(count.to_string()) }
}

fn host_row(host: &HostView, state: &State) -> Vec<Cell> {
    let word = host_state(host).to_owned();
    let moves = || state.plan.open.iter().filter(|action| matches!(action.verb.as_str(), "migrate" | "handover"));
    let name = Some(host.name.as_str());
    let incoming = moves().filter(|action| action.destination.as_deref() == name).count();
    let outgoing = moves().filter(|action| action.host.as_deref() == name).count();
    let trend = state
        .trends
        .get(&host.name)
        .map(|values| sparkline("cpu", &resample(values, usize::from(TREND)), usize::from(TREND)))
        .unwrap_or_default();
    let more = host.link_reason.clone().unwrap_or_else(|| host.site.clone());
    let known = host.link == "up";
    vec![
        plain(host.name.clone()),
        (word.clone(), tone(&word)),
        if known { load(host.cpu) } else { load(f64::NAN) },
        if known { load(host.memory) } else { load(f64::NAN) },
        plain(trend),
        plain(host.guests.to_string()),
        count(incoming),
        count(outgoing),
        (more, Tone::Faint),
    ]
}

fn guest_row(vm: &VmView, state: &State) -> Vec<Cell> {
    let active = matches!(vm.state.as_str(), "running" | "paused");
    let share = |share: Option<f64>| if active { load(share.unwrap_or(f64::NAN)) } else { load(f64::NAN) };
    let busy = match vm.action {
        None => String::new(),
        Some(id) => match state.action(id) {
            Some(action) => format!("{id} {} {}", action.verb, plan::state(action)),
            None => format!("action {id}"),
        },
    };
    let owner = match (&vm.owner, vm.epoch) {
        (Some(owner), Some(epoch)) => plain(format!("{owner}, epoch {epoch}")),
        _ => ("nobody".to_owned(), Tone::Faint),
    };
    vec![
        plain(vm.name.clone()),
        plain(vm.host.clone()),
        (vm.state.clone(), tone(&vm.state)),
        (vm.mode.clone(), tone(&vm.mode)),
        share(vm.cpu),
        share(vm.memory),
        plain(busy),
        owner,
    ]
}

fn action_row(action: &ActionView, state: &State) -> Vec<Cell> {
    let word = if action.cancelling.is_some() { "cancelling" } else { &action.state };
    let progress = match action.progress.filter(|progress| progress.total_bytes > 0) {
        Some(progress) => (bar(progress.done_bytes as f64 / progress.total_bytes as f64, BAR), Tone::Good),
        None => plain(""),
    };
    vec![
        plain(action.id.to_string()),
        (state.screen.time(action.state_at), Tone::Faint),
        (word.to_owned(), tone(word)),
        progress,
        plain(action.what.clone()),
        (format!("{} ({})", action.reason, action.by), Tone::Faint),
    ]
}

fn peer_row(peer: &PeerView) -> Vec<Cell> {
    let word = if peer.reachable { "up" } else { "down" };
    let gives = peer.summary.as_ref().filter(|_| peer.reachable).map(|summary| {
        let free = bytes(summary.free_memory_mib << 20);
        format!("{} hosts, {} guests, {free} and {} vcpus free", summary.hosts, summary.vms, summary.free_vcpus)
    });
    vec![
        (peer.name.clone(), Tone::Strong),
        (word.to_owned(), tone(word)),
        plain(gives.or_else(|| peer.problem.clone()).unwrap_or_default()),
    ]
}

fn handover_row(one: &MigrationView) -> Vec<Cell> {
    let word = migrations::state(one);
    let meaning = match one.state.as_str() {
        "moved" => Tone::Good,
        "undecided" => Tone::Bad,
        "stayed" => Tone::Faint,
        _ => Tone::Plain,
    };
    let way = format!("{} -> {}", one.from, one.to);
    let more = match &one.reason {
        Some(reason) => format!("{way}: {reason}"),
        None if one.state == "underway" && one.total_bytes > 0 => {
            format!("{way} {}, {} events held", bar(one.sent_bytes as f64 / one.total_bytes as f64, BAR), one.held)
        }
        None => way,
    };
    vec![plain(format!("  {}", one.name)), (word, meaning), plain(more)]
}
