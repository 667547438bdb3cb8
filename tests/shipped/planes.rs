//! What the shipped policies do between planes: whom they let in, and whom they offer.

use super::stage::Stage;
use embot::model::{ActionId, EventBody, Grant, Mode, Offer, Span, Value, Verb, Verdict};

fn denied(stage: &mut Stage, change: impl FnOnce(&mut Offer)) -> String {
    let mut offer = Stage::offer();
    change(&mut offer);
    match stage.answer(offer) {
        Some(Verdict::Deny { reason }) => reason.to_string(),
        other => panic!("it was answered {other:?}"),
    }
}

#[test]
fn a_sound_offer_of_a_peer_is_accepted_with_what_modules_may_have() {
    let mut stage = Stage::new("admit-offers", "plane");
    stage.peer("away", 4.0, 32_768);
    let grant = Grant { mode: Some(Mode::Act), permits: Some([Verb::Migrate].into()), host: None };
    assert_eq!(stage.answer(Stage::offer()), Some(Verdict::Accept(grant)), "no module gets `undefine`");
}

#[test]
fn an_offer_that_is_not_sound_is_denied_with_the_reason() {
    let mut stage = Stage::new("admit-offers", "plane");
    assert!(denied(&mut stage, |_| ()).contains("no guests are taken from plane away"));
    stage.peer("away", 4.0, 32_768);
    stage.edit_peer("away", |peer| peer.receives = false);
    assert!(denied(&mut stage, |_| ()).contains("its direction does not say so"));
    stage.edit_peer("away", |peer| peer.receives = true);
    let unsigned = denied(&mut stage, |offer| offer.modules[0].signed_by = None);
    assert_eq!(unsigned, "module relieve is new here and not signed by a key that is trusted here");
    let older = "package relieve 1 (serial 1) would replace relieve 2 (serial 2), which is newer";
    assert_eq!(denied(&mut stage, |offer| offer.modules[0].refusal = Some(older.into())), older);
    let full = denied(&mut stage, |offer| offer.hosts[0].obstacle = Some("it is full".into()));
    assert_eq!(full, "no host can take it: a: it is full; b: it is in maintenance");
    let there = denied(&mut stage, |offer| offer.host = Some("b".into()));
    assert!(there.contains("b: it is in maintenance"), "{there}");
    let large = denied(&mut stage, |offer| offer.guest.copy_bytes = 300 << 30);
    assert!(large.starts_with("300 GiB of storage would have to be copied"), "{large}");
    assert_eq!(denied(&mut stage, |offer| offer.hosts.clear()), "the plane has no host that can take it");
}

#[test]
fn a_module_that_is_in_force_here_needs_no_signature() {
    let mut stage = Stage::new("admit-offers", "plane");
    stage.peer("away", 4.0, 32_768);
    let mut offer = Stage::offer();
    (offer.modules[0].signed_by, offer.modules[0].in_force) = (None, true);
    assert!(matches!(stage.answer(offer), Some(Verdict::Accept(_))));
}

/// Ten minutes of load on both hosts.
fn heat(stage: &mut Stage, a: f32, b: f32) {
    stage.host_load("a", a);
    stage.host_load("b", b);
    for _ in 0..60 {
        stage.sample("a");
        stage.sample("b");
    }
    let now = stage.now();
    for peer in ["near", "far"] {
        stage.edit_peer(peer, |peer| peer.summary_at = now);
    }
}

/// Two hot hosts, guests of several sizes, two peers of which `far` has more room.
fn hot() -> Stage {
    let mut stage = Stage::new("share-load", "plane");
    stage.guest("big", "a", 4, 4_096, 3.5);
    stage.guest("small", "b", 2, 1_024, 1.0);
    stage.guest("idle", "b", 2, 1_024, 0.1);
    stage.peer("near", 4.0, 16_384);
    stage.peer("far", 4.0, 65_536);
    stage.about_plane(EventBody::Loaded);
    heat(&mut stage, 7.5, 7.0);
    stage
}

