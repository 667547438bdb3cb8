//! `embot check`: is what admins wrote right?

use super::context::{Context, Output, print};
use super::failure::Failure;

/// Check the configuration, modules and policies, without a daemon.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot check                           the configuration and all it names\n  embot check --effective               and print every value in force, defaults included\n  embot check embots/relieve-hot-host.yaml"
)]
pub struct Check {
    /// Manifests, policies or folders of them; without any, what the configuration names.
    paths: Vec<std::path::PathBuf>,
    /// Print the configuration with every value in force.
    #[arg(long)]
    effective: bool,
}

impl Check {
    /// Checks and shows.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let config = context.config()?;
        if self.effective {
            return match context.output {
                Output::Table => print(&config.effective()),
                Output::Json => context.show(&config, |_| String::new()),
            };
        }
        Ok(())
    }
}
