//! Recorded CPU use of guests, read from files.
//!
//! Three forms are read; what is wrong with a file is said with its line and column:
//!
//! - **PlanetLab, as published**: a folder for a day, with a file for each guest that is named after it: 288 lines, each a
//!   whole number from 0 to 100, the CPU use in percent, five minutes apart. Guests are in the order of their names' bytes.
//!   Files whose names begin with a dot are left out.
//! - **PlanetLab in one file**: a line for each guest: its name, which may contain spaces, and 288 such numbers, separated by
//!   spaces. Guests are in the order of the lines.
//! - **CSV** with the header `vm,second,cpu`, fields without quotes: a guest's name, the time in whole seconds, the CPU use in
//!   percent, which may have decimals. The first time in the file is the beginning; from then on each guest has a row for
//!   every step, all of the same length, in the order of time. Rows of different guests may alternate. Guests are in the order
//!   of their first rows.
//!
//! The order matters where guests get their sizes by it. Memory is bounded, whatever is read.

use crate::error::{Diagnostic, Spot};
use crate::model::Lookup;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The values of a PlanetLab trace.
const DAY: usize = 288;
/// The time from one of them to the next.
const DAY_STEP_S: u32 = 300;
/// The longest line that is read.
const LONGEST_LINE: usize = 16 * 1024;
/// The most guests that are read.
const MOST_GUESTS: usize = 200_000;
/// The most values of all guests together that are read: 256 MB.
const MOST_VALUES: usize = 64_000_000;
const HEADER: &str = "vm,second,cpu";

/// The CPU use of guests over the same time.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The time from one value to the next.
    pub step_s: u32,
    /// The guests. All have as many values, and names of their own.
    pub guests: Vec<Trace>,
}

/// The CPU use of one guest.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Its name.
    pub name: String,
    /// Its CPU use in percent, 0 to 100.
    pub percent: Vec<f32>,
}

impl Traces {
    /// Reads a folder or a file of any of the forms.
    pub fn read(path: &Path) -> Result<Traces, Diagnostic> {
        let file = path.display().to_string();
        let failed = |error| unreadable(&file, &error);
        if fs::metadata(path).map_err(failed)?.is_dir() {
            return Traces::from_folder(path);
        }
        Traces::from_text(&file, BufReader::new(File::open(path).map_err(failed)?))
    }

    /// A made-up day of PlanetLab's kind, the same for the same seed: each guest keeps to a level of its own, most of them to
    /// a low one, around which it varies and from which it leaps now and then; some guests are idle for part of the day.
    pub fn made_up(guests: usize, seed: u64) -> Traces {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = |bound: u32| f64::from(random.next_u32() % bound);
        let guests = (0..guests).map(|guest| {
            let level = 2.0 + below(25) * below(25) / 12.0;
            let spread = 1.0 + level / 4.0;
            let rest = if below(3) == 0.0 { below(2 * DAY as u32) as usize } else { DAY };
            let mut used = level;
            let percent = (0..DAY).map(|slot| {
                used += (level - used) / 4.0 + (below(201) / 100.0 - 1.0) * spread;
                if below(60) == 0.0 {
                    used += below(50);
                }
                used = used.clamp(1.0, 100.0);
                if slot >= rest { 0.0 } else { used.round() as f32 }
            });
            Trace { percent: percent.collect(), name: format!("guest-{guest:05}") }
        });
        Traces { step_s: DAY_STEP_S, guests: guests.collect() }
    }

    /// Reads PlanetLab in one file, or CSV; `file` is what complaints call it.
    pub fn from_text(file: &str, text: impl BufRead) -> Result<Traces, Diagnostic> {
        let mut lines = Lines::new(file, text);
        match lines.next()? {
            None => Err(Diagnostic::error(file, 1, 1, 1, "the file is empty").with_hint(FORMS)),
            Some(first) if first.text.contains(',') => {
                if first.text.trim() != HEADER {
                    return Err(first.all().error(file, format!("the header is not `{HEADER}`")).with_hint(FORMS));
                }
                from_rows(lines)
            }
            Some(_) => from_day(lines),
        }
    }