#[test]
fn a_hot_plane_offers_its_busiest_guest_to_the_peer_with_most_room() {
    let mut stage = hot();
    assert_eq!(stage.next_timer("look"), ["hand big to far: plane home at 91 % of its cores, far at 25 %"]);
    // While it is on its way, and until what it brings shows, nothing more.
    stage.busy("big", true);
    assert_eq!(stage.next_timer("look"), [""; 0]);
    stage.busy("big", false);
    assert_eq!(stage.next_timer("look"), [""; 0]);
}

#[test]
fn a_plane_that_is_hot_on_one_host_only_keeps_its_guests() {
    let mut stage = hot();
    heat(&mut stage, 7.9, 1.0);
    assert_eq!(stage.next_timer("look"), [""; 0]);
}

#[test]
fn a_denial_gives_others_their_turn() {
    let mut stage = hot();
    assert_eq!(stage.next_timer("look").len(), 1);
    stage.about_plane(EventBody::ActionFailed { action: ActionId(1), reason: "denied".into() });
    assert_eq!(stage.next_timer("look"), ["hand small to near: plane home at 91 % of its cores, near at 25 %"]);
    // What has rested is asked again, and nothing is remembered for good.
    heat(&mut stage, 7.5, 7.0);
    heat(&mut stage, 7.5, 7.0);
    assert_eq!(stage.next_timer("look"), ["hand big to far: plane home at 91 % of its cores, far at 25 %"]);
    assert!(!stage.state().contains("peer far"), "who has rested is forgotten: {}", stage.state());
}

#[test]
fn who_is_asked_for_in_vain_gives_others_their_turn() {
    let mut stage = hot();
    assert_eq!(stage.next_timer("look"), ["hand big to far: plane home at 91 % of its cores, far at 25 %"]);
    // The planner refused, and nobody was told.
    heat(&mut stage, 7.5, 7.0);
    assert_eq!(stage.next_timer("look"), ["hand small to near: plane home at 91 % of its cores, near at 25 %"]);
}

#[test]
fn a_plane_that_has_just_started_waits_until_it_knows_more() {
    let mut stage = Stage::new("share-load", "plane");
    stage.guest("big", "a", 4, 4_096, 3.5);
    stage.peer("far", 4.0, 65_536);
    stage.about_plane(EventBody::Loaded);
    stage.host_load("a", 8.0);
    (0..9).for_each(|_| drop(stage.sample("a")));
    assert_eq!(stage.next_timer("look"), [""; 0]);
}

#[test]
fn only_a_peer_that_can_take_it_and_stays_cooler_is_asked() {
    let offers = |change: &dyn Fn(&mut Stage)| {
        let mut stage = hot();
        change(&mut stage);
        stage.next_timer("look")
    };
    let to_near = ["hand big to near: plane home at 91 % of its cores, near at 25 %"];
    assert_eq!(offers(&|stage| stage.edit_peer("far", |peer| peer.reachable = false)), to_near);
    assert_eq!(offers(&|stage| stage.edit_peer("far", |peer| peer.sends = false)), to_near);
    assert_eq!(offers(&|stage| stage.edit_peer("far", |peer| peer.summary = None)), to_near);
    assert_eq!(offers(&|stage| stage.edit_peer("far", |peer| peer.summary_at = embot::model::Timestamp(0))), to_near);
    let cramped = |peer: &mut embot::model::Peer| peer.summary.as_mut().unwrap().largest_free_mib = 2_048;
    assert_eq!(offers(&|stage| stage.edit_peer("far", cramped)), to_near);
    let warm = |peer: &mut embot::model::Peer| peer.summary.as_mut().unwrap().cpu_cores = 8.0;
    assert_eq!(offers(&|stage| stage.edit_peer("far", warm)), to_near, "11.5 of 16 cores would not be cool");
    let none = |stage: &mut Stage| ["near", "far"].iter().for_each(|name| stage.edit_peer(name, warm));
    assert_eq!(offers(&none), ["hand small to far: plane home at 91 % of its cores, far at 50 %"], "a smaller one fits");
}

#[test]
fn a_guest_that_is_to_stay_stays() {
    let mut stage = hot();
    stage.label("big", "stay", "licence");
    assert_eq!(stage.next_timer("look"), ["hand small to far: plane home at 91 % of its cores, far at 25 %"]);
}

