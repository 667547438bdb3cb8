//! All that `embot top` knows: what was fetched, where its reader is, and what was asked of them.

use super::cursor::Cursor;
use super::layout::Layout;
use super::page::Page;
use crate::api::actions::{ActionView, PlanView};
use crate::api::elements::{ElementFilter, HostView, Sort, VmView};
use crate::api::embots::EmbotView;
use crate::api::migrations::{MigrationView, PeersView};
use crate::api::recent::{Position, RecordView};
use crate::api::status::StatusView;
use crate::cli::screen::Screen;
use crate::model::Kind;
use std::collections::BTreeMap;
use std::time::Duration;

/// So many of the latest decisions are kept.
const RECORDS: usize = 1_000;

/// Trends of hosts are asked for again after so long.
const TREND: Duration = Duration::from_secs(5);

/// A list on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pane {
    /// Hosts.
    Hosts,
    /// Guests.
    Guests,
    /// What is advised, planned and under way.
    Actions,
    /// What was decided and what came of it, the newest first.
    Decisions,
    /// What somebody should look at.
    Attention,
    /// Other planes, and guests that go there and come from there.
    Peers,
}

impl Pane {
    /// All, in the order of Tab.
    pub const ALL: [Pane; 6] = [Pane::Hosts, Pane::Guests, Pane::Actions, Pane::Decisions, Pane::Attention, Pane::Peers];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Pane::Hosts => "Hosts",
            Pane::Guests => "Guests",
            Pane::Actions => "Actions",
            Pane::Decisions => "Decisions",
            Pane::Attention => "Attention",
            Pane::Peers => "Peers",
        }
    }
}

/// Something to look at closely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A host, by name.
    Host(String),
    /// A guest, by UUID.
    Guest(String),
    /// An action.
    Action(u64),
    /// A refusal.
    Refusal(u64),
    /// An embot: `MODULE@ELEMENT`.
    Embot(String),
    /// A migration between planes.
    Migration(String),
}

/// A command to the plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Carry out an advised action.
    Approve(u64),
    /// Turn an advised action down, and why.
    Reject(u64, String),
    /// End an action.
    Cancel(u64),
    /// Put a host in maintenance, or back.
    Maintenance(String, bool),
    /// Start nothing new.
    Disarm,
    /// Act again.
    Arm,
}

/// What the reader is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Whether a command is really meant.
    Confirm {
        /// The question.
        question: String,
        /// The command.
        command: Command,
    },
    /// Why an advised action is turned down.
    Reason {
        /// Which.
        action: u64,
        /// What was typed so far.
        text: String,
    },
    /// What the rows of the pane that is used must contain. It is in force while it is typed.
    Filter,
}

/// Part of a long list, as the daemon sorted it.
#[derive(Debug, Clone, PartialEq)]
pub struct Window<T> {
    /// What was asked.
    pub filter: ElementFilter,
    /// The rows, from `filter.skip` on.
    pub rows: Vec<T>,
}

impl<T> Default for Window<T> {
    fn default() -> Window<T> {
        Window { filter: ElementFilter::default(), rows: Vec::new() }
    }
}

impl<T> Window<T> {
    /// The place of the first row.
    pub fn first(&self) -> usize {
        self.filter.skip.unwrap_or(0) as usize
    }

    /// The row at a place of the whole list, where it is known.
    pub fn get(&self, at: usize) -> Option<&T> {
        self.rows.get(at.checked_sub(self.first())?)
    }

    /// Is this the end of the list?
    pub fn is_last(&self) -> bool {
        self.filter.limit.is_none_or(|limit| self.rows.len() < limit as usize)
    }

