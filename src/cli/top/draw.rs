//! The whole screen: a pure function of the state.

use super::grid::{fit, line, put, style};
use super::keys::KEYS;
use super::page::Page;
use super::panes;
use super::state::{Pane, Prompt, State};
use crate::cli::screen::Tone;
use crate::model::Span;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

/// Draws it. Where the screen has just changed its size and the state does not know yet, nothing is drawn.
pub fn draw(buffer: &mut Buffer, state: &State) {
    if (buffer.area.width, buffer.area.height) != state.size {
        return;
    }
    let layout = state.layout();
    header(buffer, layout.header, state);
    if let Some(area) = layout.tabs {
        tabs(buffer, area, state);
    }
    match state.pages.last() {
        Some(page) => self::page(buffer, layout.body, page, state),
        None => {
            for (pane, area) in &layout.panes {
                title(buffer, line(*area, 0), *pane, state);
                panes::draw(buffer, below(*area), *pane, state);
            }
        }
    }
    if state.help {
        help(buffer, layout.body, state);
    }
    if state.trouble.is_some() {
        // What is shown is old.
        buffer.set_style(layout.body, Style::new().add_modifier(Modifier::DIM));
    }
    foot(buffer, layout.foot, state);
}

fn below(area: Rect) -> Rect {
    Rect { y: area.y.saturating_add(1), height: area.height.saturating_sub(1), ..area }
}

/// Texts in their tones, one after the other; those for which there is no room are left out.
fn spans(buffer: &mut Buffer, area: Rect, texts: &[(String, Tone)], color: bool) {
    let mut x = area.x;
    for (text, tone) in texts.iter().filter(|(text, _)| !text.is_empty()) {
        let room = area.right().saturating_sub(x);
        if room == 0 || area.height == 0 {
            return;
        }
        if text.chars().count() > usize::from(room) && x > area.x {
            continue;
        }
        let (end, _) = buffer.set_stringn(x, area.y, fit(text, usize::from(room)), usize::from(room), style(*tone, color));
        x = end.saturating_add(2);
    }
}

/// Bad news where there are any.
fn number(count: usize, what: &str, bad: Tone) -> (String, Tone) {
    (format!("{what} {count}"), if count == 0 { Tone::Faint } else { bad })
}

fn header(buffer: &mut Buffer, area: Rect, state: &State) {
    let (status, color) = (&state.status, state.screen.color);
    let armed = match (status.armed, status.starting) {
        (false, _) => ("disarmed".to_owned(), Tone::Bad),
        (true, true) => ("starting".to_owned(), Tone::Warning),
        (true, false) => ("armed".to_owned(), Tone::Good),
    };
    let up = status.hosts.saturating_sub(status.hosts_down.len());
    let hosts = (format!("hosts {up}/{}", status.hosts), if up < status.hosts { Tone::Bad } else { Tone::Plain });
    let maintenance = match status.hosts_in_maintenance.len() {
        0 => String::new(),
        count => format!("maintenance {count}"),
    };
    let guests: usize = status.guests.values().sum();
    let running = status.guests.get("running").copied().unwrap_or(0);
    let crashed = status.guests.get("crashed").copied().unwrap_or(0);
    let crashed = if crashed == 0 { String::new() } else { format!("crashed {crashed}") };
    let first = [
        (status.plane.clone(), Tone::Strong),
        armed,
        hosts,
        (format!("guests {running}/{guests}"), Tone::Plain),
        (crashed, Tone::Bad),
        (maintenance, Tone::Warning),
    ];
    let alarms = state.attention().len();
    let pace = state.events_per_s.map_or_else(|| "-".to_owned(), |pace| format!("{pace:.0}"));
    let figures = &status.figures;
    let second = [
        (format!("events {pace}/s"), Tone::Plain),
        number(figures.waiting, "queue", Tone::Plain),
        number(status.open, "open", Tone::Plain),
        number(alarms, "attention", Tone::Bad),
        number(status.advised, "advice", Tone::Warning),
        (format!("done {}", figures.so_far.done), Tone::Faint),
        number(usize::try_from(figures.so_far.failed).unwrap_or(usize::MAX), "failed", Tone::Warning),
        (format!("refused {}", figures.so_far.refused), Tone::Faint),
        (format!("modules {} with {} embots", status.modules, status.embots), Tone::Faint),
    ];
    // Where there is one line only, the clock gives way to what matters more.
    if area.height > 1 {
        let clock = state.screen.time(status.now);
        let width = u16::try_from(clock.len()).unwrap_or(0).min(area.width);
        let rest = Rect { width: area.width.saturating_sub(width + 2), ..area };
        spans(buffer, line(rest, 0), &first, color);
        put(buffer, Rect { x: area.right() - width, width, ..line(area, 0) }, &clock, style(Tone::Faint, color));
        spans(buffer, line(area, 1), &second, color);
    } else {
        spans(buffer, area, &[&first[..3], &second[3..5]].concat(), color);
    }
}

