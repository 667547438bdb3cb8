//! What follows from what comes in: a pure function of the state and the input, in three steps.
//!
//! ```text
//! keys, size, time  ->                                        -> look at the daemon
//! pictures, records ->  update: state changes, selections     -> commands to it
//! answers           ->  settle, the next look is decided on   -> suspend, quit
//! ```
//! At most one look is under way. The next follows after the interval, or at once where the reader has gone to rows that
//! were not fetched yet.

use super::keys;
use super::layout::Layout;
use super::state::{Command, Pane, Picture, Said, State, Want};
use crate::api::recent::RecordView;
use crossterm::event::KeyEvent;
use std::time::Duration;

/// What comes in.
#[derive(Debug, Clone)]
pub enum Input {
    /// A key.
    Key(KeyEvent),
    /// The screen has so many columns and lines now.
    Resize(u16, u16),
    /// So much time has passed since the start, and it is time to look again.
    Tick(Duration),
    /// The daemon's answer to a look.
    Picture(Box<Picture>),
    /// There was none, and why.
    NoPicture(String),
    /// Records of the live stream.
    Records(Vec<RecordView>),
    /// The daemon's answer to a command: what was done, or why not.
    Said(Result<String, String>),
    /// The terminal or the system asks for an end.
    End,
}

/// What is to be done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Look at the daemon; [`Input::Picture`] or [`Input::NoPicture`] follows.
    Fetch(Want),
    /// Give a command; [`Input::Said`] follows.
    Command(Command),
    /// Stop, as shells know it, until the shell wants us back.
    Suspend,
    /// End.
    Quit,
}

/// Takes an input in.
pub fn update(state: &mut State, input: Input) -> Vec<Effect> {
    let mut effects = Vec::new();
    match input {
        Input::Key(key) => {
            state.said = None;
            effects.extend(keys::pressed(state, key));
        }
        Input::Resize(width, height) => state.size = (width, height),
        Input::Tick(now) => {
            state.now = now;
            state.due = true;
        }
        Input::Picture(picture) => take(state, *picture),
        Input::NoPicture(why) => {
            state.fetching = false;
            state.trouble = Some(why);
        }
        Input::Records(records) => state.keep(records),
        Input::Said(answer) => {
            let (text, bad) = match answer {
                Ok(text) => (text, false),
                Err(text) => (text, true),
            };
            state.said = Some(Said { text, bad });
            state.due = true;
        }
        Input::End => effects.push(Effect::Quit),
    }
    settle(state);
    effects.extend(look(state));
    effects
}

fn take(state: &mut State, picture: Picture) {
    let (before, now) = (&state.status, &picture.status);
    let seconds = now.now.0.since(before.now.0).as_seconds();
    // After a restart of the daemon, its figures begin anew.
    let events = now.figures.so_far.events.checked_sub(before.figures.so_far.events);
    if seconds > 0.0 {
        state.events_per_s = events.map(|events| events as f64 / seconds);
    }
    state.fetching = false;
    state.trouble = None;
    state.heard_at = state.now;
    state.status = picture.status;
    state.plan = picture.plan;
    // What was asked for before the reader changed the order or the filter is of no use now.
    let want = state.want();
    let same = |asked: &crate::api::elements::ElementFilter, wanted: &Option<crate::api::elements::ElementFilter>| {
        wanted.as_ref().is_some_and(|wanted| asked.sort == wanted.sort && asked.name == wanted.name)
    };
    if let Some(hosts) = picture.hosts.filter(|window| same(&window.filter, &want.hosts)) {
        state.hosts = hosts;
    }
    if let Some(guests) = picture.guests.filter(|window| same(&window.filter, &want.guests)) {
        state.guests = guests;
    }
    if let Some(suspended) = picture.suspended {
        state.suspended = suspended;
    }
    if let Some(migrations) = picture.migrations {
        state.migrations = migrations;
    }
    state.peers = picture.peers.or(state.peers.take());
    if !picture.trends.is_empty() {
        state.trends_at = Some(state.now);
        state.trends.extend(picture.trends);
    }
    if let Some((target, content)) = picture.page
        && let Some(page) = state.pages.iter_mut().rev().find(|page| page.target == target)
    {
        page.content = Some(content);
    }
    state.complaint = picture.complaint;
}

/// Selections find their places in lists that may have changed.
fn settle(state: &mut State) {
    let layout = state.layout();
    for pane in Pane::ALL {
        let Some(room) = layout.room(pane) else { continue };
        let (len, _) = state.len(pane);
        let (first, keys) = state.keys(pane);
        state.cursors[pane as usize].settle(len, room, first, &keys);
    }
    let Layout { body, .. } = layout;
    if let Some(page) = state.pages.last_mut() {
        let len = page.lines(&state.screen, body.width).len();
        page.cursor.settle(len, usize::from(body.height.saturating_sub(1)), 0, &[]);
    }
}

/// The next look, where it is time for it.
fn look(state: &mut State) -> Option<Effect> {
    if state.fetching {
        return None;
    }
    let want = state.want();
    let hurry = state.trouble.is_none() && want != state.asked && state.lacks(&want);
    (state.due || hurry).then(|| {
        state.due = false;
        state.fetching = true;
        state.asked = want.clone();
        Effect::Fetch(want)
    })
}
