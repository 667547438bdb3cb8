//! `embot module`: modules as packages that travel: packed, signed, verified. Needs no daemon.

mod keys;
mod pack;
mod show;
mod sign;
mod verify;

use super::context::Context;
use super::failure::Failure;
use crate::embot::package::{Package, PackageError, SigningKey, Unverified};
use std::path::Path;

/// Pack, sign and verify modules for other planes.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot module keys generate ops.key                            a key to sign with\n  embot module pack embots/relieve-hot-host.yaml --key ops.key  pack and sign\n  embot module verify relieve-hot-host-1.0.0.embotpkg           would this plane take it?\n\nA module that was deployed from a folder needs none of this to travel: its plane packs it and signs it with the\n`module_key` of plane.yaml. The other plane lists the public key under `trust`."
)]
pub struct Module {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    Pack(pack::Pack),
    Sign(sign::Sign),
    Verify(verify::Verify),
    Keys(keys::Keys),
}

impl Module {
    /// Does it.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        match self.what {
            What::Pack(pack) => pack.run(context),
            What::Sign(sign) => sign.run(context),
            What::Verify(verify) => verify.run(context),
            What::Keys(keys) => keys.run(context),
        }
    }
}

/// Reads a package file.
fn read_package(file: &Path) -> Result<Package<Unverified>, Failure> {
    let bytes = read_bytes(file)?;
    Package::read(&bytes).map_err(|error| Failure::wrong(format!("{}: {error}", file.display())))
}

/// Writes a package file: whole or not at all.
fn write_package(file: &Path, package: &Package<Unverified>) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::wrong(format!("cannot write {}: {error}", file.display()));
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, package.to_bytes()).map_err(cannot)?;
    std::fs::rename(&beside, file).map_err(cannot)
}

/// Reads a private key.
fn read_key(file: &Path) -> Result<SigningKey, Failure> {
    let failed = |error| Failure::wrong(format!("{}: {error}", file.display()));
    SigningKey::from_pkcs8(&read_bytes(file)?).map_err(failed)
}

fn read_bytes(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::wrong(format!("cannot read {}: {error}", file.display())))
}

/// A package is not as it should be: the input is wrong.
fn wrong(error: &PackageError) -> Failure {
    Failure::wrong(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::{Out, Output};
    use crate::cli::screen::plain;
    use crate::error::Style;
    use clap::Parser;
    use std::path::PathBuf;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        what: What,
    }

    /// A folder with a module, a configuration and a key.
    struct Site(tempfile::TempDir);

    impl Site {
        fn new() -> Site {
            let site = Site(tempfile::tempdir().unwrap());
            site.write("embots/cool.yaml", include_str!("../../embots/relieve-hot-host.yaml"));
            site.write("policies/relieve-hot-host.rhai", include_str!("../../policies/relieve-hot-host.rhai"));
            site.write("plane.yaml", "plane: home\nfleet: demo\n");
            site
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        /// Runs a line; `SITE/` stands for the folder. What comes of it: the exit code, and the error's text.
        fn run(&self, line: &str) -> Result<(), String> {
            let folder = self.0.path().display().to_string();
            let words = line.split(' ').map(|word| word.replace("SITE", &folder));
            let parsed = Line::try_parse_from(std::iter::once("module".to_owned()).chain(words)).unwrap();
            let config = Some(self.path("plane.yaml"));
            let out = Out::kept(&std::sync::Arc::default());
            let context =
                Context { socket: None, remote: Default::default(), config, output: Output::Json, screen: plain(80), out };
            let failed =
                |failure: Failure| format!("{:?} {}", failure.code(), failure.text(Style::Plain)).replace(&folder, "SITE");
            Module { what: parsed.what }.run(&context).map_err(failed)
        }

        fn public(&self, name: &str) -> String {
            read_key(&self.path(name)).unwrap().public().to_string()
        }
    }

    #[test]
    fn a_module_is_packed_signed_and_verified() {
        let site = Site::new();
        site.run("keys generate SITE/ops.key").unwrap();
        site.run("pack SITE/embots/cool.yaml --serial 7 --for home --for away --valid 30d --out SITE/cool.embotpkg").unwrap();
        assert!(site.run("verify SITE/cool.embotpkg").unwrap_err().contains("is not signed"));
        site.run("sign SITE/cool.embotpkg --key SITE/ops.key").unwrap();
        let refused = site.run("verify SITE/cool.embotpkg").unwrap_err();
        assert!(refused.contains("not trusted here") && refused.contains(&site.public("ops.key")), "{refused}");
        site.run(&format!("verify SITE/cool.embotpkg --key {}", site.public("ops.key"))).unwrap();
        let trust = |permits: &str| {
            let key = site.public("ops.key");
            site.write(
                "plane.yaml",
                &format!("plane: home\nfleet: demo\ntrust: [{{ name: ops, key: '{key}', permits: {permits} }}]\n"),
            );
        };
        trust("[notify]");
        assert!(site.run("verify SITE/cool.embotpkg").unwrap_err().contains("asks for the permits migrate"));
        trust("[migrate]");
        site.run("verify SITE/cool.embotpkg").unwrap();
        assert!(site.run("verify SITE/cool.embotpkg --for third").unwrap_err().contains("meant for away, home"));
        site.run("keys list").unwrap();
        site.run("keys public SITE/ops.key").unwrap();
    }

    #[test]
    fn equal_inputs_make_equal_files_and_imports_are_named_by_address() {
        let site = Site::new();
        site.run("keys generate SITE/ops.key").unwrap();
        for out in ["a", "b"] {
            site.run(&format!("pack SITE/embots/cool.yaml --serial 7 --key SITE/ops.key --out SITE/{out}")).unwrap();
        }
        assert_eq!(std::fs::read(site.path("a")).unwrap(), std::fs::read(site.path("b")).unwrap());
        site.run("pack SITE/embots/cool.yaml --serial 8 --import SITE/a --out SITE/c").unwrap();
        let (a, c) = (read_package(&site.path("a")).unwrap(), read_package(&site.path("c")).unwrap());
        assert_eq!(c.claims().imports[0].hash, a.hash());
    }

    #[test]
    fn what_goes_wrong_is_said() {
        let site = Site::new();
        site.run("keys generate SITE/ops.key").unwrap();
        let before = std::fs::read(site.path("ops.key")).unwrap();
        site.write("broken.embotpkg", "no package");
        std::fs::create_dir(site.path("policies/empty")).unwrap();
        let told: Vec<String> = [
            "keys generate SITE/ops.key",
            "keys public SITE/plane.yaml",
            "pack SITE/embots/none.yaml",
            "pack SITE/embots/cool.yaml --policies SITE/policies/empty",
            "pack SITE/plane.yaml",
            "sign SITE/broken.embotpkg --key SITE/ops.key",
            "verify SITE/none.embotpkg",
        ]
        .into_iter()
        .map(|line| format!("$ {line}\n{}", site.run(line).unwrap_err()))
        .collect();
        assert_eq!(std::fs::read(site.path("ops.key")).unwrap(), before, "a key is never overwritten");
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_private_key_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let site = Site::new();
        site.run("keys generate SITE/keys/ops.key").unwrap();
        let mode = std::fs::metadata(site.path("keys/ops.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
