//! `embot module pack`.

use super::show::PackageView;
use super::{read_key, read_package, write_package, wrong};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::clock::{Clock, SystemClock};
use crate::embot::Manifest;
use crate::embot::package::{Import, Recipe, pack};
use crate::model::{Span, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pack a module with its policies into one file. Equal inputs and serial number make an equal file.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot module pack embots/relieve-hot-host.yaml --key ops.key\n  embot module pack embots/relieve-hot-host.yaml --for site-b --valid 90d --serial 12\n  embot module pack embots/cool.yaml --import asks-1.0.0.embotpkg   it talks to that module, so it brings it along"
)]
pub struct Pack {
    /// The manifest.
    manifest: PathBuf,
    /// The folder of its policies; without it, `policies` beside the manifest's folder.
    #[arg(long, value_name = "FOLDER")]
    policies: Option<PathBuf>,
    /// Rises with each release: what is in force is not replaced by a lower one. Without it, the present second.
    #[arg(long, value_name = "NUMBER")]
    serial: Option<u64>,
    /// A plane it is meant for; may be given again. Without it, any.
    #[arg(long = "for", value_name = "PLANE")]
    audience: Vec<String>,
    /// It expires after this time (`90d`). Without it, never.
    #[arg(long, value_name = "SPAN")]
    valid: Option<Span>,
    /// It is not valid before this time has passed.
    #[arg(long, value_name = "SPAN")]
    not_before: Option<Span>,
    /// A package of another module that it needs beside it; may be given again.
    #[arg(long, value_name = "PACKAGE")]
    import: Vec<PathBuf>,
    /// Sign it with this key.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where to; without it, NAME-VERSION.embotpkg in this folder.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Pack {
    /// Packs, and says what is in it.
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let now = SystemClock::start(Timestamp::default()).now();
        let (file, manifest, policies) = read_module(&self.manifest, self.policies.as_deref())?;
        let imports = self.import.iter().map(|path| {
            let other = read_package(path)?;
            Ok(Import { name: other.claims().name.clone(), hash: other.hash() })
        });
        let recipe = Recipe {
            serial: self.serial.unwrap_or_else(|| u64::try_from(now.0 / 1_000).unwrap_or(0)),
            audience: self.audience.iter().map(|plane| Arc::from(plane.as_str())).collect(),
            not_before: self.not_before.map_or(Timestamp::default(), |span| now + span),
            expires: self.valid.map(|span| now + span),
            imports: imports.collect::<Result<_, Failure>>()?,
        };
        // The manifest's own path, so that the complaint shows the lines it is about.
        let shown: Arc<str> = self.manifest.display().to_string().into();
        Manifest::read(&shown, &manifest).map_err(Failure::complaints)?;
        let mut package = pack(&file, &manifest, &policies, recipe).map_err(|mut found| {
            found.iter_mut().for_each(|complaint| complaint.file = shown.clone());
            Failure::complaints(found)
        })?;
        if let Some(key) = &self.key {
            package = package.sign(&read_key(key)?).map_err(|error| wrong(&error))?;
        }
        let listing = package.claims();
        let out = self.out.unwrap_or_else(|| format!("{}-{}.embotpkg", listing.name, plain(&listing.version)).into());
        write_package(&out, &package)?;
        let view = PackageView::of(package.sealed());
        context.show(&view, |screen| view.rendered(&format!("written to {}", out.display()), screen))
    }
}

/// A version as part of a file's name.
fn plain(version: &str) -> String {
    version.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' }).collect()
}

type Files = (Arc<str>, String, Vec<(Arc<str>, Arc<str>)>);

/// A module's files, as far as they can be read; what is missing is complained about where it is packed.
fn read_module(path: &Path, folder: Option<&Path>) -> Result<Files, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::wrong(format!("cannot read {}: {error}", path.display())))?;
    let name: Arc<str> = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy()).into();
    let beside = path.parent().and_then(Path::parent).unwrap_or(Path::new("")).join("policies");
    let folder = folder.unwrap_or(&beside);
    let named = Manifest::read(&name, &text).map(|(manifest, _)| manifest.policies).unwrap_or_default();
    let read = |file: Arc<str>| Some((file.clone(), std::fs::read_to_string(folder.join(&*file)).ok()?.into()));
    let policies = named.into_iter().filter_map(read).collect();
    Ok((name, text, policies))
}
