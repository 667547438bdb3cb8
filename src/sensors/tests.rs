//! Pollers of hosts that answer, fail, panic or keep silent as a test says.

use super::*;
use crate::clock::VirtualClock;
use crate::hypervisor::{ErrorKind, Fate, Hypervisor, HypervisorError, NoticeSink, Order, Watch};
use crate::model::*;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a host does when asked; it keeps silent until told.
enum Answer {
    Report,
    Fail(ErrorKind),
    Panic,
}

struct Host {
    asked: Sender<()>,
    answers: Receiver<Answer>,
    sink: Arc<Mutex<Option<NoticeSink>>>,
    abilities: Arc<Mutex<Abilities>>,
}

impl Hypervisor for Host {
    fn report(&self, asked_at: Timestamp) -> Result<HostReport, HypervisorError> {
        let _ = self.asked.send(());
        match self.answers.recv() {
            Ok(Answer::Report) => Ok(HostReport { asked_at, capacity: Capacity::default(), load: None, domains: Vec::new() }),
            Ok(Answer::Fail(kind)) => Err(HypervisorError::new(kind, "connection refused")),
            Ok(Answer::Panic) => panic!("a domain without a name"),
            Err(_) => Err(HypervisorError::new(ErrorKind::Failed, "the test is over")),
        }
    }

    fn abilities(&self) -> Result<Abilities, HypervisorError> {
        Ok(self.abilities.lock().unwrap().clone())
    }

    fn subscribe(&self, sink: NoticeSink) {
        *self.sink.lock().unwrap() = Some(sink);
    }

    fn mark(&self, _: VmId) -> Result<Option<Mark>, HypervisorError> {
        Ok(None)
    }

    fn execute(&self, _: &Order, _: &dyn Watch) -> Result<(), HypervisorError> {
        Err(HypervisorError::new(ErrorKind::Unsupported, "sensors order nothing"))
    }

    fn recover(&self, _: &Order, _: &dyn Watch) -> Result<Fate, HypervisorError> {
        Err(HypervisorError::new(ErrorKind::Unsupported, "sensors order nothing"))
    }
}

/// A test's hold on one host.
struct Puppet {
    asked: Receiver<()>,
    answers: Sender<Answer>,
    sink: Arc<Mutex<Option<NoticeSink>>>,
    abilities: Arc<Mutex<Abilities>>,
}

impl Puppet {
    /// Waits until it is asked (the time limit only keeps a broken build from hanging), then answers.
    fn answer(&self, answer: Answer) {
        self.asked.recv_timeout(Duration::from_secs(60)).expect("a poll");
        self.answers.send(answer).unwrap();
    }

    fn notice(&self, memory_mib: u64) {
        let notice = Notice { vm: VmId(uuid::Uuid::nil()), at: Timestamp(0), body: NoticeBody::Balloon(memory_mib) };
        self.sink.lock().unwrap().as_ref().expect("somebody listens")(notice);
    }
}

struct Plane {
    sensors: Sensors,
    clock: Arc<VirtualClock>,
    inputs: Receiver<Input>,
    /// Tells each time somebody sends who may wait for room.
    sending: Receiver<()>,
    a: Puppet,
    b: Puppet,
}

/// Polls as fast as answers come; what is late is told by the test's clock.
const POLLING: Polling = Polling { interval: Span(1), failures: 3, patience: Span::seconds(3), lost_interval: Span(2) };

fn plane(polling: Polling, room: usize) -> Plane {
    let puppet = || {
        let (asked, was_asked) = unbounded();
        let (answers, answered) = unbounded();
        let (sink, abilities) = (Arc::default(), Arc::default());
        let host = Host { asked, answers: answered, sink: Arc::clone(&sink), abilities: Arc::clone(&abilities) };
        let host: Arc<dyn Hypervisor> = Arc::new(host);
        (host, Puppet { asked: was_asked, answers, sink, abilities })
    };
    let ((host_a, a), (host_b, b)) = (puppet(), puppet());
    let clock = VirtualClock::at(Timestamp(1_000));
    let (sender, inputs) = bounded(room);
    let try_sender = sender.clone();
    let (announce, sending) = unbounded();
    let sensors = Sensors::start(
        [("a".into(), host_a), ("b".into(), host_b)].into(),
        polling,
        clock.clone(),
        move |input| announce.send(()).is_ok() & sender.send(input).is_ok(),
        move |input| try_sender.try_send(input).is_ok(),
    )
    .unwrap();
    Plane { sensors, clock, inputs, sending, a, b }
}

