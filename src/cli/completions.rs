//! `embot completions`: for shells.

use super::Arguments;
use super::context::Context;
use super::failure::Failure;
use clap::CommandFactory;

/// Print completions for a shell.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot completions bash > /etc/bash_completion.d/embot\n  embot completions fish > ~/.config/fish/completions/embot.fish\n  source <(embot completions zsh)"
)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Completions {
    /// Prints them.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "embot", &mut text);
        context.print_bytes(&text)
    }
}
