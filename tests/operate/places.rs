//! A daemon's socket, and a second daemon.

use crate::plane::{Plane, until};
use nix::sys::signal::Signal;
use std::fs;

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let plane = Plane::new("");
    let _first = plane.start();
    let second = plane.embot(&["run"]);
    assert_eq!(second.status.code(), Some(2));
    assert!(plane.embot(&["status"]).status.success(), "the first still answers on its socket");
}

#[test]
fn a_socket_that_a_dead_daemon_left_is_taken_over() {
    let plane = Plane::new("");
    let daemon = plane.start();
    daemon.signal(Signal::SIGKILL);
    drop(daemon);
    assert!(plane.path("embot.sock").exists());
    let _next = plane.start();
}

#[test]
fn something_else_in_the_sockets_place_is_left_alone() {
    let plane = Plane::new("");
    fs::write(plane.path("embot.sock"), "precious").unwrap();
    let output = plane.embot(&["run"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("is no socket"), "{said}");
    assert_eq!(fs::read_to_string(plane.path("embot.sock")).unwrap(), "precious");
}

#[test]
fn whoever_asks_no_plane_hears_where_it_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let asked = |folder: &std::path::Path| {
        std::process::Command::new(env!("CARGO_BIN_EXE_embot")).arg("status").current_dir(folder).output().unwrap()
    };
    // Where the machine has a plane of its own, that is asked.
    if !std::path::Path::new("/etc/embot/plane.yaml").exists() {
        let said = String::from_utf8_lossy(&asked(folder.path()).stderr).into_owned();
        assert!(said.contains("plane.yaml in this folder") && said.contains("/etc/embot/plane.yaml"), "{said}");
    }
    fs::write(folder.path().join("plane.yaml"), "plane: home\nfleet: demo\n").unwrap();
    let said = String::from_utf8_lossy(&asked(folder.path()).stderr).into_owned();
    assert!(said.contains("no daemon answers on embot.sock"), "{said}");
}

#[test]
fn the_log_is_text_or_json_as_loud_as_wanted() {
    let plane = Plane::new("");
    let daemon = plane.spawn(&["--log", "json"]);
    until("the daemon answers", || plane.embot(&["status"]).status.success().then_some(()));
    daemon.signal(Signal::SIGTERM);
    until("it has said so", || plane.log().contains("stopping").then_some(()));
    drop(daemon);
    for line in plane.log().lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(entry["level"].is_string() && entry["timestamp"].is_string(), "{line}");
    }
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_embot"))
        .args(["run", "--config"])
        .arg(plane.path("plane.yaml"))
        .env("EMBOT_LOG", "embot=loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("EMBOT_LOG"));
}
