//! Rounds of two planes: guests go back and forth between them, and one daemon, both or neither is killed at some moment.
//! All that is left to chance follows from the seed; the machine adds its own.

use crate::account::{self, Account, Books};
use crate::fleet::LONG;
use crate::owners;
use crate::pair::{NAMES, Pair};
use crate::plane::Plane;
use crate::process::{Process, within};
use crate::rounds::Given;
use crate::trouble::trouble;
use embot::model::VmId;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

/// Nobody waits longer for a migration to come to the phase in which a daemon is to die.
const PATIENCE: Duration = Duration::from_millis(1_200);

/// Phases of a source and of a target that can be seen from outside: those in between last no longer than a look.
const PHASES: [&str; 8] = ["offering", "moving", "last_round", "handing_over", "retiring", "permitted", "bound", "committed"];

const HOSTS: [&str; 4] = ["a-1", "a-2", "b-1", "b-2"];

/// The rounds of a test.
pub struct Exchange<'a> {
    pair: &'a Pair,
    dice: ChaCha8Rng,
    daemons: [Option<Process>; 2],
    guests: Vec<VmId>,
    /// Commands given so far to each plane.
    given: [Vec<Given>; 2],
    /// How often which daemons were killed, and at which moment.
    pub kills: BTreeMap<String, u32>,
}

impl<'a> Exchange<'a> {
    /// Both daemons run, all guests are adopted, six by each, and the modules are in force.
    pub fn new(pair: &'a Pair, seed: u64) -> Exchange<'a> {
        let dice = ChaCha8Rng::seed_from_u64(seed);
        let (given, kills) = Default::default();
        let mut exchange = Exchange { pair, dice, daemons: [None, None], guests: Vec::new(), given, kills };
        exchange.start();
        exchange.each("it has adopted its guests", |status| {
            status["starting"] == false && status["open"] == 0 && status["guests_by_mode"]["act"] == 6
        });
        exchange.guests = pair.planes.iter().flat_map(Plane::guests).collect();
        // Who counts is heard from the first fact on.
        for (modules, last) in [(1, "listen"), (2, "admit-offers"), (3, "count")] {
            pair.planes.iter().for_each(|plane| plane.deploy(last));
            exchange.each("its modules are in force", |status| status["modules"] == modules);
        }
        exchange
    }

    /// Waits until both daemons' views of themselves are as wanted.
    fn each(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) {
        for (plane, daemon) in self.pair.planes.iter().zip(&mut self.daemons) {
            plane.wait_until(what, daemon.as_mut().expect("it was started"), &is_so);
        }
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.dice.next_u64() % below
    }

    fn pause(&mut self, at_most_ms: u64) {
        let span = self.roll(at_most_ms);
        thread::sleep(Duration::from_millis(span));
    }

    /// Starts the daemons that do not run.
    fn start(&mut self) {
        for (plane, daemon) in self.pair.planes.iter().zip(&mut self.daemons) {
            daemon.get_or_insert_with(|| plane.daemon());
        }
    }

    /// A round: both daemons live up to the moment in which one of them, both or none dies.
    pub fn round(&mut self) {
        self.start();
        let moment = match self.roll(25) {
            0 => {
                // A source that was started again looks a while before it believes that a move has failed.
                self.pause(8_000);
                "calm"
            }
            1..3 => {
                self.pause(300);
                "starting"
            }
            3..10 => {
                for _ in 0..self.roll(4) {
                    self.command();
                }
                self.pause(700);
                "working"
            }
            _ => {
                let phase = PHASES[self.roll(PHASES.len() as u64) as usize];
                within(PATIENCE, || self.comes_to(phase).then_some(()));
                self.pause(30);
                phase
            }
        };
        if self.roll(3) == 0
            && let Some(fault) = trouble(&mut self.dice, &HOSTS, &self.guests)
        {
            self.pair.fleet.inject(&fault);
        }
        let (victims, who): (&[usize], _) = match self.roll(9) {
            0..3 => (&[0], "a"),
            3..6 => (&[1], "b"),
            6 | 7 => (&[0, 1], "both"),
            _ => (&[], "neither"),
        };
        for victim in victims {
            if let Some(daemon) = self.daemons[*victim].take() {
                daemon.kill();
            }
        }
        *self.kills.entry(who.to_owned()).or_default() += 1;
        *self.kills.entry(moment.to_owned()).or_default() += 1;
        if self.roll(4) == 0 {
            // Whoever is left goes on alone for a while.
            self.pause(600);
        }
    }

    /// Has a migration of either plane come to this phase?
    fn comes_to(&self, phase: &str) -> bool {
        let open = self.pair.planes.iter().filter_map(|plane| plane.door().get("/v1/migrations?open=true"));
        let has = |migration: &Value| {
            let phases = migration["phases"].as_array();
            phases.is_some_and(|phases| phases.iter().any(|one| one["phase"] == phase))
        };
        open.into_iter().any(|open| open.as_array().is_some_and(|open| open.iter().any(has)))
    }

    /// An admin wants a guest to go from one plane to the other, wherever it is.
    fn command(&mut self) {
        let from = self.roll(2) as usize;
        let guest = self.roll(self.guests.len() as u64) as usize;
        let reason = format!("command {}", self.given.iter().map(Vec::len).sum::<usize>());
        let body = json!({ "vm": format!("vm:{}", self.guests[guest]), "to": NAMES[1 - from], "reason": reason });
        let answer = self.pair.planes[from].door().post("migrate", &body).ok();
        self.given[from].push(Given { reason, answer });
    }

    /// The last daemons: disarmed, waited for until nothing is open, their journals exported, and told to stop. Then what they
    /// and the fleet left behind is compared.
    pub fn conclude(mut self) -> Ended {
        self.start();
        let pair = self.pair;
        self.each("it decides", |status| status["starting"] == false);
        for plane in &pair.planes {
            let disarmed = plane.door().post("disarm", &json!({})).expect("an answer");
            assert_eq!(disarmed.code, 200, "{disarmed:?}");
        }
        self.each("nothing is open", |status| status["open"] == 0);
        let open = |plane: usize| pair.planes[plane].door().get("/v1/migrations?open=true").unwrap_or_default();
        let over = || [0, 1].map(open).iter().all(|open| open.as_array().is_some_and(Vec::is_empty)).then_some(());
        within(LONG, over).unwrap_or_else(|| panic!("migrations never end: {:#}\n{:#}", open(0), open(1)));
        let exported = pair.planes.each_ref().map(Plane::export);
        for (plane, daemon) in pair.planes.iter().zip(&mut self.daemons) {
            assert!(daemon.take().is_some_and(|daemon| plane.stop(daemon)), "it stops by itself, with exit code 0");
        }
        let stores = pair.planes.each_ref().map(|plane| plane.path("embot.redb"));
        let books = [0, 1].map(|plane| Books {
            plane: NAMES[plane],
            store: &stores[plane],
            exported: &exported[plane],
            given: &self.given[plane],
        });
        let log = account::log(&pair.fleet.effects());
        let (accounts, figures) = account::compare(&books, &log);
        let mut complaints: Vec<String> = accounts.iter().flat_map(|account| account.complaints.clone()).collect();
        complaints.extend(owners::compare(&accounts, &log));
        Ended { accounts, figures: figures.join("; "), complaints }
    }
}

/// How it ended.
pub struct Ended {
    pub accounts: Vec<Account>,
    /// For a look.
    pub figures: String,
    /// What does not agree.
    pub complaints: Vec<String>,
}
