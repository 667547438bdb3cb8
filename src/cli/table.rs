//! Tables and lists of pairs that fit the screen.
//!
//! Columns are as wide as what is in them, as long as all fits. Where it does not, columns of [`Fit::Cut`] give way and end in
//! `…`; one line a row, so that tables stay readable and easy to search. [`pairs`] wraps instead.

use super::screen::{Screen, Tone, cut, printable, tone};
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width};

/// How a column behaves where there is not enough room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It keeps its width; for numbers and single words.
    Keep,
    /// The same, with numbers to the right.
    Right,
    /// The same, its words in the colours of what they mean.
    State,
    /// It is cut.
    Cut,
}

/// Names are cut to this before anything else, so that one long name does not take all the room.
const LONGEST_NAME: usize = 28;

/// The narrowest a column that is cut becomes.
const NARROWEST: usize = 12;

/// A table with a heading line. Ends with a line break; without rows it is empty.
pub fn table(columns: &[(&str, Fit)], rows: Vec<Vec<String>>, screen: &Screen) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).map(|row| shorten(row, columns)).collect();
    let widths = widths(columns, &rows, screen.width);
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if screen.color {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    let heading = columns.iter().map(|(title, fit)| aligned(Cell::new(title).add_attribute(Attribute::Bold), *fit));
    table.set_header(heading.collect::<Vec<Cell>>());
    for row in rows {
        let cells = row.iter().zip(columns).zip(&widths).map(|((text, (_, fit)), width)| {
            let cell = Cell::new(cut(text, *width));
            aligned(if *fit == Fit::State { paint(cell, tone(text.split(' ').next().unwrap_or(""))) } else { cell }, *fit)
        });
        table.add_row(cells.collect::<Vec<Cell>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    format!("{}\n", trim(&table.to_string()))
}

fn shorten(row: Vec<String>, columns: &[(&str, Fit)]) -> Vec<String> {
    let shorten = |(text, (_, fit)): (String, &(&str, Fit))| match fit {
        Fit::Cut => text,
        Fit::Keep | Fit::Right | Fit::State => cut(&text, LONGEST_NAME),
    };
    row.into_iter().zip(columns).map(shorten).collect()
}

/// Each column's width: what it needs, unless that is too much in all; then the widest of those that may be cut give way.
fn widths(columns: &[(&str, Fit)], rows: &[Vec<String>], room: usize) -> Vec<usize> {
    let characters = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = columns.iter().map(|(title, _)| characters(title)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(characters(cell));
        }
    }
    let gaps = 2 * columns.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > room {
        let flexible = widths.iter_mut().zip(columns).filter(|(width, (_, fit))| *fit == Fit::Cut && **width > NARROWEST);
        match flexible.map(|(width, _)| width).max() {
            Some(widest) => *widest -= 1,
            None => break,
        }
    }
    widths
}

fn aligned(cell: Cell, fit: Fit) -> Cell {
    if fit == Fit::Right { cell.set_alignment(CellAlignment::Right) } else { cell }
}

fn paint(cell: Cell, tone: Tone) -> Cell {
    match tone {
        Tone::Plain => cell,
        Tone::Strong => cell.add_attribute(Attribute::Bold),
        Tone::Faint => cell.add_attribute(Attribute::Dim),
        Tone::Good => cell.fg(Color::DarkGreen),
        Tone::Warning => cell.fg(Color::DarkYellow),
        Tone::Bad => cell.fg(Color::DarkRed),
    }
}

/// Labels to the left, texts to the right, wrapped. An empty label continues the one above.
pub fn pairs(rows: &[(&str, String)], screen: &Screen) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(screen.width).unwrap_or(u16::MAX));
    if screen.color {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    for (label, text) in rows {
        let text: Vec<String> = text.lines().map(printable).collect();
        table.add_row(vec![Cell::new(label).add_attribute(Attribute::Bold), Cell::new(text.join("\n"))]);
    }
    let labels = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0).max(9) + 2;
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 0));
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(u16::try_from(labels).unwrap_or(u16::MAX))));
    }
    if let Some(column) = table.column_mut(1) {
        column.set_padding((0, 0));
    }
    format!("{}\n", trim(&table.to_string()))
}

fn trim(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::screen::plain;
    use super::*;
    use proptest::prelude::*;

    const COLUMNS: [(&str, Fit); 4] = [("ID", Fit::Right), ("NAME", Fit::Keep), ("STATE", Fit::State), ("WHAT", Fit::Cut)];

    proptest! {
        #[test]
        fn tables_fit(rows in prop::collection::vec(prop::collection::vec("[ -~]{0,90}", 4), 0..5), width in 120_usize..200) {
            let text = table(&COLUMNS, rows.clone(), &plain(width));
            for line in text.lines() {
                prop_assert!(line.chars().count() <= width, "{line}");
            }
            prop_assert_eq!(text.lines().count(), if rows.is_empty() { 0 } else { rows.len() + 1 });
        }

        #[test]
        fn pairs_fit(rows in prop::collection::vec("\\PC{0,200}", 1..5), width in 80_usize..200) {
            let rows: Vec<_> = rows.into_iter().map(|text| ("label", text)).collect();
            prop_assert!(!pairs(&rows, &plain(width)).is_empty());
        }
    }

    #[test]
    fn a_table_cuts_what_may_be_cut() {
        let rows = vec![
            vec!["7".into(), "web-1".into(), "done".into(), "a long story ".repeat(12)],
            vec!["17".into(), "a-guest-with-a-name-that-never-seems-to-end".into(), "failed".into(), "short\x1b[2J".into()],
        ];
        insta::assert_snapshot!(table(&COLUMNS, rows, &plain(80)));
    }
}
