//! The daemon is killed, again and again, at any moment, under load. Its fleet is another process, which goes on and writes down
//! what was really done. In the end the journal, the store and that log must agree: no accepted fact lost or handled twice in
//! effect, no planned action forgotten, doubled or told wrongly.
//!
//! `EMBOT_CRASH_ROUNDS` says how often (12 by default), `EMBOT_CRASH_SEED` what chance does, `EMBOT_CRASH_KEEP` a folder in
//! which to leave everything. `tests/simulate/crash.rs` does the same in virtual time, at every single write.

mod account;
mod door;
mod plane;
mod process;
mod rounds;
mod stopping;

use plane::Plane;
use rounds::Rounds;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Tells how to try the same again, where the test fails.
struct Told<'a>(&'a Plane, u64);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("try again with EMBOT_CRASH_SEED={}; the daemon's last words:\n{}", self.1, self.0.log());
        }
        if let Some(kept) = std::env::var_os("EMBOT_CRASH_KEEP") {
            self.0.keep(kept.as_ref());
        }
    }
}

#[test]
fn killed_at_any_moment_nothing_is_lost_forgotten_or_doubled() {
    let by_time = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
    let seed = number("EMBOT_CRASH_SEED").unwrap_or_else(by_time);
    let count = number("EMBOT_CRASH_ROUNDS").unwrap_or(12);
    let started = Instant::now();
    let plane = Plane::new(include_str!("fleet.yaml"));
    let _told = Told(&plane, seed);
    let mut rounds = Rounds::new(&plane, seed);

    // The first lives: a store that is being made, guests that are being adopted.
    let calm = count.div_ceil(10);
    (0..calm).for_each(|number| rounds.round(number, true));
    // Modules come when nothing else happens: from their first fact on, embots count.
    let mut daemon = rounds.start();
    plane.wait_until("all guests are adopted", &mut daemon, |status| {
        status["starting"] == false && status["open"] == 0 && status["guests_by_mode"]["act"] == 12
    });
    for (module, embots) in [("listen", 1), ("count", 13)] {
        plane.deploy(module);
        plane.wait_until("its module is in force", &mut daemon, |status| status["embots"] == embots);
    }
    daemon.kill();

    (calm..count).for_each(|number| rounds.round(number, false));
    let conclusion = rounds.conclude();
    assert!(conclusion.stopped, "the daemon did not stop with exit code 0");
    let (store, effects) = (plane.path("embot.redb"), plane.path("effects.jsonl"));
    let (complaints, figures) = account::compare(&store, &effects, &conclusion.exported, &rounds.given);
    let took = started.elapsed().as_secs_f64();
    println!("seed {seed}: {count} kills ({:?}) in {took:.0} s, {:.2} s each; {figures}", rounds.kills, took / count as f64);
    let some = complaints.iter().take(30).cloned().collect::<Vec<_>>().join("\n");
    assert!(complaints.is_empty(), "{} complaints:\n{some}", complaints.len());
}
