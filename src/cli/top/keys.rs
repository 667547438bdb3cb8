//! What keys do.

use super::page::{Content, Page};
use super::state::{Command, Pane, Prompt, Said, State, Target};
use super::update::Effect;
use crate::api::elements::{ElementView, HostView, Sort};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The keys and what they do, for `?` and `--help`.
pub const KEYS: &[(&str, &str)] = &[
    ("arrows, j k", "select a row; PgUp PgDn Home End go further"),
    ("Tab, 1-6", "go to another pane"),
    ("Enter", "open it: a host, a guest, an embot, why something was decided"),
    ("Esc", "back; also ends a filter"),
    ("a", "approve the advised action that is selected"),
    ("r", "reject it; asks why"),
    ("c", "cancel the selected action, or the guest's; asks first"),
    ("m", "put the host in maintenance, or back in service; asks first"),
    ("d", "disarm the plane, or arm it again; asks first"),
    ("s", "sort hosts or guests by the next column"),
    ("/", "show only rows that contain a text"),
    ("?", "these keys"),
    ("q, Ctrl-C", "quit; Ctrl-Z suspends"),
];

/// Takes a key.
pub fn pressed(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        match key.code {
            KeyCode::Char('c') => return vec![Effect::Quit],
            KeyCode::Char('z') => return vec![Effect::Suspend],
            _ => {}
        }
    }
    // Terminals send Alt as Esc before the key: which of the two was meant, nobody knows.
    if key.modifiers.contains(KeyModifiers::ALT) {
        return Vec::new();
    }
    if state.help {
        state.help = false;
        return Vec::new();
    }
    match state.prompt.take() {
        Some(prompt) => asked(state, prompt, key),
        None => commanded(state, key),
    }
}

/// A key while a question is open.
fn asked(state: &mut State, prompt: Prompt, key: KeyEvent) -> Vec<Effect> {
    match prompt {
        Prompt::Confirm { command, .. } => {
            if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                return vec![Effect::Command(command)];
            }
            tell(state, "nothing was done");
        }
        Prompt::Reason { action, mut text } => match key.code {
            KeyCode::Esc => tell(state, "nothing was done"),
            KeyCode::Enter => return vec![Effect::Command(Command::Reject(action, text.trim().to_owned()))],
            _ => {
                edit(&mut text, key);
                state.prompt = Some(Prompt::Reason { action, text });
            }
        },
        Prompt::Filter => {
            let filter = &mut state.filters[state.focus as usize];
            match key.code {
                KeyCode::Enter => {}
                KeyCode::Esc => filter.clear(),
                _ => {
                    edit(filter, key);
                    state.prompt = Some(Prompt::Filter);
                }
            }
            state.cursors[state.focus as usize].go(0);
        }
    }
    Vec::new()
}

fn edit(text: &mut String, key: KeyEvent) {
    match key.code {
        KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => text.clear(),
        KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::CONTROL) => text.push(c),
        KeyCode::Backspace => drop(text.pop()),
        _ => {}
    }
}

/// A key while no question is open.
fn commanded(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    match key.code {
        KeyCode::Char('q') => return vec![Effect::Quit],
        KeyCode::Char('?') => state.help = true,
        KeyCode::Char('a') => return approve(state),
        KeyCode::Char('r') => reject(state),
        KeyCode::Char('c') => cancel(state),
        KeyCode::Char('m') => maintenance(state),
        KeyCode::Char('d') => disarm(state),
        KeyCode::Char('s') => sort(state),
        KeyCode::Char('/') if state.pages.is_empty() => state.prompt = Some(Prompt::Filter),
        KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => open(state),
        KeyCode::Esc | KeyCode::Backspace | KeyCode::Left | KeyCode::Char('h') => back(state, key.code),
        KeyCode::Tab => focus(state, 1),
        KeyCode::BackTab => focus(state, Pane::ALL.len() - 1),
        KeyCode::Char(digit @ '1'..='6') => {
            let wanted = digit as usize - '1' as usize;
            focus(state, (wanted + Pane::ALL.len() - state.focus as usize) % Pane::ALL.len());
        }
        _ => travel(state, key.code),
    }
    Vec::new()
}

fn tell(state: &mut State, text: &str) {
    state.said = Some(Said { text: text.to_owned(), bad: false });
}

/// To another pane; pages close.
fn focus(state: &mut State, on: usize) {
    state.pages.clear();
    state.focus = Pane::ALL[(state.focus as usize + on) % Pane::ALL.len()];
}