    fn from_folder(folder: &Path) -> Result<Traces, Diagnostic> {
        let called = folder.display().to_string();
        let mut names = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| unreadable(&called, &error))? {
            let entry = entry.map_err(|error| unreadable(&called, &error))?;
            let file = entry.path().display().to_string();
            let Ok(name) = entry.file_name().into_string() else {
                return Err(whole(&file, "the file's name is not UTF-8").with_hint("rename it"));
            };
            if name.starts_with('.') {
                continue;
            }
            if fs::metadata(entry.path()).map_err(|error| unreadable(&file, &error))?.is_dir() {
                let hint = "a day is a folder of files, one for each guest: name the folder of one day";
                return Err(whole(&file, "a folder stands among the traces").with_hint(hint));
            }
            names.push(name);
            check_guests(&called, 0, names.len())?;
        }
        names.sort_unstable();
        if names.is_empty() {
            let hint = "a day is a folder of files, one for each guest";
            return Err(whole(&called, "the folder holds no traces").with_hint(hint));
        }
        let read = |name: String| {
            let path = folder.join(&name);
            let file = path.display().to_string();
            let opened = File::open(&path).map_err(|error| unreadable(&file, &error))?;
            from_column(name, Lines::new(&file, BufReader::new(opened)))
        };
        Ok(Traces { step_s: DAY_STEP_S, guests: names.into_iter().map(read).collect::<Result<_, _>>()? })
    }
}

const FORMS: &str = "a trace is a folder with a file for each guest, a file with a line for each guest (its name and 288 \
                     percentages), or a CSV file with the header `vm,second,cpu`";

/// A file with one value a line.
fn from_column(name: String, mut lines: Lines<impl BufRead>) -> Result<Trace, Diagnostic> {
    let file = lines.file;
    let mut percent = Vec::with_capacity(DAY);
    while let Some(line) = lines.next()? {
        if percent.len() == DAY {
            let message = format!("`{name}` has more than {DAY} values");
            return Err(line.all().error(file, message).with_hint(ONE_DAY));
        }
        percent.push(line.whole_percent(file, line.text.trim())?);
    }
    if percent.len() < DAY {
        let message = format!("`{name}` has {} values; a day has {DAY}", percent.len());
        return Err(Spot { line: lines.number.max(1), column: 1, length: 1 }.error(file, message).with_hint(ONE_DAY));
    }
    Ok(Trace { name, percent })
}

const ONE_DAY: &str = "give one day: 288 values, five minutes apart";

/// A file with one guest a line, of which the first has been taken.
fn from_day(mut lines: Lines<impl BufRead>) -> Result<Traces, Diagnostic> {
    let file = lines.file;
    let mut guests: Vec<Trace> = Vec::new();
    let mut known = Lookup::<String, u32>::default();
    let mut next = Some(lines.current());
    while let Some(line) = next {
        let words: Vec<&str> = line.text.split_ascii_whitespace().collect();
        let values = words.iter().rev().take_while(|word| word.parse::<i64>().is_ok()).count();
        let first = words.len().saturating_sub(DAY);
        if first == 0 || (first > 1 && values > DAY) {
            let values = values.min(words.len() - 1);
            let message = format!("{values} values stand after the name; a day has {DAY}");
            return Err(line.all().error(file, message).with_hint(ONE_DAY));
        }
        let percent = words[first..].iter().map(|word| line.whole_percent(file, word)).collect::<Result<_, _>>()?;
        let name = words[..first].join(" ");
        if let Some(before) = known.insert(name.clone(), line.number) {
            let message = format!("`{name}` stands in line {before} already");
            return Err(line.spot(words[0]).error(file, message).with_hint("give each guest one line, or another name"));
        }
        guests.push(Trace { name, percent });
        check_guests(file, line.number, guests.len())?;
        next = lines.next()?;
    }
    Ok(Traces { step_s: DAY_STEP_S, guests })
}

