//! A daemon over a simulated fleet, in a folder of its own. It ends with the test, however that ends.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What takes longer than this never comes.
pub const LONG: Duration = Duration::from_secs(60);

/// A plane's folder.
pub struct Plane(TempDir);

impl Plane {
    /// The demo's fleet, with more in the configuration.
    pub fn new(more: &str) -> Plane {
        let plane = Plane(tempfile::tempdir().expect("a folder"));
        plane.configure(more);
        plane
    }

    /// Writes the configuration anew.
    pub fn configure(&self, more: &str) {
        fs::write(self.path("plane.yaml"), format!("plane: home\nfleet: demo\npoll: 200ms\n{more}")).expect("a file");
    }

    /// Puts one of the modules that ship where the daemon finds it.
    pub fn deploy(&self, module: &str) {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        for (folder, file) in [("policies", format!("{module}.rhai")), ("embots", format!("{module}.yaml"))] {
            fs::create_dir_all(self.path(folder)).expect("a folder");
            fs::copy(root.join(folder).join(&file), self.path(folder).join(&file)).expect("a module that ships");
        }
    }

    /// Writes a file in its folder.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `embot` in its folder.
    pub fn embot(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("embot starts")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embot"));
        command.args(arguments).current_dir(self.0.path()).env("NO_COLOR", "1").env_remove("EMBOT_LOG");
        command.stdin(Stdio::null());
        command
    }

    /// Starts a daemon, and waits until it answers.
    pub fn start(&self) -> Daemon {
        let mut daemon = self.spawn(&[]);
        until("the daemon answers", || {
            assert!(daemon.0.try_wait().expect("a child").is_none(), "it has ended:\n{}", self.log());
            self.embot(&["status"]).status.success().then_some(())
        });
        daemon
    }

    /// Starts a daemon with further arguments.
    pub fn spawn(&self, more: &[&str]) -> Daemon {
        let arguments: Vec<&str> = ["run"].into_iter().chain(more.iter().copied()).collect();
        let log = File::options().create(true).append(true).open(self.path("log")).expect("a log");
        Daemon(self.command(&arguments).stdout(Stdio::null()).stderr(log).spawn().expect("embot starts"))
    }

    /// What the daemon said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What its API answers.
    pub fn get(&self, path: &str) -> (u16, String) {
        let socket = self.path("embot.sock");
        let asked = async {
            let stream = tokio::net::UnixStream::connect(socket).await.expect("a socket");
            ask(stream, path).await
        };
        runtime().block_on(asked)
    }
}

/// A daemon that ends with the test.
pub struct Daemon(pub Child);

impl Daemon {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).expect("the process is there");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// What stands at a path: status and body.
pub async fn ask(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> (u16, String) {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", "embot").body(Full::<Bytes>::default()).expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("a text"))
}

/// Looks again and again until there is something to be seen.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < LONG, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
