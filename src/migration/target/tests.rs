use super::*;
use crate::migration::testing::{grants, id, offer};
use crate::migration::{Activity, Guest, ReasonKind};
use crate::model::{Mark, Span};

fn payload() -> Payload {
    vec![1].into()
}

/// A target, and a manager that answers what is asked in the same turn: yes.
struct Bench {
    target: Target,
    now: Timestamp,
    order: u32,
    /// Modules that the next payload lacks, in turn.
    lacks: Vec<u8>,
    /// Is what comes unreadable?
    refuses: bool,
}

fn word(thing: &impl std::fmt::Debug) -> String {
    let text = format!("{thing:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

impl Bench {
    fn first(message: Message) -> (Bench, Vec<String>) {
        let (target, effects) = Target::first(id(), message, Timing::default(), Timestamp(0)).unwrap();
        let mut bench = Bench { target, now: Timestamp(0), order: 0, lacks: Vec::new(), refuses: false };
        let words = bench.perform(effects);
        (bench, words)
    }

    fn perform(&mut self, effects: Vec<Effect>) -> Vec<String> {
        let mut words = Vec::new();
        for effect in effects {
            match effect {
                Effect::Consider => {
                    let verdict = Verdict::Permit { grants: Box::new(grants()), lacks: self.lacking() };
                    words.extend(self.give(Input::Verdict(verdict)));
                }
                Effect::Import(_) | Effect::Install(_) => {
                    let lacks = self.lacking();
                    let imported = match self.refuses {
                        true => Imported::Refused(Reason::new(ReasonKind::Import, "it is damaged")),
                        false if lacks.is_empty() => Imported::Accepted,
                        false => Imported::Lacks(lacks),
                    };
                    let is_import = matches!(effect, Effect::Import(_));
                    words.push(word(&effect).to_lowercase());
                    words.extend(self.give(if is_import { Input::Imported(imported) } else { Input::Installed(imported) }));
                }
                Effect::Send(message) => words.push(format!("say {}", word(&message))),
                Effect::Order(number, order) => {
                    self.order = number;
                    words.push(format!("order {}", word(&order)));
                }
                other => words.push(word(&other).to_lowercase()),
            }
        }
        words
    }

    fn lacking(&mut self) -> BTreeSet<Digest> {
        self.lacks.pop().map(|hash| Digest([hash; 32])).into_iter().collect()
    }

    fn give(&mut self, input: Input) -> Vec<String> {
        let effects = self.target.step(input, self.now);
        self.perform(effects)
    }

    fn hear(&mut self, message: Message) -> Vec<String> {
        self.give(Input::Message(message))
    }

    fn bound() -> Bench {
        let (mut bench, words) = Bench::first(Message::Offer(Box::new(offer())));
        assert_eq!(words, ["say Permitted"]);
        assert_eq!(bench.hear(Message::State(payload())), ["import", "say StateAccepted"]);
        assert_eq!(bench.hear(Message::Events(payload())), ["import", "say EventsAccepted"]);
        bench
    }

    fn whole() -> Bench {
        let mut bench = Bench::bound();
        let last = Round { round: 1, last: true, payload: payload() };
        assert_eq!(bench.hear(Message::Dirty(last.clone())), ["import", "say DirtyAccepted"]);
        assert_eq!(bench.hear(Message::Dirty(last)), ["say DirtyAccepted"], "a second time it is not imported");
        bench
    }

    fn pass(&mut self, span: Span) -> Vec<String> {
        self.now = self.now + span;
        self.give(Input::Tick)
    }
}

fn copy(epoch: u64) -> Answer {
    let mark = Some(Mark { plane: "b".into(), epoch });
    Answer::Guest(Guest::Here { activity: Activity::Paused, job: false, mark })
}

#[test]
fn it_owns_the_guest_from_one_step_on() {
    let mut bench = Bench::whole();
    assert_eq!(bench.hear(Message::Complete { epoch: 8, rounds: 1 }), ["order Look"]);
    assert!(!bench.target.owns());
    assert_eq!(bench.give(Input::Answer(bench.order, copy(8))), ["commit", "say CompleteAck", "order Resume"]);
    assert!(bench.target.owns());
    assert_eq!(bench.hear(Message::Complete { epoch: 8, rounds: 1 }), ["say CompleteAck"]);
    let late = |lot| Message::Late(LateFacts { lot, payload: payload() });
    assert_eq!(bench.hear(late(2)), Vec::<String>::new(), "the first lot comes first");
    assert_eq!(bench.hear(late(1)), ["import", "say LateAck", "releasesensed"]);
    assert_eq!(bench.hear(late(1)), ["say LateAck"]);
    assert_eq!(bench.give(Input::Answer(bench.order, Answer::Done)), Vec::<String>::new());
    assert!(bench.target.is_final());
    assert_eq!(bench.hear(late(2)), ["import", "say LateAck"]);
}

#[test]
fn facts_of_its_own_do_not_wait_for_ever() {
    let mut bench = Bench::whole();
    bench.hear(Message::Complete { epoch: 8, rounds: 1 });
    bench.give(Input::Answer(bench.order, copy(8)));
    assert_eq!(bench.pass(Timing::default().late), ["releasesensed"]);
}

#[test]
fn a_complete_that_does_not_fit_commits_nothing() {
    let mut bench = Bench::bound();
    assert_eq!(bench.hear(Message::Complete { epoch: 8, rounds: 0 }), ["say CompleteFailed"], "the last round is missing");
    let mut bench = Bench::whole();
    for (epoch, rounds) in [(7, 1), (9, 1), (8, 0), (8, 2)] {
        assert_eq!(bench.hear(Message::Complete { epoch, rounds }), ["say CompleteFailed"], "epoch {epoch}, {rounds} rounds");
    }
    bench.hear(Message::Complete { epoch: 8, rounds: 1 });
    let words = bench.give(Input::Answer(bench.order, copy(7)));
    assert_eq!(words, ["say CompleteFailed", "alarm"], "the copy carries another mark");
    assert!(!bench.target.owns());
}

#[test]
fn what_was_given_up_before_it_was_offered_stays_so() {
    let reason = Reason::new(ReasonKind::Cancelled, "ops cancelled it");
    let (mut bench, words) = Bench::first(Message::Abort { epoch: 7, reason, asks: false });
    assert_eq!(words, ["say Aborted"]);
    assert_eq!(bench.hear(Message::Offer(Box::new(offer()))), ["say Aborted"]);
    assert!(bench.target.is_final());
    assert!(Target::first(id(), Message::Inquire, Timing::default(), Timestamp(0)).is_none());
}

#[test]
fn a_known_name_with_another_guest_is_refused() {
    let mut bench = Bench::bound();
    assert_eq!(bench.hear(Message::Offer(Box::new(offer()))), ["say Permitted"]);
    assert_eq!(bench.hear(Message::Offer(Box::new(Offer { epoch: 8, ..offer() }))), ["say Denied"]);
    assert_eq!(bench.target.phase, Phase::Bound);
}

#[test]
fn it_gives_up_by_itself_only_before_it_is_bound() {
    let (mut bench, _) = Bench::first(Message::Offer(Box::new(offer())));
    assert_eq!(bench.pass(grants().lease), ["discard", "say Aborted"]);
    assert_eq!(bench.hear(Message::State(payload())), ["say Aborted"]);

    let mut bench = Bench::bound();
    assert_eq!(bench.pass(Span::hours(5)), ["alarm", "say Inquire"]);
    assert_eq!(bench.target.phase, Phase::Bound);
    let reason = Reason::new(ReasonKind::Hypervisor, "the job was cut off");
    assert_eq!(bench.hear(Message::Abort { epoch: 9, reason, asks: false }), ["discard", "say Aborted", "order DestroyCopy"]);
    assert_eq!(bench.hear(Message::Complete { epoch: 8, rounds: 1 }), ["say Aborted"]);
}

#[test]
fn modules_are_asked_for_as_often_as_it_takes_but_not_for_ever() {
    let (mut bench, _) = Bench::first(Message::Offer(Box::new(offer())));
    bench.lacks = vec![2, 1];
    assert_eq!(bench.hear(Message::State(payload())), ["import", "say ModuleRequest"]);
    assert_eq!(bench.hear(Message::State(payload())), ["say ModuleRequest"]);
    assert_eq!(bench.hear(Message::Parcel(payload())), ["install", "say ModuleRequest"]);
    assert_eq!(bench.hear(Message::Parcel(payload())), ["install", "import", "say StateAccepted"]);
    assert_eq!(bench.hear(Message::Parcel(payload())), Vec::<String>::new());

    let (mut bench, _) = Bench::first(Message::Offer(Box::new(offer())));
    bench.lacks = (0..100).collect();
    bench.hear(Message::State(payload()));
    let rounds = (0..100).take_while(|_| bench.hear(Message::Parcel(payload())).contains(&"say ModuleRequest".to_owned()));
    assert!(rounds.count() < 40);
    assert_eq!(bench.target.phase, Phase::Aborted);
}

#[test]
fn late_facts_that_cannot_be_read_are_told_of_once_and_left_out() {
    let mut bench = Bench::whole();
    bench.hear(Message::Complete { epoch: 8, rounds: 1 });
    bench.give(Input::Answer(bench.order, copy(8)));
    let late = |lot| Message::Late(LateFacts { lot, payload: payload() });
    bench.refuses = true;
    for _ in 0..7 {
        assert_eq!(bench.hear(late(1)), ["import"], "it is sent again");
    }
    assert_eq!(bench.hear(late(1)), ["import", "alarm", "say LateAck", "releasesensed"]);
    assert_eq!(bench.hear(late(1)), ["say LateAck"]);
    bench.refuses = false;
    assert_eq!(bench.hear(late(2)), ["import", "say LateAck"], "those after them are taken");
}
