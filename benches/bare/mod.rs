//! The engine that steps are compared with: raw Rhai with the standard package, set up as Rhai recommends it. Nobody runs the
//! scripts of others without limits, so it has embot's.

use embot::policy::Limits;
use rhai::packages::{Package, StandardPackage};

pub fn engine() -> rhai::Engine {
    let mut engine = rhai::Engine::new_raw();
    let limits = Limits::default();
    engine
        .set_max_operations(limits.operations)
        .set_max_call_levels(limits.depth)
        .set_max_variables(limits.variables)
        .set_max_string_size(limits.string_bytes)
        .set_max_array_size(limits.array)
        .set_max_map_size(limits.map)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true);
    StandardPackage::new().register_into_engine(&mut engine);
    engine
}
