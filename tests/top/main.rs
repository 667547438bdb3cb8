//! `embot top` on a real terminal, as people use it: a daemon on a simulated fleet, the program within tmux, keys and all.
//!
//! What a screen shows is kept as a text. Times and counts that differ from run to run are written as `#`.

mod plane;
mod terminal;

use plane::Plane;
use std::process::{Command, Stdio};
use terminal::Terminal;

/// The blocks of twelve equal samples of a host whose load never changes.
const STEADY: &str = "▃▃▃▃▃▃▃▃▃▃▃▃";

/// What the plane tells admins last.
const LAST: &str = "2 actions wait for your approval";

/// Everything that is to come has come: the advice, and loads for long enough.
fn is_complete(screen: &str, hosts: usize) -> bool {
    screen.contains("advice 2") && screen.matches(STEADY).count() == hosts && !screen.contains("...")
}

#[test]
fn two_hosts() {
    let Some(tmux) = terminal::tmux() else { return };
    let plane = Plane::start(2);
    plane.until_told(LAST);
    for (width, height) in [(80, 24), (200, 50)] {
        let terminal = Terminal::new(tmux, width, height);
        terminal.run(&plane.top());
        let screen = terminal.wait("all is shown", |screen| is_complete(screen, 2));
        insta::assert_snapshot!(format!("two_hosts_{width}x{height}"), masked(&screen));
    }
}

#[test]
fn five_hundred_hosts() {
    let Some(tmux) = terminal::tmux() else { return };
    let plane = Plane::start(500);
    plane.until_told(LAST);
    for (width, height, rows) in [(80, 24, 12), (200, 50, 19)] {
        let terminal = Terminal::new(tmux, width, height);
        terminal.run(&plane.top());
        let screen = terminal.wait("all is shown", |screen| is_complete(screen, rows));
        insta::assert_snapshot!(format!("five_hundred_hosts_{width}x{height}"), masked(&screen));
        terminal.keys(&["2", "End"]);
        terminal.wait("the last guest is in sight", |screen| screen.contains("of 1002") && screen.contains("web-999 "));
    }
}

#[test]
fn advice_is_answered_and_the_terminal_is_given_back() {
    let Some(tmux) = terminal::tmux() else { return };
    let plane = Plane::start(2);
    let terminal = Terminal::new(tmux, 100, 30);
    terminal.run("echo was here before");
    terminal.wait("the shell answers", |screen| screen.lines().any(|line| line == "was here before"));
    terminal.run(&plane.top());
    terminal.wait("there is advice", |screen| screen.contains("advice 2"));
    terminal.keys(&["3"]);
    terminal.wait("advice is listed", |screen| screen.contains("start db-1") && screen.contains("start db-2"));
    terminal.keys(&["Enter"]);
    terminal.wait("it is explained", |screen| screen.contains("restart-now.rhai:1:") && screen.contains("db-1 crashed"));
    // Esc with a key right behind it would be that key with Alt.
    terminal.keys(&["Escape"]);
    terminal.wait("the list is back", |screen| screen.contains("Actions 2"));
    terminal.keys(&["a"]);
    terminal.wait("it is carried out", |screen| screen.contains("done 1 start db-1"));
    terminal.wait("only one is left", |screen| screen.contains("advice 1"));
    terminal.keys(&["Home", "r"]);
    terminal.wait("it asks why", |screen| screen.contains("Reject action 2, because:"));
    terminal.keys(&["not now", "Enter"]);
    terminal.wait("it is rejected", |screen| screen.contains("rejected 2 start db-2"));
    let explained = plane.embot(&["explain", "2"]);
    assert!(explained.contains("not now"), "the reason is kept:\n{explained}");
    let rejections = plane.embot(&["plan", "rejections"]);
    assert!(rejections.contains("start db-2") && rejections.contains(": not now"), "{rejections}");
    let lifted = plane.embot(&["plan", "lift", "2"]);
    assert!(lifted.contains("module restart-now may advise to start db-2 again"), "{lifted}");
    let rejections = plane.embot(&["plan", "rejections"]);
    assert!(rejections.starts_with("Nothing that was rejected"), "{rejections}");
    terminal.keys(&["1", "m", "y"]);
    terminal.wait("a host is in maintenance", |screen| screen.contains("maintenance 1"));
    terminal.keys(&["d", "y"]);
    terminal.wait("the plane is disarmed", |screen| screen.contains("disarmed"));

    terminal.keys(&["C-z"]);
    terminal.wait("the shell is back", |screen| screen.contains("Stopped") && screen.contains("was here before"));
    terminal.run("fg; echo top ended $?");
    terminal.wait("the plane is back", |screen| screen.contains("disarmed") && !screen.contains("was here before"));
    terminal.keys(&["q"]);
    let ended = |screen: &str| screen.lines().any(|line| line == "top ended 0") && screen.contains("was here before");
    terminal.wait("the screen is as it was", ended);
    terminal.run("clear; stty -a");
    terminal.wait("the terminal echoes lines", |screen| screen.contains(" icanon") && screen.contains(" echo "));
}

