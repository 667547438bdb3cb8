//! Rounds: a daemon is started, has work to do, and is killed at some moment. All that is left to chance follows from the seed;
//! the machine adds its own.

use crate::door::Answer;
use crate::plane::Plane;
use crate::process::{Process, within};
use crate::trouble::trouble;
use embot::model::VmId;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

/// A command that was given, and whether an answer came: `true` where it was yes.
#[derive(Debug)]
pub struct Given {
    /// The reason it gave; no other command gives the same.
    pub reason: String,
    /// What was answered; `None` where no answer came.
    pub answer: Option<Answer>,
}

/// When the daemon is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// While it starts, before it answers or just after.
    Starting,
    /// Before it knows what became of what was under way.
    Recovering,
    /// While it works.
    Working,
    /// Amid a burst of commands.
    Burst,
    /// Right after it answered a command.
    Answered,
    /// While a migration is under way.
    Migrating,
    /// With orders sent that the fleet has not read: it stands still, and goes on while the next daemon starts.
    Frozen,
    /// With the fleet out of reach when the next daemon starts.
    Hidden,
}

const MOMENTS: [Moment; 8] = [
    Moment::Starting,
    Moment::Recovering,
    Moment::Working,
    Moment::Burst,
    Moment::Answered,
    Moment::Migrating,
    Moment::Frozen,
    Moment::Hidden,
];

/// The rounds of a test.
pub struct Rounds<'a> {
    plane: &'a Plane,
    dice: ChaCha8Rng,
    guests: Vec<VmId>,
    /// Commands given so far.
    pub given: Vec<Given>,
    /// How often the daemon was killed, by moment.
    pub kills: BTreeMap<Moment, u32>,
    /// What the fleet is to get over when the next daemon starts.
    left: Option<Moment>,
}

