use super::*;
use std::fmt::Write;
use tempfile::TempDir;

/// The same value all day.
fn day(value: &str) -> String {
    vec![value; DAY].join(" ")
}

fn text(text: &str) -> Result<Traces, Diagnostic> {
    Traces::from_text("day.txt", text.as_bytes())
}

/// A folder with these files.
fn folder(files: &[(&str, String)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn names(traces: &Traces) -> Vec<&str> {
    traces.guests.iter().map(|guest| &*guest.name).collect()
}

#[test]
fn one_file_keeps_its_order() {
    let traces = text(&format!("\u{feff}b_host one {}\r\na {}\n\n\n", day("7"), day("100"))).unwrap();
    assert_eq!((names(&traces), traces.step_s), (vec!["b_host one", "a"], 300));
    assert_eq!(traces.guests[0].percent, [7.0; DAY]);
    assert_eq!(traces.guests[1].percent, [100.0; DAY]);
    // A name is a name, even if it is a number.
    assert_eq!(names(&text(&format!("12 {}", day("7"))).unwrap()), ["12"]);
}

#[test]
fn a_folder_is_read_by_name() {
    let lines = |value: &str| day(value).replace(' ', "\n");
    let folder = folder(&[("b", lines("1")), ("B", lines("2") + "\n"), (".hidden", "x".into()), ("a b", lines("3"))]);
    let traces = Traces::read(folder.path()).unwrap();
    assert_eq!(names(&traces), ["B", "a b", "b"]);
    assert_eq!(traces.guests.iter().map(|guest| guest.percent[DAY - 1]).collect::<Vec<_>>(), [2.0, 3.0, 1.0]);
}

#[test]
fn rows_of_guests_may_alternate() {
    let rows = "vm,second,cpu\nweb, 600 ,12.5\ndb,600,1\nweb,660,0\nweb,720,99.9\ndb,660,2\ndb,720,3\n";
    let traces = text(rows).unwrap();
    assert_eq!((names(&traces), traces.step_s), (vec!["web", "db"], 60));
    assert_eq!(traces.guests[0].percent, [12.5, 0.0, 99.9]);
    assert_eq!(traces.guests[1].percent, [1.0, 2.0, 3.0]);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let with = |from: &str, to: &str| format!("a {}\nb {}\n", day("5"), day("7").replacen(from, to, 1));
    let texts: &[(&str, String)] = &[
        ("empty", String::new()),
        ("negative", with("7", "-7")),
        ("more than all", with("7", "101")),
        ("decimals", with("7", "7.5")),
        ("no number", with("7 7 7", "7 seven 7")),
        ("too few values", with("7 ", "")),
        ("too many values of a guest with one word", with("7", "7 7")),
        ("too many values of a guest with two words", format!("a b 1 {}", day("5"))),
        ("no values", "a\n".into()),
        ("the same name twice", format!("a {0}\nb {0}\na {0}\n", day("5"))),
        ("a blank line", format!("a {0}\n\nb {0}\n", day("5"))),
        ("an endless line", "7 ".repeat(10_000)),
        ("another header", "name,time,load\n".into()),
        ("too few fields", "vm,second,cpu\nweb,0\n".into()),
        ("decimal commas", "vm,second,cpu\nweb,0,12,5\n".into()),
        ("no name", "vm,second,cpu\n,0,12\n".into()),
        ("a civil time", "vm,second,cpu\nweb,2011-03-03T00:00,12\n".into()),
        ("a value that is none", "vm,second,cpu\nweb,0,NaN\n".into()),
        ("more than all in a row", "vm,second,cpu\nweb,0,100.1\n".into()),
        ("a gap", "vm,second,cpu\nweb,0,1\nweb,60,1\nweb,180,1\n".into()),
        ("back in time", "vm,second,cpu\nweb,60,1\nweb,0,1\n".into()),
        ("twice at one time", "vm,second,cpu\nweb,0,1\nweb,0,1\n".into()),
        ("a late beginning", "vm,second,cpu\nweb,0,1\ndb,60,1\n".into()),
        ("an early end", "vm,second,cpu\nweb,0,1\ndb,0,1\nweb,60,1\n".into()),
        ("no step", "vm,second,cpu\nweb,0,1\ndb,0,1\n".into()),
        ("no rows", "vm,second,cpu\n".into()),
    ];
    let mut said = String::new();
    for (defect, malformed) in texts {
        let complaint = text(malformed).expect_err(defect);
        assert!(complaint.hint.is_some(), "{defect}: {complaint}");
        writeln!(said, "{defect}: {complaint}").unwrap();
    }
    let bytes = [b"a 1 2 \xff 3".as_slice(), b"\x00\x01\n"].map(|bytes| Traces::from_text("day.txt", bytes).unwrap_err());
    for (defect, complaint) in ["not UTF-8", "no text"].iter().zip(bytes) {
        writeln!(said, "{defect}: {complaint}").unwrap();
    }
    insta::assert_snapshot!(said);
}

#[test]
fn what_is_wrong_with_a_folder_is_said_with_the_file() {
    let lines = |value: &str, count: usize| vec![value; count].join("\n");
    let inside = folder(&[("a", lines("5", DAY))]);
    fs::create_dir(inside.path().join("20110303")).unwrap();
    let folders = [
        ("empty", folder(&[(".hidden", String::new())])),
        ("a folder inside", inside),
        ("too few values", folder(&[("a", lines("5", DAY)), ("b", lines("5", 12))])),
        ("no values", folder(&[("a", String::new())])),
        ("too many values", folder(&[("a", lines("5", DAY + 1))])),
        ("no number", folder(&[("a", lines("5", 100) + "\n x\n")])),
        ("several values in a line", folder(&[("a", lines("5 6", DAY))])),
    ];
    let mut said = String::new();
    for (defect, folder) in &folders {
        let complaint = Traces::read(folder.path()).expect_err(defect).to_string();
        writeln!(said, "{defect}: {}", complaint.replace(&*folder.path().to_string_lossy(), "DAY")).unwrap();
    }
    let missing = folders[0].1.path().join("20110304");
    let complaint = Traces::read(&missing).unwrap_err().to_string();
    writeln!(said, "missing: {}", complaint.replace(&*missing.to_string_lossy(), "DAY")).unwrap();
    insta::assert_snapshot!(said);
}

#[test]
fn a_file_without_end_is_given_up_at_once() {
    let huge = tempfile::NamedTempFile::new().unwrap();
    // Sparse: it takes no room on the disk.
    huge.as_file().set_len(1 << 40).unwrap();
    let complaint = Traces::read(huge.path()).unwrap_err();
    assert!(complaint.message.contains("longer than 16 KiB"), "{complaint}");
}

#[test]
fn made_up_days_are_days() {
    let made = Traces::made_up(40, 7);
    assert_eq!(made, Traces::made_up(40, 7));
    assert_ne!(made, Traces::made_up(40, 8));
    let mut written = String::new();
    for guest in &made.guests {
        let values: Vec<String> = guest.percent.iter().map(f32::to_string).collect();
        writeln!(written, "{} {}", guest.name, values.join(" ")).unwrap();
    }
    assert_eq!(text(&written), Ok(made));
}
