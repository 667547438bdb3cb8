//! Actions, events and refusals in the words an admin reads, the same in the API, on the terminal and in the live events.

use crate::model::{ActionKind, ActionUpdate, ElementId, Event, EventBody, HostId, Progress, Proposal, VmId};

/// Finds the name people use for an element.
pub type Label<'a> = &'a dyn Fn(&ElementId) -> String;

/// What is to be done: `migrate web-3 host-a -> host-c`. `from` is the host that carries it out.
pub fn action(kind: &ActionKind, from: Option<&HostId>, label: Label<'_>) -> String {
    let guest = |vm: &VmId| label(&ElementId::Vm(*vm));
    let verb = kind.verb();
    match kind {
        ActionKind::Start { vm } => {
            let place = from.map(|host| format!(" on {host}")).unwrap_or_default();
            format!("{verb} {}{place}", guest(vm))
        }
        ActionKind::Shutdown { vm, force_after: Some(span) } => format!("{verb} {} (switched off after {span})", guest(vm)),
        ActionKind::Shutdown { vm, force_after: None }
        | ActionKind::Destroy { vm }
        | ActionKind::Reset { vm }
        | ActionKind::Suspend { vm }
        | ActionKind::Resume { vm }
        | ActionKind::Save { vm }
        | ActionKind::Restore { vm }
        | ActionKind::Undefine { vm }
        | ActionKind::Adopt { vm } => format!("{verb} {}", guest(vm)),
        ActionKind::Migrate { vm, to, live } => {
            let from = from.map(|host| format!(" {host}")).unwrap_or_default();
            let to = to.as_ref().map_or("the best host", |host| host.as_str());
            let cold = if *live { "" } else { " (cold)" };
            format!("{verb} {}{from} -> {to}{cold}", guest(vm))
        }
        ActionKind::Handover { vm, plane, host, live, force_after } => {
            let host = host.as_ref().map(|host| format!("/{host}")).unwrap_or_default();
            let cold = match force_after {
                _ if *live => String::new(),
                None => " (cold)".to_owned(),
                Some(span) => format!(" (cold, switched off after {span})"),
            };
            format!("{verb} {} to {plane}{host}{cold}", guest(vm))
        }
        ActionKind::SetVcpus { vm, vcpus } => format!("{verb} {} to {vcpus}", guest(vm)),
        ActionKind::SetMemory { vm, memory_mib } | ActionKind::Balloon { vm, memory_mib } => {
            format!("{verb} {} to {memory_mib} MiB", guest(vm))
        }
        ActionKind::Define { vm, host, .. } => format!("{verb} {} on {host}", guest(vm)),
        ActionKind::Notify { level, text } => format!("{verb} {}: {text}", self::level(*level)),
    }
}

/// A level, in one word.
pub fn level(level: crate::model::Level) -> &'static str {
    match level {
        crate::model::Level::Info => "info",
        crate::model::Level::Warning => "warning",
        crate::model::Level::Alarm => "alarm",
    }
}

/// The name under which the plane itself acts, as the configuration says: it adopts guests at first sight.
const PLANE: &str = "plane";

/// Who wants it: the module, or the admin.
pub fn author(proposal: &Proposal) -> String {
    match (&proposal.embot, &proposal.admin) {
        (Some(embot), _) => embot.module.to_string(),
        (None, Some(admin)) if &**admin == PLANE => "the plane".to_owned(),
        (None, Some(admin)) => format!("admin {admin}"),
        (None, None) => "the plane".to_owned(),
    }
}

/// What happened: `web-3 crashed (failed)`.
pub fn event(event: &Event, label: Label<'_>) -> String {
    format!("{} {}", label(&event.element), body(&event.body, label))
}

