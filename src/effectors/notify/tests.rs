//! Channels against servers of their own on loopback: HTTP and SMTP, in the open and over TLS.

use super::*;
use crate::clock::SystemClock;
use crate::model::{ElementId, Timestamp};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread::JoinHandle;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A certificate for localhost, made for the test: its PEM file, and a server's side of TLS with it.
fn certificate(folder: &std::path::Path) -> (PathBuf, Arc<rustls::ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = folder.join("ca.crt");
    std::fs::write(&path, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    (path, Arc::new(config))
}

/// Serves so many connections, one after the other, and gives back what was heard on each.
fn serve(
    connections: usize,
    tls: Option<Arc<rustls::ServerConfig>>,
    talk: impl Fn(usize, &mut dyn Stream) -> String + Send + 'static,
) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("localhost:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let mut heard = Vec::new();
        for number in 0..connections {
            let (mut socket, _) = listener.accept().unwrap();
            heard.push(match &tls {
                None => talk(number, &mut socket),
                Some(config) => {
                    let mut session = rustls::ServerConnection::new(config.clone()).unwrap();
                    let mut stream = rustls::Stream::new(&mut session, &mut socket);
                    let heard = talk(number, &mut stream);
                    session.send_close_notify();
                    session.complete_io(&mut socket).ok();
                    heard
                }
            });
        }
        heard
    });
    (port, serving)
}

/// One HTTP request, answered with this status; what was heard is its head and body.
fn http(stream: &mut dyn Stream, status: &str, more: &str) -> String {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return "nothing".to_owned();
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head += &line;
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let stream = reader.into_inner();
    write!(stream, "HTTP/1.1 {status}\r\n{more}Content-Length: 5\r\nConnection: close\r\n\r\nsorry").unwrap();
    stream.flush().unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

/// One mail taken by SMTP; what was heard are all lines of the other side.
fn smtp(stream: &mut dyn Stream, refusal: Option<&str>) -> String {
    let mut heard = String::new();
    let mut reader = BufReader::new(stream);
    let say = |reader: &mut BufReader<&mut dyn Stream>, text: &str| {
        let stream = reader.get_mut();
        stream.write_all(text.as_bytes()).and_then(|()| stream.write_all(b"\r\n")).and_then(|()| stream.flush()).unwrap();
    };
    say(&mut reader, "220 localhost");
    let mut in_letter = false;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return heard;
        }
        heard += &line;
        let word = line.split([' ', '\r', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match word.as_str() {
            _ if in_letter => {
                if line == ".\r\n" {
                    in_letter = false;
                    say(&mut reader, "250 taken");
                }
            }
            "EHLO" => say(&mut reader, "250-localhost\r\n250 AUTH PLAIN"),
            "AUTH" => say(&mut reader, "235 welcome"),
            "RCPT" if refusal.is_some() => say(&mut reader, refusal.unwrap_or_default()),
            "DATA" => {
                in_letter = true;
                say(&mut reader, "354 go on");
            }
            "QUIT" => {
                say(&mut reader, "221 bye");
                return heard;
            }
            _ => say(&mut reader, "250 yes"),
        }
    }
}

fn webhook(url: String, ca: Option<PathBuf>, token_file: Option<PathBuf>) -> ChannelSettings {
    let webhook = Some(WebhookSettings { url: url.into(), token_file, ca });
    ChannelSettings { name: "chat".into(), level: Level::Info, rate: MessageRate::default(), webhook, mail: None }
}

fn mail(server: String, tls: MailTls, ca: Option<PathBuf>, password_file: Option<PathBuf>) -> ChannelSettings {
    let user = password_file.as_ref().map(|_| "embot".into());
    let to = vec!["Ops <ops@example.org>".into(), "night@example.org".into()];
    let from = "embot@example.org".into();
    let mail = Some(MailSettings { server: server.into(), tls, from, to, user, password_file, ca });
    ChannelSettings { name: "ops".into(), level: Level::Info, rate: MessageRate::default(), webhook: None, mail }
}

/// Tells one notification over this channel, on a clock that starts in 1970.
fn tell(settings: ChannelSettings, text: &str) -> Result<(), String> {
    let clock: Arc<dyn Clock> = crate::clock::VirtualClock::at(Timestamp(1_700_000_000_000));
    let notifiers = Notifiers::start(&"north".into(), &[settings], &clock, None).unwrap();
    let embot = EmbotId { module: "restart-crashed".into(), element: ElementId::Plane };
    let (key, action) = ("41".to_owned(), Some(ActionId(41)));
    notifiers.notify(&Notification { key, action, level: Level::Alarm, text, embot: Some(&embot) })?;
    // One that cannot be reached now keeps it.
    let (_, standing) = notifiers.standings().next().unwrap();
    assert_eq!(standing.held, usize::from(standing.away.is_some()));
    standing.away.map_or(Ok(()), |why| Err(format!("held: {why}")))
}

#[test]
fn a_webhook_is_told_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, tls) = certificate(folder.path());
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let (port, serving) = serve(1, Some(tls), |_, stream| http(stream, "204 No Content", ""));
    let settings = webhook(format!("https://localhost:{port}/hooks/x"), Some(ca), Some(token));
    assert_eq!(tell(settings, "web-1 gave up\nsee to it"), Ok(()));
    let heard = serving.join().unwrap().remove(0);
    let heard = heard.replace(&port.to_string(), "PORT").replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::assert_snapshot!(heard.replace("\r\n", "\n"));
}

