//! Tokens and roles.

use crate::kit::{LONG, Site, said};
use crate::process::within;
use serde_json::json;
use std::time::Instant;
use tokio::runtime::Runtime;

#[test]
fn who_has_no_good_token_gets_nothing_and_is_told_why() {
    let (site, runtime) = (Site::new(), Runtime::new().unwrap());
    let ask = |token: Option<&str>| runtime.block_on(site.ask(token, "GET", "/v1/status", ""));
    let good = site.token("ada", "viewer");
    assert_eq!(ask(Some(&good)).body["plane"], "home");

    let missing = ask(None);
    assert!(missing.code == 401 && said(&missing).contains("a token is needed"), "{missing:?}");
    let wrong = format!("{}0", &good[..good.len() - 1]);
    for token in [wrong.as_str(), "embot_", "x"] {
        let answer = ask(Some(token));
        assert!(answer.code == 401 && said(&answer).contains("none of this plane's"), "{answer:?}");
    }
    let short = site.door().post("create_token", &json!({ "name": "ci", "role": "viewer", "expires": "1ms" })).unwrap();
    let secret = short.body["secret"].as_str().unwrap().to_owned();
    let expired = within(LONG, || Some(ask(Some(&secret))).filter(|answer| answer.code == 401)).expect("it expires");
    assert!(said(&expired).contains("the token `ci` has expired"), "{expired:?}");
    assert_eq!(site.door().post("revoke_token", &json!({ "name": "ada" })).unwrap().code, 200);
    let revoked = ask(Some(&good));
    assert!(revoked.code == 401 && said(&revoked).contains("the token `ada` was revoked"), "{revoked:?}");

    // Nothing about what there is, either.
    for path in ["/v1/nothing", "/", "/v1/elements/guest-1"] {
        let answer = runtime.block_on(site.ask(None, "GET", path, ""));
        assert_eq!(answer.code, 401, "{path}: {answer:?}");
    }
    // No secret stands in the log, and what happened does.
    let log = site.log();
    for secret in [good, secret, wrong] {
        assert!(!log.contains(&secret), "{log}");
    }
    assert!(log.contains("a token was made") && log.contains("a token is not accepted"), "{log}");
    site.stop();
}

#[test]
fn attempts_are_limited_and_good_tokens_are_not_concerned() {
    let (site, runtime) = (Site::new(), Runtime::new().unwrap());
    let good = site.token("ada", "viewer");
    let started = Instant::now();
    let answers: Vec<u16> = runtime.block_on(async {
        let tries = (0..200).map(|_| site.ask(Some("embot_guess"), "GET", "/v1/status", ""));
        let mut codes = Vec::new();
        for one in tries {
            codes.push(one.await.code);
        }
        codes
    });
    assert!(answers.iter().all(|code| matches!(code, 401 | 429)), "{answers:?}");
    let told = answers.iter().filter(|code| **code == 401).count();
    // Ten at once, and ten more each second, however long it takes.
    let seconds = started.elapsed().as_secs() as usize + 1;
    assert!((10..=10 + 10 * seconds).contains(&told), "{told} were told what is wrong in {seconds} s");
    assert_eq!(runtime.block_on(site.ask(Some(&good), "GET", "/v1/status", "")).code, 200);
    let logged = site.log().lines().filter(|line| line.contains("a token is not accepted")).count();
    assert!((1..=1 + seconds).contains(&logged), "200 attempts are {logged} lines in the log in {seconds} s");
    site.stop();
}

