//! A guest's way to another plane, together with its management.

pub mod bundle;

pub use bundle::{Bundle, BundleError, Waiting};