/// A guest in a CSV file.
struct Rows {
    trace: Trace,
    /// Its last row.
    line: u32,
}

/// A CSV file, of which the header has been taken.
fn from_rows(mut lines: Lines<impl BufRead>) -> Result<Traces, Diagnostic> {
    let file = lines.file;
    let mut guests: Vec<Rows> = Vec::new();
    let mut known = Lookup::<String, usize>::default();
    let (mut begin, mut step, mut values) = (None, None, 0);
    while let Some(line) = lines.next()? {
        let fields: Vec<&str> = line.text.split(',').map(str::trim).collect();
        let [name, second, cpu] = fields[..] else {
            let message = format!("{} fields, not 3: {HEADER}", fields.len());
            return Err(line.all().error(file, message).with_hint("names have no commas, and decimals a point"));
        };
        if name.is_empty() {
            return Err(line.all().error(file, "the name is empty").with_hint("name the guest in the first field"));
        }
        let at: i64 = second.parse().map_err(|_| {
            let message = format!("`{second}` is no time in whole seconds");
            line.spot(second).error(file, message).with_hint("write the seconds since any beginning, such as 300")
        })?;
        let percent: f32 = cpu.parse().map_err(|_| line.no_percent(file, cpu, "a number"))?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(line.no_percent(file, cpu, "a number"));
        }
        let index = match known.get(name) {
            Some(index) => *index,
            None => {
                known.insert(name.to_owned(), guests.len());
                guests.push(Rows { trace: Trace { name: name.to_owned(), percent: Vec::new() }, line: line.number });
                check_guests(file, line.number, guests.len())?;
                guests.len() - 1
            }
        };
        let guest = &mut guests[index];
        let begin = *begin.get_or_insert(at);
        let passed = at.saturating_sub(begin);
        let taken = guest.trace.percent.len();
        if taken == 1 && passed > 0 {
            step.get_or_insert(passed);
        }
        let due = if taken == 0 { Some(0) } else { step.map(|step| step.saturating_mul(taken as i64)) };
        if due != Some(passed) {
            let due = due.map_or("later".to_owned(), |due| format!("at {}", begin.saturating_add(due)));
            let message = format!("`{name}` has a value for second {at}; its next one is due {due}");
            let hint = "each guest has a row for every step from the file's first second on, in the order of time";
            return Err(line.spot(second).error(file, message).with_hint(hint));
        }
        guest.trace.percent.push(percent);
        guest.line = line.number;
        values += 1;
        if values > MOST_VALUES {
            let message = format!("more than {MOST_VALUES} values");
            return Err(line.all().error(file, message).with_hint("give fewer guests or a shorter time"));
        }
    }
    let most = guests.iter().map(|guest| guest.trace.percent.len()).max().unwrap_or(0);
    let step_s = step.and_then(|step| u32::try_from(step).ok());
    let Some(step_s) = step_s else {
        let message = "no guest has a second value, so the time between values is not known";
        return Err(whole(file, message).with_hint("give each guest a row for every step"));
    };
    if let Some(short) = guests.iter().find(|guest| guest.trace.percent.len() < most) {
        let Rows { trace, line } = short;
        let message = format!("`{}` has {} values, others have {most}; this is its last", trace.name, trace.percent.len());
        return Err(Spot { line: *line, column: 1, length: 1 }.error(file, message).with_hint("give all guests the same time"));
    }
    Ok(Traces { step_s, guests: guests.into_iter().map(|guest| guest.trace).collect() })
}

fn check_guests(file: &str, line: u32, guests: usize) -> Result<(), Diagnostic> {
    if guests <= MOST_GUESTS {
        return Ok(());
    }
    Err(Diagnostic::error(file, line, 0, 1, format!("more than {MOST_GUESTS} guests")).with_hint("give fewer"))
}

