//! Starting, stopping, and getting in each other's way.

use crate::fleet::LONG;
use crate::plane::Plane;
use crate::process::{Process, within};
use embot::hypervisor::simulated::{Fault, Trouble};
use embot::model::Span;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

/// What a daemon may take to stop, whatever hangs: far more than it needs, far less than anything that hangs here.
const SOON: Duration = Duration::from_secs(20);

/// Guests that take minutes to move.
const SLOW: &str = "
hosts: [{ name: 'host-{n}', count: 3, cpus: 8, memory_mib: 8192, bandwidth_mib_per_s: 2 }]
guests: [{ name: 'guest-{n}', count: 3, memory_mib: 1024 }]
";

fn decides(status: &Value) -> bool {
    status["starting"] == false
}

/// Tells a daemon to stop; its exit code, and what it printed.
fn stop(plane: &Plane, mut daemon: Process, signal: Signal) -> (Option<i32>, String) {
    daemon.signal(signal);
    let status = daemon.end_within(SOON).unwrap_or_else(|| panic!("it goes on after {signal}:\n{}", plane.log()));
    (status.code(), plane.log())
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let plane = Plane::new(SLOW);
    let pki = plane.path("pki");
    crate::pair::pki(&pki, &["init"]);
    crate::pair::pki(&pki, &["issue", "crash", "--name", "localhost"]);
    let [metrics, api] = [(), ()].map(|()| {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        free.expect("a port").port()
    });
    let path = plane.path("plane.yaml");
    let plain = fs::read_to_string(&path).expect("a file");
    let section = |port: u16| {
        format!(
            "api: {{ listen: '127.0.0.1:{port}', certificate: pki/planes/crash/plane.crt, key: pki/planes/crash/plane.key }}\n"
        )
    };
    let metered = |port: u16| format!("metrics: {{ listen: '127.0.0.1:{port}' }}\n");
    fs::write(&path, format!("{plain}{}{}", section(api), metered(metrics))).expect("a file");
    let mut first = plane.daemon();
    plane.wait_until("it decides", &mut first, decides);
    let apart = "socket: other.sock\nstore: other.redb\n";
    let variants = [
        ("the same", fs::read_to_string(&path).expect("a file")),
        ("another socket", format!("{plain}socket: other.sock\n")),
        ("another store", format!("{plain}store: other.redb\n")),
        ("another socket and store, the same port for metrics", format!("{plain}{apart}{}", metered(metrics))),
        ("another socket and store, the same port for the API", format!("{plain}{apart}{}", section(api))),
    ];
    let mut all = Vec::new();
    for (what, config) in variants {
        let other = plane.path("other.yaml");
        fs::write(&other, config).expect("a file");
        let log = plane.path("other.log");
        let _ = fs::remove_file(&log);
        let mut second = Process::start(&["run", "--config", &other.display().to_string()], &log);
        let status = second.end_within(LONG).expect("it ends");
        let said = fs::read_to_string(&log).expect("a log");
        assert_eq!(status.code(), Some(2), "{what}: {said}");
        let error = said.rfind("error: ").map_or("", |at| &said[at..]);
        let error = error.replace(&*plane.path("").to_string_lossy(), "/plane/");
        let error = error.replace(&metrics.to_string(), "METRICS").replace(&api.to_string(), "API");
        all.push(format!("{what}:\n{error}"));
        assert!(!plane.path("other.sock").exists(), "{what}: a socket was left behind");
        assert!(plane.status().is_some(), "{what}: the first daemon still answers");
    }
    insta::assert_snapshot!("second_daemon", all.join("\n"));
    assert_eq!(stop(&plane, first, Signal::SIGTERM).0, Some(0));
    assert!(!plane.path("embot.sock").exists(), "the socket goes with its daemon");
}

#[test]
fn it_stops_while_a_host_hangs_and_a_guest_moves_and_goes_on_where_it_stopped() {
    let plane = Plane::new(SLOW);
    let mut daemon = plane.daemon();
    plane.wait_until("all guests are adopted", &mut daemon, |status| {
        decides(status) && status["guests_by_mode"]["act"] == 3 && status["open"] == 0
    });
    let answer = plane.door().post("migrate", &json!({ "vm": "guest-1", "to": "host-2" })).expect("an answer");
    assert_eq!(answer.code, 200, "{answer:?}");
    let action = answer.body["actions"][0].as_u64().expect("an action");
    let moves = || plane.door().get("/v1/actions?state=started").filter(|started| started[0]["progress"].is_object());
    within(LONG, moves).expect("the guest is on its way");
    plane.fleet().inject(&Fault::Host { host: "host-3".into(), trouble: Trouble::Hangs, lasts: Span::seconds(12) });
    // A poll waits for that host now, and so does an action.
    let answer = plane.door().post("suspend", &json!({ "vm": "guest-3" })).expect("an answer");
    assert_eq!(answer.code, 200, "{answer:?}");
    let path = format!("/v1/actions/{}", answer.body["actions"][0]);
    let waits = || plane.door().get(&path).filter(|explained| explained["action"]["state"] == "started");
    within(LONG, waits).expect("the action waits for its host");
    let (code, said) = stop(&plane, daemon, Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");

    // The move goes on, and the next daemon knows it; neither that nor the host that hangs keeps it from deciding for long.
    let mut daemon = plane.daemon();
    let status = plane.wait_until("it decides", &mut daemon, decides);
    assert!(status["open"].as_u64() >= Some(1), "{status}");
    let explained = plane.door().get(&format!("/v1/actions/{action}")).expect("an answer");
    assert_eq!(explained["action"]["state"], "started", "{explained}");
    let (code, said) = stop(&plane, daemon, Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn an_interrupt_ends_run_follow_cleanly() {
    let plane = Plane::new(SLOW);
    let mut daemon = plane.daemon_with(&["--follow"]);
    plane.wait_until("it decides", &mut daemon, decides);
    within(LONG, || plane.log().contains("host-1").then_some(())).expect("it shows what happens");
    let (code, said) = stop(&plane, daemon, Signal::SIGINT);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("nothing more is shown") && !said.contains("ERROR"), "{said}");
}

#[test]
fn a_stop_asked_for_while_it_starts_is_not_lost() {
    let plane = Plane::new(SLOW);
    for delay_ms in [0, 1, 5, 20, 60] {
        let daemon = plane.daemon();
        within(LONG, || plane.path("embot.sock").exists().then_some(())).expect("a socket");
        std::thread::sleep(Duration::from_millis(delay_ms));
        let (code, said) = stop(&plane, daemon, Signal::SIGTERM);
        assert_eq!(code, Some(0), "after {delay_ms} ms: {said}");
        assert!(!plane.path("embot.sock").exists(), "the socket goes with its daemon");
    }
}