    /// Are these rows of such a list known?
    fn covers(&self, wanted: &ElementFilter, from: usize, to: usize) -> bool {
        let same = self.filter.sort == wanted.sort && self.filter.name == wanted.name && self.filter.kind == wanted.kind;
        same && self.first() <= from && (to <= self.first() + self.rows.len() || self.is_last())
    }
}

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Want {
    /// Hosts in sight, and a screenful around them.
    pub hosts: Option<ElementFilter>,
    /// The same of guests.
    pub guests: Option<ElementFilter>,
    /// What somebody should look at.
    pub attention: bool,
    /// Other planes.
    pub peers: bool,
    /// Hosts whose last minutes are wanted.
    pub trends: Vec<String>,
    /// What the page shows.
    pub page: Option<Target>,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// The plane at a glance.
    pub status: StatusView,
    /// What is open, what waits for an admin, what was refused.
    pub plan: PlanView,
    /// Hosts, where they were wanted.
    pub hosts: Option<Window<HostView>>,
    /// Guests, where they were wanted.
    pub guests: Option<Window<VmView>>,
    /// Suspended embots, where they were wanted.
    pub suspended: Option<Vec<EmbotView>>,
    /// Guests that go to other planes and come from them, the latest last.
    pub migrations: Option<Vec<MigrationView>>,
    /// Other planes, where they were wanted.
    pub peers: Option<PeersView>,
    /// CPU use of hosts in the last minutes, the oldest first.
    pub trends: BTreeMap<String, Vec<f64>>,
    /// What the page shows, or why there is nothing to show.
    pub page: Option<(Target, Result<super::page::Content, String>)>,
    /// What could not be fetched, and why.
    pub complaint: Option<String>,
}

/// What `embot top` says to its reader in the last line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The words.
    pub text: String,
    /// Is it bad news?
    pub bad: bool,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct State {
    /// Colours and time zone.
    pub screen: Screen,
    /// Columns and lines.
    pub size: (u16, u16),
    /// The pane that is used.
    pub focus: Pane,
    /// Where the reader is in each pane.
    pub cursors: [Cursor; 6],
    /// What rows must contain, for each pane.
    pub filters: [String; 6],
    /// The order of hosts.
    pub host_sort: Sort,
    /// The order of guests.
    pub guest_sort: Sort,
    /// Pages opened, the one in sight last.
    pub pages: Vec<Page>,
    /// What the reader is asked for.
    pub prompt: Option<Prompt>,
    /// Are the keys explained?
    pub help: bool,
    /// The latest answer.
    pub said: Option<Said>,
    /// What the latest look could not fetch, and why.
    pub complaint: Option<String>,
    /// The plane at a glance.
    pub status: StatusView,
    /// Events a second, between the latest two looks.
    pub events_per_s: Option<f64>,
    /// What is open, what waits for an admin, what was refused.
    pub plan: PlanView,
    /// Hosts.
    pub hosts: Window<HostView>,
    /// Guests.
    pub guests: Window<VmView>,
    /// Suspended embots.
    pub suspended: Vec<EmbotView>,
    /// Migrations between planes.
    pub migrations: Vec<MigrationView>,
    /// Other planes.
    pub peers: Option<PeersView>,
    /// Decisions and what came of them, by their place in the journal.
    pub records: BTreeMap<Position, RecordView>,
    /// CPU use of hosts in the last minutes.
    pub trends: BTreeMap<String, Vec<f64>>,
    /// When trends were last asked for.
    pub trends_at: Option<Duration>,
    /// The time, from the start.
    pub now: Duration,
    /// When the daemon last answered.
    pub heard_at: Duration,
    /// Why it does not answer now.
    pub trouble: Option<String>,
    /// Is a look under way?
    pub fetching: bool,
    /// Is it time for the next?
    pub due: bool,
    /// What was last asked for.
    pub asked: Want,
}

impl State {
    /// At the start.
    pub fn new(screen: Screen, size: (u16, u16), status: StatusView) -> State {
        State {
            screen,
            size,
            focus: Pane::Hosts,
            cursors: Default::default(),
            filters: Default::default(),
            host_sort: Sort::Name,
            guest_sort: Sort::Name,
            pages: Vec::new(),
            prompt: None,
            help: false,
            said: None,
            complaint: None,
            plan: PlanView {
                armed: status.armed,
                open: Vec::new(),
                advised: Vec::new(),
                refused: Vec::new(),
                violations: Vec::new(),
            },
            status,
            events_per_s: None,
            hosts: Window::default(),
            guests: Window::default(),
            suspended: Vec::new(),
            migrations: Vec::new(),
            peers: None,
            records: BTreeMap::new(),
            trends: BTreeMap::new(),
            trends_at: None,
            now: Duration::ZERO,
            heard_at: Duration::ZERO,
            trouble: None,
            fetching: false,
            due: true,
            asked: Want::default(),
        }
    }

