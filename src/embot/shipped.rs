//! The modules and policies that the program carries.

/// Each file's path below the project's root (`embots/...`, `policies/...`), and its text.
pub const SHIPPED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shipped.rs"));
