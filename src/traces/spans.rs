//! Committed batches into spans.

use crate::model::{Action, ActionKind, ActionState, ActionUpdate, Batch, Event, EventKind, Proposal, Record, Timestamp, hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Actions under way that are remembered; the oldest are forgotten first.
const OPEN: usize = 8_192;

/// The name of a span, unique in its trace.
pub type SpanId = [u8; 8];

/// Something that took time.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace it belongs to.
    pub trace: [u8; 16],
    /// Its own name.
    pub id: SpanId,
    /// What it is part of.
    pub parent: Option<SpanId>,
    /// What it was.
    pub name: String,
    /// From when.
    pub start: Timestamp,
    /// Until when.
    pub end: Timestamp,
    /// More about it.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed, where it did.
    pub failed: Option<String>,
}

impl Span {
    /// In the JSON form of OTLP.
    pub fn json(&self) -> Value {
        let nanoseconds = |at: Timestamp| (i128::from(at.0) * 1_000_000).to_string();
        let attribute = |(key, value): &(&str, String)| json!({ "key": key, "value": { "stringValue": value } });
        json!({
            "traceId": hex(&self.trace),
            "spanId": hex(&self.id),
            "parentSpanId": self.parent.as_ref().map_or_else(String::new, |parent| hex(parent)),
            "name": self.name,
            // Within the plane.
            "kind": 1,
            "startTimeUnixNano": nanoseconds(self.start),
            "endTimeUnixNano": nanoseconds(self.end),
            "attributes": self.attributes.iter().map(attribute).collect::<Vec<_>>(),
            "status": match &self.failed {
                Some(why) => json!({ "code": 2, "message": why }),
                None => json!({ "code": 0 }),
            },
        })
    }
}

/// An action under way.
#[derive(Debug, Clone)]
struct Open {
    trace: [u8; 16],
    planned_at: Timestamp,
    started_at: Option<Timestamp>,
    what: String,
    attributes: Vec<(&'static str, String)>,
}

/// Makes spans of batches. It must see them in order.
#[derive(Debug)]
pub struct Weaver {
    plane: Arc<str>,
    open: BTreeMap<u64, Open>,
}

impl Weaver {
    /// One who knows the actions that are under way.
    pub fn new(plane: &Arc<str>, open: &[Action]) -> Weaver {
        let mut weaver = Weaver { plane: plane.clone(), open: BTreeMap::new() };
        for action in open {
            weaver.learn(action, action.decided_at);
            let started = (action.state == ActionState::Started).then_some(action.state_at);
            weaver.open.entry(action.id.0).and_modify(|open| open.started_at = started);
        }
        weaver
    }