fn tabs(buffer: &mut Buffer, area: Rect, state: &State) {
    let name = |(pane, number): (&Pane, usize)| {
        let tone = if *pane == state.focus { Tone::Strong } else { Tone::Faint };
        // Whoever has little room sees where they are, and the numbers of the others.
        let text =
            if area.width >= 76 || *pane == state.focus { format!("{number} {}", pane.name()) } else { number.to_string() };
        (text, tone)
    };
    let names: Vec<(String, Tone)> = Pane::ALL.iter().zip(1..).map(name).collect();
    spans(buffer, area, &names, state.screen.color);
}

/// A rule with words on it.
fn rule(buffer: &mut Buffer, area: Rect, words: &str, tone: Tone, color: bool) {
    if area.is_empty() {
        return;
    }
    put(buffer, area, &"─".repeat(usize::from(area.width)), style(Tone::Faint, color));
    let room = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
    put(buffer, room, &format!(" {words} "), style(tone, color));
}

fn title(buffer: &mut Buffer, area: Rect, pane: Pane, state: &State) {
    let (len, more) = state.len(pane);
    let room = state.layout().room(pane).unwrap_or(0);
    let mut words = pane.name().to_owned();
    if len > room {
        let top = state.cursor(pane).top;
        let more = if more { "+" } else { "" };
        words += &format!(" {}-{} of {len}{more}", top + 1, (top + room).min(len));
    } else if len > 0 {
        words += &format!(" {len}");
    }
    if let Some(order) = panes::order(pane, state) {
        words += &format!(", {order}");
    }
    if !state.filter(pane).is_empty() {
        words += &format!(", with `{}`", state.filter(pane));
    }
    let tone = if state.focus == pane { Tone::Strong } else { Tone::Faint };
    rule(buffer, area, &words, tone, state.screen.color);
}

fn page(buffer: &mut Buffer, area: Rect, page: &Page, state: &State) {
    let color = state.screen.color;
    let lines = page.lines(&state.screen, area.width);
    let body = below(area);
    let cursor = &page.cursor;
    let mut words = page.title();
    if lines.len() > usize::from(body.height) {
        let last = (cursor.top + usize::from(body.height)).min(lines.len());
        words += &format!(", lines {}-{last} of {}", cursor.top + 1, lines.len());
    }
    rule(buffer, line(area, 0), &words, Tone::Strong, color);
    for (down, (at, one)) in (0..body.height).zip(lines.iter().enumerate().skip(cursor.top)) {
        let place = line(body, down);
        put(buffer, place, &one.text, style(one.tone, color));
        if at == cursor.at && one.target.is_some() {
            buffer.set_style(place, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

fn help(buffer: &mut Buffer, body: Rect, state: &State) {
    let color = state.screen.color;
    let height = u16::try_from(KEYS.len()).unwrap_or(0).saturating_add(1).min(body.height);
    let area = Rect { height, ..body };
    for down in 0..height {
        put(buffer, line(area, down), &" ".repeat(usize::from(area.width)), Style::reset());
    }
    rule(buffer, line(area, 0), "Keys (any key goes back)", Tone::Strong, color);
    for (down, (keys, what)) in (1..height).zip(KEYS) {
        let place = line(area, down);
        put(buffer, place, &format!(" {keys:<13} {what}"), style(Tone::Plain, color));
    }
}

fn foot(buffer: &mut Buffer, area: Rect, state: &State) {
    let color = state.screen.color;
    let tell = |buffer: &mut Buffer, text: &str, tone: Tone| put(buffer, area, text, style(tone, color));
    if let Some(prompt) = &state.prompt {
        let text = match prompt {
            Prompt::Confirm { question, .. } => format!("{question} (y/n)"),
            Prompt::Reason { action, text } => format!("Reject action {action}, because: {text}▏"),
            Prompt::Filter => format!("/{}▏", state.filter(state.focus)),
        };
        // What is typed is at the end, and must be seen.
        let over = text.chars().count().saturating_sub(usize::from(area.width));
        let text: String = if matches!(prompt, Prompt::Confirm { .. }) { text } else { text.chars().skip(over).collect() };
        tell(buffer, &text, Tone::Strong);
    } else if let Some(why) = &state.trouble {
        let age = Span::seconds(state.now.saturating_sub(state.heard_at).as_secs());
        tell(buffer, &format!("no answer for {age}: {why}; asking again"), Tone::Bad);
    } else if let Some(said) = &state.said {
        tell(buffer, &said.text, if said.bad { Tone::Bad } else { Tone::Strong });
    } else if let Some(complaint) = &state.complaint {
        tell(buffer, complaint, Tone::Bad);
    } else {
        let keys = match state.pages.is_empty() {
            true => "?: keys  Tab: pane  Enter: open  a: approve  r: reject  m: maintenance  q: quit",
            false => "?: keys  Esc: back  Enter: open  a: approve  r: reject  c: cancel  q: quit",
        };
        tell(buffer, keys, Tone::Faint);
    }
}
