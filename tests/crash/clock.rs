//! The machine's clock jumps by an hour, both ways, under a running daemon and between two. The plane's time goes on evenly:
//! nothing is due, expires or is done again by a jump, and an admin is told.

use crate::account::log;
use crate::fleet::LONG;
use crate::plane::Plane;
use crate::process::{Process, within};
use embot::hypervisor::simulated::{LogLine, Outcome};
use embot::model::Span;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

const FLEET: &str = "
hosts: [{ name: 'host-{n}', count: 3, cpus: 8, memory_mib: 8192 }]
guests: [{ name: 'guest-{n}', count: 3, memory_mib: 512 }]
";

/// Something that is due in half an hour, and advice that is over after half an hour.
const POLICY: &str = "
fn on_loaded(event) { after(minutes(30), \"half\"); print(\"it waits\"); }
fn on_timer(event) { print(\"half an hour has passed\"); }
fn on_load(vm) { if vm.state == \"running\" { vm.suspend(\"for a look\"); } }
";

const MODULE: &str = "
module: wait
version: '1'
policies: [wait.rhai]
covers: { each: vm }
mode: advise
permits: [suspend]
";

/// A machine's clock that can be set.
struct MachineClock<'a>(&'a Plane);

impl MachineClock<'_> {
    fn new(plane: &Plane) -> MachineClock<'_> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/clock.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(plane.path("clock.so")).arg(source).status();
        assert!(built.expect("a C compiler").success());
        let clock = MachineClock(plane);
        clock.set(0);
        clock
    }

    /// So many seconds from what it is.
    fn set(&self, seconds: i64) {
        // In one step, so that nobody reads half of it.
        fs::write(self.0.path("clock.new"), seconds.to_string()).expect("a file");
        fs::rename(self.0.path("clock.new"), self.0.path("clock")).expect("a file");
    }

    fn daemon(&self) -> Process {
        let config = self.0.path("plane.yaml").display().to_string();
        let variables = [("LD_PRELOAD", self.0.path("clock.so")), ("TEST_CLOCK", self.0.path("clock"))];
        Process::start_with(&["run", "--config", &config], &self.0.path("daemon.log"), &variables)
    }

    /// What the daemon says of a clock.
    fn told(&self, word: &str) -> String {
        let line =
            || self.0.said().lines().rfind(|line| line.contains("machine's clock") && line.contains(word)).map(str::to_owned);
        let line = within(LONG, line).unwrap_or_else(|| panic!("it says nothing of `{word}`:\n{}", self.0.log()));
        line[line.find("the machine's clock").expect("it is there")..].to_owned()
    }
}

/// Just under an hour is an hour: what has passed between two daemons differs from run to run.
fn steady(line: &str) -> String {
    let word = |word: &str| match word.trim_end_matches([',', '.']).parse::<Span>() {
        Ok(span) if (Span::minutes(55)..Span::hours(1)).contains(&span) => "1h".to_owned(),
        _ => word.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The plane's time, in milliseconds since 1970.
fn time(status: &Value) -> i64 {
    let now: embot::api::stamp::Stamp = serde_json::from_value(status["now"].clone()).expect("a time");
    now.0.0
}

#[test]
fn a_clock_that_jumps_an_hour_both_ways_makes_nothing_due_and_nothing_done_twice() {
    let plane = Plane::new(FLEET);
    plane.configure(&[("guardrails:\n", "guardrails:\n  advice_expires: 30m\n")]);
    let clock = MachineClock::new(&plane);
    let mut daemon = clock.daemon();
    plane.wait_until("all guests are adopted", &mut daemon, |status| {
        status["starting"] == false && status["guests_by_mode"]["act"] == 3 && status["open"] == 0
    });
    fs::write(plane.path("policies/wait.rhai"), POLICY).expect("a file");
    fs::write(plane.path("embots/wait.yaml"), MODULE).expect("a file");
    let begun = plane.wait_until("there is advice", &mut daemon, |status| status["advised"] == 3);
    let mut last = time(&begun);
    let mut asked = 0;
    // Everything is as it was, the plane's time has gone on a little, and what is asked for is done, once.
    let mut goes_on = |daemon: &mut Process| {
        let now =
            plane.wait_until("it goes on", daemon, |status| status["starting"] == false && status["hosts_down"] == json!([]));
        let passed = time(&now) - last;
        assert!((0..30 * 60 * 1_000).contains(&passed), "{passed} ms have passed for the plane");
        last = time(&now);
        assert_eq!(now["advised"], 3, "no advice is over: {now}\n{}", plane.log());
        asked += 1;
        let answer = plane.door().post("reset", &json!({ "vm": "guest-1", "reason": "to see" })).expect("an answer");
        assert_eq!(answer.code, 200, "{answer:?}");
        plane.wait_until("it is done", daemon, |status| status["open"] == 0);
    };
    goes_on(&mut daemon);
    clock.set(3_600);
    let mut told = vec![clock.told("forward by 1h")];
    goes_on(&mut daemon);
    clock.set(0);
    told.push(clock.told("agree again"));
    clock.set(-3_600);
    told.push(clock.told("ahead of that clock"));
    goes_on(&mut daemon);

    // It starts again while the clock is an hour behind the journal.
    assert!(plane.stop(daemon));
    let mut daemon = clock.daemon();
    told.push(clock.told("behind the newest entry"));
    goes_on(&mut daemon);
    let exported = String::from_utf8(plane.export()).expect("text");
    assert!(plane.stop(daemon));
    insta::assert_snapshot!("clock_jumps", told.iter().map(|line| steady(line)).collect::<Vec<_>>().join("\n"));

    let effects = log(&plane.fleet().effects());
    let resets = |line: &&LogLine| matches!(line, LogLine::Effect(effect) if effect.verb == embot::model::Verb::Reset);
    let begun = effects
        .iter()
        .filter(resets)
        .filter(|line| matches!(line, LogLine::Effect(effect) if effect.outcome == Outcome::Begun));
    assert_eq!(begun.count(), asked, "each was done once");
    let says = |text: &str| exported.lines().any(|line| line.contains("\"record\":\"log\"") && line.contains(text));
    assert!(says("it waits") && !says("half an hour has passed"), "the timer is set, and was not due");
}
