//! The rows of each pane: how many there are, what they are called, and what opens from them.

use super::state::{Pane, State, Target, Window};
use crate::api::actions::ActionView;
use crate::api::elements::{HostView, VmView};
use crate::api::migrations::{MigrationView, PeerView};
use crate::api::recent::RecordView;
use crate::cli::migrations;
use crate::cli::screen::Tone;

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// In one word.
    pub word: &'static str,
    /// How bad it is.
    pub tone: Tone,
    /// What.
    pub text: String,
    /// What opens from it.
    pub target: Option<Target>,
}

/// A row about other planes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Abroad<'a> {
    /// Another plane.
    Peer(&'a PeerView),
    /// A guest that goes there or comes from there.
    Handover(&'a MigrationView),
}

/// So many migrations are listed, the latest.
const MIGRATIONS: usize = 100;

impl State {
    /// Is the text one that a pane's filter lets through?
    fn passes(&self, pane: Pane, texts: &[&str]) -> bool {
        let filter = self.filter(pane).trim();
        filter.is_empty() || texts.iter().any(|text| text.contains(filter))
    }

    /// Actions: what waits for an admin, then what is under way, then what is planned.
    pub fn actions(&self) -> Vec<&ActionView> {
        let started = |action: &&ActionView| action.state == "started";
        let open = &self.plan.open;
        let all = self.plan.advised.iter().chain(open.iter().filter(started)).chain(open.iter().filter(|one| !started(one)));
        all.filter(|one| self.passes(Pane::Actions, &[&one.what, &one.by, &one.reason, &one.state])).collect()
    }

    /// Decisions and what came of them, the newest first.
    pub fn decisions(&self) -> Vec<&RecordView> {
        self.records.values().rev().filter(|record| self.passes(Pane::Decisions, &[&record.text])).collect()
    }

    /// What somebody should look at.
    pub fn attention(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        for down in &self.status.hosts_down {
            let reason = down.reason.as_deref().unwrap_or("not heard of yet");
            notices.push(Notice {
                word: "host",
                tone: Tone::Bad,
                text: format!("{} does not answer: {reason}", down.host),
                target: Some(Target::Host(down.host.clone())),
            });
        }
        for guest in &self.status.guests_crashed {
            notices.push(Notice {
                word: "guest",
                tone: Tone::Bad,
                text: format!("{} on {} is down: {}", guest.name, guest.host, guest.reason),
                target: Some(Target::Guest(guest.vm.clone())),
            });
        }
        for module in &self.status.modules_unchecked {
            let stays = if module.in_force { "the version before stays in force" } else { "nothing of it is in force" };
            let text = format!("{} does not check, {stays}: `embot check` says why", module.file);
            notices.push(Notice { word: "module", tone: Tone::Warning, text, target: None });
        }
        for broken in &self.status.violations {
            let (hard, tone) = if broken.hard { ("hard", Tone::Bad) } else { ("soft", Tone::Warning) };
            let text = format!("{} ({hard}, {}) is broken by {}", broken.rule, broken.kind, broken.guests.join(", "));
            notices.push(Notice { word: "rule", tone, text, target: None });
        }
        for embot in &self.status.embots_suspended {
            let known = self.suspended.iter().find(|one| one.embot == *embot);
            let (name, why) = match known {
                Some(one) => (format!("{} at {}", one.module, one.name), one.suspended.as_deref().unwrap_or_default()),
                None => (embot.clone(), ""),
            };
            notices.push(Notice {
                word: "embot",
                tone: Tone::Bad,
                text: format!("{name} is suspended: {why}").trim_end_matches([' ', ':']).to_owned(),
                target: Some(Target::Embot(embot.clone())),
            });
        }
        for one in self.migrations.iter().filter(|one| matches!(one.state.as_str(), "underway" | "undecided")) {
            let target = Some(Target::Migration(one.id.clone()));
            let (name, from, to) = (&one.name, &one.from, &one.to);
            if let Some(reason) = one.reason.as_deref().filter(|_| one.state == "undecided") {
                let text = format!("{name}, {from} -> {to}, cannot be decided: {reason}");
                notices.push(Notice { word: "handover", tone: Tone::Bad, text, target });
            } else if one.held > 0 {
                let facts = crate::error::count(one.held, "event");
                let text = format!("the embots of {name} are held while it goes {from} -> {to}: {facts} waiting");
                notices.push(Notice { word: "held", tone: Tone::Warning, text, target });
            }
        }
        for record in self.records.values().rev().filter(|record| record.level.as_deref() == Some("alarm")) {
            let text = format!("{} {}", self.screen.time(record.at), record.text.trim_start_matches("alarm: "));
            notices.push(Notice { word: "alarm", tone: Tone::Bad, text, target: record_target(record) });
        }
        notices.retain(|notice| self.passes(Pane::Attention, &[notice.word, &notice.text]));
        notices
    }

    /// Other planes, then guests that go there and come from there, the latest first.
    pub fn abroad(&self) -> Vec<Abroad<'_>> {
        let peers = self.peers.iter().flat_map(|view| &view.peers).map(Abroad::Peer);
        let handovers = self.migrations.iter().rev().take(MIGRATIONS).map(Abroad::Handover);
        let passes = |row: &Abroad| match row {
            Abroad::Peer(peer) => self.passes(Pane::Peers, &[&peer.name]),
            Abroad::Handover(one) => self.passes(Pane::Peers, &[&one.name, &one.from, &one.to, &migrations::state(one)]),
        };
        peers.chain(handovers).filter(passes).collect()
    }

    /// How many rows a pane has, and whether there may be more. Long lists come in parts, and their length is known once they
    /// are not filtered, or their end was seen.
    pub fn len(&self, pane: Pane) -> (usize, bool) {
        fn part<T>(window: &Window<T>, all: usize, filtered: bool) -> (usize, bool) {
            match window.is_last() && !window.rows.is_empty() {
                true => (window.first() + window.rows.len(), false),
                false if filtered => (window.first() + window.rows.len(), !window.rows.is_empty()),
                false => (all, false),
            }
        }
        match pane {
            Pane::Hosts => part(&self.hosts, self.status.hosts, !self.filter(pane).is_empty()),
            Pane::Guests => part(&self.guests, self.status.guests.values().sum(), !self.filter(pane).is_empty()),
            Pane::Actions => (self.actions().len(), false),
            Pane::Decisions => (self.decisions().len(), false),
            Pane::Attention => (self.attention().len(), false),
            Pane::Peers => (self.abroad().len(), false),
        }
    }

    /// The names of a pane's rows, and the place of the first of them.
    pub fn keys(&self, pane: Pane) -> (usize, Vec<String>) {
        match pane {
            Pane::Hosts => (self.hosts.first(), self.hosts.rows.iter().map(|host| host.name.clone()).collect()),
            Pane::Guests => (self.guests.first(), self.guests.rows.iter().map(|vm| vm.id.clone()).collect()),
            Pane::Actions => (0, self.actions().iter().map(|action| action.id.to_string()).collect()),
            Pane::Decisions => (0, self.decisions().iter().map(|record| record.position.to_string()).collect()),
            Pane::Attention => (0, self.attention().into_iter().map(|notice| notice.text).collect()),
            Pane::Peers => {
                let key = |row: &Abroad| match row {
                    Abroad::Peer(peer) => peer.name.clone(),
                    Abroad::Handover(one) => one.id.clone(),
                };
                (0, self.abroad().iter().map(key).collect())
            }
        }
    }

    /// The host selected.
    pub fn selected_host(&self) -> Option<&HostView> {
        self.hosts.get(self.cursor(Pane::Hosts).at)
    }

    /// The guest selected.
    pub fn selected_guest(&self) -> Option<&VmView> {
        self.guests.get(self.cursor(Pane::Guests).at)
    }

    /// What is selected in the pane that is used.
    pub fn selected(&self) -> Option<Target> {
        let at = self.cursor(self.focus).at;
        match self.focus {
            Pane::Hosts => self.selected_host().map(|host| Target::Host(host.name.clone())),
            Pane::Guests => self.selected_guest().map(|vm| Target::Guest(vm.id.clone())),
            Pane::Actions => self.actions().get(at).map(|action| Target::Action(action.id)),
            Pane::Decisions => self.decisions().get(at).copied().and_then(record_target),
            Pane::Attention => self.attention().into_iter().nth(at).and_then(|notice| notice.target),
            Pane::Peers => match self.abroad().get(at)? {
                Abroad::Peer(_) => None,
                Abroad::Handover(one) => Some(Target::Migration(one.id.clone())),
            },
        }
    }
}

/// What opens from a record: why it was decided, or whom it is about.
fn record_target(record: &RecordView) -> Option<Target> {
    let element = record.element.as_deref();
    let about = || match element?.split_once(':')? {
        ("host", name) => Some(Target::Host(name.to_owned())),
        ("vm", id) => Some(Target::Guest(id.to_owned())),
        _ => None,
    };
    match (record.action, record.refusal, record.module.as_deref()) {
        (Some(action), ..) => Some(Target::Action(action)),
        (None, Some(refusal), _) => Some(Target::Refusal(refusal)),
        (None, None, Some(module)) if record.record == "fault" => Some(Target::Embot(format!("{module}@{}", element?))),
        (None, None, _) => about(),
    }
}
