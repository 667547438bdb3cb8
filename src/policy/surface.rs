//! Everything a policy sees, as one table: types with their properties and methods, functions, handler parameters.
//!
//! The table is the single source of truth. Registration in the engine is tested against it (nothing registered that is not
//! here, nothing here that is not registered), the static check looks names up in it, and the reference is printed from it.
//! The fields of `event` are not repeated here: they stand in [`crate::model::EventKind::ALL`].

mod trial;

use crate::model::{Kind, Verb};

/// What a value is, as far as the check and the reference care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Anything.
    Any,
    /// `()`.
    Unit,
    /// A truth value.
    Bool,
    /// A whole number.
    Int,
    /// A floating-point number.
    Float,
    /// A whole or a floating-point number.
    Number,
    /// An instant: whole milliseconds since the epoch.
    Instant,
    /// A length of time: whole milliseconds.
    Span,
    /// A text.
    Text,
    /// A map with keys the script or the admin chose.
    Map,
    /// A list.
    Array(&'static Type),
    /// That, or `()`.
    Maybe(&'static Type),
    /// A guest.
    Vm,
    /// A host.
    Host,
    /// A host or its name.
    HostOrText,
    /// The plane.
    Plane,
    /// The usage history of one metric of one element.
    Usage,
    /// The event being handled.
    Event,
    /// The module's settings.
    Settings,
    /// Another plane.
    Peer,
    /// A guest that a peer offers.
    Offer,
    /// A module of an offer.
    OfferedModule,
    /// What would be so if some guests were elsewhere.
    Trial,
    /// Some hosts of a trial.
    Hosts,
    /// A test for overload.
    LoadTest,
    /// A move that was tried.
    Move,
    /// A simulated world of a test.
    World,
}

impl Type {
    /// Its name for people.
    pub fn describe(self) -> String {
        match self {
            Type::Any => "anything".into(),
            Type::Unit => "nothing".into(),
            Type::Bool => "true or false".into(),
            Type::Int => "whole number".into(),
            Type::Float | Type::Number => "number".into(),
            Type::Instant => "instant (ms)".into(),
            Type::Span => "span (ms)".into(),
            Type::Text => "text".into(),
            Type::Map => "map".into(),
            Type::Array(of) => format!("list of {}", of.describe()),
            Type::Maybe(of) => format!("{} or ()", of.describe()),
            Type::Vm => "vm".into(),
            Type::Host => "host".into(),
            Type::HostOrText => "host or its name".into(),
            Type::Plane => "plane".into(),
            Type::Usage => "usage".into(),
            Type::Event => "event".into(),
            Type::Settings => "settings".into(),
            Type::Peer => "peer".into(),
            Type::Offer => "offer".into(),
            Type::OfferedModule => "offered module".into(),
            Type::Trial => "trial".into(),
            Type::Hosts => "hosts".into(),
            Type::LoadTest => "load test".into(),
            Type::Move => "move".into(),
            Type::World => "world".into(),
        }
    }

    /// The row of [`TYPES`] that lists its properties and methods, where it has one.
    pub fn table(self) -> Option<&'static TypeTable> {
        TYPES.iter().find(|table| table.kind == self)
    }
}

/// A property: read without parentheses.
#[derive(Debug, Clone, Copy)]
pub struct Property {
    /// Its name.
    pub name: &'static str,
    /// What it gives.
    pub kind: Type,
    /// What it means, in one line.
    pub doc: &'static str,
}

/// A parameter of a method or function.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name in the reference.
    pub name: &'static str,
    /// What it takes.
    pub kind: Type,
}

/// A function, or a method of the type whose row it stands in. Several rows of one name: several forms.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// What it takes (a method's object not counted).
    pub parameters: &'static [Parameter],
    /// What it gives.
    pub returns: Type,
    /// The permit a module needs for calling it; `None`: it only looks or computes.
    pub verb: Option<Verb>,
    /// What it does, in one line.
    pub doc: &'static str,
}

