//! Clients that are slow, or say nothing: each is given up, and others are served meanwhile.

use crate::kit::{LONG, Site, answer, said};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// Until the other side hangs up.
async fn until_end(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await;
    // However it ends: it ends.
    read.expect("the connection is closed").ok();
    rest
}

#[test]
fn whoever_is_slow_is_given_up_and_others_are_served() {
    let (site, runtime) = (Site::new(), Runtime::new().unwrap());
    let token = site.token("ada", "operator");
    let head = |length: usize| {
        format!(
            "POST /v1/commands/arm HTTP/1.1\r\nHost: home\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    runtime.block_on(async {
        // Says nothing before TLS.
        let silent = async { until_end(&mut TcpStream::connect(site.address).await.unwrap()).await };
        // Says nothing before HTTP.
        let idle = async { until_end(&mut site.connect().await).await };
        // Never comes to the end of its head, though it says something all the time.
        let head_first = async {
            let mut stream = site.connect().await;
            stream.write_all(b"GET /v1/status HTTP/1.1\r\n").await.unwrap();
            let started = Instant::now();
            while stream.write_all(b"X-More: 1\r\n").await.is_ok() && started.elapsed() < LONG {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            assert!(started.elapsed() < LONG, "it is given up");
        };
        // Never comes to the end of its body.
        let body = async {
            let mut stream = site.connect().await;
            stream.write_all(head(100).as_bytes()).await.unwrap();
            stream.write_all(b"{").await.unwrap();
            answer(&mut stream).await
        };
        // Does not ask again on a connection that was kept for it.
        let kept = async {
            let mut stream = site.connect().await;
            stream.write_all(head(2).as_bytes()).await.unwrap();
            stream.write_all(b"{}").await.unwrap();
            String::from_utf8_lossy(&until_end(&mut stream).await).into_owned()
        };
        let others = async {
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(20) {
                let asked = Instant::now();
                assert_eq!(site.ask(Some(&token), "GET", "/v1/status", "").await.code, 200);
                assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let (silent, idle, (), body, kept, ()) = tokio::join!(silent, idle, head_first, body, kept, others);
        assert!(silent.is_empty() && idle.is_empty());
        assert!(body.code == 408 && said(&body).contains("body did not come within"), "{body:?}");
        assert!(kept.starts_with("HTTP/1.1 200"), "{kept}");
    });
    site.is_well();
    site.stop();
}

#[test]
fn whoever_does_not_take_an_answer_is_given_up() {
    let (site, runtime) = (Site::new(), Runtime::new().unwrap());
    let token = site.token("ada", "operator");
    runtime.block_on(async {
        let mut stream = site.connect().await;
        // Many requests at once, whose answers are more than what waits in sockets.
        let request = format!("GET /v1/elements HTTP/1.1\r\nHost: home\r\nAuthorization: Bearer {token}\r\n\r\n");
        let many = request.repeat(200);
        let started = Instant::now();
        // Once nothing is taken any more, nothing is read either; in the end the connection breaks.
        while started.elapsed() < LONG {
            let written = tokio::time::timeout(Duration::from_secs(5), stream.write_all(many.as_bytes())).await;
            if let Ok(Err(_)) = written {
                return;
            }
        }
        panic!("it is not given up");
    });
    site.is_well();
    site.stop();
}
