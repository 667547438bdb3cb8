//! Offers and peers, as scripts see and answer them.

use crate::model::testing::offer;
use crate::model::{ActionKind, ElementId, EventBody, Grant, HostId, Mode, Offer, Value, Verb, Verdict};
use crate::policy::testing::{Bench, event, web};
use crate::policy::{Fault, State, Step};
use std::sync::Arc;

fn heard(offer: Offer, text: &str) -> Result<Step, Fault> {
    let bench = Bench::new();
    let bound = bench.bound(text).expect("it compiles");
    bench.step(&bound, &mut State::default(), &event(ElementId::Plane, EventBody::MigrationOffer(Arc::new(offer))))
}

fn answered(body: &str) -> Result<Option<Verdict>, String> {
    let step = heard(offer("b"), &format!("fn on_migration_offer(offer, plane) {{ {body} }}"));
    step.map(|step| step.verdict.map(|(verdict, _)| verdict)).map_err(|fault| fault.error.message.to_string())
}

#[test]
fn a_policy_reads_an_offer_and_answers() {
    let text = r#"
        fn on_migration_offer(offer, event, plane) {
            if event.from != "b" || !offer.peer.receives { return; }
            if offer.modules.some(|m| m.signed_by == "" || m.refusal != "") { offer.deny("unsigned"); return; }
            if offer.hosts.is_empty() { offer.deny("full"); return; }
            print(offer.obstacles);
            offer.accept(#{ mode: "advise", permits: ["notify"], host: offer.hosts[0] });
        }"#;
    let step = heard(offer("b"), text).unwrap();
    let (verdict, place) = step.verdict.expect("an answer");
    let grant = Grant { mode: Some(Mode::Advise), permits: Some([Verb::Notify].into()), host: Some("a".into()) };
    assert_eq!((verdict, place.line), (Verdict::Accept(grant), 7));
    assert_eq!(step.logs, [r#"#{"b": "it is in maintenance"}"#]);

    let mut unsigned = offer("b");
    unsigned.modules[0].signed_by = None;
    let step = heard(unsigned, text).unwrap();
    assert_eq!(step.verdict.map(|(verdict, _)| verdict), Some(Verdict::Deny { reason: "unsigned".into() }));

    assert!(heard(offer("stranger"), text).unwrap().verdict.is_none(), "silence");
}

#[test]
fn only_the_host_that_is_asked_for_is_shown() {
    let mut asks = offer("b");
    asks.host = Some("b".into());
    let step = heard(asks, "fn on_migration_offer(offer) { print(offer.host); print(offer.hosts); }").unwrap();
    assert_eq!(step.logs, ["b", "[]"]);
}

#[test]
fn answers_that_make_no_sense_are_refused_with_what_to_write() {
    for (body, told) in [
        (r#"offer.accept(); offer.deny("no");"#, "answered already, in line 1"),
        (r#"offer.deny(" ");"#, "needs a reason"),
        (r#"offer.accept(#{ mode: "full" });"#, "\"observe\", \"advise\" or \"act\""),
        (r#"offer.accept(#{ mod: "act" });"#, "`mode`, `permits`, `host`"),
        (r#"offer.accept(#{ permits: "notify" });"#, "list of words"),
        (r#"offer.accept(#{ permits: ["notfy"] });"#, "`notfy` is no action"),
        (r#"offer.accept(#{ host: "nowhere" });"#, "no host `nowhere`"),
        (r#"offer.accept(#{ host: plane.host("b") });"#, "cannot take web: it is in maintenance"),
    ] {
        let error = answered(body).expect_err(body);
        assert!(error.contains(told), "{body}: {error}");
    }
    assert_eq!(answered("offer.accept()"), Ok(Some(Verdict::Accept(Grant::default()))));
}

#[test]
fn a_guest_is_proposed_to_a_peer_and_what_was_read_of_it_is_kept() {
    let bench = Bench::new();
    let text = r#"
        fn on_load(vm) {
            let best = ();
            for p in peers() { if p.reachable && p.free_memory_mib > vm.memory_mib { best = p; } }
            if best != () { vm.migrate_to(best, "there is room"); }
            vm.migrate_to(peer("b"), "host-x", "there");
        }"#;
    let (step, _) = bench.load(text).unwrap();
    let kinds: Vec<ActionKind> = step.proposals.iter().map(|draft| draft.kind.clone()).collect();
    let handover =
        |host: Option<HostId>| ActionKind::Handover { vm: web(), plane: "b".into(), host, live: true, force_after: None };
    assert_eq!(kinds, [handover(None), handover(Some("host-x".into()))]);
    let read = step.reads.iter().find(|read| read.what == "peer(b).free_memory_mib").expect("noted");
    assert_eq!((&read.element, &read.value), (&ElementId::Plane, &Value::Int(32_768)));
    let gone = bench.load(r#"fn on_load() { let p = peer("b"); print(peer("c") == ()); print(p.cpu); }"#).unwrap();
    assert_eq!(gone.0.logs, ["true", "0.25"]);
}
