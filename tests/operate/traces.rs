//! Traces of a running daemon, taken by a small collector.

use crate::plane::{Plane, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Takes OTLP over HTTP, and keeps the spans.
struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    fn listen(address: &str) -> Collector {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("an address");
        let spans: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = spans.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                kept.lock().unwrap().extend(take(stream));
            }
        });
        Collector { address, spans }
    }

    fn spans(&self) -> Vec<Value> {
        self.spans.lock().unwrap().clone()
    }
}

/// Reads one request and answers it.
fn take(stream: TcpStream) -> Vec<Value> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length, mut first) = (String::new(), 0, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a line");
        if first.is_empty() {
            first = line.clone();
        }
        if let Some((key, value)) = line.split_once(':')
            && key.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().expect("a number");
        }
        if line.trim().is_empty() {
            break;
        }
    }
    assert!(first.starts_with("POST /v1/traces "), "{first}");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").expect("an answer");
    let resource = &body["resourceSpans"][0];
    assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "embot");
    resource["scopeSpans"][0]["spans"].as_array().expect("spans").clone()
}

const REST: &str = "fn on_load(vm) { if vm.name == \"web-1\" && vm.state == \"running\" { vm.suspend(\"for a look\"); } }\n";
const MANIFEST: &str =
    "module: rest\nversion: '1'\npolicies: [rest.rhai]\ncovers: { each: vm }\npermits: [suspend]\nmode: act\n";

fn plane(collector: SocketAddr) -> Plane {
    let plane = Plane::new(&format!("adopt: act\nnew_modules: act\ntraces: {{ endpoint: 'http://{collector}' }}\n"));
    plane.write("policies/rest.rhai", REST);
    plane.write("embots/rest.yaml", MANIFEST);
    plane
}

fn metric(plane: &Plane, name: &str) -> f64 {
    let text = plane.get("/metrics").1;
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("no {name}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn the_way_from_an_event_to_its_action_is_told() {
    let collector = Collector::listen("127.0.0.1:0");
    let plane = plane(collector.address);
    let _daemon = plane.start();
    let done = until("the action's span", || collector.spans().into_iter().find(|span| span["name"] == "suspend done"));
    let spans = until("all of it has come", || {
        let spans = collector.spans();
        (spans.iter().filter(|span| span["parentSpanId"] == done["spanId"]).count() == 2).then_some(spans)
    });
    let by_id: BTreeMap<&str, &Value> = spans.iter().map(|span| (span["spanId"].as_str().unwrap(), span)).collect();
    let (mut way, mut at) = (Vec::new(), &done);
    loop {
        way.push(at["name"].as_str().unwrap().to_owned());
        assert_eq!(at["traceId"], done["traceId"]);
        match at["parentSpanId"].as_str().unwrap() {
            "" => break,
            parent => at = by_id[parent],
        }
    }
    assert_eq!(way, ["suspend done", "plan suspend", "step rest", "event load"]);
    let parts = spans.iter().filter(|span| span["parentSpanId"] == done["spanId"]).map(|span| span["name"].as_str().unwrap());
    assert_eq!(parts.collect::<Vec<_>>(), ["wait for the effector", "carry out"]);
    // The plane counts what it hears to have been taken.
    until("they are counted", || (metric(&plane, "embot_trace_spans_total") >= spans.len() as f64).then_some(()));
}

#[test]
fn a_collector_that_is_away_holds_up_nothing_and_gets_what_waits() {
    // Nobody listens there until later.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let plane = plane(address);
    let _daemon = plane.start();
    until("the log says so once", || plane.log().contains("traces do not reach").then_some(()));
    until("the plane goes on", || {
        let said = String::from_utf8(plane.embot(&["elements", "web-1"]).stdout).unwrap();
        said.contains("paused").then_some(())
    });
    assert_eq!(plane.log().matches("traces do not reach").count(), 1);
    assert_eq!(metric(&plane, "embot_trace_spans_total"), 0.0);
    let collector = Collector::listen(&address.to_string());
    until("what waited is sent", || collector.spans().into_iter().find(|span| span["name"] == "suspend done"));
    until("the log says so", || plane.log().contains("takes them again").then_some(()));
}