    /// Where everything is.
    pub fn layout(&self) -> Layout {
        Layout::new(self.size, self.focus)
    }

    /// Where the reader is in a pane.
    pub fn cursor(&self, pane: Pane) -> &Cursor {
        &self.cursors[pane as usize]
    }

    /// What a pane's rows must contain.
    pub fn filter(&self, pane: Pane) -> &str {
        &self.filters[pane as usize]
    }

    /// Keeps records, the latest of them.
    pub fn keep(&mut self, records: Vec<RecordView>) {
        let of_interest = |record: &RecordView| !record.detail && !matches!(record.record.as_str(), "event" | "log");
        self.records.extend(records.into_iter().filter(of_interest).map(|record| (record.position, record)));
        while self.records.len() > RECORDS {
            self.records.pop_first();
        }
    }

    /// An action that is not over.
    pub fn action(&self, id: u64) -> Option<&ActionView> {
        self.plan.advised.iter().chain(&self.plan.open).find(|action| action.id == id)
    }

    /// What the screen needs now.
    pub fn want(&self) -> Want {
        let layout = self.layout();
        let part = |pane: Pane, kind: Kind, sort: Sort| {
            // What a page covers is not in sight.
            let room = layout.room(pane).filter(|_| self.pages.is_empty())?.max(1);
            let skip = self.cursor(pane).top.saturating_sub(room);
            let (skip, limit) = (u32::try_from(skip).ok(), u32::try_from(3 * room).ok());
            Some(ElementFilter { kind: Some(kind), name: pattern(self.filter(pane)), sort: Some(sort), skip, limit })
        };
        let shown = |pane: Pane| layout.room(pane).is_some();
        let old = self.trends_at.is_none_or(|at| self.now.saturating_sub(at) >= TREND);
        let first = self.cursor(Pane::Hosts).top;
        let in_sight = (first..first + layout.room(Pane::Hosts).unwrap_or(0)).filter_map(|at| self.hosts.get(at));
        let trends = in_sight.filter(|host| old || !self.trends.contains_key(&host.name)).map(|host| host.name.clone());
        Want {
            hosts: part(Pane::Hosts, Kind::Host, self.host_sort),
            guests: part(Pane::Guests, Kind::Vm, self.guest_sort),
            attention: shown(Pane::Attention),
            peers: shown(Pane::Peers),
            trends: trends.collect(),
            page: self.pages.last().map(|page| page.target.clone()),
        }
    }

    /// Is something in sight that was never fetched, so that it should not wait for the next look?
    pub fn lacks(&self, want: &Want) -> bool {
        let layout = self.layout();
        let range = |pane: Pane| {
            let top = self.cursor(pane).top;
            (top, top + layout.room(pane).unwrap_or(0))
        };
        let (hosts, guests) = (range(Pane::Hosts), range(Pane::Guests));
        want.hosts.as_ref().is_some_and(|wanted| !self.hosts.covers(wanted, hosts.0, hosts.1))
            || want.guests.as_ref().is_some_and(|wanted| !self.guests.covers(wanted, guests.0, guests.1))
            || want.trends.iter().any(|host| !self.trends.contains_key(host))
            || (want.peers && self.peers.is_none())
            || self.pages.last().is_some_and(|page| page.content.is_none())
    }
}

/// The pattern of names for what was typed: a part of the name, or a pattern already.
fn pattern(text: &str) -> Option<String> {
    match text.trim() {
        "" => None,
        text if text.contains(['*', '?', '[', '{']) => Some(text.to_owned()),
        text => Some(format!("*{text}*")),
    }
}
