//! From proposals to a plan: what is done, what is not, and why.

pub mod guardrails;
mod planner;
mod terms;

pub use guardrails::{Guardrails, Limits, Overcommit, Rate};
pub use planner::{Planner, PlannerError, Situation};
pub use terms::Terms;
