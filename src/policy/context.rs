//! What the functions a script calls share: the live model, the meter, and the sheet of the present step.

use super::limits::{Limits, Meter, Stop};
use super::state::to_dynamic;
use super::step::{Sheet, What};
use crate::model::{ElementId, Host, HostId, Span, Timestamp, Value, Vm, VmId, World};
use crate::plan::trial::Trials;
use crate::usage::Usage;
use rhai::{Dynamic, EvalAltResult, Position};
use std::cell::RefCell;
use std::rc::Rc;

/// A result of a function that a script calls.
pub(super) type Outcome<T> = Result<T, Box<EvalAltResult>>;

/// Shared by all registered functions. Borrows last no longer than one getter: no script runs within them, so none of them
/// can meet another.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) usage: Rc<RefCell<Usage>>,
    pub(super) limits: Limits,
    pub(super) meter: Meter,
    pub(super) sheet: RefCell<Sheet>,
    /// Where moves are tried.
    pub(super) trials: RefCell<Rc<dyn Trials>>,
}

/// An error in the words the script's author will read; the engine adds the place.
pub(super) fn complaint<T>(text: impl Into<String>) -> Outcome<T> {
    Err(EvalAltResult::ErrorRuntime(Dynamic::from(text.into()), Position::NONE).into())
}

pub(super) fn gone<T>(id: VmId) -> Outcome<T> {
    complaint(format!("the guest {id} is gone; only its `id` is still known"))
}

pub(super) fn unknown_host<T>(id: &HostId) -> Outcome<T> {
    complaint(format!("the host {id} is not configured any more; only its `name` is still known"))
}

/// A number that may be unknown: NaN compares as false with everything, so that a policy does nothing where it knows nothing.
pub(super) fn known(number: Option<f32>) -> Value {
    Value::Float(number.map_or(f64::NAN, f64::from))
}

impl Context {
    /// Looks at a guest and notes what was seen.
    pub(super) fn vm(&self, id: VmId, what: &'static str, look: impl FnOnce(&Vm) -> Value) -> Outcome<Dynamic> {
        let world = self.world.borrow();
        let Some(vm) = world.vm(id) else {
            return gone(id);
        };
        let value = look(vm);
        let seen = to_dynamic(&value);
        self.note(ElementId::Vm(id), What::Property(what), value);
        Ok(seen)
    }

    /// Looks at a host and notes what was seen.
    pub(super) fn host(&self, id: &HostId, what: &'static str, look: impl FnOnce(&Host) -> Value) -> Outcome<Dynamic> {
        let world = self.world.borrow();
        let Some(host) = world.host(id) else {
            return unknown_host(id);
        };
        let value = look(host);
        let seen = to_dynamic(&value);
        self.note(ElementId::Host(id.clone()), What::Property(what), value);
        Ok(seen)
    }

    pub(super) fn note(&self, element: ElementId, what: What, value: Value) {
        self.sheet.borrow_mut().note(element, what, value);
    }

    /// The present instant; an error while a policy is being loaded.
    pub(super) fn now(&self, function: &str) -> Outcome<Timestamp> {
        let sheet = self.sheet.borrow();
        if sheet.is_loading() {
            return complaint(format!(
                "`{function}` has no meaning in `fn settings()`, which runs when the policy is loaded, before anything happens"
            ));
        }
        Ok(sheet.now)
    }

    /// Charges native work, before it is done.
    pub(super) fn charge(&self, units: u64) -> Outcome<()> {
        self.charge_at(units, Position::NONE)
    }

    /// The same, by who knows where the script is.
    pub(super) fn charge_at(&self, units: u64, at: Position) -> Outcome<()> {
        if self.meter.charge(units, at) { Ok(()) } else { terminated() }
    }

    /// Ends the step for good.
    pub(super) fn stop<T>(&self, why: Stop, at: Position) -> Outcome<T> {
        self.meter.stop_at(why, at);
        terminated()
    }
}

/// The error a script cannot catch; the meter knows why.
fn terminated<T>() -> Outcome<T> {
    Err(EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE).into())
}

/// A span given as a number of milliseconds.
pub(super) fn span(ms: i64) -> Outcome<Span> {
    match u64::try_from(ms) {
        Ok(ms) => Ok(Span(ms)),
        Err(_) => complaint(format!("a length of time cannot be negative ({ms} ms)")),
    }
}