    /// The spans that a batch begins and ends, which was durable at `durable_at`. A span is told when it is over.
    pub fn weave(&mut self, batch: &Batch, durable_at: Timestamp) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut told = BTreeSet::new();
        for record in &batch.records {
            match record {
                Record::Planned { action } => {
                    self.learn(action, batch.now);
                    let verb = action.proposal.kind.verb();
                    let advised = matches!(action.state, ActionState::Advised { .. });
                    let number = action.id.0;
                    let word = if advised { "advise" } else { "plan" };
                    let parent = self.origin(&action.proposal, batch, &mut told, &mut spans);
                    let mut span = self.span(self.trace_of(action), ("plan", number), format!("{word} {verb}"), batch.now);
                    span.parent = parent;
                    span.end = durable_at.max(batch.now);
                    span.attributes = vec![
                        ("embot.action", number.to_string()),
                        ("embot.mode", action.mode.to_string()),
                        ("embot.reason", action.proposal.reason.to_string()),
                        ("embot.weighed", action.weighed.join("; ")),
                    ];
                    spans.push(span);
                }
                Record::Refused { number, refusal } => {
                    let parent = self.origin(&refusal.proposal, batch, &mut told, &mut spans);
                    let trace = match &refusal.proposal.cause {
                        Some(cause) => self.trace(("event", cause.seq)),
                        None => self.trace(("refusal", *number)),
                    };
                    let name = format!("refuse {}", refusal.proposal.kind.verb());
                    let mut span = self.span(trace, ("refusal", *number), name, batch.now);
                    span.parent = parent;
                    span.end = durable_at.max(batch.now);
                    span.attributes = vec![
                        ("embot.refusal", format!("r{number}")),
                        ("embot.guardrail", refusal.guardrail.to_string()),
                        ("embot.reason", refusal.reason.clone()),
                    ];
                    spans.push(span);
                }
                Record::Action { action, update } => match update {
                    ActionUpdate::Started => {
                        self.open.entry(action.0).and_modify(|open| open.started_at = Some(batch.now));
                    }
                    ActionUpdate::Progress(_) => {}
                    ActionUpdate::Done => self.over(action.0, "done", None, batch.now, &mut spans),
                    ActionUpdate::Failed(why) => self.over(action.0, "failed", Some(why.to_string()), batch.now, &mut spans),
                    ActionUpdate::Cancelled(by) => {
                        self.over(action.0, "cancelled", Some(format!("cancelled: {by}")), batch.now, &mut spans);
                    }
                },
                Record::Settled { action, how, by, .. } => match &**how {
                    // It goes on; from now on it waits for its effector.
                    "approved" => {
                        let Some(open) = self.open.get_mut(&action.0) else { continue };
                        let (trace, since) = (open.trace, std::mem::replace(&mut open.planned_at, batch.now));
                        let mut span = self.span(trace, ("answer", action.0), "wait for an answer".to_owned(), since);
                        span.parent = Some(self.id(("plan", action.0)));
                        span.end = batch.now;
                        span.attributes = vec![("embot.approved_by", by.to_string())];
                        spans.push(span);
                    }
                    // It goes on to its end, or had it long ago.
                    "cancelling" | "lifted" => {}
                    other => self.over(action.0, other, None, batch.now, &mut spans),
                },
                Record::Event { .. } | Record::Fault { .. } | Record::Log { .. } | Record::Notice { .. } => {}
            }
        }
        spans
    }

    /// The event and the step that a proposal comes from, each told once in a batch; the step's name.
    fn origin(&self, proposal: &Proposal, batch: &Batch, told: &mut BTreeSet<SpanId>, spans: &mut Vec<Span>) -> Option<SpanId> {
        let (Some(embot), Some(cause)) = (&proposal.embot, &proposal.cause) else { return None };
        let trace = self.trace(("event", cause.seq));
        let event = self.id(("event", cause.seq));
        if told.insert(event) {
            spans.push(Span { end: batch.now.max(cause.at), attributes: about(cause), ..self.event(trace, cause) });
        }
        let step = self.hash(&["step", &embot.to_string(), &cause.seq.to_string()]);
        let step: SpanId = std::array::from_fn(|at| step[at]);
        if told.insert(step) {
            let place = proposal.place.as_ref().map(ToString::to_string).unwrap_or_default();
            spans.push(Span {
                trace,
                id: step,
                parent: Some(event),
                name: format!("step {}", embot.module),
                start: batch.now,
                end: batch.now,
                attributes: vec![
                    ("embot.module", embot.module.to_string()),
                    ("embot.element", embot.element.to_string()),
                    ("embot.place", place),
                ],
                failed: None,
            });
        }
        Some(step)
    }

    fn event(&self, trace: [u8; 16], cause: &Event) -> Span {
        self.span(trace, ("event", cause.seq), format!("event {}", EventKind::ALL[cause.body.index()].name), cause.at)
    }

    fn learn(&mut self, action: &Action, at: Timestamp) {
        let proposal = &action.proposal;
        let mut attributes = vec![("embot.action", action.id.to_string()), ("embot.verb", proposal.kind.verb().to_string())];
        attributes.extend(proposal.kind.vm().map(|vm| ("embot.guest", vm.to_string())));
        attributes.extend(action.host.as_ref().map(|host| ("embot.host", host.to_string())));
        attributes.extend(proposal.kind.destination().map(|host| ("embot.destination", host.to_string())));
        if let ActionKind::Handover { plane, .. } = &proposal.kind {
            attributes.push(("embot.peer", plane.to_string()));
        }
        let (trace, what) = (self.trace_of(action), proposal.kind.verb().to_string());
        self.open.insert(action.id.0, Open { trace, planned_at: at, started_at: None, what, attributes });
        if self.open.len() > OPEN {
            self.open.pop_first();
        }
    }

