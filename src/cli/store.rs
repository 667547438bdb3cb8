//! `embot store`: looking after the file of a plane that does not run.

use super::context::Context;
use super::failure::Failure;
use super::progress::Progress;
use crate::store::Store as File;
use serde::Serialize;
use std::path::PathBuf;

/// Look after the store's file of a plane that does not run.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  embot store compact --config plane.yaml\n\n`embot status` shows what a running plane's store takes; `journal` and `audit` in its configuration bound it, `embot backup` copies it."
)]
pub struct Store {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Give free space in the file back to its file system. The file keeps what it once needed, for example after `keep_bytes` of the
    /// journal was lowered.
    #[command(after_help = "Example:\n  embot store compact --config plane.yaml")]
    Compact,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Compacted {
    store: PathBuf,
    bytes_before: u64,
    bytes: u64,
}

impl Store {
    /// Does it.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let What::Compact = self.what;
        let store = context.config()?.store;
        if !store.exists() {
            return Err(Failure::wrong(format!("there is no store at {}", store.display()))
                .with_hint("name the plane's configuration with --config; its first start makes the store"));
        }
        let progress = Progress::new();
        progress.say(&format!("compacting {}", store.display()));
        let (bytes_before, bytes) = File::compact(&store).map_err(|error| Failure::of(&error))?;
        drop(progress);
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
        let compacted = Compacted { store, bytes_before, bytes };
        context.show(&compacted, |_| {
            format!("{} takes {} now; it took {}\n", compacted.store.display(), mib(bytes), mib(bytes_before))
        })
    }
}
