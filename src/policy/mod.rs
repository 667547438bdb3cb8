//! Policies: what admins write in Rhai, compiled, checked and called.

#[allow(dead_code)]
pub(crate) mod surface;