    /// An action is over: the whole, and its two parts.
    fn over(&mut self, number: u64, result: &str, failed: Option<String>, at: Timestamp, spans: &mut Vec<Span>) {
        let Some(open) = self.open.remove(&number) else { return };
        let action = self.id(("action", number));
        let mut whole = self.span(open.trace, ("action", number), format!("{} {result}", open.what), open.planned_at);
        whole.parent = Some(self.id(("plan", number)));
        whole.end = at;
        whole.attributes = open.attributes;
        whole.attributes.push(("embot.result", result.to_owned()));
        whole.failed = failed.clone();
        spans.push(whole);
        let Some(started) = open.started_at else { return };
        for (kind, name, start, end) in
            [("wait", "wait for the effector", open.planned_at, started), ("carry", "carry out", started, at)]
        {
            let mut part = self.span(open.trace, (kind, number), name.to_owned(), start);
            (part.parent, part.end) = (Some(action), end);
            part.failed = failed.clone().filter(|_| kind == "carry");
            spans.push(part);
        }
    }

    fn span(&self, trace: [u8; 16], id: (&str, u64), name: String, start: Timestamp) -> Span {
        Span { trace, id: self.id(id), parent: None, name, start, end: start, attributes: Vec::new(), failed: None }
    }

    /// The trace of the event that led to an action; of the action itself where an admin wanted it.
    fn trace_of(&self, action: &Action) -> [u8; 16] {
        match &action.proposal.cause {
            Some(cause) => self.trace(("event", cause.seq)),
            None => self.trace(("action", action.id.0)),
        }
    }

    fn trace(&self, (kind, number): (&str, u64)) -> [u8; 16] {
        let hash = self.hash(&["trace", kind, &number.to_string()]);
        std::array::from_fn(|at| hash[at])
    }

    fn id(&self, (kind, number): (&str, u64)) -> SpanId {
        let hash = self.hash(&["span", kind, &number.to_string()]);
        std::array::from_fn(|at| hash[at])
    }

    fn hash(&self, parts: &[&str]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(&*self.plane);
        for part in parts {
            hash.update([0]);
            hash.update(part);
        }
        hash.finalize().into()
    }
}

fn about(event: &Event) -> Vec<(&'static str, String)> {
    vec![("embot.event", event.seq.to_string()), ("embot.element", event.element.to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::a_batch;

    fn weave() -> Vec<Span> {
        let batch = a_batch(7);
        Weaver::new(&"home".into(), &[]).weave(&batch, Timestamp(batch.now.0 + 4))
    }

    #[test]
    fn every_part_hangs_on_what_led_to_it() {
        let spans = weave();
        let by_id: BTreeMap<SpanId, &Span> = spans.iter().map(|span| (span.id, span)).collect();
        assert_eq!(by_id.len(), spans.len(), "no name twice");
        for span in &spans {
            assert!(span.start <= span.end && span.trace != [0; 16], "{span:?}");
            let mut names = vec![span.name.as_str()];
            let mut at = span;
            while let Some(parent) = at.parent {
                at = by_id[&parent];
                assert_eq!(at.trace, span.trace, "{}", span.name);
                names.push(&at.name);
            }
            assert!(names.last().is_some_and(|name| name.starts_with("event ")), "{names:?}");
        }
        let named = |name: &str| spans.iter().find(|span| span.name.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(named("carry out").parent, Some(named("migrate done").id));
        assert_eq!(named("migrate done").parent, Some(named("plan migrate").id));
        assert_eq!(named("plan migrate").end.since(named("plan migrate").start).0, 4, "until it was durable");
        assert_eq!(named("wait for an answer").parent, Some(named("advise start").id));
        assert!(named("refuse").attributes.iter().any(|(key, value)| *key == "embot.guardrail" && !value.is_empty()));
    }

    #[test]
    fn the_same_batches_give_the_same_spans() {
        assert_eq!(weave(), weave());
        let json = weave()[0].json();
        assert_eq!(json["traceId"].as_str().map(str::len), Some(32));
        assert_eq!(json["spanId"].as_str().map(str::len), Some(16));
        assert!(json["startTimeUnixNano"].as_str().is_some_and(|text| text.ends_with("000000")));
    }
}
