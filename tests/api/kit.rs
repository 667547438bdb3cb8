//! A plane in a folder of its own: a daemon process on a simulated fleet, with its API on the network, and ways to ask it.

use crate::door::{Answer, Door};
use crate::process::{Process, within};
use embot::pki::https;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Long enough for anything that is to happen at all, on a machine that has much else to do.
pub const LONG: Duration = Duration::from_secs(90);

/// Nothing happens here by itself.
const FLEET: &str = "
hosts: [{ name: 'host-{n}', count: 2, cpus: 64, memory_mib: 65536 }]
guests: [{ name: 'guest-{n}', count: 4, on: [host-1], memory_mib: 512 }]
";

/// What `embot` did with these words.
pub fn embot(words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embot"));
    command.args(words).env("NO_COLOR", "1").envs(variables.iter().copied());
    command.output().expect("embot starts")
}

/// What it wrote, where it did what was asked.
pub fn done(words: &[&str]) -> String {
    let output = embot(words, &[]);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A plane that runs. The authority `pki` has vouched for it as `localhost` and `127.0.0.1`.
pub struct Site {
    // Fields are dropped in this order: the process does not outlive the folder.
    pub daemon: Process,
    pub address: SocketAddr,
    folder: TempDir,
}

impl Site {
    /// A plane that has adopted its guests.
    pub fn new() -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["embots", "policies"] {
            fs::create_dir(path(name)).expect("a folder");
        }
        let pki = path("pki").display().to_string();
        done(&["pki", "init", "--folder", &pki]);
        done(&["pki", "issue", "home", "--name", "localhost", "--name", "127.0.0.1", "--folder", &pki]);
        fs::write(path("fleet.yaml"), FLEET).expect("a file");
        let config = "plane: home\nfleet: fleet.yaml\npoll: 200ms\nadopt: act\nnew_modules: act\n\
            api: { listen: \"127.0.0.1:0\", certificate: pki/planes/home/plane.crt, key: pki/planes/home/plane.key }\n";
        fs::write(path("plane.yaml"), config).expect("a file");
        let mut daemon = Process::start(&["run", "--config", &path("plane.yaml").display().to_string()], &path("daemon.log"));
        let log = || fs::read_to_string(path("daemon.log")).unwrap_or_default();
        let listens = || log().split_once("address=").and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok());
        let door = Door::at(&path("embot.sock"));
        let up = within(LONG, || {
            assert!(daemon.ended().is_none(), "the daemon ended:\n{}", log());
            // All guests are adopted.
            door.get("/v1/status").filter(|status| {
                status["starting"] == false && status["open"] == 0 && status["guests_by_mode"] == json!({ "act": 4 })
            })?;
            listens()
        });
        let address = up.unwrap_or_else(|| panic!("the plane does not come up:\n{}", log()));
        Site { daemon, address, folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn authority(&self) -> PathBuf {
        self.path("pki/ca.crt")
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The way to the daemon by its socket.
    pub fn door(&self) -> Door {
        Door::at(&self.path("embot.sock"))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// Makes a token; its secret.
    pub fn token(&self, name: &str, role: &str) -> String {
        let answer = self.door().post("create_token", &json!({ "name": name, "role": role })).expect("an answer");
        assert_eq!(answer.code, 200, "{answer:?}");
        answer.body["secret"].as_str().expect("a secret").to_owned()
    }

    /// A connection to it.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        self.shake(stream).await.expect("its certificate is good")
    }

    pub async fn shake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let tls = https::client(Some(&self.authority())).expect("an authority");
        TlsConnector::from(tls).connect("localhost".try_into().expect("a name"), stream).await
    }

    /// Asks over the network.
    pub async fn ask(&self, token: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = self.connect().await;
        // It may answer before it has read all.
        stream.write_all(request(token, method, path, body).as_bytes()).await.ok();
        answer(&mut stream).await
    }

    /// What `embot` does over the network.
    pub fn remotely(&self, token: &str, words: &[&str]) -> Output {
        let (url, ca) = (self.url(), self.authority().display().to_string());
        let words: Vec<&str> = ["--plane", &url, "--ca", &ca].into_iter().chain(words.iter().copied()).collect();
        embot(&words, &[("EMBOT_TOKEN", token)])
    }

    /// The daemon answers, and quickly so.
    pub fn is_well(&self) {
        let status = self.door().get("/v1/status").unwrap_or_else(|| panic!("no status:\n{}", self.log()));
        assert_eq!(status["plane"], "home");
    }

    /// Memory that the daemon holds now, in KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a figure");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Sockets that the daemon holds open.
    pub fn sockets(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.daemon.id())).expect("it runs");
        let named = open.filter_map(|one| fs::read_link(one.ok()?.path()).ok());
        named.filter(|name| name.to_string_lossy().starts_with("socket:")).count()
    }

    /// Tells it to stop; it does so by itself.
    pub fn stop(mut self) {
        self.daemon.signal(Signal::SIGTERM);
        let status = self.daemon.end_within(Duration::from_secs(30));
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", self.log());
    }
}

/// A request after which the connection ends.
pub fn request(token: Option<&str>, method: &str, path: &str, body: &str) -> String {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: home\r\n{authorization}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// The answer on a connection that ends with it.
pub async fn answer(stream: &mut TlsStream<TcpStream>) -> Answer {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("it ends");
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole answer ({read:?}): {text}"));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Answer { code, body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

/// The text of an error, with its hint.
pub fn said(answer: &Answer) -> String {
    let text = |key: &str| answer.body[key].as_str().unwrap_or_default().to_owned();
    format!("{} {} ({})", answer.code, text("error"), text("hint"))
}

/// A folder with an authority of its own, which has vouched for nobody here.
pub fn stranger(folder: &Path) -> PathBuf {
    done(&["pki", "init", "--folder", &folder.display().to_string()]);
    folder.join("ca.crt")
}
