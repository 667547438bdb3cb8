//! Two planes, a daemon each, over one host of the lab each: a guest goes from one to the other with all that is known of it.

mod faults;
mod load;

use super::*;
use crate::daemon::{Plane, host};
use crate::lab::Guest;
use embot::model::{EventBody, Record, Span, Timestamp};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::TcpListener;
use std::process::Command;

const A: usize = 0;
const B: usize = 1;
const SITES: [&str; 2] = ["site-a", "site-b"];
const HOSTS: [&str; 2] = ["host-a", "host-b"];

/// Counts its own timers and the messages it hears, and notes whatever does not come in order, once. It rests once, so that
/// there is something to explain.
const TALLY: (&str, &str) = (
    "
version: '1'
covers: { each: vm }
mode: act
permits: [suspend, resume]
channels: { hears: [beat] }
",
    r#"
fn on_loaded(vm, event) {
    this.loaded = this.get("loaded", 0) + 1;
    this.ticks = 0;
    after(seconds(1), "tick", 1);
}
fn on_timer(vm, event) {
    if event.content != this.ticks + 1 { this.wrong = `timer ${event.content} after ${this.ticks}`; }
    this.ticks = event.content;
    after(seconds(1), "tick", event.content + 1);
    if this.ticks == 2 { vm.suspend("it rests a moment"); }
    if this.ticks == 4 { vm.resume("it has rested"); }
}
fn on_message(event) {
    if "heard" in this && event.content != this.heard + 1 { this.wrong = `message ${event.content} after ${this.heard}`; }
    this.heard = event.content;
}
fn on_migrated(event) {
    this.moves = this.get("moves", 0) + 1;
    this.heard_before = this.get("heard", 0);
}
"#,
);

/// Tells all embots of a plane its beats, five a second.
const METRONOME: (&str, &str) = (
    "
version: '1'
covers: { one_for: plane }
mode: act
permits: []
channels: { sends: [beat] }
",
    r#"
fn on_loaded() { after(200, "beat"); }
fn on_timer() {
    this.sent = this.get("sent", 0) + 1;
    send("beat", this.sent);
    after(200, "beat");
}
"#,
);

/// Admins are in a hurry here.
const HASTE: &str = "guardrails: { cooldown: 1s, blast_radius: 1, load_window: 10s, target_max_cpu: 0.9, \
                     module_rate: { actions: 100, per: 1m }, plane_rate: { actions: 100, per: 1m } }\n";

/// Two planes that know each other by certificates.
struct Sites {
    planes: [Plane; 2],
    _certificates: tempfile::TempDir,
    lab: Lab,
}

impl Sites {
    /// Planes that are not started yet; each host counts as so many cores. `None`: this machine has no lab.
    fn up(test: &str, cpus: [u32; 2]) -> Option<Sites> {
        let lab = Lab::up(test, 2)?;
        let certificates = tempfile::tempdir().unwrap();
        let pki = |words: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_embot"));
            let output = command.arg("pki").arg("--folder").arg(certificates.path()).args(words).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        pki(&["init"]);
        // Both at once, so that they are not the same.
        let doors = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = doors.map(|door| door.local_addr().unwrap().port());
        let planes = [A, B].map(|plane| {
            let (own, other) = (SITES[plane], SITES[1 - plane]);
            pki(&["issue", own, "--name", "localhost"]);
            let tls = certificates.path().join("planes").join(own).display().to_string();
            let (listen, there) = (ports[plane], ports[1 - plane]);
            Plane::new(&format!(
                "plane: {own}\nadopt: act\nnew_modules: act\npoll: 1s\nhosts:\n{}\
                 link: {{ listen: '127.0.0.1:{listen}', certificate: {tls}/plane.crt, key: {tls}/plane.key, ca: {tls}/ca.crt, \
                 crl: {tls}/crl.pem }}\n\
                 peers: [{{ name: {other}, address: 'localhost:{there}' }}]\n{HASTE}",
                host(&lab, HOSTS[plane], cpus[plane])
            ))
        });
        Some(Sites { planes, _certificates: certificates, lab })
    }

