//! A complaint as people read it on a terminal: the line it is about, a caret under the place, and what to do.

use super::{Diagnostic, Severity};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// With colours or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For files, pipes and tests.
    Plain,
    /// For terminals.
    Colour,
}

/// A line longer than this is not shown: its caret could not be seen.
const LONGEST_LINE: usize = 400;

/// Renders a complaint, with the line it is about where `source`, the file's whole text, is given. Ends with a line break.
pub fn render(diagnostic: &Diagnostic, source: Option<&str>, style: Style) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let message = printable(&diagnostic.message);
    let path = printable(&diagnostic.file);
    let line = source.and_then(|source| snippet(diagnostic, source));
    let mut group = Group::with_title(level.primary_title(message.as_str()));
    group = match &line {
        Some((line, start, end)) => group.element(
            Snippet::source(line.as_str())
                .line_start(diagnostic.line as usize)
                .path(path.as_str())
                .fold(false)
                .annotation(AnnotationKind::Primary.span(*start..*end)),
        ),
        None => {
            let mut origin = Origin::path(path.as_str());
            if diagnostic.line > 0 {
                origin = origin.line(diagnostic.line as usize).char_column(diagnostic.column.max(1) as usize);
            }
            group.element(origin)
        }
    };
    let hint = diagnostic.hint.as_deref().map(printable);
    if let Some(hint) = &hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Colour => Renderer::styled(),
    };
    let mut text = renderer.render(&[group]);
    text.push('\n');
    text
}

/// The line and the bytes of it that are meant.
fn snippet(diagnostic: &Diagnostic, source: &str) -> Option<(String, usize, usize)> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let index = (diagnostic.line as usize).checked_sub(1)?;
    let line = source.split('\n').nth(index)?.trim_end_matches('\r');
    if line.chars().count() > LONGEST_LINE {
        return None;
    }
    let line = printable(line);
    let offset = |characters: usize| line.char_indices().nth(characters).map_or(line.len(), |(offset, _)| offset);
    let (first, length) = match diagnostic.column {
        0 => (line.chars().take_while(|c| c.is_whitespace()).count(), usize::MAX),
        column => (column as usize - 1, diagnostic.length.max(1) as usize),
    };
    let start = offset(first);
    let end = offset(first.saturating_add(length));
    Some((line.clone(), start, end))
}

/// Control characters could move the cursor or break the picture.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_shows_its_line_and_what_to_do() {
        let text = "fn on_load(vm) {\n    vm.migrat(\"hot\");\n}\n";
        let error = Diagnostic::error("hot.rhai", 2, 8, 6, "`vm` has no method `migrat`").with_hint("did you mean `migrate`?");
        let warning = Diagnostic::error("hot.rhai", 0, 0, 1, "handles no event").as_warning();
        let all = [(&error, Some(text)), (&error, None), (&warning, Some(text))];
        let all: String = all.iter().map(|(one, text)| render(one, *text, Style::Plain)).collect();
        insta::assert_snapshot!(all);
    }

    proptest::proptest! {
        #[test]
        fn no_place_panics(text in "[a-z\t é漢\u{1b}\r\n]*", line in 0u32..9, column in 0u32..30, length in 0u32..30) {
            let text = text.as_str();
            let diagnostic = Diagnostic { length, ..Diagnostic::error("f", line, column, 1, text).with_hint(text) };
            for style in [Style::Plain, Style::Colour] {
                assert!(!render(&diagnostic, Some(text), style).is_empty());
            }
        }
    }
}
