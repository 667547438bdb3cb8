//! Tests of the store, by what they are about.

mod crash;
mod samples;
mod state;
