//! A whole plane on real guests: the daemon with the modules that ship, driven by the command line as an admin would.
//!
//! Booting guests is what takes long here, so one walk passes all cases. The waits of the modules are cut short; their
//! policies are those that ship.

use super::*;
use crate::daemon::{Plane, host};
use crate::lab::Guest;
use serde_json::Value;

/// A plane over the two hosts of a lab. `host-a` counts as one core and `host-b` as three, so that one guest that burns makes
/// the first hot and not the second. What counts as hot is little, for the machine may have much else to do.
fn over(lab: &Lab, name: &str) -> Plane {
    let guardrails = "guardrails: { cooldown: 3s, load_window: 10s, blast_radius: 1, target_max_cpu: 0.9 }";
    let hosts = [host(lab, "host-a", 1), host(lab, "host-b", 3)].concat();
    let plane = Plane::new(&format!("plane: {name}\nadopt: act\nnew_modules: act\npoll: 1s\nhosts:\n{hosts}{guardrails}\n"));
    let relieve = [
        ("cooldown: 10m", "cooldown: 5s"),
        ("hot: 0.85", "hot: 0.15"),
        ("wait: 2m", "wait: 8s\n  samples: 4\n  aim: 0.05\n  least: 0.05"),
    ];
    plane.hurry("relieve-hot-host.yaml", &relieve);
    plane.hurry("evacuate-maintenance.yaml", &[("at_once: 2", "at_once: 2\n  every: 1s\n  settle: 3s")]);
    plane.hurry("restart-crashed.yaml", &[("first: 10s", "first: 2s")]);
    plane
}

#[test]
fn a_plane_manages_real_guests_by_the_policies_that_ship() {
    let Some(lab) = Lab::up("a_plane_manages_real_guests_by_the_policies_that_ship", 2) else { return };
    let guests = ["web", "mail", "db"].map(|name| lab.guest("host-a", name, &["--start"]));
    let [web, mail, db] = &guests;
    let mut plane = over(&lab, "lab");
    plane.start();
    plane.until("adoption", |plane| guests.iter().all(|guest| is_owned(plane, guest)).then_some(()));
    plane.idle();

    a_hot_host_is_relieved(&lab, &plane, &guests);
    a_guest_that_died_is_started_again(&lab, &plane, db);
    a_second_plane_keeps_its_hands_off(&lab, &guests);
    maintenance_empties_a_host_and_fills_it_again(&lab, &plane, &guests);
    a_lost_libvirtd_moves_nothing(&lab, &plane, &guests);
    a_manager_that_dies_in_a_migration_finds_it_again(&lab, &mut plane, mail);

    for guest in [web, mail] {
        guest.assert_no_gap();
    }
    let ends = ends(&plane.journal());
    assert!(ends.values().all(|ends| *ends == 1), "each action ends once: {ends:?}");
}

fn is_owned(plane: &Plane, guest: &Guest) -> bool {
    plane.guest(guest).is_some_and(|known| known["owner"] == "lab" && known["action"].is_null())
}