#[test]
fn each_role_may_do_its_part_and_the_journal_names_the_token() {
    let (site, runtime) = (Site::new(), Runtime::new().unwrap());
    let [viewer, operator, admin] = ["viewer", "operator", "admin"].map(|role| site.token(&format!("the-{role}"), role));
    let post = |token: &str, command: &str, body: serde_json::Value| {
        runtime.block_on(site.ask(Some(token), "POST", &format!("/v1/commands/{command}"), &body.to_string()))
    };
    let refused = post(&viewer, "suspend", json!({ "vm": "guest-1" }));
    assert_eq!(refused.code, 403);
    assert!(said(&refused).contains("this takes the role operator, and token:the-viewer has the role viewer"), "{refused:?}");
    let refused = post(&operator, "unload_module", json!({ "module": "x" }));
    assert!(refused.code == 403 && said(&refused).contains("takes the role admin"), "{refused:?}");
    assert_eq!(post(&operator, "create_token", json!({ "name": "mine", "role": "admin" })).code, 403);
    assert_eq!(post(&admin, "create_token", json!({ "name": "another", "role": "viewer" })).code, 200);

    let done = post(&operator, "suspend", json!({ "vm": "guest-1" }));
    assert_eq!(done.code, 200, "{done:?}");
    let path = format!("/v1/actions/{}", done.body["actions"][0]);
    let explained = runtime.block_on(site.ask(Some(&viewer), "GET", &path, ""));
    assert!(explained.body["action"]["by"].as_str().unwrap().contains("the-operator"), "{explained:?}");
    let export = runtime.block_on(async {
        let mut stream = site.connect().await;
        let request = crate::kit::request(Some(&viewer), "GET", "/v1/journal/export", "");
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut text).await.unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    assert!(export.contains("the-operator"), "the journal names who asked");
    site.stop();
}

#[test]
fn what_is_done_with_tokens_and_backups_stands_in_the_audit() {
    let site = Site::new();
    let admin = site.token("root", "admin");
    let run = |words: &[&str]| {
        let output = site.remotely(&admin, words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["token", "create", "ci", "--role", "viewer", "--expires", "90d"]);
    run(&["token", "revoke", "ci"]);
    run(&["backup", &site.path("plane.backup").display().to_string()]);
    let answered = run(&["audit", "list", "--output", "json"]);
    let entries: Vec<serde_json::Value> = serde_json::from_str(&answered).unwrap();
    let told =
        |entry: &serde_json::Value| [&entry["by"], &entry["what"], &entry["text"]].map(|one| one.as_str().unwrap().to_owned());
    let ours: Vec<[String; 3]> =
        entries.iter().map(told).filter(|[_, what, _]| what.contains("token") || what == "backup").collect();
    let own = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
    let expected = [
        [&*own, "create_token", "token `root` is made, with the role admin"],
        ["token:root", "create_token", "token `ci` is made, with the role viewer, for 90d"],
        ["token:root", "revoke_token", "token `ci` is revoked"],
        ["token:root", "backup", "a backup of the store is taken"],
    ];
    assert_eq!(ours, expected, "a token's name cannot pass for that of a user");
    run(&["audit", "verify"]);
    // The backup has the entry about itself.
    let verified = run(&["audit", "verify", "--file", &site.path("plane.backup").display().to_string(), "--output", "json"]);
    let number = entries.iter().find(|entry| entry["what"] == "backup").unwrap()["number"].as_u64();
    let verified: serde_json::Value = serde_json::from_str(&verified).unwrap();
    assert_eq!(verified["head"]["number"].as_u64(), number, "{verified}");
    site.stop();
}

#[test]
fn a_stream_ends_with_the_token_that_opened_it() {
    let (site, runtime) = (Site::new(), Runtime::new().unwrap());
    let follow = |token: String| {
        runtime.block_on(async {
            let mut stream = site.connect().await;
            let request = crate::kit::request(Some(&token), "GET", "/v1/events/follow", "");
            tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
            let mut begins = [0; 12];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut begins).await.unwrap();
            assert_eq!(&begins, b"HTTP/1.1 200");
            stream
        })
    };
    let ends = |stream: &mut _| {
        let mut text = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(stream, &mut text);
        runtime.block_on(async { tokio::time::timeout(LONG, read).await.expect("it ends") }).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.split_once("event: end").unwrap_or_else(|| panic!("it does not say why: {text}")).1.to_owned()
    };
    let (revoked, changed) = (site.token("revoked", "viewer"), site.token("changed", "operator"));
    let short = site.door().post("create_token", &json!({ "name": "short", "role": "viewer", "expires": "3s" })).unwrap();
    let mut short = follow(short.body["secret"].as_str().unwrap().to_owned());
    let (mut revoked, mut changed, mut good) = (follow(revoked), follow(changed), follow(site.token("good", "viewer")));
    let said = ends(&mut short);
    assert!(said.contains("the token `short` has expired"), "{said}");
    assert_eq!(site.door().post("revoke_token", &json!({ "name": "revoked" })).unwrap().code, 200);
    let said = ends(&mut revoked);
    assert!(said.contains("the token `revoked` was revoked") && said.contains("embot token create"), "{said}");
    let tokens = site.path("tokens.json");
    let text = std::fs::read_to_string(&tokens).unwrap();
    std::fs::write(&tokens, text.replace("\"operator\"", "\"viewer\"")).unwrap();
    let said = ends(&mut changed);
    assert!(said.contains("the role of token:changed has changed from operator to viewer"), "{said}");
    // Others go on until the daemon stops.
    site.stop();
    let said = ends(&mut good);
    assert!(said.contains("the daemon stops"), "{said}");
}

#[test]
fn nobody_takes_all_the_exports() {
    let (site, runtime) = (Site::new(), Runtime::new().unwrap());
    let (token, other) = (site.token("ada", "viewer"), site.token("eve", "viewer"));
    // So much of a journal that an export does not end while nobody reads it.
    let manifest = "#".repeat(900_000);
    for number in 0..12 {
        let body = json!({ "file": "large.yaml", "manifest": format!("{manifest}{number}"), "policies": {} });
        site.door().post("load_module", &body).unwrap();
    }
    runtime.block_on(async {
        let begin = async |token: &str| {
            let mut stream = site.connect().await;
            let request = crate::kit::request(Some(token), "GET", "/v1/journal/export", "");
            tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
            let mut begins = [0; 12];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut begins).await.unwrap();
            (String::from_utf8_lossy(&begins[9..]).into_owned(), stream)
        };
        let mut open = Vec::new();
        for _ in 0..4 {
            let (code, stream) = begin(&token).await;
            assert_eq!(code, "200");
            open.push(stream);
        }
        let refused = site.ask(Some(&token), "GET", "/v1/journal/export", "").await;
        assert!(refused.code == 429 && said(&refused).contains("token:ada reads 4 exports"), "{refused:?}");
        assert_eq!(begin(&other).await.0, "200", "others are not concerned");
        drop(open);
        // Whoever hangs up makes room.
        let started = Instant::now();
        while begin(&token).await.0 != "200" {
            assert!(started.elapsed() < LONG, "there is never room again");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    site.stop();
}

#[test]
fn the_command_line_does_the_same_from_afar() {
    let site = Site::new();
    let (admin, viewer) = (site.token("ada", "admin"), site.token("eve", "viewer"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let run = |token: &str, words: &[&str]| {
        let output = site.remotely(token, words);
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    for words in [
        &["status"][..],
        &["elements"],
        &["elements", "guest-1"],
        &["events"],
        &["plan"],
        &["migrations"],
        &["peers"],
        &["modules"],
        &["embots"],
        &["usage", "host-1"],
        &["journal", "export"],
        &["journal", "show"],
        &["suspend", "guest-1", "--wait"],
        &["explain", "1"],
        &["migrate", "guest-3", "--dry-run"],
        &["maintenance", "host-2", "on"],
        &["disarm"],
        &["arm"],
        &["manage", "guest-2", "--mode", "observe"],
        &["token", "list"],
    ] {
        let (code, out, error) = run(&admin, words);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{words:?}: {out}");
        assert!(!out.is_empty(), "{words:?}");
    }
    // What it sends are texts: the files are here, and not at the plane.
    let here = tempfile::tempdir().unwrap();
    for name in ["embots", "policies"] {
        std::fs::create_dir(here.path().join(name)).unwrap();
    }
    let module = here.path().join("embots/admit-offers.yaml");
    std::fs::write(&module, include_str!("../../embots/admit-offers.yaml")).unwrap();
    let policy = include_str!("../../policies/admit-offers.rhai");
    std::fs::write(here.path().join("policies/admit-offers.rhai"), policy).unwrap();
    let (code, _, error) = run(&admin, &["modules", "load", &module.display().to_string()]);
    assert_eq!(code, Some(0), "{error}");
    std::fs::write(&module, "# large\n".repeat(1 << 18)).unwrap();
    let (code, _, error) = run(&admin, &["modules", "load", &module.display().to_string()]);
    assert!(code == Some(2) && error.contains("larger than 1048576 bytes"), "{error}");
    // A secret is made from afar, and used.
    let (_, made, _) = run(&admin, &["token", "create", "ci", "--role", "viewer", "--output", "json"]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!(run(made["secret"].as_str().unwrap(), &["status"]).0, Some(0));

    let (code, _, error) = run(&viewer, &["disarm"]);
    assert!(code == Some(2) && error.contains("takes the role operator"), "{error}");
    let (code, _, error) = run("", &["status"]);
    assert!(code == Some(2) && error.contains("a token is needed") && error.contains("EMBOT_TOKEN"), "{error}");
    let (code, _, error) = run("embot_wrong", &["status"]);
    assert!(code == Some(2) && error.contains("none of this plane's"), "{error}");
    let (code, _, error) = run(&admin, &["elements", "guest-9"]);
    assert!(code == Some(2) && error.contains("did you mean"), "{error}");
    site.stop();
}
