//! `embot module keys`: keys that modules are signed with, and those that are trusted.

use super::read_key;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::table::{Fit, table};
use crate::embot::package::{SigningKey, TrustedKey};
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use serde::Serialize;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Make keys to sign modules with, and see which are trusted.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot module keys generate keys/ops.key   a new key; its public half is shown\n  embot module keys public keys/ops.key     the public half, for other planes' `trust`\n  embot module keys list                    the keys that plane.yaml trusts"
)]
pub struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Make a key. A file that is there already is never overwritten.
    #[command(after_help = "Example:\n  embot module keys generate keys/ops.key")]
    Generate {
        /// Where the private key goes (PKCS#8); only its owner can read it.
        file: PathBuf,
    },
    /// Show the public half of a key.
    #[command(after_help = "Example:\n  embot module keys public keys/ops.key")]
    Public {
        /// The private key.
        file: PathBuf,
    },
    /// Show the keys that the configuration trusts, and what modules by them may do.
    List,
}

/// A key that was made or looked at.
#[derive(Debug, Serialize)]
struct KeyView {
    file: String,
    key: String,
}

impl Keys {
    /// Does it.
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        match self.what {
            What::Generate { file } => {
                let view = generate(&file)?;
                context.show(&view, |_| {
                    let name = file.file_stem().map_or_else(|| "ops".into(), |stem| stem.to_string_lossy());
                    format!(
                        "private key written to {}; keep it where nobody else reads it\nfor plane.yaml of planes that shall trust it (add `permits` it may have there):\n\ntrust:\n  - {{ name: {name}, key: \"{}\", permits: [] }}\n",
                        view.file, view.key
                    )
                })
            }
            What::Public { file } => {
                let key = read_key(&file)?.public().to_string();
                let view = KeyView { file: file.display().to_string(), key };
                context.show(&view, |_| format!("{}\n", view.key))
            }
            What::List => {
                let config = context.config()?;
                let own = config.signing_key().map_err(Failure::wrong)?;
                let store = config.trust_store(own.as_ref());
                let row = |key: &TrustedKey| {
                    let permits: Vec<&str> = key.permits.iter().map(|verb| verb.name()).collect();
                    let own = own.as_ref().is_some_and(|own| own.public() == key.key);
                    let what = match permits.len() {
                        _ if own => "this plane's own".to_owned(),
                        0 => "nothing".to_owned(),
                        _ => permits.join(", "),
                    };
                    vec![key.name.to_string(), key.key.to_string(), key.mode.to_string(), what]
                };
                context.show(&store.keys(), |screen| {
                    let columns = [("NAME", Fit::Keep), ("KEY", Fit::Cut), ("MODE", Fit::State), ("MAY PROPOSE", Fit::Cut)];
                    let text = table(&columns, store.keys().iter().map(row).collect(), screen);
                    if text.is_empty() { "no key is trusted (`trust` in plane.yaml)\n".to_owned() } else { text }
                })
            }
        }
    }
}

/// Makes a key and writes it where nothing is yet.
fn generate(file: &Path) -> Result<KeyView, Failure> {
    let cannot = |error: std::io::Error| {
        let failure = Failure::wrong(format!("cannot write {}: {error}", file.display()));
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => failure.with_hint("a key is never overwritten: choose another name"),
            _ => failure,
        }
    };
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| Failure::wrong("the operating system gives no random numbers, so no key can be made"))?;
    let key = SigningKey::from_pkcs8(document.as_ref()).map_err(|error| Failure::of(&error))?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(cannot)?;
    }
    let mut open = std::fs::OpenOptions::new();
    let mut written = open.write(true).create_new(true).mode(0o600).open(file).map_err(cannot)?;
    written.write_all(document.as_ref()).and_then(|()| written.sync_all()).map_err(cannot)?;
    Ok(KeyView { file: file.display().to_string(), key: key.public().to_string() })
}
