//! A configuration that changes while the plane runs.

use crate::plane::{Plane, until};
use nix::sys::signal::Signal;
use serde_json::Value;

fn reload(plane: &Plane) -> (Option<i32>, Value, String) {
    let output = plane.embot(&["--output", "json", "reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

#[test]
fn what_can_change_changes_and_the_rest_is_named() {
    let plane = Plane::new("");
    let mut daemon = plane.start();
    assert_eq!(reload(&plane).1["taken_over"], serde_json::json!([]));

    plane.configure("guardrails: { cooldown: 1m }\njournal: { keep_bytes: 2097152 }\n");
    let (code, view, said) = reload(&plane);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(view["taken_over"], serde_json::json!(["guardrails.cooldown (5m -> 1m)"]));
    assert_eq!(view["after_restart"], serde_json::json!(["journal.keep_bytes (1073741824 -> 2097152)"]));
    // What is not in force is named again; what is, is not.
    let (_, view, _) = reload(&plane);
    assert_eq!(view["taken_over"], serde_json::json!([]));
    assert_eq!(view["after_restart"].as_array().map(Vec::len), Some(1));
    // The change stands among the inputs of the journal.
    let journal = String::from_utf8(plane.embot(&["journal", "export"]).stdout).unwrap();
    let adjusted: Vec<&str> = journal.lines().filter(|line| line.contains("\"adjust\"")).collect();
    assert_eq!(adjusted.len(), 1, "{adjusted:?}");
    assert!(adjusted[0].contains("cooldown"), "{}", adjusted[0]);

    // A broken file changes nothing, and says why.
    plane.configure("guardrails: { coolown: 2m }\n");
    let refused = plane.embot(&["--socket", "embot.sock", "reload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("coolown") && said.contains("cooldown") && said.contains("nothing has changed"), "{said}");
    // Without the socket's name the file is read here, to find it, and complained about.
    let (code, _, said) = reload(&plane);
    assert!(code == Some(2) && said.contains("coolown"), "{said}");

    // SIGHUP does the same; the log tells.
    plane.configure("guardrails: { cooldown: 3m }\n");
    daemon.signal(Signal::SIGHUP);
    until("SIGHUP is heeded", || plane.log().contains("guardrails.cooldown (1m -> 3m)").then_some(()));
    plane.configure("polll: 1s\n");
    daemon.signal(Signal::SIGHUP);
    until("SIGHUP complains", || plane.log().contains("unknown key `polll`").then_some(()));
    assert!(daemon.0.try_wait().unwrap().is_none(), "it goes on");
}

#[test]
fn modules_come_from_the_folder_that_is_named_now() {
    let plane = Plane::new("");
    plane.deploy("relieve-hot-host");
    let modules = || String::from_utf8(plane.embot(&["modules"]).stdout).unwrap();
    let _daemon = plane.start();
    until("the module is loaded", || modules().contains("relieve-hot-host").then_some(()));
    std::fs::create_dir(plane.path("others")).unwrap();
    let text = std::fs::read_to_string(plane.path("embots/relieve-hot-host.yaml")).unwrap();
    std::fs::write(plane.path("others/cool.yaml"), text.replace("module: relieve-hot-host", "module: cool")).unwrap();
    plane.configure("modules: others\n");
    assert_eq!(reload(&plane).1["taken_over"][0].as_str().map(|text| text.starts_with("modules (")), Some(true));
    until("the other folder's module is loaded", || modules().contains("cool ").then_some(()));
    until("what is not there is unloaded", || (!modules().contains("relieve-hot-host")).then_some(()));
}
