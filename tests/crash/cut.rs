//! The link between two daemons is cut: at any byte, in mid-bundle, while the files of a cold guest are copied. A handover is
//! taken up again or taken back, and each guest has one owner and runs once.

use crate::account;
use crate::exchange::Exchange;
use crate::fleet::LONG;
use crate::pair::{NAMES, Pair};
use crate::plane::Plane;
use crate::process::{Process, within};
use crate::wire::Wire;
use crate::{Told, assert_sound, owners, rounds};
use embot::model::{Outcome, Side};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Two planes, and the wires that end at each of them.
fn wired(fleet: &str) -> (Pair, [Wire; 2]) {
    let mut wires = Vec::new();
    let pair = Pair::wired(fleet, |address| {
        wires.push(Wire::to(address));
        wires[wires.len() - 1].address()
    });
    (pair, wires.try_into().unwrap_or_else(|_| unreachable!("there are two planes")))
}

/// The migrations that go on, by either plane.
fn open(pair: &Pair) -> BTreeSet<String> {
    let open = pair.planes.iter().filter_map(|plane| plane.door().get("/v1/migrations?open=true"));
    let ids = |migrations: Value| -> Vec<String> {
        let migrations = migrations.as_array().into_iter().flatten();
        migrations.filter_map(|migration| Some(migration["id"].as_str()?.to_owned())).collect()
    };
    open.flat_map(ids).collect()
}

#[test]
fn a_link_that_is_cut_at_any_byte_leaves_each_guest_one_owner() {
    let (count, seed) = rounds(40);
    // A cut takes as long as some kills.
    let cuts = count.div_ceil(5);
    let started = Instant::now();
    let (pair, wires) = wired(include_str!("pair.yaml"));
    for plane in &pair.planes {
        // What waits for an answer in vain is given up before the test is.
        plane.configure(&[("peers: [", "handover: { step_timeout: 3s }\npeers: [")]);
    }
    let test = "a_link_that_is_cut_at_any_byte_leaves_each_guest_one_owner";
    let _told = Told { fleet: &pair.fleet, test, seed, rounds: count };
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut roll = |below: u64| dice.next_u64() % below;
    let exchange = Exchange::new(&pair, seed);
    let mut hit = BTreeSet::new();
    for _ in 0..cuts {
        let cut: &[usize] = [&[0][..], &[1], &[0, 1]][roll(3) as usize];
        for wire in cut {
            wires[*wire].cut_after(1 + roll(12_000));
        }
        // Where little is said, pings alone take long to come to that byte.
        within(Duration::from_secs(2), || cut.iter().all(|wire| wires[*wire].is_cut()).then_some(()));
        cut.iter().for_each(|wire| wires[*wire].cut_after(0));
        hit.extend(open(&pair));
        // One in four lasts longer than a step may.
        thread::sleep(Duration::from_millis(if roll(4) == 0 { 4_000 } else { roll(1_000) }));
        wires.iter().for_each(Wire::mend);
        // The planes find each other again.
        let met = || pair.planes.iter().all(is_met).then_some(());
        within(LONG, met).expect("the planes are connected again");
    }
    let mut ended = exchange.conclude();
    // What waits longer than a step from the last round on, an admin is told of. Nothing else is to be complained of.
    ended.complaints.retain(|complaint| !complaint.contains("undecided: plane site-") || !complaint.contains("within 3s"));
    let mut outcomes = BTreeMap::<&str, u64>::new();
    for (id, row) in ended.accounts.iter().flat_map(|account| &account.recovered.migrations) {
        if row.side == Side::Source && hit.contains(&id.to_string()) {
            let outcome = if row.outcome == Some(Outcome::Moved) { "taken up again" } else { "taken back" };
            *outcomes.entry(outcome).or_default() += 1;
        }
    }
    let took = started.elapsed().as_secs_f64();
    println!("seed {seed}: {cuts} cuts in {took:.0} s, of the handovers under way {outcomes:?}; {}", ended.figures);
    assert_sound(&ended.complaints);
    assert!(outcomes.values().sum::<u64>() >= cuts / 2, "too few handovers were under way: {outcomes:?}");
}

