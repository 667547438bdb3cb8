//! What there is to see of trials.

use super::{Function, Parameter, Property, SPAN, Type, function, parameter, property};

const HOST: Parameter = parameter("host", Type::Host);
const VM: Parameter = parameter("vm", Type::Vm);
const TEST: Parameter = parameter("test", Type::LoadTest);
const EXCEPT: Parameter = parameter("except", Type::Hosts);

pub(super) const TRIAL: &[Property] = &[
    property("hosts", Type::Hosts, "all hosts, awake and asleep"),
    property("idle", Type::Hosts, "the hosts of which nothing was in use at the last sample"),
    property("unused", Type::Hosts, "the hosts where no guest would be"),
    property("moves", Type::Array(&Type::Move), "the moves that were tried and not taken back, in their order: propose them"),
    property("room", Type::Int, "how many moves more this step may propose, were those tried proposed"),
];

pub(super) const TRIAL_METHODS: &[Function] = &[
    function("vms", &[HOST], Type::Array(&Type::Vm), "the guests that would be there and can be moved"),
    function("fixed", &[HOST], Type::Bool, "would a guest be there that cannot be moved?"),
    function(
        "load",
        &[HOST],
        Type::Float,
        "what those who would be there want, as a share of its processors; it may be above 1",
    ),
    function("used", &[HOST], Type::Float, "the share of its processors in use at the last sample, whatever is tried"),
    function("wanted", &[VM], Type::Float, "what the guest wants, as a share of its own processors"),
    function("wanted", &[VM, HOST], Type::Float, "what the guest wants, as a share of the processors of this host"),
    function(
        "demanding",
        &[parameter("vms", Type::Array(&Type::Vm))],
        Type::Array(&Type::Vm),
        "the same guests, those that want most first",
    ),
    function(
        "calmest",
        &[parameter("vms", Type::Array(&Type::Vm))],
        Type::Array(&Type::Vm),
        "the same guests, those that want the smallest share of their own processors first",
    ),
    function("take", &[VM], Type::Unit, "takes the guest off the host where it would be"),
    function("put", &[VM, HOST], Type::Unit, "puts the guest there, off the host where it would be"),
    function("mark", &[], Type::Int, "a point to go back to"),
    function("back", &[parameter("mark", Type::Int)], Type::Unit, "takes everything back that was tried since then"),
    function("over", &[TEST], Type::Hosts, "the hosts that would be overloaded"),
    function("over", &[HOST, TEST], Type::Bool, "would this host be overloaded?"),
    function("expected", &[HOST, TEST], Type::Float, "what the test expects of the host, as a share of its processors"),
    function(
        "ranked",
        &[TEST],
        Type::Array(&Type::Host),
        "the hosts that could be emptied, those of which the test expects least first",
    ),
    function(
        "cheapest",
        &[VM, TEST, EXCEPT],
        Type::Maybe(&Type::Host),
        "where the guest fits, overloads nothing, and adds the fewest watts; or ()",
    ),
    function(
        "fullest",
        &[VM, TEST, EXCEPT],
        Type::Maybe(&Type::Host),
        "where it fits and overloads nothing: efficient kinds first, of these the fullest; one that is not in use only if it must; or ()",
    ),
    function(
        "least_used",
        &[EXCEPT],
        Type::Maybe(&Type::Host),
        "the host that was used least, of those in use that could be emptied; or ()",
    ),
];

pub(super) const HOSTS: &[Property] = &[property("len", Type::Int, "how many there are")];

pub(super) const HOSTS_METHODS: &[Function] = &[
    function("contains", &[HOST], Type::Bool, "is this host in it?"),
    function("add", &[HOST], Type::Unit, "adds a host"),
    function("add", &[parameter("hosts", Type::Hosts)], Type::Unit, "adds all of them"),
];

pub(super) const MOVE: &[Property] = &[property("vm", Type::Vm, "the guest"), property("to", Type::Host, "where it would go")];

/// A test for overload, made by a function.
const fn test(name: &'static str, parameters: &'static [Parameter], doc: &'static str) -> Function {
    function(name, parameters, Type::LoadTest, doc)
}

pub(super) const LIMIT: Function =
    test("limit", &[parameter("share", Type::Number)], "more is wanted than this share of a host's processors");
pub(super) const IQR: Function = test(
    "iqr",
    &[parameter("safety", Type::Number)],
    "more than 1 less so many interquartile ranges of what was wanted in the last 150 minutes",
);
pub(super) const MAD: Function = test("mad", &[parameter("safety", Type::Number)], "the same with median absolute deviations");
pub(super) const REGRESSION: Function = test(
    "regression",
    &[parameter("safety", Type::Number)],
    "a line through the last 50 minutes, times this, reaches 1 by the time the largest guest is elsewhere",
);
pub(super) const SPREAD: Function = test(
    "spread",
    &[parameter("deviations", Type::Number), parameter("cap", Type::Number), SPAN],
    "what is wanted now, or the mean of the last `span` and so many standard deviations, is above `cap`",
);
