//! From proposals to a plan: what is done, what is not, and why.
//!
//! A script may propose anything; what comes of it is decided here, by the same rules for all modules. The checks and their
//! order stand in [`Planner`]; each lives in a file of its own: may it be done to this guest at all (`standing`), did an admin
//! say no of late (`rejections`), is it too soon or too much (`memory`), is there a place for it and does it pay (`target`,
//! `affinity`, `gain`, `placement`). All is pure: the same situation, memory and proposals lead to the same plan, refusals and their words included.
//!
//! [`trial`] is where policies try moves before they propose any.
//! Guests of other planes are no proposals of this one: where they would sit says `arrival`.
//! [`balance()`] makes a plan of its own for the whole plane out of the same checks.

mod affinity;
mod arrival;
mod balance;
mod deciding;
mod fleet;
mod gain;
pub mod guardrails;
mod memory;
mod placement;
mod planner;
mod rejections;
mod standing;
mod target;
mod terms;
#[cfg(test)]
mod tests;
pub mod trial;

pub use arrival::Arrival;
pub use balance::{BalanceMove, BalanceOptions, BalancePlan, balance};
pub use guardrails::{Guardrails, Limits, Overcommit, Rate};
pub use memory::GuestMemory;
pub use planner::{Planner, PlannerError, Situation};
pub use rejections::Rejection;
pub use standing::nothing_to_do;
pub use terms::Terms;

/// A refusal in the making.
#[derive(Debug, Clone, PartialEq)]
struct No {
    /// The guardrail, in one stable word.
    guardrail: &'static str,
    /// What was measured, what the limit is, what to change.
    reason: String,
}

/// Passed, or why not.
type Decided<T> = Result<T, No>;

impl No {
    fn because<T>(guardrail: &'static str, reason: impl Into<String>) -> Decided<T> {
        Err(No { guardrail, reason: reason.into() })
    }

    fn refuse(self, proposal: crate::model::Proposal) -> crate::model::Refusal {
        crate::model::Refusal { proposal, guardrail: self.guardrail.into(), reason: self.reason }
    }
}
