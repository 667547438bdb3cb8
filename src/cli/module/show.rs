//! A package as people and scripts see it.

use crate::api::stamp::Stamp;
use crate::cli::screen::Screen;
use crate::cli::table::pairs;
use crate::embot::package::Sealed;
use crate::model::Timestamp;
use serde::Serialize;

/// What a package says of itself.
#[derive(Debug, Serialize)]
pub(super) struct PackageView {
    module: String,
    version: String,
    serial: u64,
    /// Its address.
    package: String,
    /// The key that it claims to be signed by.
    signed_by: Option<String>,
    /// Empty: any plane.
    audience: Vec<String>,
    not_before: Option<Stamp>,
    expires: Option<Stamp>,
    mode: String,
    permits: Vec<String>,
    files: Vec<FileView>,
    imports: Vec<ImportView>,
}

#[derive(Debug, Serialize)]
struct FileView {
    file: String,
    sha256: String,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct ImportView {
    module: String,
    package: String,
}

impl PackageView {
    pub(super) fn of(sealed: &Sealed) -> PackageView {
        let listing = sealed.claims();
        let file = |listed: &crate::embot::package::Listed| FileView {
            file: listed.file.to_string(),
            sha256: listed.hash.to_string(),
            bytes: listed.bytes,
        };
        let import = |import: &crate::embot::package::Import| ImportView {
            module: import.name.to_string(),
            package: import.hash.to_string(),
        };
        PackageView {
            module: listing.name.to_string(),
            version: listing.version.to_string(),
            serial: listing.serial,
            package: sealed.hash().to_string(),
            signed_by: sealed.key().map(|key| key.to_string()),
            audience: listing.audience.iter().map(ToString::to_string).collect(),
            not_before: Some(listing.not_before).filter(|at| *at != Timestamp::default()).map(Stamp),
            expires: listing.expires.map(Stamp),
            mode: listing.mode.to_string(),
            permits: listing.permits.iter().map(ToString::to_string).collect(),
            files: listing.files().map(file).collect(),
            imports: listing.imports.iter().map(import).collect(),
        }
    }

    /// A block of lines; `verdict` says what was done or found.
    pub(super) fn rendered(&self, verdict: &str, screen: &Screen) -> String {
        let or = |text: String, none: &str| if text.is_empty() { none.to_owned() } else { text };
        let mut rows = vec![
            ("module", format!("{} {}, serial {}", self.module, self.version, self.serial)),
            ("package", self.package.clone()),
            ("signed by", self.signed_by.clone().unwrap_or_else(|| "nobody".to_owned())),
            ("for", or(self.audience.join(", "), "any plane")),
        ];
        rows.extend(self.not_before.map(|at| ("valid from", screen.date(at))));
        rows.push(("valid until", self.expires.map_or_else(|| "for good".to_owned(), |at| screen.date(at))));
        rows.push(("wants", format!("mode {}, permits {}", self.mode, or(self.permits.join(", "), "none"))));
        rows.extend(self.files.iter().map(|file| ("file", format!("{} ({} bytes)", file.file, file.bytes))));
        rows.extend(self.imports.iter().map(|one| ("imports", format!("{} {}", one.module, one.package))));
        format!("{}{verdict}\n", pairs(&rows, screen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::screen::plain;
    use crate::embot::package::{Recipe, SigningKey, pack};

    #[test]
    fn a_package_as_people_see_it() {
        let manifest = include_str!("../../../embots/relieve-hot-host.yaml");
        let policy = include_str!("../../../policies/relieve-hot-host.rhai");
        let recipe = Recipe {
            serial: 7,
            audience: ["away".into(), "home".into()].into(),
            expires: Some(Timestamp(1_772_366_584_005)),
            ..Recipe::default()
        };
        let policies = [("relieve-hot-host.rhai".into(), policy.into())];
        let package = pack(&"cool.yaml".into(), manifest, &policies, recipe).unwrap();
        let view = PackageView::of(package.sealed());
        let signed = package.sign(&SigningKey::from_seed(&[1; 32]).unwrap()).unwrap();
        // Addresses change with the shipped policy; that they are there is enough.
        let hide = |text: String, view: &PackageView| text.replace(&view.package, "ADDRESS");
        let plain_text = hide(view.rendered("written to cool.embotpkg", &plain(100)), &view);
        let view = PackageView::of(signed.sealed());
        let signed_text = hide(view.rendered("this plane would take it", &plain(100)), &view);
        let texts = format!("{plain_text}---\n{signed_text}").replace(&format!("({} bytes)", policy.len()), "(N bytes)");
        insta::assert_snapshot!(texts.replace(&format!("({} bytes)", manifest.len()), "(M bytes)"));
    }
}