impl Plane {
    fn next(&self) -> String {
        let input = self.inputs.recv_timeout(Duration::from_secs(60)).expect("an input");
        match input {
            Input::Report(host, report) => format!("report of {host}, asked at {}", report.asked_at.0),
            Input::HostLost(host, why) => format!("{host} lost: {why}"),
            Input::Notice(host, Notice { body: NoticeBody::Balloon(memory_mib), .. }) => {
                format!("notice of {host}: {memory_mib}")
            }
            other => format!("{other:?}"),
        }
    }
}

#[test]
fn a_host_is_asked_again_and_again() {
    let plane = plane(POLLING, 16);
    plane.a.answer(Answer::Report);
    assert_eq!(plane.next(), "report of a, asked at 1000");
    plane.a.asked.recv().unwrap();
    plane.clock.advance_to(Timestamp(1_500));
    plane.a.answers.send(Answer::Report).unwrap();
    assert_eq!(plane.next(), "report of a, asked at 1000");
    plane.a.answer(Answer::Report);
    assert_eq!(plane.next(), "report of a, asked at 1500");
}

#[test]
fn what_guests_can_have_is_told_when_it_changes_and_asked_for_now_and_then() {
    let plane = plane(POLLING, 16);
    let have = |network: &str| Abilities { networks: [network.into()].into(), ..Abilities::default() };
    *plane.a.abilities.lock().unwrap() = have("default");
    for _ in 0..2 {
        plane.a.answer(Answer::Report);
    }
    assert_eq!(plane.next(), "report of a, asked at 1000");
    assert_eq!(plane.next(), format!("{:?}", Input::Abilities("a".into(), have("default"))));
    assert_eq!(plane.next(), "report of a, asked at 1000");
    // In the midst of the next poll.
    plane.a.asked.recv().unwrap();
    *plane.a.abilities.lock().unwrap() = have("backup");
    plane.clock.advance_to(Timestamp(62_000));
    plane.a.answers.send(Answer::Report).unwrap();
    while plane.next() != format!("{:?}", Input::Abilities("a".into(), have("backup"))) {}
}

#[test]
fn a_host_out_of_reach_is_lost_at_once_and_once() {
    let plane = plane(POLLING, 16);
    for _ in 0..4 {
        plane.a.answer(Answer::Fail(ErrorKind::Unreachable));
    }
    plane.a.answer(Answer::Report);
    plane.a.answer(Answer::Fail(ErrorKind::Unreachable));
    assert_eq!(plane.next(), "a lost: connection refused");
    assert_eq!(plane.next(), "report of a, asked at 1000");
    assert_eq!(plane.next(), "a lost: connection refused");
}

#[test]
fn a_host_that_fails_is_lost_at_the_third_time_in_a_row() {
    let plane = plane(POLLING, 16);
    for answer in [Answer::Fail(ErrorKind::Failed), Answer::Panic, Answer::Report, Answer::Panic] {
        plane.a.answer(answer);
    }
    assert_eq!(plane.next(), "report of a, asked at 1000", "two failures do not count");
    plane.a.answer(Answer::Fail(ErrorKind::Failed));
    plane.a.answer(Answer::Panic);
    let panicked = "embot itself failed while reading this host (a domain without a name): please report this";
    assert_eq!(plane.next(), format!("a lost: {panicked}"));
}

