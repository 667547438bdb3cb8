//! Tables, bars and texts on a terminal: columns that fit its width, colours that mean something, or none.

use crate::cli::screen::{Tone, percent, printable};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Characters at the least.
    pub least: u16,
    /// Characters at the most; columns share what is left over.
    pub most: u16,
    /// It is left out where the table is narrower than this.
    pub from: u16,
    /// Is it written to the right?
    pub right: bool,
}

/// A column of one width, always shown.
pub const fn fixed(title: &'static str, width: u16) -> Column {
    Column { title, least: width, most: width, from: 0, right: false }
}

impl Column {
    /// The same, as wide as there is room for.
    pub const fn up_to(self, most: u16) -> Column {
        Column { most, ..self }
    }

    /// The same, in wide tables only.
    pub const fn from(self, from: u16) -> Column {
        Column { from, ..self }
    }

    /// The same, written to the right.
    pub const fn right(self) -> Column {
        Column { right: true, ..self }
    }
}

/// A cell: its words, and what they mean.
pub type Cell = (String, Tone);

/// A cell without a meaning of its own.
pub fn plain(text: impl Into<String>) -> Cell {
    (text.into(), Tone::Plain)
}

/// How a tone looks: one of the sixteen colours that every terminal has, or none of them.
pub fn style(tone: Tone, color: bool) -> Style {
    let style = Style::new();
    match (tone, color) {
        (Tone::Plain, _) | (Tone::Good, false) => style,
        (Tone::Strong, _) | (Tone::Warning | Tone::Bad, false) => style.add_modifier(Modifier::BOLD),
        (Tone::Faint, _) => style.add_modifier(Modifier::DIM),
        (Tone::Good, true) => style.fg(Color::Green),
        (Tone::Warning, true) => style.fg(Color::Yellow),
        (Tone::Bad, true) => style.fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { Span::raw(text).width() }
}

/// A text cut to a width in the terminal's columns; what was cut shows as `…`.
pub fn fit(text: &str, room: usize) -> String {
    let text = printable(text);
    if width(&text) <= room {
        return text;
    }
    let (mut kept, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = width(c.encode_utf8(&mut [0; 4]));
        if used + wide + 1 > room {
            break;
        }
        used += wide;
        kept.push(c);
    }
    if room > 0 { kept + "…" } else { String::new() }
}

/// Writes a text into a line, not beyond its end.
pub fn put(buffer: &mut Buffer, area: Rect, text: &str, style: Style) {
    if area.height > 0 && area.width > 0 {
        buffer.set_string(area.x, area.y, fit(text, usize::from(area.width)), style);
    }
}

/// The line of an area so far down, if it is within.
pub fn line(area: Rect, down: u16) -> Rect {
    Rect { y: area.y.saturating_add(down), height: u16::from(down < area.height), ..area }
}

/// A bar with its share in figures: `███▌     44 %`.
pub fn bar(share: f64, room: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let filled = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let eighths = (filled * room as f64 * 8.0).round() as usize;
    let full = "█".repeat(eighths / 8) + PARTS[eighths % 8];
    format!("{full:room$} {:>5}", percent(share))
}

/// What a load means.
pub fn load_tone(share: f64) -> Tone {
    match share {
        share if share >= 0.9 => Tone::Bad,
        share if share >= 0.75 => Tone::Warning,
        share if share.is_finite() => Tone::Good,
        _ => Tone::Faint,
    }
}

/// Samples as means of equal parts, so many of them.
pub fn resample(values: &[f64], parts: usize) -> Vec<f64> {
    let parts = parts.min(values.len());
    let mean = |part: usize| {
        let (from, to) = (part * values.len() / parts, (part + 1) * values.len() / parts);
        values[from..to].iter().sum::<f64>() / (to - from) as f64
    };
    (0..parts).map(mean).collect()
}

/// Which columns are shown, and how wide: the left over is shared among those that can use it, from the left.
pub fn widths(columns: &[Column], room: u16) -> Vec<(usize, u16)> {
    let mut shown: Vec<(usize, u16)> = Vec::new();
    let mut used = 0;
    for (at, column) in columns.iter().enumerate().filter(|(_, column)| column.from <= room) {
        let gap = u16::from(!shown.is_empty());
        let least = column.least.min(room.saturating_sub(used + gap));
        if least > 0 {
            used += least + gap;
            shown.push((at, least));
        }
    }
    while used < room {
        let before = used;
        for (at, width) in &mut shown {
            if used < room && *width < columns[*at].most {
                *width += 1;
                used += 1;
            }
        }
        if used == before {
            break;
        }
    }
    shown
}

/// Draws a table: its heading, then rows; the selected one stands out.
pub fn table(buffer: &mut Buffer, area: Rect, columns: &[Column], rows: &[Vec<Cell>], selected: Option<usize>, color: bool) {
    let shown = widths(columns, area.width);
    let heading: Vec<Cell> = columns.iter().map(|column| (column.title.to_owned(), Tone::Faint)).collect();
    for (down, row) in (0..area.height).zip(std::iter::once(&heading).chain(rows)) {
        let place = line(area, down);
        let mut x = place.x;
        for (at, width) in &shown {
            let Some((text, tone)) = row.get(*at) else { continue };
            let text = fit(text, usize::from(*width));
            let blank = usize::from(*width).saturating_sub(self::width(&text));
            let indent = if columns[*at].right { u16::try_from(blank).unwrap_or(0) } else { 0 };
            buffer.set_string(x + indent, place.y, text, style(*tone, color));
            x += width + 1;
        }
        if selected.is_some_and(|selected| selected + 1 == usize::from(down)) {
            buffer.set_style(place, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit_in_the_columns_of_a_terminal() {
        assert_eq!(fit("web-1", 5), "web-1");
        assert_eq!(fit("web-123", 5), "web-…");
        assert_eq!(fit("日本語", 4), "日…", "a character may take two columns");
        assert_eq!(fit("a\x1b[2Jb", 9), "a [2Jb", "nothing moves the cursor");
        assert_eq!((fit("web", 0), fit("web", 1)), (String::new(), "…".to_owned()));
    }

    #[test]
    fn bars_take_any_number() {
        assert_eq!(bar(0.5, 4), "██    50 %");
        assert_eq!(bar(0.44, 4), "█▊    44 %");
        for share in [f64::NAN, f64::INFINITY, -3.0, 17.0, 0.999_999] {
            assert_eq!(bar(share, 4).chars().take(5).count(), 5, "{share}");
        }
        assert_eq!(bar(f64::NAN, 4), "         -");
    }

    #[test]
    fn samples_become_as_many_as_there_is_room_for() {
        assert_eq!(resample(&[1.0, 3.0, 5.0, 7.0], 2), [2.0, 6.0]);
        assert_eq!(resample(&[1.0, 2.0], 8), [1.0, 2.0]);
        assert_eq!(resample(&[], 8), [0.0; 0]);
    }

    #[test]
    fn columns_share_what_is_left_over() {
        let columns = [fixed("A", 5).up_to(10), fixed("B", 5).from(20), fixed("C", 5).up_to(100)];
        assert_eq!(widths(&columns, 30), [(0, 10), (1, 5), (2, 13)]);
        assert_eq!(widths(&columns, 19), [(0, 9), (2, 9)]);
        assert_eq!(widths(&columns, 8), [(0, 5), (2, 2)]);
        assert_eq!(widths(&columns, 0), []);
    }
}
