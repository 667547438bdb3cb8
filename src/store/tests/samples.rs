//! Batches in which every variant of every type that reaches the disk occurs. Whoever adds a variant adds it here, at the
//! end of its list, so that its bytes come to be fixed as well.

use crate::model::testing::{self, host, offer, vm};
use crate::model::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

pub fn guest(number: u128) -> VmId {
    VmId(Uuid::from_u128(number))
}

pub fn embot(element: ElementId) -> EmbotId {
    EmbotId { module: "relieve-hot-host".into(), element }
}

fn elements() -> Vec<ElementId> {
    vec![
        ElementId::Plane,
        ElementId::Host("host-a".into()),
        ElementId::Vm(guest(7)),
        ElementId::Disk(guest(7), "vda".into()),
        ElementId::Nic(guest(7), "52:54:00:00:00:01".into()),
        ElementId::App(guest(7), "nginx".into()),
    ]
}

pub fn value() -> Value {
    let map = BTreeMap::from([("count".to_owned(), Value::Int(-3)), ("nothing".to_owned(), Value::Unit)]);
    Value::Array(vec![
        Value::Unit,
        Value::Bool(true),
        Value::Int(i64::MIN),
        Value::Float(-0.0),
        Value::Char('é'),
        Value::Text("warm".into()),
        Value::Blob(vec![0, 255]),
        Value::Array(vec![Value::Float(f64::NAN)]),
        Value::Map(map),
    ])
}

fn mark() -> Mark {
    Mark { plane: "home".into(), epoch: 3 }
}

fn description() -> Description {
    Description {
        name: "web-1".into(),
        vcpus: 2,
        memory_mib: 2_048,
        persistent: true,
        autostart: true,
        labels: BTreeMap::from([("tier".into(), "web".into())]),
        mark: Some(mark()),
        disks: vec!["vda".into()],
        nics: vec!["vnet0".into()],
    }
}

pub fn kinds() -> Vec<ActionKind> {
    let vm = guest(7);
    vec![
        ActionKind::Start { vm },
        ActionKind::Shutdown { vm, force_after: Some(Span::seconds(90)) },
        ActionKind::Destroy { vm },
        ActionKind::Reset { vm },
        ActionKind::Suspend { vm },
        ActionKind::Resume { vm },
        ActionKind::Save { vm },
        ActionKind::Restore { vm },
        ActionKind::Migrate { vm, to: Some("host-b".into()), live: true },
        ActionKind::SetVcpus { vm, vcpus: 4 },
        ActionKind::SetMemory { vm, memory_mib: 4_096 },
        ActionKind::Balloon { vm, memory_mib: 1_024 },
        ActionKind::Define { vm, host: "host-a".into(), xml: "<domain/>".into() },
        ActionKind::Undefine { vm },
        ActionKind::Adopt { vm },
        ActionKind::Notify { level: Level::Info, text: "all is well".into() },
        ActionKind::Notify { level: Level::Warning, text: "hot".into() },
        ActionKind::Notify { level: Level::Alarm, text: "lost".into() },
    ]
}

pub fn bodies() -> Vec<EventBody> {
    vec![
        EventBody::Load,
        EventBody::Appeared,
        EventBody::Gone,
        EventBody::Started(Reason::Booted),
        EventBody::Stopped(Reason::Shutdown),
        EventBody::Crashed(Reason::Crashed),
        EventBody::Paused(Reason::IoError),
        EventBody::Resumed(Reason::Asked),
        EventBody::Migrated { from: "host-a".into(), to: "host-b".into() },
        EventBody::Changed,
        EventBody::Balloon { memory_mib: 512 },
        EventBody::Watchdog { action: "reset".into() },
        EventBody::IoError { reason: "enospc".into() },
        EventBody::Agent(AgentState::Disconnected),
        EventBody::Conflict(mark()),
        EventBody::HostUp,
        EventBody::HostDown("no answer".into()),
        EventBody::Maintenance { on: true },
        EventBody::Loaded,
        EventBody::Timer { name: "cool".into(), content: value() },
        EventBody::Message { from: embot(ElementId::Plane), channel: "capacity".into(), content: Value::Int(1) },
        EventBody::ActionDone(ActionId(4)),
        EventBody::ActionFailed { action: ActionId(5), reason: "refused".into() },
    ]
}

