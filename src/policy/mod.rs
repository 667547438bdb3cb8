//! Policies: what admins write in Rhai, compiled, checked and called.

pub mod check;
#[allow(dead_code)]
pub(crate) mod surface;
