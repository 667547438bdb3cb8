//! Which panes are on the screen, and where: a function of its size and of the pane that is used.

use super::state::Pane;
use ratatui::layout::Rect;

/// From here on all panes are shown at once.
const LARGE: (u16, u16) = (140, 36);

/// From here on the latest decisions stay in sight below the pane that is used.
const MEDIUM: (u16, u16) = (60, 20);

/// Lines of the latest decisions below another pane.
const DECISIONS: u16 = 6;

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The plane at a glance.
    pub header: Rect,
    /// The names of the panes, where they are not all shown.
    pub tabs: Option<Rect>,
    /// The panes shown.
    pub panes: Vec<(Pane, Rect)>,
    /// All that the panes take up; a page takes it instead.
    pub body: Rect,
    /// Answers, questions and keys.
    pub foot: Rect,
}

impl Layout {
    /// For a screen of this size, while this pane is used.
    pub fn new((width, height): (u16, u16), focus: Pane) -> Layout {
        let whole = Rect::new(0, 0, width, height);
        let large = width >= LARGE.0 && height >= LARGE.1;
        let medium = width >= MEDIUM.0 && height >= MEDIUM.1;
        let [header, rest] = above(whole, if medium { 2 } else { 1 });
        let [tabs, rest] = above(rest, u16::from(!large));
        let [body, foot] = above(rest, rest.height.saturating_sub(1));
        let panes = if large {
            grid(body)
        } else if medium && focus != Pane::Decisions {
            let [main, below] = above(body, body.height.saturating_sub(DECISIONS));
            vec![(focus, main), (Pane::Decisions, below)]
        } else {
            vec![(focus, body)]
        };
        Layout { header, tabs: (!large).then_some(tabs), panes, body, foot }
    }

    /// How many rows of a pane's list there is room for: without its title and its heading.
    pub fn room(&self, pane: Pane) -> Option<usize> {
        let (_, area) = self.panes.iter().find(|(shown, _)| *shown == pane)?;
        Some(usize::from(area.height.saturating_sub(2)))
    }
}

/// The first lines of an area, and the rest. (Lines and columns are whole numbers; that needs no solver of constraints.)
fn above(area: Rect, lines: u16) -> [Rect; 2] {
    let lines = lines.min(area.height);
    [Rect { height: lines, ..area }, Rect { y: area.y + lines, height: area.height - lines, ..area }]
}

/// The left and the right half, with a gap between.
fn halves(area: Rect) -> [Rect; 2] {
    let width = area.width.saturating_sub(2) / 2;
    [Rect { width, ..area }, Rect { x: area.x + width + 2, width: area.width - width - 2, ..area }]
}

/// Hosts and guests above, what is done and decided in the middle, what is seldom needed below.
fn grid(body: Rect) -> Vec<(Pane, Rect)> {
    let [main, rest] = above(body, body.height * 5 / 11);
    let [middle, below] = above(rest, rest.height * 2 / 3);
    let ([hosts, guests], [actions, decisions], [attention, peers]) = (halves(main), halves(middle), halves(below));
    vec![
        (Pane::Hosts, hosts),
        (Pane::Guests, guests),
        (Pane::Actions, actions),
        (Pane::Decisions, decisions),
        (Pane::Attention, attention),
        (Pane::Peers, peers),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_lie_side_by_side_within_the_screen() {
        for width in 0..220 {
            for height in 0..60 {
                let layout = Layout::new((width, height), Pane::Guests);
                let whole = Rect::new(0, 0, width, height);
                for (at, (pane, area)) in layout.panes.iter().enumerate() {
                    assert_eq!(whole.intersection(*area), *area, "{pane:?} at {width}x{height}");
                    for (other, beside) in &layout.panes[at + 1..] {
                        assert!(area.intersection(*beside).is_empty(), "{pane:?} and {other:?} at {width}x{height}");
                    }
                }
            }
        }
        assert_eq!(Layout::new((80, 24), Pane::Hosts).panes.len(), 2);
        assert_eq!(Layout::new((40, 10), Pane::Hosts).room(Pane::Hosts), Some(5));
        assert_eq!(Layout::new((40, 10), Pane::Hosts).room(Pane::Guests), None);
        assert_eq!(Layout::new((200, 50), Pane::Hosts).panes.len(), 6);
    }
}