    /// Starts both, and waits until they are connected.
    fn start(&mut self) {
        self.planes.iter_mut().for_each(Plane::start);
        self.connected();
    }

    /// Waits until they are connected, both ways.
    #[track_caller]
    fn connected(&self) {
        for plane in &self.planes {
            plane.until("its peer", |plane| (plane.ask(&["peers"])?["peers"][0]["reachable"] == true).then_some(()));
        }
    }

    /// Waits until a plane has taken a guest under management.
    #[track_caller]
    fn adopted(&self, plane: usize, guest: &Guest) {
        self.planes[plane].until("adoption", |plane| {
            let known = plane.guest(guest)?;
            (known["owner"].is_string() && known["action"].is_null()).then_some(())
        });
    }

    /// Waits until a guest's embot has had it rest; that action, explained.
    #[track_caller]
    fn rested(&self, plane: usize, guest: &Guest) -> Value {
        let rested = |chain: &Value| chain["action"]["verb"] == "resume" && chain["action"]["state"] == "done";
        self.planes[plane].until("its embot to have it rest", |plane| plane.latest(guest).filter(rested))
    }

    /// An action on a guest that a plane knows of, by what was done and who proposed it.
    #[track_caller]
    fn action(&self, plane: usize, guest: &Guest, verb: &str, by: &str) -> Value {
        let detail = self.planes[plane].ask(&["elements", &guest.name]).unwrap();
        let wanted = |action: &&Value| action["verb"] == verb && action["by"].as_str().is_some_and(|who| who.contains(by));
        let found = detail["actions"].as_array().unwrap().iter().find(wanted);
        found.unwrap_or_else(|| panic!("no {verb} by {by}: {detail}")).clone()
    }

    /// Has a plane hand a guest over to the other; the migration's name.
    #[track_caller]
    fn begin(&self, from: usize, guest: &Guest) -> String {
        let words = ["migrate", &guest.name, "--to", SITES[1 - from]];
        let reply = self.planes[from].until("the handover to be planned", |plane| plane.ask(&words));
        format!("{}/{}", SITES[from], reply["actions"][0])
    }

    /// A migration as a plane has it.
    fn migration(&self, plane: usize, id: &str) -> Option<Value> {
        self.planes[plane].ask(&["migrations", "show", id])
    }

    /// Waits until the guest is on its way, in the midst.
    #[track_caller]
    fn in_the_midst(&self, from: usize, id: &str) {
        self.planes[from].until("the move to be under way", |_| {
            let migration = self.migration(from, id)?;
            let phase = migration["phases"].as_array()?.last()?["phase"].clone();
            (phase == "moving" && migration["sent_bytes"].as_u64()? > 0).then_some(())
        });
    }

    /// Waits until both planes say that a migration ended so; why, where it stayed.
    #[track_caller]
    fn over(&self, id: &str, state: &str) -> String {
        let mut reason = String::new();
        for plane in [A, B] {
            let ended = self.planes[plane].until(&format!("{id} to be over for {}", SITES[plane]), |_| {
                self.migration(plane, id).filter(|it| it["state"] != "underway" && it["state"] != "undecided")
            });
            assert_eq!(ended["state"], state, "{id} for {}: {ended}", SITES[plane]);
            assert_eq!(ended["held"], 0, "{ended}");
            if id.starts_with(SITES[plane]) {
                reason = ended["reason"].as_str().unwrap_or_default().to_owned();
            }
        }
        reason
    }

    /// A guest that chases its own memory, and a move that is not allowed to keep up: it lasts until [`Sites::hurry`].
    fn hold_up(&self, from: usize, guest: &Guest) {
        self.lab.tell(guest, &["dirty", "24"]);
        self.lab.virsh(HOSTS[from], &["migrate-setspeed", &guest.name, "4"]).unwrap();
    }

