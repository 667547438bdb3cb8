//! Guests that go to another plane's host, as the hypervisor sees it.

use super::*;
use embot::hypervisor::{Handover, HandoverStep, Rewriting, Transfer};
use embot::migration::ResumeBy;
use embot::model::{Mark, Standing, Timestamp};
use std::time::{Duration, Instant};

pub fn mark(plane: &str, epoch: u64) -> Mark {
    Mark { plane: plane.into(), epoch }
}

/// A step of the handover with this number; marks up to this epoch are its own.
pub fn step(vm: VmId, number: u64, epoch: u64, step: HandoverStep) -> Handover {
    let id = format!("home/{number}").into();
    Handover { id, plane: "home".into(), vm, mark: mark("home", epoch), step }
}

pub fn transfer(destination: Destination, resume: ResumeBy) -> Box<Transfer> {
    let limits = MigrationLimits::default();
    Box::new(Transfer { destination, limits, resume, rewriting: Rewriting::default() })
}

pub fn standing(host: &LibvirtHost, vm: VmId) -> Option<Standing> {
    host.look(vm).unwrap().map(|sighting| sighting.standing)
}

/// How long a guest stood still, and how long all of it took.
struct Figures {
    pause: Duration,
    wall: Duration,
}

#[test]
fn a_guest_goes_over_without_missing_a_beat_and_its_pause_is_told() {
    let Some(lab) = Lab::up("a_guest_goes_over_without_missing_a_beat_and_its_pause_is_told", 2) else { return };
    let hosts = [lab.host("host-a"), lab.host("host-b")];
    let notices = [Notices::of(&hosts[0]), Notices::of(&hosts[1])];
    let names = ["host-a", "host-b"];
    let guest = lab.guest("host-a", "web", &["--start"]);
    let vm = guest.vm;
    hosts.iter().for_each(|host| drop(report(host)));
    execute(&hosts[0], ActionKind::Adopt { vm }).unwrap();
    let mut figures = BTreeMap::new();
    for round in 0..9_u64 {
        let (from, to) = ((round % 2) as usize, 1 - (round % 2) as usize);
        let (source, target, epoch) = (&hosts[from], &hosts[to], round + 1);
        notices.iter().for_each(Notices::forget);
        let way = ["bare", "by hypervisor", "by manager"][(round % 3) as usize];
        let began = Instant::now();
        if way == "bare" {
            let arguments = ["migrate", "--live", "--p2p", "--persistent", "--undefinesource", "web"];
            lab.virsh(names[from], &[&arguments[..], &[&lab.destination(names[to]).uri]].concat()).unwrap();
        } else {
            let becomes = mark("home", epoch);
            let resume = if way == "by manager" { ResumeBy::Manager } else { ResumeBy::Hypervisor };
            let seal = step(vm, round, epoch - 1, HandoverStep::Seal { becomes: becomes.clone() });
            source.hand_over(&seal, &Waiting::default()).unwrap();
            let moves = HandoverStep::Move(transfer(lab.destination(names[to]), resume));
            source.hand_over(&step(vm, round, epoch, moves), &Waiting::default()).unwrap();
            let resumes = HandoverStep::Resume { becomes, start: false };
            target.hand_over(&step(vm, round, epoch, resumes), &Waiting::default()).unwrap();
        }
        let wall = began.elapsed();
        let when = |side: usize, wanted: NoticeBody| -> Timestamp {
            until(&format!("the notice {wanted:?}"), || notices[side].first(vm, &wanted))
        };
        let stopped = when(from, NoticeBody::State(VmState::Paused, Reason::Migration));
        let ran = when(to, NoticeBody::State(VmState::Running, Reason::Migration));
        let pause = Duration::from_millis(ran.since(stopped).0);
        figures.entry(way).or_insert_with(Vec::new).push(Figures { pause, wall });
        assert_eq!((standing(source, vm), standing(target, vm)), (None, Some(Standing::Running)), "{way}");
        if way == "bare" {
            // The epochs go on.
            let xml = format!("<mark plane='home' epoch='{epoch}'/>");
            let set =
                ["metadata", "web", "--uri", "urn:embot:mark:1", "--key", "embot-mark", "--live", "--config", "--set", &xml];
            lab.virsh(names[to], &set).unwrap();
        }
        assert_eq!(target.mark(vm).unwrap(), Some(mark("home", epoch)));
        guest.counts_on();
    }
    guest.assert_no_gap();
    for (way, mut figures) in figures {
        figures.sort_by_key(|figures| figures.pause);
        let middle = &figures[figures.len() / 2];
        let text = format!(
            "{way}: pause {} ms, wall {} ms (the middle of three)\n",
            middle.pause.as_millis(),
            middle.wall.as_millis()
        );
        std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
    }
}
