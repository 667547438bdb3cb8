//! Tests of the store, by what they are about.

mod audit;
mod backup;
mod crash;
mod files;
mod form;
mod journal;
mod properties;
mod samples;
mod state;
mod writer;