    /// Lets a move come to its end.
    fn hurry(&self, from: usize, guest: &Guest) {
        self.lab.tell(guest, &["calm"]);
        self.lab.virsh(HOSTS[from], &["migrate-setspeed", &guest.name, "1000"]).unwrap();
    }

    /// What the guest's embot knows, on the plane that has it.
    fn tally(&self, plane: usize, guest: &Guest) -> Option<Value> {
        let detail = self.planes[plane].ask(&["elements", &guest.name])?;
        let embot = detail["embots"].as_array()?.iter().find(|embot| embot["module"] == "tally")?;
        assert!(embot["suspended"].is_null(), "{embot}");
        Some(embot["state"].as_object()?.values().next()?.clone())
    }

    /// Is the guest defined on a host, or does it run there?
    fn has(&self, host: &str, guest: &Guest) -> bool {
        self.lab.virsh(host, &["list", "--all", "--name"]).unwrap().lines().any(|name| name.trim() == guest.name)
    }

    /// One plane owns the guest, under this epoch; one host runs it, and the other knows nothing of it; its embot goes on; and
    /// it does what it is told.
    #[track_caller]
    fn is_managed_by(&self, owner: usize, guest: &Guest, epoch: u64) {
        let (here, there) = (&self.planes[owner], &self.planes[1 - owner]);
        let known = here.until("the guest to be settled", |plane| {
            let known = plane.guest(guest)?;
            (known["state"] == "running" && known["action"].is_null() && known["epoch"] == epoch).then_some(known)
        });
        assert_eq!(
            (&known["owner"], &known["mode"], &known["host"]),
            (&SITES[owner].into(), &"act".into(), &HOSTS[owner].into())
        );
        let strange = there.guest(guest);
        assert!(strange.is_none(), "{} knows it as well: {strange:?}", SITES[1 - owner]);
        until("one host to have it", || (self.has(HOSTS[owner], guest) && !self.has(HOSTS[1 - owner], guest)).then_some(()));
        let metadata = ["metadata", &guest.name, "--uri", "urn:embot:mark:1"];
        let mark = self.lab.virsh(HOSTS[owner], &metadata).unwrap();
        assert!(mark.contains(SITES[owner]) && mark.contains(&format!("{epoch}")) && !mark.contains("seal"), "{mark}");

        let before = self.tally(owner, guest).unwrap();
        let after = here.until("its embot to go on", |_| {
            let now = self.tally(owner, guest)?;
            (now["ticks"].as_u64()? > before["ticks"].as_u64()? + 1).then_some(now)
        });
        assert_eq!((&after["loaded"], &after["wrong"]), (&1.into(), &Value::Null), "{after}");
        self.obeys(owner, guest);
        guest.counts_on();
        guest.assert_no_gap();
    }

    /// The guest does what its plane is told.
    #[track_caller]
    fn obeys(&self, plane: usize, guest: &Guest) {
        for verb in ["suspend", "resume"] {
            let rests = |error: &str| error.contains("cooldown");
            let (said, error, ok) = self.planes[plane].until("the order to be taken", |plane| {
                Some(plane.embot(&[verb, &guest.name, "--wait"])).filter(|(_, error, ok)| *ok || !rests(error))
            });
            assert!(ok, "{verb}: {said}{error}");
        }
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // One that was stopped answers nobody.
            self.planes.iter().for_each(|plane| plane.signal(Signal::SIGCONT));
            let views = self.planes.each_ref().map(Plane::view);
            eprintln!("{}", views.join("\n---- and the other plane ----\n"));
        }
    }
}

/// What a plane's journal says that an embot was told over channels, in order: the contents, and how long after it was said.
fn told(plane: &Plane, embot: &str) -> Vec<(i64, Span)> {
    let records = plane.journal().into_iter().filter(|line| line["record"].is_string());
    let message = |line: Value| {
        let now: Timestamp = serde_json::from_value(line["now"].clone()).unwrap();
        match serde_json::from_value(line).unwrap() {
            Record::Event { event } if event.to.as_ref().is_some_and(|to| to.to_string() == embot) => match event.body {
                EventBody::Message { content: embot::model::Value::Int(beat), .. } => Some((beat, now.since(event.at))),
                _ => None,
            },
            _ => None,
        }
    };
    records.filter_map(message).collect()
}

