//! What keeps a plane running day by day: figures, traces, its configuration read again, its place among other daemons.

mod dashboard;
mod metrics;
mod places;
mod plane;
mod reload;
mod traces;
