//! Finds out where a script was when it met a limit.
//!
//! Rhai's errors of limits (too many operations, a list too large, calls too deep) lose their place when they leave a script's
//! function. So the step that failed is taken again, from the same state and with the same inputs, in a second engine that
//! is told of each place it comes by. That costs about as much as the step did, is bounded, and is paid only by those who
//! fail; it changes nothing, since what a failed step gathered is dropped.

use super::context::Context;
use super::engine::{Args, furnished};
use super::runtime::Runtime;
use super::script::{Compiled, Handler};
use rhai::debugger::{DebuggerCommand, DebuggerEvent};
use rhai::{Dynamic, Position, Scope};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// The second engine.
pub(super) struct Witness {
    engine: rhai::Engine,
    last: Rc<Cell<Position>>,
}

impl Witness {
    pub(super) fn new(context: &Rc<Context>) -> Witness {
        let mut engine = furnished(context);
        let last = Rc::new(Cell::new(Position::NONE));
        let seen = last.clone();
        // Rhai marks the interface to its debugger as one that may change, by this attribute.
        #[allow(deprecated)]
        engine.register_debugger(
            |_, debugger| debugger,
            move |_, event, _, _, place| {
                if matches!(event, DebuggerEvent::Start | DebuggerEvent::Step) && !place.is_none() {
                    seen.set(place);
                }
                Ok(DebuggerCommand::StepInto)
            },
        );
        Witness { engine, last }
    }

    /// The last place the handler comes by before it fails; none where it does not fail this time.
    pub(super) fn last_place(&self, policy: &Compiled, handler: &Handler, mut this: Option<Dynamic>, args: Args) -> Position {
        self.last.set(Position::NONE);
        let mut runtime = Runtime::new(&self.engine, policy);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            runtime.call(&self.engine, &mut Scope::new(), &handler.name, this.as_mut(), args)
        }));
        match outcome {
            Ok(Ok(_)) => Position::NONE,
            _ => self.last.get(),
        }
    }
}