#[test]
fn a_guest_goes_to_another_plane_with_all_that_is_known_of_it() {
    let Some(mut sites) = Sites::up("a_guest_goes_to_another_plane_with_all_that_is_known_of_it", [8, 8]) else { return };
    let guest = sites.lab.guest(HOSTS[A], "web", &["--start", "--agent"]);
    for plane in &sites.planes {
        plane.deploy("tally", TALLY.0, TALLY.1);
    }
    sites.planes[A].deploy("metronome", METRONOME.0, METRONOME.1);
    sites.start();
    sites.adopted(A, &guest);
    let chain = sites.rested(A, &guest);
    let before = sites.tally(A, &guest).unwrap();

    // Slow enough for some beats to come meanwhile.
    sites.lab.virsh(HOSTS[A], &["migrate-setspeed", &guest.name, "16"]).unwrap();
    let (said, error, ok) = sites.planes[A].embot(&["migrate", &guest.name, "--to", SITES[B], "--wait"]);
    assert!(ok, "{said}{error}");
    let migrations = sites.planes[A].ask(&["migrations"]).unwrap();
    let id = migrations[0]["id"].as_str().unwrap().to_owned();
    sites.over(&id, "moved");
    guest.counts_on();
    guest.assert_no_gap();

    // What was stated of it at its old place is handled at the new one: all of it, once, in order, and before what was stated there.
    let embot = format!("tally@vm:{}", guest.vm);
    let [there, here] = [A, B].map(|plane| told(&sites.planes[plane], &embot));
    for beats in [&there, &here] {
        assert!(beats.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{beats:?}");
    }
    let last = there.last().unwrap().0;
    assert_eq!(here.last().map(|(beat, _)| *beat), Some(last));
    let after = sites.planes[B].until("the word that it has come", |_| sites.tally(B, &guest).filter(|it| it["moves"] == 1));
    assert_eq!(
        (&after["heard"], &after["heard_before"], &after["wrong"]),
        (&last.into(), &last.into(), &Value::Null),
        "{after}"
    );
    let mut waited: Vec<u64> = here.iter().map(|(_, waited)| waited.0).collect();
    waited.sort_unstable();
    assert!(waited.len() > 3, "{here:?} came after {before}");
    let (half, most) = (waited[waited.len() / 2], waited[waited.len() * 99 / 100]);
    let text = format!("{} events waited for the handover: p50 {half} ms, p99 {most} ms\n", waited.len());
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
    assert!(after["ticks"].as_u64() >= before["ticks"].as_u64(), "{before} {after}");
    sites.is_managed_by(B, &guest, 2);

    // The place it left says where it is.
    let (_, error, ok) = sites.planes[A].embot(&["elements", &guest.name]);
    assert!(!ok && error.contains("belongs to plane site-b now (epoch 2)"), "{error}");

    // What was done at the old place, and why, is known at the new one.
    let rest = sites.action(B, &guest, "resume", "tally");
    let again = sites.planes[B].ask(&["explain", &rest["id"].to_string()]).unwrap();
    // Instants are told by the clock of whoever tells them, as far as the two clocks are known to differ.
    let but_for_the_clock = |part: &Value| {
        let mut part = part.clone();
        part.as_object_mut().map(|part| part.remove("at"));
        part
    };
    for part in ["place", "reads", "cause"] {
        assert_eq!(but_for_the_clock(&again[part]), but_for_the_clock(&chain[part]), "{part}");
    }
    assert_eq!(again["action"]["reason"], "it has rested");

    // What guests can have on the other plane's hosts is known here.
    let models = sites.planes[A].ask(&["peers"]).unwrap()["peers"][0]["summary"]["cpu_models"].to_string();
    assert!(models.contains("qemu64"), "{models}");
}