/// Is the other plane connected, both ways?
fn is_met(plane: &Plane) -> bool {
    let peers = plane.door().get("/v1/peers").unwrap_or_default();
    peers["peers"].as_array().is_some_and(|peers| peers.iter().all(|peer| peer["reachable"] == true))
}

/// Nothing happens here by itself. A cold guest's files take some seconds.
const QUIET: &str = "
hosts:
  - { name: 'a-{n}', count: 2, cpus: 8, memory_mib: 8192, bandwidth_mib_per_s: 250 }
  - { name: 'b-{n}', count: 2, cpus: 8, memory_mib: 8192, bandwidth_mib_per_s: 250 }
guests: [{ name: 'web-{n}', count: 2, on: [a-1], memory_mib: 256, disk_mib: 1000 }]
times: { start: 300ms, boot: 300ms, shutdown: 300ms, quick: 60ms }
";

/// Keeps some 50 kB of state, so that a bundle takes long enough to be cut in its midst.
const HEAVY: (&str, &str) = (
    "
module: heavy
version: '1'
policies: [heavy.rhai]
covers: { each: vm }
mode: act
permits: []
",
    "
fn on_loaded(event) {
    let list = [];
    for number in 0..800 { list.push(`${number}: ${random()} ${random()} ${random()}`); }
    this.list = list;
}
",
);

/// Of the bundle's bytes: more than an offer has, and less than the state.
const MID_BUNDLE: u64 = 24_000;

/// Two daemons with a wire from the first to the second, and guests that the first owns.
struct Calm {
    // Dropped first.
    daemons: [Process; 2],
    pair: Pair,
    wires: [Wire; 2],
}

impl Calm {
    fn new() -> Calm {
        let (pair, wires) = wired(QUIET);
        for plane in &pair.planes {
            let changes = "migration: { copy_storage: true }\nhandover: { step_timeout: 6s, names: { paths: { /images/: /images/ } } }\npeers: [";
            plane.configure(&[("peers: [", changes)]);
            plane.deploy("admit-offers");
            fs::write(plane.path("policies/heavy.rhai"), HEAVY.1).expect("a file");
            fs::write(plane.path("embots/heavy.yaml"), HEAVY.0).expect("a file");
        }
        let daemons = pair.planes.each_ref().map(Plane::daemon);
        let mut calm = Calm { daemons, pair, wires };
        for (own, guests) in [(0, 2), (1, 0)] {
            calm.wait(own, "it decides", |status| status["starting"] == false && status["modules"] == 2);
            let adopted = |status: &Value| status["open"] == 0 && (guests == 0 || status["guests_by_mode"]["act"] == guests);
            calm.wait(own, "its guests are adopted", adopted);
        }
        let met = || calm.pair.planes.iter().all(is_met).then_some(());
        within(LONG, met).expect("the planes are connected");
        calm
    }

    fn wait(&mut self, plane: usize, what: &str, is_so: impl Fn(&Value) -> bool) {
        self.pair.planes[plane].wait_until(what, &mut self.daemons[plane], is_so);
    }

    /// The first plane hands a guest to the second.
    fn migrate(&self, guest: &str, live: bool) {
        let body = json!({ "vm": guest, "to": NAMES[1], "live": live });
        let answer = self.pair.planes[0].door().post("migrate", &body).expect("an answer");
        assert_eq!(answer.code, 200, "{answer:?}");
    }

    /// The last migration of a guest, as the first plane has it, once it is as wanted.
    fn until(&self, guest: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let last = || {
            let all = self.pair.planes[0].door().get("/v1/migrations")?;
            let of_guest = |migration: &&Value| migration["name"] == guest;
            all.as_array()?.iter().filter(of_guest).max_by_key(|one| number(one)).cloned()
        };
        let found = within(LONG, || last().filter(&is_so));
        found.unwrap_or_else(|| panic!("{guest}, never {what}: {:#?}\n{}", last(), self.pair.planes[0].log()))
    }