/// A type with what can be read and called on it.
#[derive(Debug, Clone, Copy)]
pub struct TypeTable {
    /// Which type.
    pub kind: Type,
    /// Its name in the reference and in error messages.
    pub name: &'static str,
    /// What it is, in one line.
    pub doc: &'static str,
    /// Its properties.
    pub properties: &'static [Property],
    /// Its methods.
    pub methods: &'static [Function],
}

impl TypeTable {
    /// The property with this name.
    pub fn property(&self, name: &str) -> Option<&'static Property> {
        self.properties.iter().find(|property| property.name == name)
    }

    /// The forms of the method with this name.
    pub fn methods_named<'a>(&self, name: &'a str) -> impl Iterator<Item = &'static Function> + 'a {
        self.methods.iter().filter(move |method| method.name == name)
    }
}

/// A parameter a handler may take; they are recognized by name, in any order.
#[derive(Debug, Clone, Copy)]
pub struct HandlerParameter {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Type,
    /// The kinds of elements whose events have it; `()` in the events of others. Empty: it is always there.
    pub about: &'static [Kind],
    /// The only kind of event that has it, by name; `None`: all kinds.
    pub only: Option<&'static str>,
    /// What it is, in one line.
    pub doc: &'static str,
}

/// The parameters a handler may take. Their order here is not that of the script.
pub const HANDLER_PARAMETERS: &[HandlerParameter] = &[
    handler_parameter("event", Type::Event, &[], "what happened"),
    handler_parameter(
        "vm",
        Type::Vm,
        &[Kind::Vm, Kind::Disk, Kind::Nic, Kind::App],
        "the guest it happened to, or whose disk or network card it happened to",
    ),
    handler_parameter(
        "host",
        Type::Host,
        &[Kind::Host, Kind::Vm, Kind::Disk, Kind::Nic, Kind::App],
        "the host it happened to, or the host of the guest",
    ),
    handler_parameter("plane", Type::Plane, &[], "the management plane: all hosts and guests"),
    handler_parameter("settings", Type::Settings, &[], "the module's settings, read only"),
    HandlerParameter {
        name: "offer",
        kind: Type::Offer,
        about: &[],
        only: Some("migration_offer"),
        doc: "the guest that a peer offers, and the way to answer",
    },
];

const fn handler_parameter(name: &'static str, kind: Type, about: &'static [Kind], doc: &'static str) -> HandlerParameter {
    HandlerParameter { name, kind, about, only: None, doc }
}

const fn property(name: &'static str, kind: Type, doc: &'static str) -> Property {
    Property { name, kind, doc }
}

pub(super) const fn parameter(name: &'static str, kind: Type) -> Parameter {
    Parameter { name, kind }
}

pub(super) const fn function(
    name: &'static str,
    parameters: &'static [Parameter],
    returns: Type,
    doc: &'static str,
) -> Function {
    Function { name, parameters, returns, verb: None, doc }
}

const fn proposal(name: &'static str, verb: Verb, parameters: &'static [Parameter], doc: &'static str) -> Function {
    Function { name, parameters, returns: Type::Unit, verb: Some(verb), doc }
}

const REASON: Parameter = parameter("reason", Type::Text);
const SPAN: Parameter = parameter("span", Type::Span);
const COUNT: Parameter = parameter("n", Type::Number);

