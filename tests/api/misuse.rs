//! Requests that are not as they should be: each is refused with what is wrong, and nobody else notices.

use crate::kit::{Site, answer, said};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Runtime;

#[test]
fn what_is_not_understood_is_refused_and_said() {
    let (site, runtime) = (Site::new(), Runtime::new().unwrap());
    let token = site.token("ada", "admin");
    let ask = |method: &str, path: &str, body: &str| {
        let answer = runtime.block_on(site.ask(Some(&token), method, path, body));
        format!("{method} {path} {body}\n{}\n", said(&answer))
    };
    let all = [
        ask("POST", "/v1/commands/suspend", r#"{"vm": "guest-1", "force": true}"#),
        ask("POST", "/v1/commands/suspend", r#"{"vm": 1}"#),
        ask("POST", "/v1/commands/suspend", r#"{"vm": null}"#),
        ask("POST", "/v1/commands/suspend", "[]"),
        ask("POST", "/v1/commands/suspend", r#"{"vm": "guest-1""#),
        ask("POST", "/v1/commands/suspend", "\u{0}\u{1}"),
        ask("POST", "/v1/commands/set_vcpus", r#"{"vm": "guest-1", "vcpus": -1}"#),
        ask("POST", "/v1/commands/set_vcpus", r#"{"vm": "guest-1", "vcpus": 99999999999}"#),
        ask("POST", "/v1/commands/shutdown", r#"{"vm": "guest-1", "force_after": "soon"}"#),
        ask("POST", "/v1/commands/create_token", r#"{"name": "a b", "role": "viewer"}"#),
        ask("POST", "/v1/commands/create_token", r#"{"name": "a", "role": "root"}"#),
        ask("POST", "/v1/commands/nothing", "{}"),
        ask("GET", "/v1/commands/arm", ""),
        ask("DELETE", "/v1/elements/guest-1", ""),
        ask("GET", "/v1/elements?kind=dog", ""),
        ask("GET", "/v1/elements?size=1", ""),
        ask("GET", "/v1/elements?kind=vm&kind=vm", ""),
        ask("GET", "/v1/events?limit=-1", ""),
        ask("GET", "/v1/events?limit=many", ""),
        ask("GET", "/v1/actions/18446744073709551616", ""),
        ask("GET", "/v1/elements/%ff%fe", ""),
        ask("GET", "/v1/usage/host-1?span=-5m", ""),
        ask("GET", "/", ""),
    ];
    insta::assert_snapshot!(all.join("\n"));
    site.is_well();
    site.stop();
}

#[test]
fn what_is_too_large_is_refused() {
    let (site, runtime) = (Site::new(), Runtime::new().unwrap());
    let token = site.token("ada", "operator");
    let before = site.memory_kib();
    runtime.block_on(async {
        // A body larger than is allowed, said in advance or found out.
        let large = format!(r#"{{"vm": "{}"}}"#, "x".repeat(2 << 20));
        let refused = site.ask(Some(&token), "POST", "/v1/commands/suspend", &large).await;
        assert!(refused.code == 413 && said(&refused).contains("larger than 1048576 bytes"), "{refused:?}");
        let mut stream = site.connect().await;
        let head = format!(
            "POST /v1/commands/suspend HTTP/1.1\r\nHost: home\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        // It need not take all of it.
        for _ in 0..64 {
            if stream.write_all(chunk.as_bytes()).await.is_err() {
                break;
            }
        }
        let refused = answer(&mut stream).await;
        assert_eq!(refused.code, 413, "{refused:?}");
        // A head larger than is allowed.
        let mut stream = site.connect().await;
        stream.write_all(b"GET /v1/status HTTP/1.1\r\n").await.unwrap();
        for number in 0..2_000 {
            let line = format!("X-{number}: {}\r\n", "y".repeat(1_000));
            if stream.write_all(line.as_bytes()).await.is_err() {
                break;
            }
        }
        let refused = answer(&mut stream).await;
        assert_eq!(refused.code, 431, "{refused:?}");
        // Somebody without a token is not even read.
        let refused = site.ask(None, "POST", "/v1/commands/suspend", &large).await;
        assert_eq!(refused.code, 401, "{refused:?}");
    });
    site.is_well();
    let grown = site.memory_kib().saturating_sub(before);
    assert!(grown < 48 * 1024, "it holds {grown} KiB more");
    site.stop();
}

#[test]
fn what_is_no_http_and_no_tls_ends_the_connection() {
    let (site, runtime) = (Site::new(), Runtime::new().unwrap());
    let started = Instant::now();
    runtime.block_on(async {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\xff\xff", b"\x00\xff\x00\xff\r\n\r\n", b""] {
            let mut stream = tokio::net::TcpStream::connect(site.address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await.ok();
            assert!(!rest.starts_with(b"HTTP"), "{bytes:?}: {rest:?}");
        }
        let mut stream = site.connect().await;
        stream.write_all(b"\x00\xff\r\n\r\n").await.unwrap();
        assert_eq!(answer(&mut stream).await.code, 400);
    });
    assert!(started.elapsed() < Duration::from_secs(60));
    site.is_well();
    site.stop();
}
