//! `embot man`: the manual's pages, made from the command line's own description.

use super::Arguments;
use super::context::Context;
use super::failure::Failure;
use clap::CommandFactory;
use std::path::PathBuf;

/// Write the manual's pages to a folder: embot.1, and one for each command.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  embot man ~/.local/share/man/man1 && man embot-run")]
pub struct Man {
    /// The folder; it is made where there is none.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

impl Man {
    /// Writes them.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let Man { folder } = self;
        let refused = |error: std::io::Error| {
            Failure::wrong(format!("cannot write the manual to {}: {error}", folder.display()))
                .with_hint("name a folder that you may write to")
        };
        std::fs::create_dir_all(&folder).map_err(refused)?;
        clap_mangen::generate_to(Arguments::command(), &folder).map_err(refused)?;
        context.print(&format!("the manual is in {}\n", folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::{Out, Output};
    use crate::cli::screen::plain;
    use std::sync::Arc;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let folder = tempfile::tempdir().unwrap();
        let out = Out::kept(&Arc::default());
        let context =
            Context { socket: None, remote: Default::default(), config: None, output: Output::Table, screen: plain(80), out };
        assert!(Man { folder: folder.path().join("man1") }.run(&context).is_ok());
        let page = |name: &str| std::fs::read_to_string(folder.path().join("man1").join(name)).unwrap();
        assert!(page("embot.1").contains("embot\\-run(1)"));
        assert!(page("embot-run.1").contains("embot run \\-\\-config plane.yaml"), "{}", page("embot-run.1"));
        for command in Arguments::command().get_subcommands() {
            assert!(page(&format!("embot-{}.1", command.get_name())).starts_with(".ie"));
        }
    }
}