fn body(body: &EventBody, label: Label<'_>) -> String {
    use crate::model::Reason::Unknown;
    match body {
        EventBody::Load => "load".to_owned(),
        EventBody::Appeared => "appeared".to_owned(),
        EventBody::Gone => "is gone: no host defines it any more".to_owned(),
        EventBody::Started(Unknown) => "started".to_owned(),
        EventBody::Started(reason) => format!("started ({reason})"),
        EventBody::Stopped(Unknown) => "stopped".to_owned(),
        EventBody::Stopped(reason) => format!("stopped ({reason})"),
        EventBody::Crashed(Unknown) => "crashed".to_owned(),
        EventBody::Crashed(reason) => format!("crashed ({reason})"),
        EventBody::Paused(Unknown) => "paused".to_owned(),
        EventBody::Paused(reason) => format!("paused ({reason})"),
        EventBody::Resumed(Unknown) => "resumed".to_owned(),
        EventBody::Resumed(reason) => format!("resumed ({reason})"),
        EventBody::Migrated { from, to } => format!("migrated {from} -> {to}"),
        EventBody::Changed => "changed its definition".to_owned(),
        EventBody::Balloon { memory_mib } => format!("holds {memory_mib} MiB now (balloon)"),
        EventBody::Watchdog { action } => format!("watchdog fired, hypervisor did: {action}"),
        EventBody::IoError { reason } => format!("I/O error: {reason}"),
        EventBody::Agent(crate::model::AgentState::Connected) => "guest agent connected".to_owned(),
        EventBody::Agent(crate::model::AgentState::Disconnected) => "guest agent went away".to_owned(),
        EventBody::Conflict(mark) => format!("carries the mark of plane {}, epoch {}", mark.plane, mark.epoch),
        EventBody::HostUp => "answers".to_owned(),
        EventBody::HostDown(reason) => format!("does not answer: {reason}"),
        EventBody::Maintenance { on: true } => "entered maintenance".to_owned(),
        EventBody::Maintenance { on: false } => "left maintenance".to_owned(),
        EventBody::Loaded => "embot loaded".to_owned(),
        EventBody::Timer { name, .. } => format!("timer `{name}` is due"),
        EventBody::Message { from, channel, .. } => {
            format!("message on `{channel}` from {} of {}", from.module, label(&from.element))
        }
        EventBody::ActionDone(action) => format!("action {action} is done"),
        EventBody::ActionFailed { action, reason } => format!("action {action} failed: {reason}"),
        EventBody::MigrationOffer(offer) => {
            format!("is offered {} by plane {}: {}", offer.guest.name, offer.plane, offer.reason)
        }
    }
}

/// What an effector said: a word for the column, and the rest.
pub fn update(update: &ActionUpdate) -> (&'static str, String) {
    match update {
        ActionUpdate::Started => ("started", String::new()),
        ActionUpdate::Progress(progress) => ("progress", self::progress(*progress)),
        ActionUpdate::Done => ("done", String::new()),
        ActionUpdate::Failed(reason) => ("failed", reason.to_string()),
        ActionUpdate::Cancelled(reason) => ("cancelled", reason.to_string()),
    }
}

/// `42 %, 40.1 of 96.0 MiB`.
pub fn progress(progress: Progress) -> String {
    let share = progress.done_bytes as f64 / progress.total_bytes.max(1) as f64;
    let percent = (share * 100.0).clamp(0.0, 100.0);
    format!("{percent:.0} %, {} of {}", bytes(progress.done_bytes), bytes(progress.total_bytes))
}

/// A number of bytes with the unit that suits it.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Level, Span, Timestamp};

    #[test]
    fn actions_read_as_sentences() {
        let vm = VmId(uuid::Uuid::from_u128(1));
        let from = HostId::from("host-a");
        let label = |_: &ElementId| "web-3".to_owned();
        let kinds = [
            ActionKind::Start { vm },
            ActionKind::Shutdown { vm, force_after: Some(Span::minutes(2)) },
            ActionKind::Shutdown { vm, force_after: None },
            ActionKind::Migrate { vm, to: Some("host-c".into()), live: true },
            ActionKind::Migrate { vm, to: None, live: false },
            ActionKind::Handover { vm, plane: "site-b".into(), host: Some("host-x".into()), live: true, force_after: None },
            ActionKind::Handover { vm, plane: "site-b".into(), host: None, live: false, force_after: Some(Span::minutes(2)) },
            ActionKind::SetVcpus { vm, vcpus: 4 },
            ActionKind::Balloon { vm, memory_mib: 512 },
            ActionKind::Notify { level: Level::Alarm, text: "web-3 gave up".into() },
        ];
        let lines: Vec<_> = kinds.iter().map(|kind| action(kind, Some(&from), &label)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn events_read_as_sentences() {
        let element = ElementId::Vm(VmId(uuid::Uuid::from_u128(1)));
        let say =
            |body| event(&Event { seq: 1, at: Timestamp(0), element: element.clone(), to: None, body }, &|_| "web-3".into());
        assert_eq!(say(EventBody::Crashed(crate::model::Reason::Failed)), "web-3 crashed (failed)");
        assert_eq!(say(EventBody::Migrated { from: "a".into(), to: "b".into() }), "web-3 migrated a -> b");
    }

    #[test]
    fn bytes_have_the_unit_that_suits() {
        let all: Vec<_> = [0, 1023, 1024, 1024 * 1024 * 3 / 2, u64::MAX].into_iter().map(bytes).collect();
        assert_eq!(all, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "16384.0 PiB"]);
        assert_eq!(progress(Progress { done_bytes: 0, total_bytes: 0 }), "0 %, 0 B of 0 B");
    }
}