#[test]
fn a_daemon_that_goes_away_is_waited_for_and_signals_end_it() {
    let Some(tmux) = terminal::tmux() else { return };
    let mut plane = Plane::start(2);
    let terminal = Terminal::new(tmux, 80, 24);
    terminal.run(&format!("sh -c 'echo $$ > {}; exec {}'", plane.path("id").display(), plane.top()));
    terminal.wait("the plane is shown", |screen| screen.contains("hosts 2/2") && screen.contains("host-2 "));
    plane.kill();
    let lost = |screen: &str| screen.contains("no answer for") && screen.contains("host-2 ");
    terminal.wait("its last picture stays", lost);
    terminal.resize(60, 20);
    terminal.wait("it fits the terminal", |screen| lost(screen) && !screen.contains("LAST MINUTES"));
    plane.restart();
    terminal.wait("it is back", |screen| screen.contains("host-2 ") && screen.contains("?: keys"));
    let id = std::fs::read_to_string(plane.path("id")).unwrap();
    terminal.wait("top is asked to end", |_| plane::terminate(id.trim()));
    terminal.run("echo and the shell is $((1 + 1)) back");
    terminal.wait("the shell is back", |screen| screen.contains("and the shell is 2 back"));
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let said = Command::new(env!("CARGO_BIN_EXE_embot")).arg("top").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(said.stdout.is_empty());
    assert!(text.contains("needs a terminal") && text.contains("`embot status`"), "{text}");
}

/// Times of day, the figures in the second line, and of how many hosts was heard when a module was loaded.
fn masked(screen: &str) -> String {
    let mut text = String::new();
    for (at, line) in screen.lines().enumerate() {
        // Nothing of interest stands behind it.
        let line = match line.split_once(" is in force with ") {
            Some((before, _)) => format!("{before} is in force"),
            None => line.to_owned(),
        };
        let mut characters: Vec<char> = line.chars().collect();
        for place in 0..characters.len() {
            let is_time = characters.len() >= place + 8
                && characters[place..place + 8].iter().zip("00:00:00".chars()).all(|(found, form)| match form {
                    ':' => *found == ':',
                    _ => found.is_ascii_digit(),
                });
            if is_time {
                characters[place..place + 8].copy_from_slice(&"##:##:##".chars().collect::<Vec<_>>());
            }
        }
        let line: String = characters.into_iter().collect();
        // Of the figures, some depend on how long it has run, and how many there is room for on those.
        let line = if at == 1 {
            let figures = line.split("  ").filter_map(|figure| match figure.split_once(' ')? {
                (name @ ("events" | "queue"), _) => Some(format!("{name} #")),
                (name @ ("open" | "attention" | "advice" | "done" | "failed"), count) => Some(format!("{name} {count}")),
                _ => None,
            });
            figures.collect::<Vec<_>>().join("  ")
        } else {
            line
        };
        text += line.trim_end();
        text += "\n";
    }
    text
}