/// A complaint about a file as a whole.
fn whole(file: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(file, 0, 0, 1, message)
}

fn unreadable(file: &str, error: &io::Error) -> Diagnostic {
    whole(file, format!("cannot be read: {error}")).with_hint("check the path and its permissions")
}

/// The lines of a text; blank ones at its end are left out.
struct Lines<'a, R> {
    file: &'a str,
    text: R,
    bytes: Vec<u8>,
    number: u32,
}

/// A line of a text.
#[derive(Clone, Copy)]
struct Line<'a> {
    text: &'a str,
    number: u32,
}

impl<'a, R: BufRead> Lines<'a, R> {
    fn new(file: &'a str, text: R) -> Lines<'a, R> {
        Lines { file, text, bytes: Vec::new(), number: 0 }
    }

    /// The next line.
    fn next(&mut self) -> Result<Option<Line<'_>>, Diagnostic> {
        let mut blank = None;
        while self.read()? {
            if self.current().text.trim().is_empty() {
                blank.get_or_insert(self.number);
                continue;
            }
            return match blank {
                None => Ok(Some(self.current())),
                Some(line) => {
                    let spot = Spot { line, column: 1, length: 1 };
                    Err(spot.error(self.file, "a blank line stands among the values").with_hint("remove it"))
                }
            };
        }
        Ok(None)
    }

    /// Reads a line, if there is a further one.
    fn read(&mut self) -> Result<bool, Diagnostic> {
        self.bytes.clear();
        let most = LONGEST_LINE as u64 + 1;
        let read = self.text.by_ref().take(most).read_until(b'\n', &mut self.bytes);
        read.map_err(|error| unreadable(self.file, &error))?;
        if self.bytes.is_empty() {
            return Ok(false);
        }
        self.number = self.number.saturating_add(1);
        if self.bytes.len() > LONGEST_LINE {
            let message = format!("the line is longer than {} KiB", LONGEST_LINE / 1024);
            return Err(Diagnostic::error(self.file, self.number, 1, 1, message).with_hint(FORMS));
        }
        if self.number == 1 && self.bytes.starts_with(b"\xef\xbb\xbf") {
            self.bytes.drain(..3);
        }
        if let Err(error) = std::str::from_utf8(&self.bytes) {
            let before = String::from_utf8_lossy(&self.bytes[..error.valid_up_to()]).chars().count() as u32;
            let spot = Spot { line: self.number, column: before + 1, length: 1 };
            return Err(spot.error(self.file, "not UTF-8").with_hint("convert the file to UTF-8, or check that it is a trace"));
        }
        Ok(true)
    }

    /// The line read last.
    fn current(&self) -> Line<'_> {
        // It was checked when it was read.
        let text = std::str::from_utf8(&self.bytes).unwrap_or_default();
        Line { text: text.trim_end_matches(['\r', '\n']), number: self.number }
    }
}

impl Line<'_> {
    /// The place of a part of it.
    fn spot(&self, part: &str) -> Spot {
        let before = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let column = self.text.get(..before).map_or(0, |before| before.chars().count()) as u32 + 1;
        Spot { line: self.number, column, length: part.chars().count() as u32 }
    }

    /// All of it.
    fn all(&self) -> Spot {
        self.spot(self.text)
    }

    /// A part of it as a whole percentage.
    fn whole_percent(&self, file: &str, part: &str) -> Result<f32, Diagnostic> {
        match part.parse::<u8>() {
            Ok(percent) if percent <= 100 => Ok(f32::from(percent)),
            _ => Err(self.no_percent(file, part, "a whole number")),
        }
    }

    fn no_percent(&self, file: &str, part: &str, number: &str) -> Diagnostic {
        let shown: String = part.chars().take(40).collect();
        let message = format!("`{shown}` is no CPU use in percent");
        self.spot(part).error(file, message).with_hint(format!("write {number} from 0 to 100"))
    }
}

#[cfg(test)]
mod tests;