impl<'a> Rounds<'a> {
    pub fn new(plane: &'a Plane, seed: u64) -> Rounds<'a> {
        let dice = ChaCha8Rng::seed_from_u64(seed);
        Rounds { plane, dice, guests: Vec::new(), given: Vec::new(), kills: BTreeMap::new(), left: None }
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.dice.next_u64() % below
    }

    fn pause(&mut self, at_most_ms: u64) {
        let span = self.roll(at_most_ms);
        thread::sleep(Duration::from_millis(span));
    }

    /// Starts a daemon, and lets the fleet get over what the last round left it with.
    pub fn start(&mut self) -> Process {
        let daemon = self.plane.daemon();
        if let Some(left) = self.left.take() {
            self.pause(1_500);
            match left {
                Moment::Frozen => self.plane.fleet().freeze(false),
                _ => self.plane.fleet().hide(false),
            }
        }
        daemon
    }

    /// A round: a daemon's life up to its violent end. `calm`: nothing goes wrong but that.
    pub fn round(&mut self, number: u64, calm: bool) {
        let turn = number as usize;
        let moment = if calm { MOMENTS[turn % 3] } else { MOMENTS[turn % MOMENTS.len()] };
        let mut daemon = self.start();
        if moment == Moment::Starting {
            self.pause(400);
        } else {
            self.plane.wait_until("it answers", &mut daemon, |_| true);
        }
        if moment != Moment::Starting && moment != Moment::Recovering {
            self.plane.wait_until("it decides", &mut daemon, |status| status["starting"] == false);
            self.learn_guests();
        }
        if !calm {
            self.trouble();
        }
        match moment {
            Moment::Starting => {}
            Moment::Recovering => self.pause(300),
            Moment::Working | Moment::Hidden => {
                self.pause(2_500);
                for _ in 0..self.roll(12) {
                    self.command(number);
                    self.pause(150);
                }
            }
            Moment::Answered => {
                for _ in 0..=self.roll(6) {
                    self.command(number);
                }
            }
            Moment::Migrating => {
                let under_way = || {
                    let started = self.plane.door().get("/v1/actions?state=started")?;
                    started.as_array()?.iter().any(|action| action["verb"] == "migrate").then_some(())
                };
                within(Duration::from_secs(3), under_way);
                self.pause(300);
            }
            Moment::Frozen => {
                self.plane.fleet().freeze(true);
                self.left = Some(moment);
            }
            Moment::Burst => {}
        }
        if matches!(moment, Moment::Burst | Moment::Frozen) {
            self.burst(number, daemon);
        } else {
            daemon.kill();
        }
        if !calm && moment != Moment::Frozen {
            // Nobody sees it happen.
            self.trouble();
        }
        if moment == Moment::Hidden {
            self.plane.fleet().hide(true);
            self.left = Some(moment);
        }
        *self.kills.entry(moment).or_default() += 1;
    }

    fn learn_guests(&mut self) {
        if self.guests.is_empty() {
            self.guests = self.plane.guests();
        }
    }

    /// Something goes wrong, or not.
    fn trouble(&mut self) {
        if let Some(fault) = trouble(&mut self.dice, &["host-1", "host-2", "host-3"], &self.guests) {
            self.plane.fleet().inject(&fault);
        }
    }

    /// A command by chance: its path, its body and its reason.
    fn next_command(&mut self, round: u64) -> (&'static str, Value, String) {
        let reason = format!("command {} of round {round}", self.given.len());
        let vm = self.roll(self.guests.len().max(1) as u64) as usize;
        let vm = self.guests.get(vm).map_or_else(|| "guest-1".to_owned(), |vm| format!("vm:{vm}"));
        let plain = json!({ "vm": vm, "reason": reason });
        let (path, body) = match self.roll(9) {
            0..3 => ("migrate", plain),
            3 => ("suspend", plain),
            4 => ("resume", plain),
            5 => ("start", plain),
            6 => ("reset", plain),
            7 => ("shutdown", json!({ "vm": vm, "force_after": "1s", "reason": reason })),
            _ => ("balloon", json!({ "vm": vm, "memory_mib": 256 + self.roll(256), "reason": reason })),
        };
        (path, body, reason)
    }

    /// Gives one command and waits for the answer; then perhaps withdraws what came of it.
    fn command(&mut self, round: u64) {
        let (path, body, reason) = self.next_command(round);
        let answer = self.plane.door().post(path, &body).ok();
        let action = answer.as_ref().and_then(|answer| answer.body["actions"].get(0).cloned());
        self.given.push(Given { reason, answer });
        if let Some(action) = action.filter(|_| self.roll(4) == 0) {
            // Too late as often as not.
            let _ = self.plane.door().post("cancel", &json!({ "action": action }));
        }
    }

    /// Many commands at once, and the end of the daemon in their midst.
    fn burst(&mut self, round: u64, daemon: Process) {
        let mut commands: Vec<_> = Vec::new();
        for _ in 0..4 + self.roll(20) {
            let command = self.next_command(round);
            self.given.push(Given { reason: command.2.clone(), answer: None });
            commands.push(command);
        }
        let wait = Duration::from_millis(self.roll(120));
        let door = self.plane.door();
        let answers: Vec<_> = thread::scope(|scope| {
            let post = |(path, body, reason): (&'static str, Value, String)| {
                let door = door.clone();
                scope.spawn(move || (reason, door.post(path, &body).ok()))
            };
            let posts: Vec<_> = commands.into_iter().map(post).collect();
            thread::sleep(wait);
            daemon.kill();
            posts.into_iter().map(|post| post.join().expect("no panic")).collect()
        });
        for (reason, answer) in answers {
            let given = self.given.iter_mut().find(|given| given.reason == reason).expect("it was given");
            given.answer = answer;
        }
    }

    /// The last daemon: disarmed, waited for until nothing is open, its journal exported, and told to stop.
    pub fn conclude(&mut self) -> Conclusion {
        let plane = self.plane;
        let mut daemon = self.start();
        plane.wait_until("it decides", &mut daemon, |status| status["starting"] == false);
        let disarmed = plane.door().post("disarm", &json!({})).expect("an answer");
        assert_eq!(disarmed.code, 200, "{disarmed:?}");
        plane.wait_until("nothing is open", &mut daemon, |status| status["open"] == 0);
        let exported = plane.export();
        Conclusion { exported, stopped: plane.stop(daemon) }
    }
}

/// How it ended.
pub struct Conclusion {
    /// What `embot journal export` wrote.
    pub exported: Vec<u8>,
    /// Did the daemon stop by itself, with exit code 0?
    pub stopped: bool,
}
