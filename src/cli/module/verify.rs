//! `embot module verify`.

use super::read_package;
use super::show::PackageView;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::clock::{Clock, SystemClock};
use crate::embot::package::{Gate, PublicKey, TrustStore, TrustedKey};
use crate::model::{Mode, Timestamp, Verb};
use std::path::PathBuf;

/// Would this plane take a package? Says why not, with exit code 1. What is in force there is not looked at.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot module verify cool-1.0.0.embotpkg                      by the `trust` of plane.yaml\n  embot module verify cool-1.0.0.embotpkg --key ed25519:8a88…  was it signed by this key?\n  embot module verify cool-1.0.0.embotpkg --for site-b         would its audience let it in there?\n\nExit codes: 0 it would be taken, 1 it would be refused, 2 it cannot be read."
)]
pub struct Verify {
    /// The package.
    package: PathBuf,
    /// Trust this public key, with all permits, in place of the configuration's.
    #[arg(long, value_name = "KEY")]
    key: Option<PublicKey>,
    /// For this plane, in place of the configuration's.
    #[arg(long = "for", value_name = "PLANE")]
    plane: Option<String>,
}

impl Verify {
    /// Verifies, and says what comes of it.
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let package = read_package(&self.package)?;
        let (trust, plane) = self.held_against(context)?;
        let now = SystemClock::start(Timestamp::default()).now();
        let plane = plane.or_else(|| package.claims().audience.first().map(ToString::to_string)).unwrap_or_default();
        match package.verify(&Gate { trust: &trust, plane: &plane, now }, None) {
            Ok(verified) => {
                let view = PackageView::of(verified.sealed());
                let name = &verified.signed_by().name;
                let verdict = format!("would be taken: key {name} stands for it; it would go up to mode {}", verified.mode());
                context.show(&view, |screen| view.rendered(&verdict, screen))
            }
            Err(error) => Err(Failure::no(error.to_string())),
        }
    }

    fn held_against(&self, context: &Context) -> Result<(TrustStore, Option<String>), Failure> {
        if let Some(key) = self.key {
            let permits = Verb::ALL.iter().map(|(verb, ..)| *verb).collect();
            let trusted = TrustedKey { name: key.short().into(), key, permits, mode: Mode::Act };
            return Ok((TrustStore::new(vec![trusted]), self.plane.clone()));
        }
        let config = context.config()?;
        let own = config.signing_key().map_err(Failure::wrong)?;
        let plane = self.plane.clone().unwrap_or_else(|| config.plane.to_string());
        Ok((config.trust_store(own.as_ref()), Some(plane)))
    }
}
