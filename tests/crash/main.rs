//! Daemons are killed, again and again, at any moment, under load. Their fleet is another process, which goes on and writes down
//! what was really done. In the end the journals, the stores and that log must agree: no accepted fact lost or handled twice in
//! effect, no planned action forgotten, doubled or told wrongly. One plane alone; and two that hand their guests to each other,
//! where each guest always has one owner and runs once, also where the link between them is cut.
//!
//! `ROUNDS` says how often (12, or 20, unless told), `EMBOT_CRASH_SEED` what chance does, `EMBOT_CRASH_KEEP` a folder in
//! which to leave everything, also where all is well. `tests/simulate/crash.rs` and `tests/handover/crash.rs` do the same in
//! virtual time, at every single write.

mod account;
mod clock;
mod cut;
mod door;
mod exchange;
mod faults;
mod fleet;
mod handed;
mod owners;
mod pair;
mod plane;
mod process;
mod rounds;
mod stopping;
mod trouble;
mod wire;

use account::Books;
use exchange::Exchange;
use fleet::Fleet;
use pair::Pair;
use plane::Plane;
use rounds::Rounds;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// How many rounds, unless something else is asked for, and what chance does.
fn rounds(usual: u64) -> (u64, u64) {
    let by_time = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
    (number("ROUNDS").unwrap_or(usual), number("EMBOT_CRASH_SEED").unwrap_or_else(by_time))
}

/// Keeps everything where the test fails, and tells how to try the same again.
struct Told<'a> {
    fleet: &'a Fleet,
    test: &'static str,
    seed: u64,
    rounds: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let asked = std::env::var_os("EMBOT_CRASH_KEEP").map(PathBuf::from);
        let folder = asked.clone().unwrap_or_else(|| std::env::temp_dir().join("embot-crash")).join(self.test);
        if asked.is_some() || std::thread::panicking() {
            self.fleet.keep(&folder);
        }
        if std::thread::panicking() {
            let Told { test, seed, rounds, .. } = self;
            eprintln!(
                "all of it is kept in {}; try again with ROUNDS={rounds} EMBOT_CRASH_SEED={seed} cargo test --test crash {test}",
                folder.display()
            );
        }
    }
}

fn assert_sound(complaints: &[String]) {
    let some = complaints.iter().take(30).cloned().collect::<Vec<_>>().join("\n");
    assert!(complaints.is_empty(), "{} complaints:\n{some}", complaints.len());
}

#[test]
fn killed_at_any_moment_nothing_is_lost_forgotten_or_doubled() {
    let (count, seed) = rounds(12);
    let started = Instant::now();
    let plane = Plane::new(include_str!("fleet.yaml"));
    let test = "killed_at_any_moment_nothing_is_lost_forgotten_or_doubled";
    let _told = Told { fleet: plane.fleet(), test, seed, rounds: count };
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
    let books =
        Books { plane: "crash", store: &plane.path("embot.redb"), exported: &conclusion.exported, given: &rounds.given };
    let (accounts, figures) = account::compare(&[books], &account::log(&plane.fleet().effects()));
    let took = started.elapsed().as_secs_f64();
    println!("seed {seed}: {count} kills ({:?}) in {took:.0} s, {:.2} s each; {figures:?}", rounds.kills, took / count as f64);
    assert_sound(&accounts[0].complaints);
}

#[test]
fn two_planes_killed_at_any_moment_have_each_guest_once_and_lose_no_fact() {
    let (count, seed) = rounds(20);
    let started = Instant::now();
    let pair = Pair::new(include_str!("pair.yaml"));
    let test = "two_planes_killed_at_any_moment_have_each_guest_once_and_lose_no_fact";
    let _told = Told { fleet: &pair.fleet, test, seed, rounds: count };
    let mut exchange = Exchange::new(&pair, seed);
    (0..count).for_each(|_| exchange.round());
    let kills = std::mem::take(&mut exchange.kills);
    let ended = exchange.conclude();
    let took = started.elapsed().as_secs_f64();
    println!("seed {seed}: {count} rounds ({kills:?}) in {took:.0} s, {:.2} s each; {}", took / count as f64, ended.figures);
    assert_sound(&ended.complaints);
    let moved: usize = ended.accounts.iter().map(|account| account.handed.moved.len()).sum();
    assert!(moved as u64 >= count / 6, "only {moved} guests were handed over");
}