#[test]
fn a_silent_host_is_lost_until_it_answers_after_all_and_holds_up_no_other() {
    let plane = plane(POLLING, 16);
    plane.a.asked.recv().unwrap();
    plane.b.asked.recv().unwrap();
    plane.clock.advance_to(Timestamp(4_000));
    plane.b.answers.send(Answer::Report).unwrap();
    assert_eq!(plane.next(), "report of b, asked at 1000", "three seconds are still patience");
    plane.b.asked.recv().unwrap();
    plane.clock.advance_to(Timestamp(4_700));
    assert_eq!(plane.next(), "a lost: has not answered for 3s");
    plane.b.answers.send(Answer::Report).unwrap();
    assert_eq!(plane.next(), "report of b, asked at 4000", "it is said once, and other hosts go on");
    plane.a.answers.send(Answer::Report).unwrap();
    assert_eq!(plane.next(), "report of a, asked at 1000");
}

#[test]
fn a_notice_without_room_is_counted_and_made_good_by_a_poll_at_once() {
    // The next poll would come after an hour.
    let plane = plane(Polling { interval: Span::hours(1), ..POLLING }, 1);
    plane.a.answer(Answer::Report);
    assert_eq!(plane.next(), "report of a, asked at 1000");
    plane.a.notice(1);
    plane.a.notice(2);
    plane.a.notice(3);
    assert_eq!(plane.sensors.dropped(), 2);
    assert_eq!(plane.next(), "notice of a: 1");
    plane.a.answer(Answer::Report);
    assert_eq!(plane.next(), "report of a, asked at 1000");
    assert!(plane.b.asked.len() <= 1, "other hosts are not asked for it");
}

#[test]
fn a_report_waits_for_room_without_being_taken_for_silence() {
    let plane = plane(POLLING, 0);
    plane.b.asked.recv().unwrap();
    plane.a.answer(Answer::Report);
    plane.sending.recv().unwrap();
    plane.clock.advance_to(Timestamp(100_000));
    // Only `b` is silent; which of the two is heard first is open.
    let mut inputs = [plane.next(), plane.next()];
    inputs.sort();
    assert_eq!(inputs, ["b lost: has not answered for 1m39s", "report of a, asked at 1000"]);
}

#[test]
fn stopping_leaves_a_silent_host_behind() {
    let plane = plane(POLLING, 16);
    plane.a.asked.recv().unwrap();
    plane.b.answer(Answer::Report);
    assert_eq!(plane.next(), "report of b, asked at 1000");
    // What `b` is asked from now on is answered at once: it has no test to wait for.
    let Plane { sensors, inputs, a, b, sending: _sending, .. } = plane;
    drop(b.answers);
    assert_eq!(sensors.stop(Span::seconds(1)), ["a".into()]);
    let notice = Notice { vm: VmId(uuid::Uuid::nil()), at: Timestamp(0), body: NoticeBody::Undefined };
    a.sink.lock().unwrap().take().unwrap()(notice);
    b.sink.lock().unwrap().take();
    a.answers.send(Answer::Report).unwrap();
    // Its thread ends now, with its way to send; until then nothing may come but that `b` failed.
    assert!(inputs.iter().all(|input| matches!(input, Input::HostLost(host, _) if host == "b".into())));
}

#[test]
fn pollers_end_when_the_manager_is_gone() {
    let Plane { sensors, inputs, a, b, sending: _sending, .. } = plane(POLLING, 16);
    drop(inputs);
    a.answer(Answer::Report);
    b.answer(Answer::Report);
    assert!(sensors.stop(Span::seconds(60)).is_empty());
}

#[test]
fn a_lost_host_is_asked_less_and_less_often() {
    let polling = Polling::every(Span::seconds(5));
    let mut pause = polling.interval;
    let mut pauses = Vec::new();
    for _ in 0..6 {
        pause = polling.pause_after(pause, true);
        pauses.push(pause.0 / 1_000);
    }
    assert_eq!(pauses, [10, 20, 40, 60, 60, 60]);
    assert_eq!(polling.pause_after(pause, false), polling.interval);
    assert_eq!(Polling::every(Span::minutes(5)).pause_after(Span::minutes(5), true), Span::minutes(5));
}
