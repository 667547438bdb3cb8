//! Where the reader is in a list: the row selected, and the first row shown.
//!
//! Lists change under the reader. The selection stays with what was selected, not with its place; only whoever stands on the
//! first row stays on the first row, because the first rows of a sorted list are what one watches.

/// A place in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The row selected, from 0.
    pub at: usize,
    /// The first row shown.
    pub top: usize,
    /// What is selected, by the name of its row.
    key: Option<String>,
}

impl Cursor {
    /// Goes some rows on or back; [`Cursor::settle`] keeps it within the list.
    pub fn step(&mut self, rows: isize) {
        self.go(self.at.saturating_add_signed(rows));
    }

    /// Goes to a row.
    pub fn go(&mut self, row: usize) {
        self.at = row;
        self.key = None;
    }

    /// Takes its place in a list of `len` rows, of which `room` can be shown at once. `keys` are the names of the rows from
    /// `first` on, as far as they are known.
    pub fn settle(&mut self, len: usize, room: usize, first: usize, keys: &[String]) {
        if self.at > 0
            && let Some(key) = &self.key
            && let Some(found) = keys.iter().position(|one| one == key)
        {
            self.at = first + found;
        }
        self.at = self.at.min(len.saturating_sub(1));
        self.key = self.at.checked_sub(first).and_then(|row| keys.get(row)).cloned();
        let room = room.max(1);
        self.top = self.top.clamp(self.at.saturating_sub(room - 1), self.at).min(len.saturating_sub(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    #[test]
    fn the_selection_stays_with_what_was_selected() {
        let mut cursor = Cursor::default();
        cursor.settle(4, 3, 0, &keys("abcd"));
        cursor.step(2);
        cursor.settle(4, 3, 0, &keys("abcd"));
        assert_eq!((cursor.at, cursor.top), (2, 0));
        cursor.settle(5, 3, 0, &keys("xabcd"));
        assert_eq!((cursor.at, cursor.top), (3, 1), "c is selected still, and in sight");
        cursor.settle(2, 3, 0, &keys("ab"));
        assert_eq!((cursor.at, cursor.top), (1, 0), "c is gone");
        cursor.settle(0, 3, 0, &[]);
        assert_eq!((cursor.at, cursor.top), (0, 0));
    }

    #[test]
    fn whoever_stands_on_the_first_row_stays_there() {
        let mut cursor = Cursor::default();
        cursor.settle(2, 3, 0, &keys("ab"));
        cursor.settle(2, 3, 0, &keys("ba"));
        assert_eq!(cursor.at, 0);
    }

    #[test]
    fn rows_that_are_not_known_yet_can_be_gone_to() {
        let mut cursor = Cursor::default();
        cursor.go(400);
        cursor.settle(500, 10, 0, &keys("abc"));
        assert_eq!((cursor.at, cursor.top), (400, 391));
        cursor.settle(500, 0, 399, &keys("xyz"));
        assert_eq!((cursor.at, cursor.top, cursor.key.as_deref()), (400, 400, Some("y")));
    }
}