fn a_hot_host_is_relieved(lab: &Lab, plane: &Plane, guests: &[Guest]) {
    let web = &guests[0];
    lab.tell(web, &["burn"]);
    plane.until("a host that is relieved", |plane| plane.at(web).filter(|host| host == "host-b"));
    web.counts_on();
    web.assert_no_gap();
    for guest in &guests[1..] {
        assert_eq!(plane.at(guest).as_deref(), Some("host-a"), "{} had no reason to move", guest.name);
    }
    let chain = plane.until("the word that it is done", |plane| plane.latest(web).filter(|it| it["action"]["state"] == "done"));
    assert_eq!(chain["cause"]["kind"], "load");
    assert_eq!(chain["cause"]["element"], "host:host-a");
    assert_eq!(chain["action"]["embot"], "relieve-hot-host@host:host-a");
    let place = &chain["place"];
    assert_eq!(place["file"], "relieve-hot-host.rhai");
    assert!(place["source"].as_str().unwrap().contains("guest.migrate("), "{place}");
    let read = |what: &str| chain["reads"].as_array().unwrap().iter().any(|read| read["what"].as_str().unwrap().contains(what));
    assert!(read("usage(cpu).mean") && read("usage(cpu).percentile"), "{}", chain["reads"]);
    let weighed = chain["weighed"].to_string();
    assert!(weighed.contains("host-b"), "{weighed}");
    let steps = chain["timeline"].as_array().unwrap();
    let steps: Vec<&str> = steps.iter().map(|step| step["text"].as_str().unwrap()).collect();
    assert!(steps.first() == Some(&"decided") && steps.last().unwrap().starts_with("done"), "{steps:?}");
    // For people it has the same.
    let (text, _, _) = plane.embot(&["explain", "web"]);
    for part in ["event", "policy", "relieve-hot-host.rhai:", "guest.migrate(", "read", "weighed", "mode", "result"] {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
    lab.tell(web, &["calm"]);
    // On a busy machine a guest that boots is as hot; the rest is about other modules.
    let (said, error, ok) = plane.embot(&["modules", "mode", "relieve-hot-host", "observe"]);
    assert!(ok, "{said}{error}");
}

fn a_guest_that_died_is_started_again(lab: &Lab, plane: &Plane, guest: &Guest) {
    lab.kill(guest);
    let started = |chain: &Value| chain["action"]["verb"] == "start" && chain["action"]["state"] == "done";
    let chain = plane.until("a restart", |plane| plane.latest(guest).filter(started));
    assert_eq!(chain["place"]["file"], "restart-crashed.rhai");
    assert_eq!(chain["cause"]["kind"], "timer", "it waits before it starts");
    let reason = chain["action"]["reason"].as_str().unwrap();
    assert!(reason.contains("crashed") && reason.contains("restart 1 of 6"), "{reason}");
    plane.until("the guest to count anew", |_| (guest.counts().iter().filter(|count| **count == 1).count() == 2).then_some(()));
}

fn a_second_plane_keeps_its_hands_off(lab: &Lab, guests: &[Guest]) {
    let mut other = over(lab, "other");
    other.start();
    for guest in guests {
        let known = other.until("the guest to be seen", |other| other.guest(guest));
        assert_eq!((known["mode"].as_str(), known["owner"].as_str()), (Some("observe"), Some("lab")), "{known}");
    }
    let alarm = other.until("an alarm", |other| other.told("0", "two planes see one host"));
    assert_eq!(alarm["level"], "alarm", "{alarm}");
    let (said, error, ok) = other.embot(&["suspend", "web"]);
    assert!(!ok && error.contains("lab"), "another plane's guest is none of its business: {said}{error}");
    assert_eq!(other.ask(&["status"]).unwrap()["figures"]["planned"], 0);
}

fn maintenance_empties_a_host_and_fills_it_again(lab: &Lab, plane: &Plane, guests: &[Guest]) {
    // All at home, for what follows.
    for guest in guests {
        if plane.at(guest).as_deref() != Some("host-a") {
            let moved = plane.until("room at home", |plane| {
                Some(plane.embot(&["migrate", &guest.name, "--to", "host-a", "--wait"])).filter(|(_, _, ok)| *ok)
            });
            assert!(moved.2, "{moved:?}");
        }
    }
    plane.idle();
    let since = plane.position();
    let (said, error, ok) = plane.embot(&["maintenance", "host-a", "on"]);
    assert!(ok, "{said}{error}");
    plane.until("an empty host", |plane| guests.iter().all(|it| plane.at(it).as_deref() == Some("host-b")).then_some(()));
    plane.until("the word that it is empty", |plane| plane.told(&since, "host-a is empty"));
    let most = most_at_once(&plane.events(&since));
    assert!((1..=2).contains(&most), "{most} guests were on the way at a time");

    let (said, error, ok) = plane.embot(&["migrate", "web", "--to", "host-a"]);
    assert!(!ok && error.contains("maintenance"), "{said}{error}");

    let since = plane.position();
    let (said, error, ok) = plane.embot(&["maintenance", "host-a", "off"]);
    assert!(ok, "{said}{error}");
    plane
        .until("guests that are back", |plane| guests.iter().all(|it| plane.at(it).as_deref() == Some("host-a")).then_some(()));
    plane.until("the word that they are back", |plane| plane.told(&since, "its guests are back"));
    let most = most_at_once(&plane.events(&since));
    assert!((1..=2).contains(&most), "{most} guests were on the way at a time");
    guests.iter().for_each(Guest::counts_on);
    assert_eq!(lab.virsh("host-b", &["list", "--all", "--name"]).unwrap().trim(), "");
}

/// How many migrations were under way at a time, by the records of actions.
fn most_at_once(records: &[Value]) -> usize {
    let mut under_way = std::collections::BTreeSet::new();
    let mut most = 0;
    for record in records.iter().filter(|record| record["record"] == "action") {
        let Some(action) = record["action"].as_u64() else { continue };
        match record["milestone"].as_str().unwrap_or_default() {
            step if step.starts_with("started") => under_way.insert(action),
            step if step.starts_with("progress") => false,
            _ => under_way.remove(&action),
        };
        most = most.max(under_way.len());
    }
    most
}

fn a_lost_libvirtd_moves_nothing(lab: &Lab, plane: &Plane, guests: &[Guest]) {
    plane.idle();
    let since = plane.position();
    let planned = |plane: &Plane| plane.ask(&["status"]).map(|status| status["figures"]["planned"].clone());
    let before = planned(plane);
    lab.run("stop-libvirtd", &["--host", "host-a"]).unwrap();
    let lost = |status: &Value| status["hosts_down"].as_array().is_some_and(|down| down.len() == 1);
    plane.until("the host to be missed", |plane| plane.ask(&["status"]).filter(lost));
    lab.run("start-libvirtd", &["--host", "host-a"]).unwrap();
    let back = |status: &Value| status["hosts_down"].as_array().is_some_and(Vec::is_empty);
    plane.until("the host to be back", |plane| plane.ask(&["status"]).filter(back));
    assert!(plane.told(&since, "host-a does not answer").is_some(), "{:?}", plane.events(&since));
    assert!(plane.told(&since, "host-a answers").is_some(), "{:?}", plane.events(&since));
    for guest in guests {
        plane.until("figures of the guest", |plane| plane.at(guest).filter(|host| host == "host-a"));
        guest.counts_on();
    }
    assert_eq!(planned(plane), before, "nothing is done because a host was away");
    let gone: Vec<Value> = plane.events(&since).into_iter().filter(|record| record["record"] == "action").collect();
    assert!(gone.is_empty(), "{gone:?}");
}

fn a_manager_that_dies_in_a_migration_finds_it_again(lab: &Lab, plane: &mut Plane, guest: &Guest) {
    plane.idle();
    // What it dirties comes faster than what may be sent: the move lasts until it is let go.
    lab.tell(guest, &["dirty", "24"]);
    lab.virsh("host-a", &["migrate-setspeed", &guest.name, "4"]).unwrap();
    let reply = plane.until("the migration to be taken on", |plane| plane.ask(&["migrate", &guest.name, "--to", "host-b"]));
    let id = reply["actions"][0].as_u64().unwrap();
    let under_way = |chain: &Value| chain["action"]["state"] == "started" && !chain["action"]["progress"].is_null();
    plane.until("the migration to be under way", |plane| plane.latest(guest).filter(under_way));
    let before = plane.journal().len();
    plane.kill();
    assert!(lab.virsh("host-a", &["domjobinfo", &guest.name]).unwrap().contains("Unbounded"), "libvirt goes on");

    plane.start();
    let found = plane.latest(guest).unwrap();
    assert_eq!((found["action"]["id"].as_u64(), found["action"]["state"].as_str()), (Some(id), Some("started")), "{found}");
    // Nobody moves it twice: another order is refused while this one is open.
    let (said, error, ok) = plane.embot(&["migrate", &guest.name, "--to", "host-b"]);
    assert!(!ok && error.contains("one action at a time for a guest"), "{said}{error}");
    lab.tell(guest, &["calm"]);
    lab.virsh("host-a", &["migrate-setspeed", &guest.name, "1000"]).unwrap();
    let ended = |chain: &Value| chain["action"]["id"] == id && chain["action"]["state"] == "done";
    plane.until("the migration to end", |plane| plane.latest(guest).filter(ended));
    plane.until("the guest to be seen there", |plane| plane.at(guest).filter(|host| host == "host-b"));
    let on = |host: &str| lab.virsh(host, &["list", "--all", "--name"]).unwrap().lines().any(|name| name.trim() == guest.name);
    assert_eq!((on("host-a"), on("host-b")), (false, true), "it is on one host, and that is the target");
    guest.counts_on();
    assert!(plane.journal().len() > before, "the journal goes on where it was");
}

/// How often each action of a journal came to an end.
fn ends(journal: &[Value]) -> std::collections::BTreeMap<u64, u32> {
    let mut ends = std::collections::BTreeMap::new();
    for record in journal.iter().filter(|line| line["record"].is_string()) {
        let record: embot::model::Record = serde_json::from_value(record.clone()).unwrap();
        if let embot::model::Record::Planned { action } = &record {
            ends.entry(action.id.0).or_insert(0);
        }
        use embot::model::ActionUpdate::{Cancelled, Done, Failed};
        if let embot::model::Record::Action { action, update: Done | Failed(_) | Cancelled(_) } = &record {
            *ends.entry(action.0).or_insert(0) += 1;
        }
    }
    ends
}