#[test]
fn a_webhook_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let (port, serving) = serve(3, None, |number, stream| http(stream, ["503 Busy", "429 Slow Down", "200 OK"][number], ""));
    assert_eq!(tell(webhook(format!("http://localhost:{port}/"), None, None), "x"), Ok(()));
    let heard = serving.join().unwrap();
    assert!(heard.iter().all(|heard| heard.to_ascii_lowercase().contains("idempotency-key: north-41")), "{heard:?}");

    let (port, serving) = serve(1, None, |_, stream| http(stream, "404 Not Found", ""));
    let refused = tell(webhook(format!("http://localhost:{port}/"), None, None), "x");
    assert_eq!(refused, Err("channel chat: the webhook answers 404 Not Found: sorry".to_owned()));
    serving.join().unwrap();

    // It may not send us, and our token, elsewhere.
    let (port, serving) = serve(1, None, |_, stream| http(stream, "302 Found", "Location: http://localhost:1/\r\n"));
    let refused = tell(webhook(format!("http://localhost:{port}/"), None, None), "x");
    assert_eq!(refused, Err("channel chat: the webhook answers 302 Found: sorry".to_owned()));
    serving.join().unwrap();
}

#[test]
fn a_stranger_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_, tls) = certificate(folder.path());
    let others = tempfile::tempdir().unwrap();
    let (ca, _) = certificate(others.path());
    // The answer to a certificate of somebody else: none, however often it is tried.
    let (port, serving) = serve(3, Some(tls.clone()), |_, stream| http(stream, "200 OK", ""));
    let refused = tell(webhook(format!("https://localhost:{port}/"), Some(ca.clone()), None), "x").unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    assert_eq!(serving.join().unwrap(), ["nothing"; 3]);

    let (port, serving) = serve(3, Some(tls), |_, stream| smtp_or_nothing(stream));
    let refused = tell(mail(format!("localhost:{port}"), MailTls::Wrapped, Some(ca), None), "x").unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    assert_eq!(serving.join().unwrap(), ["nothing"; 3]);
}

/// A greeting, if the other side takes it.
fn smtp_or_nothing(stream: &mut dyn Stream) -> String {
    let said = stream.write_all(b"220 localhost\r\n").and_then(|()| stream.flush());
    if said.is_err() { "nothing".to_owned() } else { smtp(stream, None) }
}

#[test]
fn mail_is_sent_over_tls_with_a_login() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, tls) = certificate(folder.path());
    let password = folder.path().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    let (port, serving) = serve(1, Some(tls), |_, stream| smtp(stream, None));
    let settings = mail(format!("localhost:{port}"), MailTls::Wrapped, Some(ca), Some(password));
    assert_eq!(tell(settings, "web-1 gave up\n.\nBcc: all@example.org"), Ok(()));
    let heard = serving.join().unwrap().remove(0).replace("\r\n", "\n");
    // The name that a client says depends on its machine.
    let heard = heard.split_once('\n').map_or(heard.clone(), |(_, rest)| rest.to_owned());
    insta::assert_snapshot!(heard);
}

#[test]
fn mail_that_is_refused_says_why() {
    // For now: tried again. For good: not.
    for (refusal, times) in [("450 later", 3), ("550 no such box", 1)] {
        let (port, serving) = serve(times, None, move |_, stream| smtp(stream, Some(refusal)));
        let refused = tell(mail(format!("localhost:{port}"), MailTls::Off, None, None), "x").unwrap_err();
        let begins = if times > 1 { "held: the mail server: " } else { "channel ops: the mail server: " };
        assert!(refused.starts_with(begins), "{refused}");
        assert!(refused.contains(&refusal[4..]), "{refused}");
        serving.join().unwrap();
    }
}

#[test]
fn a_channel_that_is_away_keeps_no_other_from_its_message() {
    let free = TcpListener::bind("localhost:0").unwrap().local_addr().unwrap().port();
    let (port, serving) = serve(1, None, |_, stream| http(stream, "200 OK", ""));
    let away = webhook(format!("http://localhost:{free}/"), None, None);
    let there = ChannelSettings { name: "pager".into(), ..webhook(format!("http://localhost:{port}/"), None, None) };
    let clock: Arc<dyn Clock> = SystemClock::start(Timestamp(0));
    let notifiers = Arc::new(Notifiers::start(&"north".into(), &[away, there], &clock, None).unwrap());
    let telling = {
        let notifiers = notifiers.clone();
        std::thread::spawn(move || {
            let key = "7".to_owned();
            notifiers.notify(&Notification { key, action: None, level: Level::Warning, text: "x", embot: None })
        })
    };
    // The other has it while the first is still tried.
    serving.join().unwrap();
    assert!(!telling.is_finished(), "the first is still tried");
    assert_eq!(telling.join().unwrap(), Ok(()), "it is kept");
}