pub fn event(seq: u64, body: EventBody) -> Event {
    let elements = elements();
    let element = elements[seq as usize % elements.len()].clone();
    let to = seq.is_multiple_of(2).then(|| embot(element.clone()));
    Event { seq, at: Timestamp(1_000 + seq as i64), element, to, body }
}

pub fn refusal(kind: ActionKind) -> Refusal {
    Refusal { proposal: proposal(kind), guardrail: "cooldown".into(), reason: "acted on 2m ago; wait 3m".to_owned() }
}

fn proposal(kind: ActionKind) -> Proposal {
    Proposal {
        embot: Some(embot(ElementId::Host("host-a".into()))),
        admin: Some("ada".into()),
        kind,
        reason: "host-a is at 93 %".into(),
        place: Some(Place { file: "relieve-hot-host.rhai".into(), line: 12, column: 9 }),
        cause: Some(Arc::new(event(9, EventBody::Load))),
        reads: Arc::from([Read { element: ElementId::Plane, what: "cpu".into(), value: Value::Float(0.93) }]),
    }
}

pub fn action(id: u64, state: ActionState) -> Action {
    let kinds = kinds();
    Action {
        id: ActionId(id),
        proposal: proposal(kinds[id as usize % kinds.len()].clone()),
        host: Some("host-a".into()),
        expects: Some(VmState::Running),
        epoch: 3,
        mode: Mode::Advise,
        decided_at: Timestamp(2_000),
        state,
        state_at: Timestamp(2_001),
        progress: Some(Progress { done_bytes: 1, total_bytes: 300 }),
        approved_by: Some("ada".into()),
        weighed: vec!["host-b would be at 41 %".to_owned()],
        refused: vec![refusal(ActionKind::Reset { vm: guest(7) })],
        cancelling: Some("ada".into()),
    }
}

fn states() -> Vec<ActionState> {
    vec![
        ActionState::Advised { until: Timestamp(90_000) },
        ActionState::Planned,
        ActionState::Started,
        ActionState::Done,
        ActionState::Failed { reason: "no room".into() },
        ActionState::Cancelled { by: "ada".into() },
        ActionState::Rejected { by: "ada".into(), reason: Some("not now".into()), until: Timestamp(90_000) },
        ActionState::Expired,
        ActionState::Withdrawn { why: "its guest is gone".into() },
    ]
}

fn updates() -> Vec<ActionUpdate> {
    vec![
        ActionUpdate::Started,
        ActionUpdate::Progress(Progress { done_bytes: 128, total_bytes: 256 }),
        ActionUpdate::Done,
        ActionUpdate::Failed("no room".into()),
        ActionUpdate::Cancelled("undone".into()),
    ]
}

fn commands() -> Vec<Command> {
    let (host, action) = (HostId::from("host-a"), ActionId(3));
    let mut commands: Vec<Command> = kinds().into_iter().map(|kind| Command::Act { kind, reason: "by hand".into() }).collect();
    commands.extend([
        Command::Maintenance { host, on: true },
        Command::Disarm { cancel: true },
        Command::Arm,
        Command::Approve { action, reason: Some("CHG-7".into()) },
        Command::Reject { action, reason: Some("not now".into()), rest: Some(Span::hours(8)) },
        Command::Cancel { action, reason: None },
        Command::Manage { vms: vec![guest(7)], mode: Mode::Act },
        Command::LoadModule {
            file: "a.yaml".into(),
            manifest: "module: a".into(),
            policies: vec![("a.rhai".into(), "fn on_load() {}".into())],
        },
        Command::UnloadModule { module: "a".into() },
        Command::ModuleMode { module: "a".into(), mode: Mode::Observe },
        Command::RollBack { module: "a".into() },
        Command::Unsuspend { embot: embot(ElementId::Vm(guest(7))) },
        Command::DeclareModule { file: "a.yaml".into(), texts: Some(("module: a".into(), vec![("a.rhai".into(), "".into())])) },
        Command::DeclareModule { file: "a.yaml".into(), texts: None },
    ]);
    commands
}

