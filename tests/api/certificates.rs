//! Who the plane is: what clients accept, and a certificate that changes while the plane runs.

use crate::kit::{LONG, Site, done, embot, stranger};
use crate::process::within;
use embot::pki::Certificate;
use std::net::TcpListener;
use tokio::runtime::Runtime;

#[test]
fn clients_are_told_why_they_do_not_trust_a_plane() {
    let site = Site::new();
    let token = site.token("ada", "viewer");
    let (own, other) = (site.authority().display().to_string(), stranger(&site.path("other")).display().to_string());
    let port = site.address.port();
    let ask = |url: &str, ca: Option<&str>| {
        let mut words = vec!["status", "--plane", url];
        words.extend(ca.into_iter().flat_map(|ca| ["--ca", ca]));
        let output = embot(&words, &[("EMBOT_TOKEN", &token)]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let refused = |url: &str, ca: Option<&str>, words: &[&str]| {
        let (code, error) = ask(url, ca);
        let says = words.iter().all(|word| error.contains(word)) && error.contains("hint: ");
        assert!(code == Some(2) && says, "{url}: {code:?} {error}");
    };
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(ask(&format!("https://{host}:{port}"), Some(&own)), (Some(0), String::new()));
    }
    refused(&site.url(), Some(&other), &["is signed by none of the authorities in", &other]);
    refused(&site.url(), None, &["an authority that is not trusted here", "--ca"]);
    refused(&format!("https://127.0.0.2:{port}"), Some(&own), &["no plane answers at https://127.0.0.2"]);
    refused(&format!("https://[::1]:{port}"), Some(&own), &["no plane answers at https://[::1]"]);
    refused("https://localhost", Some("/no/such/ca.crt"), &["cannot read /no/such/ca.crt"]);
    refused(&format!("http://localhost:{port}"), Some(&own), &["over TLS only"]);

    // Something else on that port.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let speaks = std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").unwrap();
        // Until the client hangs up.
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
    });
    refused(&elsewhere, Some(&own), &["does not speak TLS"]);
    speaks.join().unwrap();
    site.stop();
}

#[test]
fn a_name_that_is_not_in_the_certificate_is_not_accepted() {
    let site = Site::new();
    let token = site.token("ada", "viewer");
    let pki = site.path("pki").display().to_string();
    done(&["pki", "renew", "home", "--name", "plane.example", "--folder", &pki]);
    let refused = within(LONG, || {
        let output = site.remotely(&token, &["status"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code() == Some(2)).then_some(error)
    });
    let refused = refused.expect("the plane takes the renewed certificate over");
    assert!(refused.contains("does not name `localhost`") && refused.contains("--name localhost"), "{refused}");
    site.is_well();
    site.stop();
}

#[test]
fn a_certificate_is_replaced_while_the_plane_runs_and_connections_go_on() {
    let (site, runtime) = (Site::new(), Runtime::new().unwrap());
    let presented = || {
        runtime.block_on(async {
            let stream = site.connect().await;
            let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
            Certificate::read(&shown).unwrap().serial
        })
    };
    let first = presented();
    let pki = site.path("pki").display().to_string();
    done(&["pki", "renew", "home", "--new-key", "--folder", &pki]);
    within(LONG, || (presented() != first).then_some(())).expect("the new one is shown");
    // One that is of no use changes nothing.
    let second = presented();
    std::fs::write(site.path("pki/planes/home/plane.crt"), "nothing").unwrap();
    within(LONG, || site.log().contains("the old one stays in force").then_some(())).expect("it is noticed");
    assert_eq!(presented(), second);
    site.stop();
}