fn travel(state: &mut State, key: KeyCode) {
    let layout = state.layout();
    let body = usize::from(layout.body.height.saturating_sub(1));
    let page = match state.pages.is_empty() {
        true => layout.room(state.focus).unwrap_or(1),
        false => body,
    };
    let page = isize::try_from(page.max(2) - 1).unwrap_or(isize::MAX);
    let rows = match key {
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -page,
        KeyCode::PageDown | KeyCode::Char(' ') => page,
        KeyCode::Home | KeyCode::Char('g') => isize::MIN,
        KeyCode::End | KeyCode::Char('G') => isize::MAX,
        _ => return,
    };
    let width = layout.body.width;
    match state.pages.last_mut() {
        Some(page) if rows.abs() == 1 => {
            let (at, top) = (page.cursor.at, page.cursor.top);
            let lines = page.lines(&state.screen, width);
            let opens = |at: &usize| lines.get(*at).is_some_and(|line| line.target.is_some());
            // To the next line that opens, where it is in sight; else the text moves by a line.
            let next = match rows {
                1 => (at + 1..top + body).find(opens).unwrap_or(top + body),
                _ => (top..at).rev().find(opens).unwrap_or(top.saturating_sub(1)),
            };
            page.cursor.go(next);
        }
        Some(page) => page.cursor.step(rows),
        None => state.cursors[state.focus as usize].step(rows),
    }
}

/// What is selected: on the page, else in the pane.
fn selected(state: &State) -> Option<Target> {
    let Some(page) = state.pages.last() else { return state.selected() };
    page.lines(&state.screen, state.layout().body.width).into_iter().nth(page.cursor.at).and_then(|line| line.target)
}

fn open(state: &mut State) {
    match selected(state) {
        Some(target) => state.pages.push(Page::new(target)),
        None if state.pages.is_empty() => tell(state, "there is nothing more to it"),
        None => travel(state, KeyCode::Down),
    }
}

fn back(state: &mut State, key: KeyCode) {
    if state.pages.pop().is_none() && key == KeyCode::Esc {
        state.filters[state.focus as usize].clear();
    }
}

/// The action that is meant: the one selected, the one the page is about, or the one under way on the guest selected.
fn action(state: &mut State) -> Option<u64> {
    let of_page = state.pages.last().map(|page| page.target.clone());
    let guest = match (&of_page, state.focus) {
        (None, Pane::Guests) => state.selected_guest().and_then(|vm| vm.action),
        _ => None,
    };
    let found = [selected(state), of_page].into_iter().flatten().find_map(|target| match target {
        Target::Action(id) => Some(id),
        _ => None,
    });
    let found = found.or(guest);
    if found.is_none() {
        tell(state, "select an action first");
    }
    found
}

fn approve(state: &mut State) -> Vec<Effect> {
    action(state).map(|id| Effect::Command(Command::Approve(id))).into_iter().collect()
}

fn reject(state: &mut State) {
    if let Some(action) = action(state) {
        state.prompt = Some(Prompt::Reason { action, text: String::new() });
    }
}

fn cancel(state: &mut State) {
    if let Some(id) = action(state) {
        let what = state.action(id).map(|action| format!(", {}", action.what)).unwrap_or_default();
        confirm(state, format!("Cancel action {id}{what}?"), Command::Cancel(id));
    }
}

fn confirm(state: &mut State, question: String, command: Command) {
    state.prompt = Some(Prompt::Confirm { question, command });
}

fn maintenance(state: &mut State) {
    let host: Option<&HostView> = match state.pages.last() {
        None if state.focus == Pane::Hosts => state.selected_host(),
        Some(Page { content: Some(Ok(Content::Element(detail))), .. }) => match &detail.element {
            ElementView::Host(host) => Some(host),
            _ => None,
        },
        _ => None,
    };
    let Some(host) = host else { return tell(state, "select a host first") };
    let (name, on) = (host.name.clone(), host.maintenance_since.is_none());
    let question = if on { format!("Put host {name} in maintenance?") } else { format!("Put host {name} back in service?") };
    confirm(state, question, Command::Maintenance(name, on));
}

fn disarm(state: &mut State) {
    match state.status.armed {
        true => confirm(state, "Disarm the plane, so that it starts nothing new?".to_owned(), Command::Disarm),
        false => confirm(state, "Arm the plane, so that it acts again?".to_owned(), Command::Arm),
    }
}

fn sort(state: &mut State) {
    const HOSTS: [Sort; 5] = [Sort::Name, Sort::State, Sort::Cpu, Sort::Memory, Sort::Guests];
    const GUESTS: [Sort; 5] = [Sort::Name, Sort::Host, Sort::State, Sort::Cpu, Sort::Memory];
    let next = |all: [Sort; 5], now: Sort| all[(all.iter().position(|one| *one == now).unwrap_or(0) + 1) % all.len()];
    match state.focus {
        Pane::Hosts => state.host_sort = next(HOSTS, state.host_sort),
        Pane::Guests => state.guest_sort = next(GUESTS, state.guest_sort),
        _ => return tell(state, "only hosts and guests can be sorted"),
    }
    state.cursors[state.focus as usize].go(0);
}