fn notices() -> Vec<NoticeBody> {
    let mut notices: Vec<NoticeBody> = vec![
        NoticeBody::State(VmState::Running, Reason::Unknown),
        NoticeBody::State(VmState::Paused, Reason::Watchdog),
        NoticeBody::State(VmState::Asleep, Reason::Migration),
        NoticeBody::State(VmState::Off, Reason::Saved),
        NoticeBody::State(VmState::Crashed, Reason::Failed),
    ];
    notices.extend([
        NoticeBody::Described(Box::new(description())),
        NoticeBody::Undefined,
        NoticeBody::Rebooted,
        NoticeBody::Balloon(768),
        NoticeBody::Watchdog("pause".into()),
        NoticeBody::IoError("vda".into(), "eio".into()),
        NoticeBody::Agent(AgentState::Connected),
    ]);
    notices
}

fn load() -> VmLoad {
    VmLoad {
        cpu_cores: Some(1.5),
        cpu_wait_cores: Some(0.25),
        memory_used_mib: Some(900.0),
        disk_bytes_per_s: None,
        disk_iops: Some(12.0),
        net_bytes_per_s: Some(0.0),
    }
}

pub fn report(at: i64) -> HostReport {
    let domain = DomainReport {
        vm: guest(7),
        state: VmState::Running,
        reason: Reason::Booted,
        balloon_mib: Some(2_048),
        load: load(),
        description: Some(Box::new(description())),
    };
    HostReport {
        asked_at: Timestamp(at),
        capacity: Capacity { cpus: 8, memory_mib: 32_768 },
        load: Some(HostLoad {
            cpu_cores: 7.5,
            cpu_wait_cores: 0.5,
            memory_used_mib: 20_000.0,
            memory_shared_mib: Some(512.0),
            asleep: Some(false),
        }),
        domains: vec![domain],
    }
}

fn inputs() -> Vec<Input> {
    let host = HostId::from("host-a");
    let mut inputs = vec![Input::Report(host.clone(), report(1_000))];
    inputs.extend(notices().into_iter().map(|body| {
        let notice = Notice { vm: guest(7), at: Timestamp(1_001), body };
        Input::Notice(host.clone(), notice)
    }));
    inputs.push(Input::HostLost(host, "connection refused".into()));
    inputs.extend(updates().into_iter().map(|update| Input::Update(ActionId(3), update)));
    inputs.extend(commands().into_iter().map(|command| Input::Command { command, by: "ada".into(), ticket: Some(Ticket(9)) }));
    inputs.push(Input::Tick);
    inputs
}

fn records() -> Vec<Record> {
    let embot = embot(ElementId::Plane);
    let mut records: Vec<Record> =
        bodies().into_iter().enumerate().map(|(seq, body)| Record::Event { event: event(seq as u64, body) }).collect();
    records.push(Record::Planned { action: action(3, ActionState::Planned) });
    records.extend(kinds().into_iter().map(|kind| Record::Refused { number: 4, refusal: refusal(kind) }));
    records.extend(updates().into_iter().map(|update| Record::Action { action: ActionId(3), update }));
    records.extend([
        Record::Settled { action: ActionId(3), how: "approved".into(), by: "ada".into(), reason: Some("CHG-7".into()) },
        Record::Fault { embot: embot.clone(), error: "a.rhai:1:2: error".to_owned(), deadline: true, suspended: true },
        Record::Log { embot, text: "hello".to_owned() },
        Record::Notice { level: Level::Alarm, text: "two planes on one host".to_owned() },
    ]);
    records
}

pub fn plane(batch: u64) -> PlaneRow {
    PlaneRow {
        next_event: 24,
        next_action: 12,
        next_timer: 2,
        next_batch: batch + 1,
        armed: false,
        planner: vec![1, 2, 3],
        next_refusal: 5,
    }
}