/// Host `a` in maintenance, with guests for which the planner finds no place: they stay, and are not busy.
fn full(settings: &[(&str, bool)]) -> Stage {
    let settings = settings.iter().map(|(name, value)| ((*name).into(), Value::Bool(*value))).collect();
    let mut stage = Stage::with("evacuate-maintenance", "host:a", settings);
    for name in ["plain", "first", "last"] {
        stage.guest(name, "a", 2, 1_024, 0.5);
    }
    stage.label("first", "priority", "high");
    stage.label("last", "priority", "low");
    stage.peer("near", 4.0, 16_384);
    stage.peer("far", 4.0, 65_536);
    stage.maintenance("a", true);
    stage
}

/// What comes of the next look, with peers that have just told of themselves.
fn look(stage: &mut Stage) -> Vec<String> {
    let soon = stage.now() + Span::seconds(10);
    ["near", "far"].iter().for_each(|name| stage.edit_peer(name, |peer| peer.summary_at = soon));
    stage.next_timer("look")
}

#[test]
fn who_finds_no_place_in_the_plane_is_offered_to_another_where_that_is_allowed() {
    let mut stage = full(&[("to_peers", true)]);
    let mut told = stage.about_host("a", EventBody::Maintenance { on: true });
    let began = stage.now();
    while !told.iter().any(|one| one.starts_with("hand")) {
        assert!(stage.now() < began + Span::minutes(8), "{told:?}");
        told.extend(look(&mut stage));
    }
    assert!(stage.now() > began + Span::minutes(6), "who waits for the end of a cool-down finds a place here yet");
    // Two at a time are tried here, those that matter most. Who finds no place for long lets the last have its turn.
    let here = |name: &str| format!("migrate {name}: maintenance of a, guests left: 3");
    assert_eq!(told[..4], ["first", "plain", "first", "plain"].map(here));
    let turn = told.iter().position(|one| *one == here("last")).expect("it has its turn");
    assert!(turn >= 23, "they are asked 12 times each before: {told:?}");
    told.extend((0..40).flat_map(|_| look(&mut stage)));
    for name in ["first", "plain", "last"] {
        let there = format!("hand {name} to far: maintenance of a, guests left: 3; far has room");
        let at = told.iter().position(|one| *one == there).unwrap_or_else(|| panic!("{name} is not offered: {told:?}"));
        assert!(told[at + 1..].contains(&here(name)), "by turns: {told:?}");
    }
    // The other plane has it, and it is not fetched back.
    stage.left("first");
    stage.moved("plain", "b");
    stage.moved("last", "b");
    assert_eq!(stage.next_timer("look"), ["info: a is empty: maintenance can begin"]);
    stage.maintenance("a", false);
    stage.host_load("a", 1.0);
    stage.about_host("a", EventBody::Maintenance { on: false });
    let back = stage.next_timer("look");
    assert_eq!(back, ["migrate last to a: a is back from maintenance", "migrate plain to a: a is back from maintenance"]);
}

#[test]
fn guests_stay_in_the_plane_unless_an_admin_lets_them_go() {
    let never = |settings: &[(&str, bool)], change: fn(&mut embot::model::Peer)| {
        let mut stage = full(settings);
        ["near", "far"].iter().for_each(|name| stage.edit_peer(name, change));
        let mut told = stage.about_host("a", EventBody::Maintenance { on: true });
        (0..60).for_each(|_| {
            ["near", "far"].iter().for_each(|name| stage.edit_peer(name, change));
            told.extend(stage.next_timer("look"));
        });
        assert!(told.len() >= 100 && told.iter().all(|one| one.starts_with("migrate")), "{told:?}");
    };
    never(&[], |_| ());
    never(&[("to_peers", true)], |peer| peer.reachable = false);
    never(&[("to_peers", true)], |peer| peer.sends = false);
    never(&[("to_peers", true)], |peer| peer.summary_at = embot::model::Timestamp(0));
    never(&[("to_peers", true)], |peer| peer.summary.as_mut().unwrap().largest_free_mib = 512);
}
