//! The API over the network, as programs use it: a list of all guests of a large plane, and many who follow what happens.
//!
//! Server and clients are one process, with TLS between them. A record's delay runs from the moment its batch was decided until
//! its reader has it; both are read off the plane's clock, in whole milliseconds.

use super::BenchError;
use super::delays::Delays;
use super::folder::Folder;
use super::plane::{look, mib};
use crate::api::recent::RecordView;
use crate::api::{self, Network, NetworkSettings, Role, Tokens};
use crate::cli::client::Client;
use crate::cli::progress::Progress;
use crate::cli::remote::Remote;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::daemon::{Daemon, DaemonError};
use crate::manager::Handle;
use crate::model::{Command, Timestamp};
use crate::pki::{Authority, Request};
use crate::process::Process;
use crate::store::Store;
use serde::Serialize;
use serde::de::IgnoredAny;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

/// Lists of all guests that are asked for.
const LISTS: usize = 100;
/// Those who follow.
const STREAMS: usize = 200;
/// Records a second.
const RECORDS_PER_S: u32 = 1_000;
/// Commands at once; each becomes a record.
const AT_ONCE: u32 = 10;
/// What is to come must have come after so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ApiFigures {
    /// Guests of the plane.
    pub guests: usize,
    /// From the dialling of a connection until the list of all of them is read.
    pub list: Delays,
    /// Those who followed.
    pub streams: usize,
    /// So long they did.
    pub seconds: f64,
    /// Records that each was sent, a second.
    pub records_per_s: f64,
    /// From the decision to the reader.
    pub record: Delays,
    /// Records that did not reach a reader.
    pub lost: usize,
    /// Processor time of the whole process meanwhile, all clients included, as a share of one core.
    pub cpu_of_core: f64,
    /// What the process held more at the end than before anybody followed, in MiB.
    pub grown_mib: f64,
}

