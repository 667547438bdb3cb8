//! What goes wrong around a daemon: a full disk, a read-only one, a store that is damaged or of a newer program, a socket or a
//! store in use, a hypervisor that is not there. What an admin is told is a snapshot; what was accepted is never lost.

use crate::fleet::LONG;
use crate::plane::Plane;
use crate::process::{Process, within};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

const FLEET: &str = include_str!("fleet.yaml");
const QUIET: &str = "
hosts: [{ name: 'host-{n}', count: 3, cpus: 8, memory_mib: 8192 }]
guests: [{ name: 'guest-{n}', count: 3, memory_mib: 512 }]
";

fn decides(status: &Value) -> bool {
    status["starting"] == false
}

/// What `embot` says: its exit code and its words, without this run's folder.
fn says(plane: &Plane, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_embot"))
        .args(arguments)
        .arg("--config")
        .arg(plane.path("plane.yaml"))
        .env("NO_COLOR", "1")
        .output()
        .expect("embot starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), tidy(plane, &text))
}

fn tidy(plane: &Plane, text: &str) -> String {
    let folder = plane.path("");
    text.replace(&*folder.to_string_lossy(), "/plane/")
}

/// Numbers and identities that differ from run to run stand for themselves.
fn steady(text: &str) -> String {
    let word = |word: &str| match word.split_once("_len=") {
        Some((what, number)) => format!("{what}_len=N{}", number.trim_start_matches(|c: char| c.is_ascii_digit())),
        None if word.len() == 37 && word.matches('-').count() == 4 => "UUID:".to_owned(),
        None => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A daemon that does not start, or ends by itself: its exit code, and its last error.
fn ends(plane: &Plane, mut daemon: Process) -> String {
    let status = daemon.end_within(LONG).unwrap_or_else(|| panic!("it goes on: {}", plane.log()));
    let said = plane.said();
    let error = said.rfind("error: ").map_or("", |at| &said[at..]);
    format!("{}=> {:?}", tidy(plane, error), status.code())
}

/// A small file system in memory; it goes with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`: this user may not mount anything.
    fn at(path: PathBuf, options: &str) -> Option<SmallDisk> {
        fs::create_dir_all(&path).expect("a folder");
        let options = format!("{options},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "embot-test"]).arg(&path).status();
        let disk = mounted.is_ok_and(|status| status.success()).then(|| SmallDisk(path));
        assert!(disk.is_some() || std::env::var_os("CI").is_none(), "this test must be run as root");
        if disk.is_none() {
            eprintln!("skipped: only root can mount a small file system");
        }
        disk
    }

    fn remount(&self, option: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(&self.0).status();
        assert!(status.expect("mount starts").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process of the test may still have it open where that fails.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Numbers of the commands that the daemon answered, by its audit.
fn audited(plane: &Plane) -> usize {
    let (code, text) = says(plane, &["audit", "list", "--output", "json", "-n", "100000"]);
    assert_eq!(code, Some(0), "{text}");
    let entries: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    entries.iter().filter(|entry| entry["what"] == "maintenance").count()
}

#[test]
fn a_full_disk_ends_the_daemon_with_its_reason_and_nothing_that_was_answered_is_lost() {
    let plane = Plane::new(QUIET);
    let Some(disk) = SmallDisk::at(plane.path("disk"), "size=24m") else { return };
    plane.configure(&[("plane: crash", "plane: crash\nstore: disk/embot.redb")]);
    let mut daemon = plane.daemon();
    plane.wait_until("all guests are adopted", &mut daemon, |status| decides(status) && status["guests_by_mode"]["act"] == 3);
    // Something else fills the disk, but for a little.
    let (filler, block) = (disk.0.join("filler"), vec![7_u8; 64 * 1_024]);
    let mut written = Vec::new();
    while fs::write(&filler, &written).is_ok() {
        written.extend_from_slice(&block);
    }
    drop(written);
    let mut answered = 0;
    // Every command is written before it is answered.
    while plane
        .door()
        .post("maintenance", &json!({ "host": "host-2", "on": answered % 2 == 0 }))
        .is_ok_and(|answer| answer.code == 200)
    {
        answered += 1;
        assert!(answered < 1_000_000, "the disk never is full");
    }
    insta::assert_snapshot!("full_disk", ends(&plane, daemon));
    assert!(!plane.path("embot.sock").exists(), "the socket goes with its daemon");

    fs::remove_file(&filler).expect("the filler");
    let mut daemon = plane.daemon();
    plane.wait_until("it decides again", &mut daemon, decides);
    let kept = audited(&plane);
    assert!((answered..=answered + 1).contains(&kept), "{answered} were answered, {kept} are in the audit");
    let (code, text) = says(&plane, &["audit", "verify"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(plane.stop(daemon));
}

#[test]
fn a_folder_that_is_read_only_is_said() {
    let plane = Plane::new(QUIET);
    let Some(disk) = SmallDisk::at(plane.path("disk"), "size=24m") else { return };
    plane.configure(&[("plane: crash", "plane: crash\nstore: disk/embot.redb")]);
    disk.remount("ro");
    insta::assert_snapshot!("read_only_folder", ends(&plane, plane.daemon()));
    disk.remount("rw");
    let mut daemon = plane.daemon();
    plane.wait_until("it decides", &mut daemon, decides);
    daemon.kill();
    // What is there can be read, but nothing can be kept.
    disk.remount("ro");
    insta::assert_snapshot!("read_only_store", ends(&plane, plane.daemon()));
}

/// Overwrites what follows the first place in a file where this stands.
fn spoil(path: &Path, text: &[u8]) {
    let mut bytes = fs::read(path).expect("a file");
    let places: Vec<usize> =
        bytes.windows(text.len()).enumerate().filter(|(_, window)| *window == text).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "it is nowhere in the file");
    for at in places {
        bytes[at..at + text.len()].fill(0xff);
    }
    fs::write(path, bytes).expect("a file");
}

#[test]
fn a_store_that_cannot_be_used_is_refused_with_what_to_do() {
    let plane = Plane::new(QUIET);
    let mut daemon = plane.daemon();
    plane.wait_until("all guests are adopted", &mut daemon, |status| decides(status) && status["guests_by_mode"]["act"] == 3);
    assert!(plane.stop(daemon));
    let store = plane.path("embot.redb");
    let sound = fs::read(&store).expect("a store");
    let mut all = Vec::new();
    let mut tried = |what: &str, spoil: &dyn Fn()| {
        fs::write(&store, &sound).expect("a file");
        spoil();
        all.push(format!("{what}:\n{}", steady(&ends(&plane, plane.daemon()))));
    };
    tried("a newer schema", &|| {
        let database = redb::Database::open(&store).expect("a store");
        let write = database.begin_write().expect("a transaction");
        write
            .open_table(redb::TableDefinition::<&str, u64>::new("meta"))
            .expect("a table")
            .insert("schema", 99)
            .expect("a row");
        write.commit().expect("a commit");
    });
    tried("another file", &|| fs::write(&store, "plane: home\n".repeat(500)).expect("a file"));
    tried("no header", &|| {
        let mut bytes = sound.clone();
        bytes[..64].fill(0);
        fs::write(&store, bytes).expect("a file");
    });
    tried("a page in the middle", &|| spoil(&store, b"guest-2"));
    tried("cut short", &|| fs::write(&store, &sound[..sound.len() / 3]).expect("a file"));
    tried("empty", &|| fs::write(&store, "").expect("a file"));
    insta::assert_snapshot!("unusable_stores", all.join("\n\n"));
    fs::write(&store, &sound).expect("a file");
    let mut daemon = plane.daemon();
    plane.wait_until("it decides", &mut daemon, decides);
}

#[test]
fn a_hypervisor_that_is_not_there_does_not_keep_the_plane_from_running() {
    // A port that nobody answers on, because somebody had it a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let plane = Plane::new(QUIET);
    let uri = format!("uri: \"{}\"", plane.fleet().uri());
    plane
        .configure(&[(&format!("name: host-3, {uri}"), &format!("name: host-3, uri: \"qemu+tcp://127.0.0.1:{port}/system\""))]);
    let mut daemon = plane.daemon();
    let down = |status: &Value| {
        let down = status["hosts_down"].as_array();
        decides(status) && down.is_some_and(|down| down.len() == 1 && down[0]["reason"].is_string())
    };
    let status = plane.wait_until("that host alone is known to be down", &mut daemon, down);
    let reason = status["hosts_down"][0]["reason"].as_str().expect("a reason").replace(&port.to_string(), "PORT");
    insta::assert_snapshot!("no_hypervisor", format!("{}: {reason}", status["hosts_down"][0]["host"]));
    // The others are managed as ever.
    plane.wait_until("guests of the others are adopted", &mut daemon, |status| {
        status["guests_by_mode"]["act"].as_u64() >= Some(1)
    });
    assert!(plane.stop(daemon));
}

#[test]
fn a_backup_made_under_load_is_restored_elsewhere_and_its_audit_is_verified() {
    let plane = Plane::new(FLEET);
    let mut daemon = plane.daemon();
    plane.wait_until("all guests are adopted", &mut daemon, |status| decides(status) && status["guests_by_mode"]["act"] == 12);
    plane.deploy("count");
    plane.wait_until("its module is in force", &mut daemon, |status| status["embots"] == 12);
    let backup = plane.path("plane.backup").display().to_string();
    // Commands and moves go on all the while.
    let going = std::sync::atomic::AtomicBool::new(true);
    let door = plane.door();
    let made = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut answered = 0;
            // At least one is answered, however fast the backups are.
            while answered == 0 || going.load(std::sync::atomic::Ordering::Relaxed) {
                let guest = format!("guest-{}", answered % 12 + 1);
                let answer = door.post(["suspend", "resume"][answered % 2], &json!({ "vm": guest }));
                answered += usize::from(answer.is_ok_and(|answer| matches!(answer.code, 200 | 409)));
            }
            answered
        });
        let made: Vec<_> = (0..3).map(|_| says(&plane, &["backup", &backup, "--force", "--output", "json"])).collect();
        going.store(false, std::sync::atomic::Ordering::Relaxed);
        load.join().expect("the load ends");
        made
    });
    assert!(made.iter().all(|(code, _)| *code == Some(0)), "{made:?}");
    let (code, again) = says(&plane, &["backup", &backup]);
    assert_eq!((code, again.contains("exists already")), (Some(2), true), "{again}");
    let view: Value = serde_json::from_str(&made[2].1).expect("JSON");
    let head = format!("{}:{}", view["verified"]["head"]["number"], view["verified"]["head"]["hash"].as_str().expect("a hash"));
    let (code, text) = says(&plane, &["audit", "verify", "--head", &head]);
    assert_eq!(code, Some(0), "the running plane still has what the backup has: {text}");
    let (code, text) = says(&plane, &["backup", "restore", &backup, "--force"]);
    assert_eq!((code, text.contains("a daemon answers on")), (Some(1), true), "{text}");
    assert!(plane.stop(daemon));

    // Elsewhere: the same configuration in a folder where there is nothing yet.
    let elsewhere = plane.path("elsewhere");
    for folder in ["embots", "policies"] {
        fs::create_dir_all(elsewhere.join(folder)).expect("a folder");
    }
    fs::copy(plane.path("plane.yaml"), elsewhere.join("plane.yaml")).expect("a file");
    let config = elsewhere.join("plane.yaml").display().to_string();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_embot"))
            .args(arguments)
            .args(["--config", &config])
            .output()
            .expect("embot starts");
        (
            output.status.code(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let (code, text) = run(&["backup", "restore", &backup]);
    assert_eq!(code, Some(0), "{text}");
    let mut daemon = Process::start(&["run", "--config", &config], &plane.path("elsewhere.log"));
    let door = crate::door::Door::at(&elsewhere.join("embot.sock"));
    let ready = || {
        assert!(daemon.ended().is_none(), "{}", fs::read_to_string(plane.path("elsewhere.log")).unwrap_or_default());
        door.get("/v1/status").filter(|status| decides(status) && status["guests_by_mode"]["act"] == 12)
    };
    let status = within(LONG, ready).unwrap_or_else(|| panic!("marks are never confirmed: {:?}", door.get("/v1/status")));
    assert_eq!(status["embots"], 12, "modules, and what they cover, came along");
    let (code, text) = run(&["audit", "verify", "--head", &head]);
    assert_eq!(code, Some(0), "{text}");
    let export = plane.path("audit.jsonl");
    let (code, lines) = run(&["audit", "export"]);
    assert_eq!(code, Some(0), "{lines}");
    fs::write(
        &export,
        lines.replacen("\"what\":\"suspend\"", "\"what\":\"resume\"", 1).replacen("\"what\":\"act\"", "\"what\":\"arm\"", 1),
    )
    .expect("a file");
    let (code, text) = run(&["audit", "verify", "--file", &export.display().to_string()]);
    assert_eq!((code, text.contains("was altered")), (Some(1), true), "{text}");
    fs::write(&export, &lines).expect("a file");
    let (code, text) = run(&["audit", "verify", "--file", &export.display().to_string()]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = run(&["audit", "verify", "--file", &backup]);
    assert_eq!(code, Some(0), "{text}");

    // The plane's own store goes on from where it was; an entry that is altered in it is found there.
    daemon.kill();
    let first = plane.daemon();
    drop(first);
    let store = plane.path("embot.redb").display().to_string();
    let (code, text) = says(&plane, &["audit", "verify", "--file", &store, "--head", &head]);
    assert_eq!(code, Some(0), "{text}");
}
