//! What scripts call: one file for each topic. Each registers what [`super::surface`] lists for it, and nothing else.

pub(super) mod bounded;
mod event;
mod host;
mod message;
mod plane;
mod propose;
mod time;
mod usage;
mod value;
mod vm;

pub(super) use event::EventView;
pub(super) use host::HostView;
pub(super) use plane::PlaneView;
pub(super) use vm::VmView;

use super::context::Context;
use rhai::Engine;
use std::rc::Rc;

/// Registers the whole surface.
pub(super) fn register(engine: &mut Engine, context: &Rc<Context>) {
    register_views(engine, context);
    time::register(engine, context);
    vm::register(engine, context);
    host::register(engine, context);
    plane::register(engine, context);
    usage::register(engine, context);
    event::register(engine);
    propose::register(engine, context);
    message::register(engine, context);
    value::register(engine);
}

/// Names of the views, and how they print and compare: also for the engine in which lists of them are printed and searched.
pub(super) fn register_views(engine: &mut Engine, context: &Rc<Context>) {
    vm::register_view(engine, context);
    host::register_view(engine);
    plane::register_view(engine, context);
    usage::register_view(engine);
    event::register_view(engine);
}