fn changes() -> Vec<Change> {
    let mut down = host("host-b");
    down.link = Link::Down("no answer".to_owned());
    down.maintenance = Maintenance::On(Timestamp(77));
    down.labels = BTreeMap::from([("rack".into(), "3".into())]);
    let mut unknown = host("host-c");
    unknown.link = Link::Unknown;
    unknown.vms = BTreeSet::from([guest(7), guest(8)]);
    let mut web = vm(7, "web-1", "host-a");
    web.load = load();
    web.labels = BTreeMap::from([("tier".into(), "web".into())]);
    let state = BTreeMap::from([("relieve-hot-host".into(), value().into())]);
    let mut changes = vec![
        Change::Plane(plane(1)),
        Change::Host("host-a".into(), Some(Box::new(host("host-a")))),
        Change::Host("host-b".into(), Some(Box::new(down))),
        Change::Host("host-c".into(), Some(Box::new(unknown))),
        Change::Vm(guest(7), Some(Box::new(web))),
        Change::Module(
            "relieve-hot-host".into(),
            Some(ModuleRow {
                mode: Some(Mode::Act),
                versions: vec![ModuleVersion {
                    file: "relieve-hot-host.yaml".into(),
                    manifest: "module: relieve-hot-host".into(),
                    policies: vec![("relieve-hot-host.rhai".into(), "fn on_load() {}".into())],
                    loaded_at: Timestamp(5),
                    by: "ada".into(),
                }],
                declared: Some(Declared { file: "relieve-hot-host.yaml".into(), digest: ContentHash([7; 32]) }),
            }),
        ),
        Change::Timer(
            1,
            Some(TimerRow {
                embot: embot(ElementId::Plane),
                due: Timestamp(60_000),
                name: "cool".into(),
                content: Value::Text("x".into()),
            }),
        ),
    ];
    for element in elements() {
        let row = EmbotRow { state: state.clone(), faults: 2, fault_at: Timestamp(3), suspended: Some("looped".into()) };
        changes.push(Change::Embot(embot(element.clone()), Some(row)));
        changes.push(Change::Usage(element, Some(vec![1, 9, 9])));
    }
    for (seq, body) in bodies().into_iter().enumerate() {
        changes.push(Change::Pending(seq as u64, Some(Box::new(event(seq as u64, body)))));
    }
    for (id, state) in states().into_iter().enumerate() {
        changes.push(Change::Action(ActionId(id as u64), Some(Box::new(action(id as u64, state)))));
    }
    changes
}

/// Every variant once at the least; then a batch that takes a part of it away.
pub fn batches() -> Vec<Batch> {
    let second = vec![
        Change::Plane(plane(2)),
        Change::Host("host-c".into(), None),
        Change::Pending(0, None),
        Change::Usage(ElementId::Plane, None),
        Change::Action(ActionId(0), None),
    ];
    vec![
        Batch { seq: 1, now: Timestamp(1_002), inputs: inputs(), records: records(), changes: changes(), durable: true },
        Batch { seq: 2, now: Timestamp(-5), inputs: vec![Input::Tick], records: Vec::new(), changes: second, durable: false },
    ]
}

fn handover_inputs() -> Vec<Input> {
    let migration = || MigrationId { plane: "site-a".into(), number: 1 };
    let summary = testing::peer("site-b").summary.unwrap();
    let inputs = vec![
        MigrationInput::Message { peer: "site-b".into(), ahead_ms: -250, bytes: vec![1, 2].into() },
        MigrationInput::Link { peer: "site-b".into(), up: true },
        MigrationInput::Summary { peer: "site-b".into(), summary },
        MigrationInput::Described { migration: migration(), guest: Ok(vec![3].into()) },
        MigrationInput::Described { migration: migration(), guest: Err("no answer".into()) },
        MigrationInput::Answer { migration: migration(), order: 7, answer: vec![4].into() },
        MigrationInput::Progress { migration: migration(), progress: Progress { done_bytes: 1, total_bytes: 300 } },
    ];
    let force_after = Some(Span::minutes(2));
    let kind =
        ActionKind::Handover { vm: guest(7), plane: "site-b".into(), host: Some("host-x".into()), live: false, force_after };
    let commands = vec![
        Command::Act { kind, reason: "by hand".into() },
        Command::CancelMigration { migration: migration() },
        Command::ResolveMigration { migration: migration(), owner: "site-b".into(), fenced: "host-a".into() },
    ];
    let commands = commands.into_iter().map(|command| Input::Command { command, by: "ada".into(), ticket: None });
    inputs.into_iter().map(Input::Migration).chain(commands).collect()
}

