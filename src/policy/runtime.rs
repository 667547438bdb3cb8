//! What Rhai sets up for each call from outside, kept from one step to the next.
//!
//! `Engine::call_fn` begins every call with nothing known: which function `vm.cpu` means, or `>` of two numbers, is found anew,
//! which takes longer than a short handler itself. A policy's functions never change, and neither do those registered, so
//! what was found once holds for good, as it does within one long run of a script. Nothing else is kept: variables end with
//! each call, and after a call that failed everything begins anew.

use super::engine::Args;
use super::script::Compiled;
use rhai::{Caches, Dynamic, Engine, EvalAltResult, EvalContext, GlobalRuntimeState, Scope};

/// A script may make up names of functions as it runs; no more than so many are remembered.
const REMEMBERED: usize = 2_000;

/// Levels of calls that this way of calling takes, beside the script's own.
pub(super) const LEVELS: usize = 2;

/// Rhai's state for one policy between calls.
pub(super) struct Runtime {
    global: GlobalRuntimeState,
    caches: Caches,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

impl Runtime {
    pub(super) fn new(engine: &Engine, policy: &Compiled) -> Runtime {
        let mut global = engine.new_global_runtime_state();
        global.source = policy.ast.source().map(Into::into);
        global.lib.push(policy.ast.shared_lib().clone());
        Runtime { global, caches: Caches::new() }
    }

    /// Calls a function of the script.
    pub(super) fn call(
        &mut self,
        engine: &Engine,
        scope: &mut Scope<'static>,
        function: &str,
        this: Option<&mut Dynamic>,
        mut args: Args,
    ) -> Result<Dynamic, Box<EvalAltResult>> {
        if self.caches.fn_resolution_cache_mut().dict.len() > REMEMBERED {
            self.caches = Caches::new();
        }
        let is_method = this.is_some();
        let mut unit = Dynamic::UNIT;
        let Args { values: [a, b, c, d, e, f], count } = &mut args;
        let mut all = [this.unwrap_or(&mut unit), a, b, c, d, e, f];
        let given = if is_method { &mut all[..=*count] } else { &mut all[1..=*count] };
        EvalContext::new(engine, &mut self.global, &mut self.caches, scope, None)
            .call_fn_raw(function, is_method, is_method, given)
    }
}
