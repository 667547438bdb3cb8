//! `embot module sign`.

use super::show::PackageView;
use super::{read_key, read_package, write_package, wrong};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use std::path::PathBuf;

/// Sign a package. A signature that is there already is replaced.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  embot module sign relieve-hot-host-1.0.0.embotpkg --key ops.key")]
pub struct Sign {
    /// The package.
    package: PathBuf,
    /// The private key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where to; without it, in place.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Sign {
    /// Signs, and says what was signed: whoever signs stands for it.
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let package = read_package(&self.package)?;
        package.check_files().map_err(|error| wrong(&error))?;
        let package = package.sign(&read_key(&self.key)?).map_err(|error| wrong(&error))?;
        let out = self.out.unwrap_or(self.package);
        write_package(&out, &package)?;
        let view = PackageView::of(package.sealed());
        context.show(&view, |screen| view.rendered(&format!("signed: {}", out.display()), screen))
    }
}
