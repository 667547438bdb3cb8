//! What can be known of a value's type without running the script.
//!
//! The guesses form a lattice: [`Guess::Never`] (nothing seen yet) at the bottom, [`Guess::Any`] (say nothing about it) at
//! the top. Joining only climbs, so walking a script again and again with what was learnt ends.

use crate::model::EventKind;
use crate::policy::surface::{self, Type};

/// What is known of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Guess {
    /// Nothing was seen yet.
    Never,
    /// It may be anything: nothing is said about it.
    Any,
    Unit,
    Bool,
    Int,
    Float,
    /// A whole or a floating-point number.
    Number,
    Text,
    Map,
    List(Box<Guess>),
    Vm,
    Host,
    Plane,
    Usage,
    /// The event of one kind, or of any.
    Event(Option<&'static EventKind>),
    Settings,
    Peer,
    Offer,
    OfferedModule,
    Trial,
    Hosts,
    LoadTest,
    Move,
    /// `this` of a handler.
    State,
    /// One of `plane.violations`.
    Violation,
    /// A function without a name: the name Rhai gave it, and what it captured.
    Closure(String, Vec<Guess>),
}

/// The keys of a broken affinity rule, in `plane.violations`.
pub(super) const VIOLATION: [&str; 4] = ["rule", "kind", "hard", "vms"];

impl Guess {
    /// What is known of both.
    pub(super) fn join(self, other: Guess) -> Guess {
        match (self, other) {
            (a, b) if a == b => a,
            (Guess::Never, a) | (a, Guess::Never) => a,
            // A place that holds nothing at first and a view later.
            (Guess::Unit, view) | (view, Guess::Unit) if view.is_view() => view,
            (Guess::Int | Guess::Float | Guess::Number, Guess::Int | Guess::Float | Guess::Number) => Guess::Number,
            (Guess::List(a), Guess::List(b)) => Guess::List(Box::new(a.join(*b))),
            (Guess::Event(_), Guess::Event(_)) => Guess::Event(None),
            _ => Guess::Any,
        }
    }

    /// One of the objects of the surface.
    pub(super) fn is_view(&self) -> bool {
        self.table().is_some()
    }

    /// Can nothing but this type's own properties and methods be used?
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Guess::Bool | Guess::Int | Guess::Float | Guess::Number | Guess::Text)
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Guess::Int | Guess::Float | Guess::Number)
    }

    /// The row of the surface that lists its properties and methods.
    pub(super) fn table(&self) -> Option<&'static surface::TypeTable> {
        match self {
            Guess::Vm => Type::Vm,
            Guess::Host => Type::Host,
            Guess::Plane => Type::Plane,
            Guess::Usage => Type::Usage,
            Guess::Event(_) => Type::Event,
            Guess::Settings => Type::Settings,
            Guess::Peer => Type::Peer,
            Guess::Offer => Type::Offer,
            Guess::OfferedModule => Type::OfferedModule,
            Guess::Trial => Type::Trial,
            Guess::Hosts => Type::Hosts,
            Guess::LoadTest => Type::LoadTest,
            Guess::Move => Type::Move,
            _ => return None,
        }
        .table()
    }

    /// Its name for people, with its article.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Guess::Never | Guess::Any => "a value",
            Guess::Unit => "()",
            Guess::Bool => "true or false",
            Guess::Int | Guess::Float | Guess::Number => "a number",
            Guess::Text => "a text",
            Guess::Map | Guess::State | Guess::Violation => "a map",
            Guess::List(_) => "a list",
            Guess::Vm => "a vm",
            Guess::Host => "a host",
            Guess::Plane => "the plane",
            Guess::Usage => "a usage history",
            Guess::Event(_) => "the event",
            Guess::Settings => "the settings",
            Guess::Peer => "a peer",
            Guess::Offer => "the offer",
            Guess::OfferedModule => "an offered module",
            Guess::Trial => "a trial",
            Guess::Hosts => "a set of hosts",
            Guess::LoadTest => "a test for overload",
            Guess::Move => "a move",
            Guess::Closure(..) => "a function",
        }
    }

    /// What an element of it is when it is walked over.
    pub(super) fn element(&self) -> Guess {
        match self {
            Guess::List(of) => (**of).clone(),
            Guess::Hosts => Guess::Host,
            Guess::Never => Guess::Never,
            _ => Guess::Any,
        }
    }

    /// Could such a value be given where the surface wants this type? In doubt yes.
    pub(super) fn fits(&self, wanted: Type) -> bool {
        match (wanted, self) {
            (_, Guess::Any | Guess::Never) | (Type::Any | Type::Maybe(_), _) => true,
            (Type::Text, guess) => *guess == Guess::Text,
            (Type::Int | Type::Float | Type::Number | Type::Instant | Type::Span, guess) => guess.is_number(),
            (Type::HostOrText, guess) => matches!(guess, Guess::Host | Guess::Text),
            (Type::Map, guess) => matches!(guess, Guess::Map | Guess::State | Guess::Settings | Guess::Violation),
            (Type::Bool, guess) => *guess == Guess::Bool,
            (Type::Vm, guess) => *guess == Guess::Vm,
            (Type::Host, guess) => *guess == Guess::Host,
            (Type::Peer, guess) => *guess == Guess::Peer,
            (Type::Hosts, guess) => *guess == Guess::Hosts,
            (Type::LoadTest, guess) => *guess == Guess::LoadTest,
            _ => true,
        }
    }
}

impl From<Type> for Guess {
    fn from(kind: Type) -> Guess {
        match kind {
            // Policies see no worlds of tests.
            Type::Any | Type::HostOrText | Type::World => Guess::Any,
            Type::Unit => Guess::Unit,
            Type::Bool => Guess::Bool,
            Type::Int | Type::Instant | Type::Span => Guess::Int,
            Type::Float => Guess::Float,
            Type::Number => Guess::Number,
            Type::Text => Guess::Text,
            Type::Map => Guess::Map,
            Type::Array(of) => Guess::List(Box::new(Guess::from(*of))),
            Type::Maybe(of) => Guess::from(*of),
            Type::Vm => Guess::Vm,
            Type::Host => Guess::Host,
            Type::Plane => Guess::Plane,
            Type::Usage => Guess::Usage,
            Type::Event => Guess::Event(None),
            Type::Settings => Guess::Settings,
            Type::Peer => Guess::Peer,
            Type::Offer => Guess::Offer,
            Type::OfferedModule => Guess::OfferedModule,
            Type::Trial => Guess::Trial,
            Type::Hosts => Guess::Hosts,
            Type::LoadTest => Guess::LoadTest,
            Type::Move => Guess::Move,
        }
    }
}
