//! Many who follow what happens, half of whom stop reading.

use crate::kit::{LONG, Site, request};
use crate::process::within;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::client::TlsStream;

const STREAMS: usize = 200;
/// Commands, each of which all followers hear of: far more than the buffers of those hold who do not read.
const COMMANDS: usize = 2_000;
/// What the daemon may hold more by then. The records that wait are shared.
const GROWTH_KIB: u64 = 48 * 1024;
/// What waits for a follower in its own machine, where that is little.
const LITTLE_BYTES: u32 = 4_096;

/// Follows; the stream has begun.
async fn follow(site: &Site, token: &str, stalls: bool) -> Lines<BufReader<TlsStream<TcpStream>>> {
    let socket = TcpSocket::new_v4().unwrap();
    if stalls {
        socket.set_recv_buffer_size(LITTLE_BYTES).unwrap();
    }
    let mut stream = site.shake(socket.connect(site.address).await.unwrap()).await.unwrap();
    stream.write_all(request(Some(token), "GET", "/v1/events/follow", "").as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    lines
}

#[test]
fn two_hundred_follow_and_half_of_them_stall() {
    let site = Site::new();
    let runtime = Runtime::new().unwrap();
    let token = site.token("ada", "operator");
    runtime.block_on(async {
        let mut stalled = Vec::new();
        let mut readers = Vec::new();
        for number in 0..STREAMS {
            let stalls = number % 2 == 0;
            let mut lines = follow(&site, &token, stalls).await;
            if stalls {
                stalled.push(lines);
                continue;
            }
            readers.push(tokio::spawn(async move {
                // Until the last command, however much comes before.
                while let Some(line) = lines.next_line().await.unwrap() {
                    assert!(!line.starts_with("event: dropped"), "a reader is dropped");
                    if line.starts_with("data:") && line.contains("maintenance") && line.contains("host-2") {
                        return;
                    }
                }
                panic!("the stream ended");
            }));
        }
        let before = site.memory_kib();
        let door = site.door();
        let work = tokio::task::spawn_blocking(move || {
            let (started, mut slowest) = (Instant::now(), Duration::ZERO);
            for number in 0..COMMANDS {
                let asked = Instant::now();
                let reply = door.post("maintenance", &json!({ "host": "host-1", "on": number % 2 == 0 })).unwrap();
                assert_eq!(reply.code, 200, "{reply:?}");
                slowest = slowest.max(asked.elapsed());
            }
            door.post("maintenance", &json!({ "host": "host-2", "on": true })).unwrap();
            (started.elapsed(), slowest)
        });
        let (all, slowest) = work.await.unwrap();
        for reader in readers {
            tokio::time::timeout(LONG, reader).await.expect("each reader hears the last").unwrap();
        }
        let grown = site.memory_kib().saturating_sub(before);
        println!("{COMMANDS} commands in {all:?}, the slowest {slowest:?}, {grown} KiB more memory");
        assert!(grown < GROWTH_KIB, "{grown} KiB more for {STREAMS} streams");
        assert!(slowest.as_secs() < 10, "a command took {slowest:?}");
        // Those who stall are given up, whether or not they ever hang up.
        let given_up = || (site.sockets() < STREAMS / 2).then_some(());
        within(LONG, given_up).unwrap_or_else(|| panic!("{} sockets are left", site.sockets()));
        drop(stalled);
    });
    site.is_well();
    site.stop();
}