/// The types of the surface. Lists, maps, texts and numbers are Rhai's own.
pub const TYPES: &[TypeTable] = &[
    TypeTable { kind: Type::Vm, name: "vm", doc: "A guest as the plane knows it.", properties: VM, methods: VM_METHODS },
    TypeTable { kind: Type::Host, name: "host", doc: "A host as the plane knows it.", properties: HOST, methods: HOST_METHODS },
    TypeTable {
        kind: Type::Plane,
        name: "plane",
        doc: "The management plane: all hosts and guests.",
        properties: PLANE,
        methods: PLANE_METHODS,
    },
    TypeTable {
        kind: Type::Usage,
        name: "usage",
        doc: "What an element used of something over time. Where nothing is known a number is NaN: comparing with it is false.",
        properties: &[],
        methods: USAGE_METHODS,
    },
    TypeTable {
        kind: Type::Event,
        name: "event",
        doc: "What happened. Each kind of event has fields of its own beside these.",
        properties: EVENT,
        methods: &[],
    },
    TypeTable {
        kind: Type::Settings,
        name: "settings",
        doc: "The module's settings; one property for each key of `fn settings()`.",
        properties: &[],
        methods: &[],
    },
    TypeTable {
        kind: Type::Peer,
        name: "peer",
        doc: "Another plane. Its figures are what it last said of itself; before it said anything numbers are NaN or 0.",
        properties: PEER,
        methods: &[],
    },
    TypeTable {
        kind: Type::Offer,
        name: "offer",
        doc: "A guest that a peer wants to hand over. An offer that no policy answers is denied, and one denial beats all.",
        properties: OFFER,
        methods: OFFER_METHODS,
    },
    TypeTable {
        kind: Type::OfferedModule,
        name: "module",
        doc: "A module that comes along with an offered guest. Signatures were verified.",
        properties: OFFERED_MODULE,
        methods: &[],
    },
    TypeTable {
        kind: Type::Trial,
        name: "trial",
        doc: "What would be so if some guests were elsewhere. Moves are tried in it and taken back; nothing happens by it.",
        properties: trial::TRIAL,
        methods: trial::TRIAL_METHODS,
    },
    TypeTable {
        kind: Type::Hosts,
        name: "hosts",
        doc: "Some hosts of a trial, to go through (`for host in hosts`) or to leave out.",
        properties: trial::HOSTS,
        methods: trial::HOSTS_METHODS,
    },
    TypeTable {
        kind: Type::LoadTest,
        name: "load test",
        doc: "A test for overload: what `limit`, `iqr`, `mad`, `regression` and `spread` give.",
        properties: &[],
        methods: &[],
    },
    TypeTable { kind: Type::Move, name: "move", doc: "A move that was tried.", properties: trial::MOVE, methods: &[] },
];

const PEER: &[Property] = &[
    property("name", Type::Text, "its name"),
    property("reachable", Type::Bool, "is there a connection?"),
    property("sends", Type::Bool, "may this plane offer guests to it?"),
    property("receives", Type::Bool, "may it offer guests to this plane?"),
    property("seen", Type::Instant, "when it last said what it has; 0 where it never did"),
    property("hosts", Type::Int, "hosts in service there"),
    property("vms", Type::Int, "guests that take up room there"),
    property("cpus", Type::Int, "processor cores of its hosts"),
    property("cpu", Type::Float, "CPU use as a share of its cores, 0 to 1; NaN where unknown"),
    property("memory_mib", Type::Int, "memory of its hosts, in MiB"),
    property("free_memory_mib", Type::Int, "memory it may still promise, overcommit and reserve counted, in MiB"),
    property("largest_free_mib", Type::Int, "the most of that on one host: no larger guest finds room"),
    property("free_vcpus", Type::Int, "processors it may still promise"),
    property("cpu_models", Type::Array(&Type::Text), "CPU models that hosts there can give a guest; empty: not known"),
    property("classes", Type::Array(&Type::Text), "sites and labels of its hosts, such as \"site=oslo\""),
];

