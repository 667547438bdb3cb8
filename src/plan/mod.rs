//! From proposals to a plan: what is done, what is not, and why.

pub mod guardrails;

pub use guardrails::{Guardrails, Limits, Overcommit, Rate};
