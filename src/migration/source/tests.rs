use super::*;
use crate::migration::message::{Grants, LateFacts, Record, Round};
use crate::migration::testing::{grants, id, offer};
use crate::migration::{Activity, Guest, OrderFault, ReasonKind, Side, Way};
use crate::model::Span;

fn payload() -> Payload {
    vec![1].into()
}

fn granted() -> Message {
    Message::Permitted(Box::<Grants>::new(grants()))
}

/// A source, and a manager that answers what is asked in the same turn.
struct Bench {
    source: Source,
    now: Timestamp,
    /// The number of the last order.
    order: u32,
}

impl Bench {
    fn new() -> Bench {
        let source = Source::new(id(), offer(), Timing::default(), Timestamp(0));
        let mut bench = Bench { source, now: Timestamp(0), order: 0 };
        bench.give(Input::Begin);
        bench
    }

    /// What came of an input, in words.
    fn give(&mut self, input: Input) -> Vec<String> {
        let mut words = Vec::new();
        for effect in self.source.step(input, self.now) {
            match effect {
                Effect::Capture(what) => {
                    words.push(format!("capture {what:?}"));
                    words.extend(self.give(Input::Captured(what, Some(payload()))));
                }
                Effect::Pack(_) => words.extend(self.give(Input::Packed(Ok(payload())))),
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

    fn hear(&mut self, message: Message) -> Vec<String> {
        self.give(Input::Message(message))
    }

    fn answer(&mut self, answer: Answer) -> Vec<String> {
        self.give(Input::Answer(self.order, answer))
    }

    /// As far as the job.
    fn moving() -> Bench {
        let mut bench = Bench::new();
        for message in [granted(), Message::StateAccepted, Message::EventsAccepted] {
            bench.hear(message);
        }
        bench.answer(Answer::Done);
        assert_eq!(bench.source.phase, Phase::Moving);
        bench
    }

    fn looked(&mut self, guest: Guest) -> Vec<String> {
        self.answer(Answer::JobEnded(Ok(())));
        self.answer(Answer::Guest(guest))
    }

    fn pass(&mut self, span: Span) -> Vec<String> {
        self.now = self.now + span;
        self.give(Input::Tick)
    }
}

/// The name of a variant.
fn word(thing: &impl std::fmt::Debug) -> String {
    let text = format!("{thing:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

fn here(activity: Activity) -> Guest {
    Guest::Here { activity, job: false, mark: None }
}

fn cancel() -> Input {
    Input::Cancel(Reason::new(ReasonKind::Cancelled, "ops cancelled it"))
}

#[test]
fn a_handover_goes_through_its_steps() {
    let mut bench = Bench::new();
    assert_eq!(bench.hear(granted()), ["hold", "capture State", "say State"]);
    assert_eq!(bench.hear(Message::StateAccepted), ["capture Events", "say Events"]);
    assert_eq!(bench.hear(Message::EventsAccepted), ["order Mark"]);
    assert_eq!(bench.answer(Answer::Done), ["order StartJob"]);
    assert_eq!(bench.answer(Answer::JobEnded(Ok(()))), ["order Look"]);
    assert_eq!(bench.answer(Answer::Guest(Guest::Gone)), ["capture Dirty { round: 1, last: true }", "say Dirty"]);
    assert_eq!(bench.hear(Message::DirtyAccepted(1)), ["say Complete"]);
    let ack = Message::CompleteAck { epoch: 8, rounds: 1 };
    assert_eq!(bench.hear(ack.clone()), ["retire", "end", "order Remove", "capture Late(1)", "say Late"]);
    assert_eq!(bench.hear(ack), Vec::<String>::new(), "a second acknowledgement is nothing new");
    assert_eq!(bench.hear(Message::LateAck(1)), ["forget"]);
    assert_eq!(bench.answer(Answer::Done), Vec::<String>::new());
    assert!(bench.source.is_final() && !bench.source.owns());
    assert_eq!(bench.give(Input::LateFacts), ["capture Late(2)", "say Late"], "what comes later still is sent on");
    assert!(!bench.source.is_final());
    let late = Message::Late(LateFacts { lot: 2, payload: payload() });
    assert_eq!(bench.source.to_say(), Some(late));
}

#[test]
fn a_refusal_leaves_no_trace() {
    let mut bench = Bench::new();
    assert_eq!(bench.hear(Message::Denied(Reason::new(ReasonKind::Denied, "no room"))), ["end"]);
    assert!(bench.source.is_final() && bench.source.owns());
    assert_eq!(bench.source.wake_at(), None);
}

#[test]
fn it_can_be_cancelled_until_it_has_moved() {
    let mut bench = Bench::new();
    assert_eq!(bench.give(cancel()), ["end", "say Abort"], "nothing is held yet");

    let mut bench = Bench::new();
    bench.hear(granted());
    assert_eq!(bench.give(cancel()), ["release", "end", "say Abort"]);

    let mut bench = Bench::moving();
    assert_eq!(bench.give(cancel()), ["order CancelJob"]);
    // Nobody answers the cancel; the job's own end comes.
    assert_eq!(bench.answer(Answer::JobEnded(Ok(()))), ["order Look"]);
    assert_eq!(bench.answer(Answer::Guest(here(Activity::Running))), ["order Reclaim"]);
    assert_eq!(bench.answer(Answer::Done), ["release", "end", "say Abort"]);
    assert_eq!(bench.source.epoch, 9, "the mark that was written is not used again");

    let mut bench = Bench::moving();
    bench.looked(Guest::Gone);
    assert!(!bench.source.is_cancellable());
    assert_eq!(bench.give(cancel()), Vec::<String>::new());
    assert_eq!(bench.source.phase, Phase::LastRound);
}

#[test]
fn a_guest_that_is_off_is_asked_about_before_it_is_taken_back() {
    let mut bench = Bench::moving();
    assert_eq!(bench.looked(here(Activity::Off)), ["say Abort"]);
    assert_eq!(bench.source.phase, Phase::Asking);
    let aborted = Message::Aborted(Reason::new(ReasonKind::Peer, "so be it"));
    assert_eq!(bench.hear(aborted), ["order Reclaim"]);
    assert_eq!(bench.answer(Answer::Done), ["release", "end"]);
    assert!(bench.source.is_final());
}

#[test]
fn the_hypervisors_own_words_say_why_a_guest_stays() {
    let mut bench = Bench::moving();
    let words = Reason::new(ReasonKind::Hypervisor, "the copy's process died");
    assert_eq!(bench.answer(Answer::JobEnded(Err(words.clone()))), ["order Look"]);
    assert_eq!(bench.answer(Answer::Guest(here(Activity::Running))), ["order Reclaim"]);
    assert_eq!(bench.source.reason, Some(words));
    // Somebody's wish that it should end is the better reason.
    let mut bench = Bench::moving();
    let wish = Reason::new(ReasonKind::Cancelled, "cancelled by ops");
    bench.give(Input::Cancel(wish.clone()));
    bench.answer(Answer::JobEnded(Err(Reason::new(ReasonKind::Cancelled, "it was cancelled"))));
    bench.answer(Answer::Guest(here(Activity::Running)));
    assert_eq!(bench.source.reason, Some(wish));
}

#[test]
fn so_is_one_whose_host_was_away_for_long() {
    let mut bench = Bench::moving();
    bench.answer(Answer::JobEnded(Ok(())));
    let away = || Answer::Failed(crate::migration::OrderFault::Unreachable, "no route".into());
    bench.answer(away());
    bench.now = bench.now + Timing::default().patience;
    bench.give(Input::Tick);
    assert_eq!(bench.answer(away()), ["alarm"]);
    assert!(bench.source.undecided.is_some());
    bench.pass(Timing::default().look);
    assert_eq!(bench.answer(Answer::Guest(here(Activity::Running))), ["say Abort"]);
    assert_eq!(bench.source.phase, Phase::Asking);
}

#[test]
fn dirty_rounds_are_bounded() {
    let mut bench = Bench::moving();
    let rounds = Timing::default().rounds;
    for round in 1..=rounds {
        assert_eq!(bench.pass(Span::seconds(2))[..1], [format!("capture Dirty {{ round: {round}, last: false }}")]);
        assert_eq!(bench.hear(Message::DirtyAccepted(round)), Vec::<String>::new());
    }
    assert_eq!(bench.pass(Span::minutes(1)), Vec::<String>::new());
    assert_eq!(bench.looked(Guest::Gone)[0], format!("capture Dirty {{ round: {}, last: true }}", rounds + 1));
}

#[test]
fn a_round_that_is_out_when_the_guest_has_moved_goes_first() {
    let mut bench = Bench::moving();
    bench.pass(Span::seconds(2));
    assert_eq!(bench.looked(Guest::Gone), ["say Dirty"]);
    assert_eq!(bench.hear(Message::DirtyAccepted(1)), ["capture Dirty { round: 2, last: true }", "say Dirty"]);
    let last = Round { round: 2, last: true, payload: payload() };
    assert_eq!(bench.source.to_say(), Some(Message::Dirty(last)));
}

#[test]
fn only_what_is_undecided_can_be_resolved() {
    let word = |owner| Input::Resolve(Resolution { owner, fenced: "b-1".into(), by: "ops".into() });
    let mut bench = Bench::moving();
    assert_eq!(bench.give(word(Side::Source)), Vec::<String>::new());
    bench.looked(Guest::Gone);
    assert_eq!(bench.pass(Timing::default().step), ["alarm", "say Dirty"], "the peer does not answer");
    assert_eq!(bench.give(word(Side::Source)), ["order Reclaim"]);
    assert_eq!(bench.source.epoch, 11);
    assert_eq!(bench.answer(Answer::Done), ["release", "end", "say Abort"]);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let mut bench = Bench::moving();
    assert_eq!(bench.give(Input::Restarted), ["order Look", "say Inquire"]);
    let goes_on = Guest::Here { activity: Activity::Running, job: true, mark: None };
    assert_eq!(bench.answer(Answer::Guest(goes_on)), Vec::<String>::new(), "the job outlives the daemon");
    assert_eq!(bench.pass(Timing::default().look)[..1], ["capture Dirty { round: 1, last: false }"]);
    assert_eq!(bench.source.phase, Phase::Moving);
}

#[test]
fn what_the_hypervisor_said_of_a_failed_job_is_the_reason() {
    let mut bench = Bench::moving();
    bench.answer(Answer::JobEnded(Err(Reason::new(ReasonKind::Hypervisor, "no route to the target"))));
    bench.answer(Answer::Guest(here(Activity::Running)));
    assert_eq!(bench.source.reason.as_ref().map(|reason| &*reason.text), Some("no route to the target"));

    let mut bench = Bench::moving();
    bench.answer(Answer::JobEnded(Err(Reason::new(ReasonKind::Hypervisor, "the connection broke in the last moment"))));
    bench.answer(Answer::Guest(Guest::Gone));
    assert_eq!((&bench.source.phase, &bench.source.reason), (&Phase::LastRound, &None), "it has moved all the same");
}

#[test]
fn late_facts_that_the_target_no_longer_takes_stay_here_and_are_not_sent_for_ever() {
    let given_up = || Message::Aborted(Reason::new(ReasonKind::Resolved, "ops gave it back"));
    for refusal in [Message::Status(Record::Unknown), given_up()] {
        let mut bench = Bench::moving();
        bench.looked(Guest::Gone);
        bench.hear(Message::DirtyAccepted(1));
        bench.hear(Message::CompleteAck { epoch: 8, rounds: 1 });
        bench.answer(Answer::Done);
        assert_eq!(bench.hear(refusal.clone()), ["alarm"]);
        assert!(bench.source.is_final(), "{:?}", bench.source);
        assert_eq!((bench.source.wake_at(), bench.hear(refusal.clone())), (None, Vec::new()));
        // Facts that come later still are kept with them; admins know already.
        assert!(!bench.source.takes_late());
        assert_eq!(bench.give(Input::LateFacts), Vec::<String>::new());
        assert!(bench.source.is_final());
    }
}

#[test]
fn a_refusal_of_late_facts_does_not_keep_the_guest_from_being_removed() {
    let mut bench = Bench::moving();
    bench.looked(Guest::Gone);
    bench.hear(Message::DirtyAccepted(1));
    bench.hear(Message::CompleteAck { epoch: 8, rounds: 1 });
    bench.answer(Answer::Failed(OrderFault::Unreachable, "host-a does not answer".into()));
    bench.hear(Message::Status(Record::Unknown));
    assert!(!bench.source.is_final(), "{:?}", bench.source);
    assert_eq!(bench.pass(Timing::default().look), ["order Remove"], "it is ordered again");
    bench.answer(Answer::Done);
    assert!(bench.source.is_final(), "{:?}", bench.source);
}

/// As far as the job of a guest that goes cold.
fn cold() -> Bench {
    let mut bench = Bench::new();
    bench.source.offer.way = Way::Cold;
    for message in [granted(), Message::StateAccepted, Message::EventsAccepted] {
        bench.hear(message);
    }
    bench.answer(Answer::Done);
    assert_eq!(bench.source.phase, Phase::Moving);
    bench
}

#[test]
fn a_cold_guest_that_vanishes_before_its_files_have_arrived_has_not_moved() {
    let mut bench = cold();
    bench.answer(Answer::JobEnded(Err(Reason::new(ReasonKind::Hypervisor, "it is not defined here"))));
    assert_eq!(bench.answer(Answer::Guest(Guest::Gone)), ["alarm"]);
    assert_eq!((&bench.source.phase, bench.source.undecided.is_some()), (&Phase::Moving, true));
    // The files have arrived, and an admin has undefined it here: nothing of it is lost.
    let mut bench = cold();
    assert_eq!(bench.looked(Guest::Gone), ["capture Dirty { round: 1, last: true }", "say Dirty"]);
}

#[test]
fn a_target_that_may_have_committed_and_lost_its_record_is_not_taken_for_one_that_did_not() {
    let handing_over = || {
        let mut bench = cold();
        bench.looked(here(Activity::Off));
        assert_eq!(bench.source.phase, Phase::LastRound);
        bench
    };
    let mut bench = handing_over();
    assert_eq!(bench.hear(Message::Status(Record::Unknown)), ["say Abort"], "it was not told to commit yet");
    let mut bench = handing_over();
    bench.hear(Message::DirtyAccepted(1));
    assert_eq!(bench.hear(Message::Status(Record::Unknown)), ["alarm"]);
    assert_eq!((&bench.source.phase, bench.source.undecided.is_some()), (&Phase::HandingOver, true));
}

#[test]
fn a_target_cannot_have_programs_started_here() {
    let answered = |hypervisor_uri: &str| {
        let mut bench = Bench::new();
        let grants = Grants { hypervisor_uri: hypervisor_uri.into(), ..grants() };
        (bench.hear(Message::Permitted(Box::new(grants))), bench.source.phase)
    };
    for uri in [
        "qemu+ssh://b/system?command=/tmp/x",
        "qemu+EXT:///system",
        "qemu+ssh://b/system?mode=auto&NetCat=x",
        "q:///?%63ommand=x",
    ] {
        let (words, phase) = answered(uri);
        assert!(words.contains(&"say Abort".to_owned()) && phase == Phase::TellingPeer, "{uri}: {words:?}");
    }
    assert_eq!(answered("qemu+tls://b/system?pkipath=/etc/pki/embot").1, Phase::Stating);
}

#[test]
fn a_cold_job_is_begun_anew_after_a_restart_unless_it_is_given_up() {
    let mut bench = cold();
    assert_eq!(bench.give(Input::Restarted), ["order StartJob", "say Inquire"]);
    assert_eq!(bench.looked(here(Activity::Off))[1..], ["say Dirty"], "its end is believed as if nothing had happened");
    let mut bench = cold();
    bench.give(cancel());
    assert_eq!(bench.give(Input::Restarted), ["order Look", "say Inquire"]);
    assert_eq!(bench.answer(Answer::Guest(here(Activity::Off))), ["order Reclaim"]);
    assert_eq!(bench.answer(Answer::Done), ["release", "end", "say Abort"]);
    assert_eq!(bench.source.start_owed, None, "it is off, and taking it back starts it");
}

/// Given up while the guest, which was asked to shut down, still runs.
fn asked() -> Bench {
    let mut bench = cold();
    bench.answer(Answer::JobEnded(Err(Reason::new(ReasonKind::TimedOut, "it did not shut down"))));
    assert_eq!(bench.answer(Answer::Guest(here(Activity::Running))), ["order Reclaim"]);
    assert_eq!(bench.answer(Answer::Done), ["release", "end", "order Look", "say Abort"]);
    bench.hear(Message::Aborted(Reason::new(ReasonKind::Peer, "so be it")));
    assert!(bench.source.phase == Phase::Ended && !bench.source.is_final());
    bench
}

#[test]
fn what_goes_off_after_it_was_given_up_is_started_again() {
    let (look, off, runs) = (Timing::default().look, here(Activity::Off), here(Activity::Running));
    let mut bench = asked();
    assert_eq!(bench.answer(Answer::Guest(runs.clone())), Vec::<String>::new());
    assert_eq!(bench.pass(look), ["order Look"]);
    assert_eq!(bench.answer(Answer::Failed(OrderFault::Unreachable, "no route".into())), Vec::<String>::new());
    assert_eq!((bench.source.undecided.clone(), bench.pass(look)), (None, vec!["order Look".to_owned()]));
    assert_eq!(bench.answer(Answer::Guest(off.clone())), ["start"]);
    assert_eq!(bench.give(Input::Restarted), ["order Look"]);
    assert_eq!(bench.answer(Answer::Guest(off)), ["start"], "until it runs");
    bench.pass(look);
    bench.answer(Answer::Guest(runs));
    assert!(bench.source.is_final());
    assert_eq!(bench.source.wake_at(), None);
}

#[test]
fn a_start_is_not_owed_for_ever_nor_against_somebody_s_will() {
    let mut bench = asked();
    bench.now = bench.now + Timing::default().whole;
    bench.answer(Answer::Guest(here(Activity::Running)));
    assert!(bench.source.is_final(), "it has not heard: what it does from here on is its own");
    let mut bench = asked();
    assert_eq!(bench.answer(Answer::Guest(here(Activity::Off))), ["start"]);
    assert_eq!(bench.give(Input::NotOwed), Vec::<String>::new());
    assert!(bench.source.is_final());
    assert_eq!(bench.source.wake_at(), None);
    let mut bench = asked();
    bench.answer(Answer::Guest(Guest::Gone));
    assert!(bench.source.is_final());
    // One that cannot be started is told of, once.
    let mut bench = asked();
    assert_eq!(bench.answer(Answer::Guest(here(Activity::Off))), ["start"]);
    bench.now = bench.now + Timing::default().patience;
    bench.give(Input::Tick);
    assert_eq!(bench.answer(Answer::Guest(here(Activity::Off))), ["alarm", "start"]);
    assert_eq!(bench.pass(Timing::default().patience), ["order Look"]);
    assert_eq!(bench.answer(Answer::Guest(here(Activity::Off))), ["start"]);
}