const OFFER: &[Property] = &[
    property("id", Type::Text, "the migration's name, such as \"site-a/41\""),
    property("plane", Type::Text, "the plane that offers, as its certificate says"),
    property("peer", Type::Maybe(&Type::Peer), "that plane among the peers, or ()"),
    property("reason", Type::Text, "why it wants to, in its words"),
    property("vm", Type::Text, "the guest's UUID"),
    property("name", Type::Text, "the guest's name"),
    property("epoch", Type::Int, "the epoch under which its plane owns it"),
    property("vcpus", Type::Int, "processors it has"),
    property("memory_mib", Type::Int, "memory it may use at the most, in MiB"),
    property("cpu_cores", Type::Float, "CPU use of late, in cores; NaN where unknown"),
    property("cpu_model", Type::Text, "the CPU model it sees; \"\" where its definition names none"),
    property("devices", Type::Array(&Type::Text), "its devices, such as \"disk:virtio\" or \"hostdev:pci\""),
    property("networks", Type::Array(&Type::Text), "networks and bridges its cards are on"),
    property("copy_bytes", Type::Int, "bytes of storage that would have to be copied"),
    property("labels", Type::Map, "its labels"),
    property("live", Type::Bool, "would it move while it runs?"),
    property("mode", Type::Text, "how far its modules want to go: \"observe\", \"advise\" or \"act\""),
    property("permits", Type::Array(&Type::Text), "what its modules want to propose here"),
    property("modules", Type::Array(&Type::OfferedModule), "the modules that come along"),
    property("host", Type::Maybe(&Type::Host), "the host that is asked for, or ()"),
    property(
        "hosts",
        Type::Array(&Type::Host),
        "hosts that can take it (only the one asked for, where one is), the best first",
    ),
    property("obstacles", Type::Map, "why the other hosts cannot take it, by the host's name"),
];

const OFFER_METHODS: &[Function] = &[
    function("label", &[parameter("key", Type::Text)], Type::Text, "the label's value, or \"\" where it has none"),
    Function { name: "accept", parameters: &[], returns: Type::Unit, verb: Some(Verb::Admit), doc: "lets it in, as asked" },
    Function {
        name: "accept",
        parameters: &[parameter("limits", Type::Map)],
        returns: Type::Unit,
        verb: Some(Verb::Admit),
        doc: "lets it in with less: #{ mode: \"advise\", permits: [\"notify\"], host: \"b\" }, each optional",
    },
    function("deny", &[parameter("reason", Type::Text)], Type::Unit, "does not let it in"),
];

const OFFERED_MODULE: &[Property] = &[
    property("name", Type::Text, "its name"),
    property("version", Type::Text, "its version, for people"),
    property("serial", Type::Int, "rises with each release"),
    property("signed_by", Type::Text, "the trusted key that signed it; \"\" where it is unsigned or the key is unknown"),
    property("mode", Type::Text, "how far it wants to go"),
    property("permits", Type::Array(&Type::Text), "what it wants to propose"),
    property("in_force", Type::Bool, "the plane has a module of this name, which stays: nothing of this one is loaded"),
    property("refusal", Type::Text, "why it cannot be loaded here, whatever is answered; \"\" where it can"),
];