/// What schema 2 has more.
pub fn migrations() -> Batch {
    let id = |number| MigrationId { plane: "site-a".into(), number };
    let grant = Grant { mode: Some(Mode::Advise), permits: Some(BTreeSet::from([Verb::Notify])), host: Some("host-b".into()) };
    let full = MigrationRow {
        is_held: true,
        reservation: Some(Reservation { host: "host-b".into(), vcpus: 2, memory_mib: 2_048, cores: 0.5 }),
        rounds: vec![(0, 12), (1, 13)],
        lots: vec![(1, 14)],
        is_frozen: true,
        grant: Some(grant),
        staged: Staged {
            state: vec![1],
            dirty: vec![2],
            events: vec![vec![3, 4]],
            ahead_ms: -250,
            through: 17,
            last_at: Timestamp(6),
            own: vec![(18, 20)],
        },
        ..testing::migration(Side::Target, 9)
    };
    let ended = |side, outcome| MigrationRow { outcome: Some(outcome), ..testing::migration(side, 8) };
    let grant = Grant { mode: Some(Mode::Advise), permits: Some([Verb::Migrate].into()), host: None };
    let came = MobileRow { package: ContentHash::of(b"package"), guests: BTreeMap::from([(guest(7), grant)]) };
    let tombstone = Tombstone { name: "web".into(), plane: "site-b".into(), epoch: 4, at: Timestamp(5) };
    let offered = event(40, EventBody::MigrationOffer(Arc::new(offer("site-b"))));
    let records = vec![Record::Event { event: offered.clone() }];
    let changes = vec![
        Change::Pending(40, Some(Box::new(offered))),
        Change::Migration(id(1), Some(Box::new(full))),
        Change::Migration(id(2), Some(Box::new(ended(Side::Source, Outcome::Moved)))),
        Change::Migration(id(3), Some(Box::new(ended(Side::Target, Outcome::Stayed { reason: "no room".into() })))),
        Change::Migration(id(4), Some(Box::new(ended(Side::Source, Outcome::Moved)))),
        Change::Migration(id(4), None),
        Change::Tombstone(guest(8), Some(tombstone.clone())),
        Change::Tombstone(guest(9), Some(tombstone)),
        Change::Tombstone(guest(9), None),
        Change::Mobile("came".into(), Some(came.clone())),
        Change::Mobile("gone".into(), Some(came)),
        Change::Mobile("gone".into(), None),
        Change::Content(ContentHash::of(b"kept"), Some(b"kept".to_vec().into())),
        Change::Content(ContentHash::of(b"dropped"), Some(b"dropped".to_vec().into())),
        Change::Content(ContentHash::of(b"dropped"), None),
    ];
    Batch { seq: 3, now: Timestamp(9), inputs: handover_inputs(), records, changes, durable: true }
}

/// The audit, and what a restore leaves to be found out.
pub fn audited() -> Batch {
    let unconfirmed = Unconfirmed { mode: Mode::Advise, mark: Some(mark()) };
    let changes = vec![
        Change::Audit(Box::new(audit_entry("plane", "planned", None))),
        Change::Audit(Box::new(audit_entry("ada", "approve", Some(AuditAnswer::Done("action 4 is approved".to_owned()))))),
        Change::Audit(Box::new(audit_entry("bob", "arm", Some(AuditAnswer::Refused("\"no\", said the plane".to_owned()))))),
        Change::Restored(Restored { backup_at: Timestamp(5), taken_over_at: None }),
        Change::Restored(Restored { backup_at: Timestamp(5), taken_over_at: Some(Timestamp(8)) }),
        Change::Unconfirmed(guest(7), Some(unconfirmed.clone())),
        Change::Unconfirmed(guest(8), Some(unconfirmed)),
        Change::Unconfirmed(guest(8), None),
    ];
    Batch { seq: 4, now: Timestamp(10), changes, durable: true, ..Batch::default() }
}

/// An entry of the audit.
pub fn audit_entry(by: &str, what: &'static str, answer: Option<AuditAnswer>) -> AuditEntry {
    AuditEntry {
        at: Timestamp(1_772_366_584_005),
        by: by.into(),
        what: what.into(),
        action: Some(ActionId(4)),
        elements: vec![ElementId::Vm(guest(7)), ElementId::Host("host-a".into())],
        text: "action 4: migrate web-1 to host-a, because host-b is hot".to_owned(),
        answer,
    }
}