    /// The guest runs once, on a host of this plane, which alone owns it.
    fn belongs(&self, guest: &str, owner: usize) {
        let known = |plane: usize| self.pair.planes[plane].door().get(&format!("/v1/elements/{guest}"));
        let name = NAMES[owner];
        let is_there = || known(owner).filter(|one| one["element"]["owner"] == name && one["element"]["state"] == "running");
        within(LONG, is_there).unwrap_or_else(|| panic!("{guest} is not at {name}: {:#?} {:#?}", known(0), known(1)));
        let gone = || known(1 - owner).is_none_or(|one| one["element"]["owner"] == name).then_some(());
        within(LONG, gone).unwrap_or_else(|| panic!("{guest} is elsewhere as well: {:#?}", known(1 - owner)));
        for plane in &self.pair.planes {
            let over =
                || plane.door().get("/v1/migrations?open=true").filter(|open| open.as_array().is_some_and(Vec::is_empty));
            within(LONG, over).unwrap_or_else(|| panic!("a migration never ends:\n{}", plane.log()));
        }
        let complaints = owners::runs(&account::log(&self.pair.fleet.effects()));
        assert_sound(&complaints);
    }
}

fn number(migration: &Value) -> u64 {
    migration["id"].as_str().and_then(|id| id.rsplit('/').next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn phase(migration: &Value) -> &str {
    let phases = migration["phases"].as_array();
    phases.and_then(|phases| phases.last()).and_then(|last| last["phase"].as_str()).unwrap_or_default()
}

#[test]
fn a_link_cut_in_mid_bundle_is_taken_up_again_or_the_guest_stays() {
    let calm = Calm::new();
    let [_, wire] = &calm.wires;
    for (guest, is_mended) in [("web-1", true), ("web-2", false)] {
        wire.cut_after(MID_BUNDLE);
        calm.migrate(guest, true);
        within(LONG, || wire.is_cut().then_some(())).expect("the bundle comes to that byte");
        let cut = calm.until(guest, "it states", |migration| phase(migration) != "offering");
        assert_eq!((phase(&cut), &cut["state"]), ("stating", &json!("underway")), "{cut:#}");
        if is_mended {
            wire.mend();
            calm.until(guest, "it goes over", |migration| migration["state"] == "moved");
            calm.belongs(guest, 1);
        } else {
            // It manages the guest on, and tells the other plane as soon as it can.
            calm.until(guest, "it is given up", |migration| phase(migration) == "telling_peer" && migration["held"] == 0);
            wire.mend();
            let stayed = calm.until(guest, "it is taken back", |migration| migration["state"] == "stayed");
            assert!(stayed["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{stayed:#}");
            calm.belongs(guest, 0);
        }
    }
}

#[test]
fn a_link_cut_while_files_are_copied_delays_the_guest_and_no_more() {
    let calm = Calm::new();
    let [_, wire] = &calm.wires;
    for (guest, until) in [("web-1", "moving"), ("web-2", "last_round")] {
        calm.migrate(guest, false);
        let part = |one: &Value| phase(one) == "moving" && (1..one["total_bytes"].as_u64().unwrap_or(0)).contains(&sent(one));
        calm.until(guest, "a part of it is copied", part);
        wire.cut_after(0);
        // The copy goes from host to host; it ends, or goes on for a while.
        let before = sent(&calm.until(guest, "it is known", |_| true));
        calm.until(guest, "the copy goes on", |migration| phase(migration) != "moving" || sent(migration) > before);
        let cut = calm.until(guest, "it is so far", |migration| phase(migration) == until);
        assert_eq!(cut["state"], "underway", "{cut:#}");
        wire.mend();
        calm.until(guest, "it goes over", |migration| migration["state"] == "moved");
        calm.belongs(guest, 1);
    }
}

fn sent(migration: &Value) -> u64 {
    migration["sent_bytes"].as_u64().unwrap_or(0)
}