const VM: &[Property] = &[
    property("id", Type::Text, "its UUID"),
    property("name", Type::Text, "its name on its host"),
    property("host", Type::Host, "the host it is defined on"),
    property("state", Type::Text, "\"running\", \"paused\", \"asleep\", \"off\" or \"crashed\""),
    property("reason", Type::Text, "why it is in that state, as far as the hypervisor tells (\"asked\", \"migration\", ...)"),
    property("since", Type::Instant, "since when it is in that state"),
    property("vcpus", Type::Int, "processors it has"),
    property("memory_mib", Type::Int, "memory it may use at the most, in MiB"),
    property("balloon_mib", Type::Int, "memory it holds at present, in MiB"),
    property("cpu", Type::Float, "CPU use as a share of its processors, 0 to 1; NaN where unknown"),
    property("cpu_cores", Type::Float, "CPU use in cores; NaN where unknown"),
    property("cpu_wait", Type::Float, "CPU time wanted and not given, as a share of its processors; NaN where unknown"),
    property("memory", Type::Float, "memory use as a share of what it holds, 0 to 1; NaN where unknown"),
    property("memory_used_mib", Type::Float, "memory in use inside it, in MiB; NaN where unknown"),
    property("disk", Type::Float, "bytes read and written a second; NaN where unknown"),
    property("iops", Type::Float, "disk operations a second; NaN where unknown"),
    property("net", Type::Float, "bytes received and sent a second; NaN where unknown"),
    property("agent", Type::Bool, "is its guest agent connected?"),
    property("autostart", Type::Bool, "does its host start it by itself?"),
    property("persistent", Type::Bool, "does its definition outlive its run?"),
    property("labels", Type::Map, "its labels"),
    property("mode", Type::Text, "how far the plane may go with it: \"observe\", \"advise\" or \"act\""),
    property("running", Type::Bool, "does it run?"),
    property("busy", Type::Bool, "is an action on it planned or under way?"),
    property("advised", Type::Bool, "does an action on it that was advised wait for an admin?"),
    property("disks", Type::Array(&Type::Text), "targets of its disks"),
    property("nics", Type::Array(&Type::Text), "targets or addresses of its network cards"),
];

const VM_METHODS: &[Function] = &[
    function("label", &[parameter("key", Type::Text)], Type::Text, "the label's value, or \"\" where it has none"),
    function("usage", &[parameter("metric", Type::Text)], Type::Usage, USAGE_OF),
    proposal("start", Verb::Start, &[REASON], "proposes to start it"),
    proposal("shutdown", Verb::Shutdown, &[REASON], "proposes to ask it to shut down"),
    proposal(
        "shutdown",
        Verb::Shutdown,
        &[parameter("force_after", Type::Span), REASON],
        "proposes to ask it to shut down, and to switch it off after that time",
    ),
    proposal("destroy", Verb::Destroy, &[REASON], "proposes to switch it off at once"),
    proposal("reset", Verb::Reset, &[REASON], "proposes to reset it, as by its button"),
    proposal("suspend", Verb::Suspend, &[REASON], "proposes to stop its processors"),
    proposal("resume", Verb::Resume, &[REASON], "proposes to let it run on"),
    proposal("save", Verb::Save, &[REASON], "proposes to save its memory to disk and stop it"),
    proposal("restore", Verb::Restore, &[REASON], "proposes to start it from what was saved"),
    proposal("migrate", Verb::Migrate, &[REASON], "proposes to move it; the planner chooses the host"),
    proposal("migrate_to", Verb::Migrate, &[parameter("host", Type::HostOrText), REASON], "proposes to move it to this host"),
    proposal(
        "migrate_to",
        Verb::Handover,
        &[parameter("peer", Type::Peer), REASON],
        "proposes to hand it over to another plane, which chooses the host",
    ),
    proposal(
        "migrate_to",
        Verb::Handover,
        &[parameter("peer", Type::Peer), parameter("host", Type::Text), REASON],
        "the same, to this host of the other plane",
    ),
    proposal(
        "set_vcpus",
        Verb::SetVcpus,
        &[parameter("vcpus", Type::Int), REASON],
        "proposes to change how many processors it has",
    ),
    proposal(
        "set_memory",
        Verb::SetMemory,
        &[parameter("memory_mib", Type::Int), REASON],
        "proposes to change the most memory it may use",
    ),
    proposal("balloon", Verb::Balloon, &[parameter("memory_mib", Type::Int), REASON], "proposes to change the memory it holds"),
];

const USAGE_OF: &str = "the history of \"cpu\", \"cpu_wait\", \"memory\", \"disk\", \"iops\" or \"net\"";