/// Runs a plane with its API on the network, and measures it.
pub fn run(hosts: usize, guests: usize, seconds: u64, progress: &Progress) -> Result<ApiFigures, BenchError> {
    progress.say(&format!("api: {hosts} hosts, {guests} guests, starting"));
    let folder = Folder::new("api")?;
    folder.write("fleet.yaml", &fleet(hosts, guests))?;
    folder.write("plane.yaml", CONFIG)?;
    let config = Config::load(&folder.path("plane.yaml")).map_err(|found| BenchError::Config(found.into_iter().next()))?;
    let clock = SystemClock::start(Timestamp(0));
    let wrong = |error: &dyn std::error::Error| BenchError::Io(std::io::Error::other(error.to_string()));
    let authority = Authority::init(&folder.path("pki"), "bench", clock.now()).map_err(|error| wrong(&error))?;
    let request = Request { names: vec!["localhost".to_owned()], ..Request::new("bench") };
    let issued = authority.issue(&request, clock.now()).map_err(|error| wrong(&error))?;
    let tokens = Arc::new(Tokens::open(&folder.path("tokens.json"), clock.clone()).map_err(|error| wrong(&error))?);
    let (_, secret) = tokens.create("bench", Role::Viewer, None, "bench").map_err(|error| wrong(&error))?;
    let settings = NetworkSettings {
        listen: "127.0.0.1:0".into(),
        certificate: issued.folder.join("plane.crt"),
        key: issued.folder.join("plane.key"),
        tokens: folder.path("tokens.json"),
    };
    let opened = Store::open(&config.store, config.retention()).map_err(DaemonError::from)?;
    let daemon = Daemon::start(&config, opened, &|_, host| host, None)?;
    // The same as the daemon's; clients have one of their own.
    let (server, clients) = (runtime()?, runtime()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let begun = server.block_on(async {
        let network = Network::listen(&settings).await.map_err(|error| wrong(&error))?;
        let socket = api::listen(&folder.path("embot.sock")).await.map_err(|error| wrong(&error))?;
        let port = network.address()?.port();
        // Nobody reads a configuration again here.
        let (reloader, _) = api::reload::Reloader::new();
        let doors = daemon.doors(Some(config.store.clone()), reloader, Some(tokens));
        let serving = api::serve(socket, Some(network), daemon.handle().clone(), doors, async { drop(stopped.await) });
        Ok::<_, BenchError>((tokio::spawn(serving), port))
    });
    let result = begun.and_then(|(serving, port)| {
        let url = format!("https://localhost:{port}");
        let remote = Remote::new(&url, Some(&authority.certificate_path()), Some(secret));
        let remote =
            remote.map_err(|failure| BenchError::Io(std::io::Error::other(failure.text(crate::error::Style::Plain))))?;
        let figures = measure(&daemon, &clients, &Client::Network(remote), guests, hosts, seconds, progress);
        drop(stop);
        // A server that panicked has been noticed by its clients.
        server.block_on(serving).ok();
        figures
    });
    daemon.stop()?;
    result
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

const CONFIG: &str = "
plane: bench
fleet: fleet.yaml
poll: 5s
";

fn fleet(hosts: usize, guests: usize) -> String {
    format!(
        "seed: 1
hosts: [{{ name: 'host-{{n}}', count: {hosts}, cpus: 32, memory_mib: 262144 }}]
guests: [{{ name: 'guest-{{n}}', count: {guests}, vcpus: 2, memory_mib: 2048, load: {{ cpu: 0.2, memory: 0.5 }} }}]
"
    )
}

fn measure(
    daemon: &Daemon,
    clients: &Runtime,
    client: &Client,
    guests: usize,
    hosts: usize,
    seconds: u64,
    progress: &Progress,
) -> Result<ApiFigures, BenchError> {
    let handle = daemon.handle();
    let started = Instant::now();
    while look(handle, move |manager| manager.is_starting() || manager.world().vm_count() < guests)? {
        if started.elapsed() > PATIENCE {
            return Err(BenchError::TooSlow("the plane has not heard of all its guests", PATIENCE));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let broken =
        |failure: crate::cli::failure::Failure| BenchError::Io(std::io::Error::other(failure.text(crate::error::Style::Plain)));
    let mut lists = Vec::new();
    for number in 1..=LISTS {
        progress.say(&format!("api: list {number} of {LISTS}"));
        let asked = Instant::now();
        let found: Vec<IgnoredAny> = clients.block_on(client.get("/v1/elements?kind=vm")).map_err(broken)?;
        lists.push(asked.elapsed());
        if found.len() != guests {
            return Err(BenchError::TooSlow("the list does not name all guests", asked.elapsed()));
        }
    }
    let own = Process::own();
    let resident = own.resident();
    let followers = Followers::start(clients, client).map_err(broken)?;
    let (cpu, began) = (own.cpu(), Instant::now());
    let sent = command(handle, hosts, seconds, progress);
    let delays = followers.all(sent * STREAMS);
    let passed = began.elapsed().as_secs_f64();
    Ok(ApiFigures {
        guests,
        list: Delays::of(lists),
        streams: STREAMS,
        seconds: passed,
        records_per_s: sent as f64 / passed,
        lost: (sent * STREAMS).saturating_sub(delays.len()),
        record: Delays::of(delays),
        cpu_of_core: own.cpu().saturating_sub(cpu).as_secs_f64() / passed,
        grown_mib: mib(own.resident().saturating_sub(resident)),
    })
}

/// Puts hosts in maintenance and back, at an even pace for so long. Says how many records that makes.
fn command(handle: &Handle, hosts: usize, seconds: u64, progress: &Progress) -> usize {
    let (began, pace) = (Instant::now(), Duration::from_secs(1) * AT_ONCE / RECORDS_PER_S);
    let (mut sent, mut rounds) = (0_usize, 0_u32);
    while began.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..AT_ONCE {
            let host = format!("host-{}", sent % hosts + 1).as_str().into();
            // The answer is among the records that followers hear.
            drop(handle.command(Command::Maintenance { host, on: (sent / hosts).is_multiple_of(2) }, "bench".into()));
            sent += 1;
        }
        rounds += 1;
        progress.say(&format!("api: following, {} of {seconds} s", began.elapsed().as_secs()));
        std::thread::sleep((pace * rounds).saturating_sub(began.elapsed()));
    }
    sent
}

/// Those who follow, and the delays they have seen.
struct Followers {
    delays: mpsc::UnboundedReceiver<Duration>,
    seen: Arc<AtomicUsize>,
}

impl Followers {
    /// Returns once all of them follow.
    fn start(clients: &Runtime, client: &Client) -> Result<Followers, crate::cli::failure::Failure> {
        let (sender, delays) = mpsc::unbounded_channel();
        let seen = Arc::new(AtomicUsize::new(0));
        for _ in 0..STREAMS {
            let mut lines = clients.block_on(client.stream("/v1/events/follow", &serde_json::json!({ "record": "event" })))?;
            let (sender, seen) = (sender.clone(), seen.clone());
            clients.spawn(async move {
                let clock = SystemClock::start(Timestamp(0));
                while let Ok(Some(line)) = lines.next().await {
                    let record = line.strip_prefix("data:").and_then(|json| serde_json::from_str::<RecordView>(json).ok());
                    if let Some(record) = record.filter(|record| record.text.contains("maintenance")) {
                        seen.fetch_add(1, Ordering::Relaxed);
                        // Nobody listens any more once all is counted.
                        sender.send(clock.now().since(record.at.0).as_duration()).ok();
                    }
                }
            });
        }
        Ok(Followers { delays, seen })
    }

    /// All of so many that come, and come in time.
    fn all(mut self, wanted: usize) -> Vec<Duration> {
        let (began, mut last) = (Instant::now(), 0);
        while self.seen.load(Ordering::Relaxed) < wanted && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.seen.load(Ordering::Relaxed);
            // Nothing more comes.
            if now == last && now > 0 {
                break;
            }
            last = now;
        }
        let mut all = Vec::new();
        while let Ok(delay) = self.delays.try_recv() {
            all.push(delay);
        }
        all
    }
}
