//! The README's walk through two planes: its commands, as they stand there, in a folder of their own.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The limit is for what hangs, not for slow machines.
const PATIENCE: Duration = Duration::from_secs(90);

/// The lines of the first block of commands below a heading.
fn commands(readme: &str, heading: &str) -> Vec<String> {
    let section = readme.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("the README has no `{heading}`"));
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of commands");
    block.lines().map(str::to_owned).collect()
}

/// A shell that is told to end with the test, however it ends.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }
}

/// What the lines between two of the markers say.
fn said<'a>(output: &'a str, command: &str) -> &'a str {
    let after = output.split(&format!("$ {command}")).nth(1).unwrap_or_else(|| panic!("`{command}` was not run:\n{output}"));
    after.split_once('\n').map_or("", |(_, rest)| rest).split("\n$ ").next().unwrap_or("")
}

#[test]
fn the_two_planes_of_the_readme_hand_over_a_guest_in_less_than_ten_commands() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let commands = commands(&readme, "## Two planes");
    assert!(commands.len() < 10, "{commands:#?}");

    // Each run has an address of its own. Where the README says `after a few seconds`, the first answer is waited for; and so
    // is the guest, which the plane takes under its management in that time.
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let (id, run) = (std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let address = format!("127.{}.{}.{}", id >> 14 & 0xff, id >> 6 & 0xff, (id & 0x3f) << 2 | (run & 3));
    let mut script = "set -meu\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\ntrap 'exit 1' TERM\n\
                      await() { until eval \"$1\" >/dev/null 2>&1; do sleep 0.1; done; }\n"
        .to_owned();
    for command in &commands {
        let plain = command.split(" #").next().unwrap_or(command).trim_end();
        if plain.ends_with("peers") {
            script += &format!("await '{plain} | grep -q \"south *up *both ways\"'\n");
            script += "await 'embot --config two/north/plane.yaml elements web-1 | grep -q \"plane north\"'\n";
        }
        script += &format!("echo '$ {plain}'\n{command}\n");
        if plain.starts_with("embot init") {
            script += &format!("sed -i 's/127.0.0.1:/{address}:/' two/*/plane.yaml\n");
        }
    }
    script += "wait\n";
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let out = std::fs::File::create(&log).expect("a log");
    let binaries = Path::new(env!("CARGO_BIN_EXE_embot")).parent().expect("a folder");
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
    let shell = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("NO_COLOR", "1")
        .env_remove("EMBOT_SOCKET")
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("a log"))
        .stderr(out)
        .spawn();
    let (mut shell, started) = (Shell(shell.expect("bash")), Instant::now());
    let output = || std::fs::read_to_string(&log).unwrap_or_default();
    let ended = loop {
        match shell.0.try_wait().expect("a child can be waited for") {
            Some(status) => break status,
            None => assert!(started.elapsed() < PATIENCE, "it does not come to an end:\n{}", output()),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let output = output();
    assert!(ended.success(), "{ended}:\n{output}");
    let guest = said(&output, "embot --config two/south/plane.yaml elements web-1");
    assert!(guest.contains("plane south") && guest.contains("epoch 2"), "{output}");
    let migrations = said(&output, "embot --config two/south/plane.yaml migrations");
    assert!(migrations.contains("web-1") && migrations.contains("moved"), "{output}");
    println!("{} commands in {:.1} s", commands.len(), started.elapsed().as_secs_f64());
}