const HOST: &[Property] = &[
    property("name", Type::Text, "its name"),
    property("site", Type::Text, "the site it stands at, \"\" where none is configured"),
    property("labels", Type::Map, "its labels"),
    property("cpus", Type::Int, "processor cores it has"),
    property("memory_mib", Type::Int, "memory it has, in MiB"),
    property("cpu", Type::Float, "CPU use as a share of its cores, 0 to 1; NaN before the first sample"),
    property("cpu_cores", Type::Float, "CPU use in cores; NaN before the first sample"),
    property(
        "cpu_wait",
        Type::Float,
        "CPU time guests wanted and did not get, as a share of its cores; NaN before the first sample",
    ),
    property("memory", Type::Float, "memory use as a share of its memory, 0 to 1; NaN before the first sample"),
    property("memory_used_mib", Type::Float, "memory in use, in MiB; NaN before the first sample"),
    property(
        "memory_shared_mib",
        Type::Float,
        "memory that guests would need in addition if they no longer shared equal pages (KSM), in MiB; NaN where unknown",
    ),
    property("up", Type::Bool, "does it answer?"),
    property("maintenance", Type::Bool, "is it in maintenance?"),
    property(
        "asleep",
        Type::Bool,
        "does it sleep, to save power? What is sent or started there wakes it; `false` where not told",
    ),
    property("vms", Type::Array(&Type::Vm), "the guests defined there"),
    property("busy", Type::Int, "how many actions on its guests are planned or under way"),
];

const HOST_METHODS: &[Function] = &[
    function("label", &[parameter("key", Type::Text)], Type::Text, "the label's value, or \"\" where it has none"),
    function("usage", &[parameter("metric", Type::Text)], Type::Usage, "the history of \"cpu\", \"cpu_wait\" or \"memory\""),
];

const PLANE: &[Property] = &[
    property("name", Type::Text, "its name"),
    property("armed", Type::Bool, "false: the kill switch is on, nothing new is started"),
    property("hosts", Type::Array(&Type::Host), "all hosts, by name"),
    property("vms", Type::Array(&Type::Vm), "all guests, by UUID"),
    property(
        "violations",
        Type::Array(&Type::Map),
        "the affinity rules that are broken: #{rule, kind (\"apart\" or \"together\"), hard, vms}",
    ),
];

const PLANE_METHODS: &[Function] = &[
    function("host", &[parameter("name", Type::Text)], Type::Maybe(&Type::Host), "the host with this name, or ()"),
    function("vm", &[parameter("name", Type::Text)], Type::Maybe(&Type::Vm), "the guest with this name or UUID, or ()"),
    function("trial", &[], Type::Trial, "everything as it is, to try moves in"),
];

const USAGE_METHODS: &[Function] = &[
    function("mean", &[SPAN], Type::Float, "the mean over the last `span`"),
    function("max", &[SPAN], Type::Float, "the largest value in the last `span`"),
    function("min", &[SPAN], Type::Float, "the smallest value in the last `span`"),
    function(
        "percentile",
        &[parameter("percent", Type::Number), SPAN],
        Type::Float,
        "the value below which `percent` of the samples of the last `span` lie",
    ),
    function("trend", &[SPAN], Type::Float, "how much it rises a minute (least squares over the last `span`)"),
    function(
        "ewma",
        &[parameter("alpha", Type::Float), SPAN],
        Type::Float,
        "the exponentially weighted mean of the last `span`; each newer sample counts `alpha`",
    ),
    function("deviation", &[SPAN], Type::Float, "the standard deviation in the last `span`"),
    function("count", &[SPAN], Type::Int, "how many samples there are in the last `span`"),
    function("last", &[], Type::Float, "the newest value"),
    function("values", &[SPAN], Type::Array(&Type::Float), "the values of the last `span`, the oldest first"),
];

const EVENT: &[Property] = &[
    property("at", Type::Instant, "when it happened"),
    property("kind", Type::Text, "what kind of event it is: the handler's name without `on_`"),
    property("element", Type::Text, "what it happened to: `host:NAME`, `vm:UUID`, `disk:UUID/TARGET`, ..."),
];

