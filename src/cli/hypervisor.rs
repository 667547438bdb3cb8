//! `embot hypervisor`: a simulated fleet as a process of its own, which outlives a killed daemon.

use super::failure::Failure;
use crate::clock::SystemClock;
use crate::hypervisor::simulated::{FleetPlan, ServeOptions, serve};
use crate::model::Timestamp;
use std::path::PathBuf;

/// Run a simulated fleet of hosts and guests, for trials and tests.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot hypervisor --listen unix:/tmp/fleet.sock --fleet demo\n  embot hypervisor --listen unix:/tmp/fleet.sock --fleet fleet.yaml --effects-log effects.jsonl\n\nHosts of the fleet are named in plane.yaml by `uri: simulated:unix:/tmp/fleet.sock`."
)]
pub struct Hypervisor {
    /// Where it listens: `unix:PATH`.
    #[arg(long, value_name = "unix:PATH")]
    listen: String,
    /// The fleet's description, or `demo` for the built-in one.
    #[arg(long, value_name = "FILE")]
    fleet: String,
    /// Where every effect on a guest is written, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    effects_log: Option<PathBuf>,
    /// So many seconds of the fleet pass in one of the clock.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
}

impl Hypervisor {
    /// Serves until the process ends.
    pub fn run(self) -> Result<(), Failure> {
        let listen = self.listen.strip_prefix("unix:").filter(|path| !path.is_empty());
        let listen = listen.ok_or_else(|| {
            Failure::wrong(format!("`{}` is no address to listen on", self.listen))
                .with_hint("write for example `unix:/tmp/fleet.sock`")
        })?;
        if !(self.speed.is_finite() && self.speed > 0.0) {
            return Err(Failure::wrong("the speed must be above 0").with_hint("1 is real time, 60 a minute a second"));
        }
        let plan = FleetPlan::named(&self.fleet);
        let options = ServeOptions {
            listen: listen.into(),
            plan: plan.map_err(|complaint| Failure::complaints(vec![complaint]))?,
            effects_log: self.effects_log,
            speed: self.speed,
            clock: SystemClock::start(Timestamp(0)),
        };
        serve(options).map_err(|error| Failure::of(&error))
    }
}