/// The type of an event's field (beside those of every event), by its name: it is the same for all kinds that have it.
pub fn event_field(name: &str) -> Option<Type> {
    Some(match name {
        "reason" | "from" | "to" | "plane" | "name" | "channel" => Type::Text,
        "connected" | "on" => Type::Bool,
        "memory_mib" | "epoch" => Type::Int,
        // A watchdog's action is a word, an action of the plane is its number.
        "action" | "content" => Type::Any,
        _ => return None,
    })
}

/// The functions of the surface, beside Rhai's standard ones.
pub const FUNCTIONS: &[Function] = &[
    function("now", &[], Type::Instant, "the present instant: that of the event being handled"),
    function("seconds", &[COUNT], Type::Span, "so many seconds"),
    function("minutes", &[COUNT], Type::Span, "so many minutes"),
    function("hours", &[COUNT], Type::Span, "so many hours"),
    function("days", &[COUNT], Type::Span, "so many days"),
    function(
        "after",
        &[SPAN, parameter("name", Type::Text)],
        Type::Unit,
        "sets a timer: `on_timer` is called after `span`; a timer of the same name is replaced",
    ),
    function(
        "after",
        &[SPAN, parameter("name", Type::Text), parameter("content", Type::Any)],
        Type::Unit,
        "the same, with something that `on_timer` finds in `event.content`",
    ),
    function("cancel_timer", &[parameter("name", Type::Text)], Type::Unit, "takes back a timer"),
    function(
        "send",
        &[parameter("channel", Type::Text), parameter("content", Type::Any)],
        Type::Unit,
        "sends a message to the embots whose module hears this channel",
    ),
    Function {
        name: "notify",
        parameters: &[parameter("text", Type::Text)],
        returns: Type::Unit,
        verb: Some(Verb::Notify),
        doc: "tells admins, for information",
    },
    Function {
        name: "notify",
        parameters: &[parameter("level", Type::Text), parameter("text", Type::Text)],
        returns: Type::Unit,
        verb: Some(Verb::Notify),
        doc: "tells admins; level is \"info\", \"warning\" or \"alarm\"",
    },
    function("peers", &[], Type::Array(&Type::Peer), "the other planes, by name"),
    function("peer", &[parameter("name", Type::Text)], Type::Maybe(&Type::Peer), "the plane with this name, or ()"),
    function("random", &[], Type::Float, "a number from 0 to 1 by chance; the same in a replay"),
    function(
        "format",
        &[parameter("number", Type::Number), parameter("digits", Type::Int)],
        Type::Text,
        "the number with so many digits after the point",
    ),
    function("percent", &[parameter("share", Type::Number)], Type::Text, "a share as a text: 0.87 is \"87 %\""),
    function(
        "get",
        &[parameter("map", Type::Map), parameter("key", Type::Text), parameter("default", Type::Any)],
        Type::Any,
        "the map's value under this key, or the default; also `this.get(key, default)`",
    ),
    trial::LIMIT,
    trial::IQR,
    trial::MAD,
    trial::REGRESSION,
    trial::SPREAD,
];

/// The functions of the surface with this name.
pub fn functions_named(name: &str) -> impl Iterator<Item = &'static Function> + '_ {
    FUNCTIONS.iter().filter(move |function| function.name == name)
}

/// Words that Rhai or its packages know and policies cannot use, with what to write instead.
pub const REFUSED: &[(&str, &str)] = &[
    ("eval", "write what it would run as a function of the policy"),
    ("import", "a policy is one file; copy the function into it"),
    ("export", "a policy is one file"),
    ("sleep", "set a timer with `after(span, \"name\")` and handle it in `on_timer`"),
    ("timestamp", "`now()` gives the present instant in milliseconds"),
    ("parse_json", "maps are written `#{ key: value }`"),
    ("exit", "use `return`"),
    ("get_fn_metadata_list", "a policy knows its own functions"),
];
