//! `embot pki`: an authority for planes, and their certificates. Needs no daemon.

mod show;

use super::context::Context;
use super::failure::Failure;
use super::screen::Screen;
use super::table::pairs;
use crate::api::stamp::Stamp;
use crate::clock::{Clock, SystemClock};
use crate::error::count;
use crate::model::Timestamp;
use crate::pki::authority::PLANE_DAYS;
use crate::pki::index::Entry;
use crate::pki::{Authority, Certificate, Issued, PkiError, Request};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Make an authority, and issue, renew and revoke the certificates by which planes know each other.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot pki init                               an authority in ./pki; keep ca.key where nobody else can read it\n  embot pki issue site-a --name a.example      certificate and key of plane site-a, in pki/planes/site-a\n  embot pki renew site-a                       a fresh certificate; the plane reads it without a restart\n  embot pki revoke site-a                      take back all that site-a has; copy pki/crl.pem to every plane\n  embot pki show                               what was issued, and until when\n\nCopy a plane's folder to its machine and name the files in plane.yaml:\n  link: { listen: \"0.0.0.0:7401\", certificate: tls/plane.crt, key: tls/plane.key, ca: tls/ca.crt, crl: tls/crl.pem }"
)]
pub struct Pki {
    /// The authority's folder.
    #[arg(long, global = true, default_value = "pki", value_name = "FOLDER")]
    folder: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Make an authority in a folder that has none.
    #[command(after_help = "Examples:\n  embot pki init\n  embot pki init --folder /secure/pki --name 'Example Ltd, planes'")]
    Init {
        /// Its name, as it stands in certificates.
        #[arg(long, default_value = "embot planes")]
        name: String,
    },
    /// Give a plane its first certificate, with a new key.
    #[command(
        after_help = "Examples:\n  embot pki issue site-a\n  embot pki issue site-a --name a.example --name 10.0.0.1 --days 30 --to /media/stick/site-a"
    )]
    Issue(Asked),
    /// Give a plane a fresh certificate; the old one stays valid until it expires or is revoked.
    #[command(
        after_help = "Examples:\n  embot pki renew site-a              for the key it has; only plane.crt has to be copied\n  embot pki renew site-a --new-key    with a new key; the old one is kept beside it"
    )]
    Renew {
        #[command(flatten)]
        asked: Asked,
        /// Make a new key as well.
        #[arg(long)]
        new_key: bool,
    },
    /// Take certificates back: all of a plane, or one by its serial number.
    #[command(
        after_help = "Examples:\n  embot pki revoke site-a\n  embot pki revoke 5f0c2b6e8d4a4a1c9b7e3d2f1a0b9c8d\n\nThen copy crl.pem to every plane: each reads it within seconds and cuts off who is on it."
    )]
    Revoke {
        /// The plane, or the serial number.
        #[arg(value_name = "PLANE|SERIAL")]
        which: String,
    },
    /// Show what was issued, or what a certificate says.
    #[command(
        after_help = "Examples:\n  embot pki show                      certificates that are valid\n  embot pki show --all                expired and revoked ones as well\n  embot pki show tls/plane.crt        one certificate file"
    )]
    Show(show::Show),
}

/// What a certificate is asked for with.
#[derive(Debug, Clone, clap::Args)]
struct Asked {
    /// The plane's name, as `plane:` in its plane.yaml.
    plane: String,
    /// A host's name or address to stand in it as well; planes do not look at these.
    #[arg(long = "name", value_name = "HOST|ADDRESS")]
    names: Vec<String>,
    /// For how many days.
    #[arg(long, default_value_t = PLANE_DAYS)]
    days: u32,
    /// Where to write; without it, planes/PLANE in the authority's folder.
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

impl From<Asked> for Request {
    fn from(asked: Asked) -> Request {
        Request { plane: asked.plane, names: asked.names, days: asked.days, to: asked.to }
    }
}

/// A certificate, as scripts read it.
#[derive(Debug, Clone, Serialize)]
struct Shown {
    plane: Option<String>,
    names: Vec<String>,
    serial: String,
    subject: String,
    issuer: String,
    from: Stamp,
    until: Stamp,
}

impl From<&Certificate> for Shown {
    fn from(of: &Certificate) -> Shown {
        Shown {
            plane: of.plane.as_deref().map(str::to_owned),
            names: of.names.clone(),
            serial: of.serial.clone(),
            subject: of.subject.clone(),
            issuer: of.issuer.clone(),
            from: of.from.into(),
            until: of.until.into(),
        }
    }
}

/// An entry of the list of what was issued, as scripts read it.
#[derive(Debug, Clone, Serialize)]
struct Row {
    plane: String,
    state: &'static str,
    serial: String,
    names: Vec<String>,
    issued: Stamp,
    expires: Stamp,
    revoked: Option<Stamp>,
}

impl Row {
    fn of(entry: &Entry, now: Timestamp) -> Row {
        Row {
            plane: entry.plane.clone(),
            state: entry.state(now),
            serial: entry.serial.clone(),
            names: entry.names.clone(),
            issued: entry.issued.into(),
            expires: entry.expires.into(),
            revoked: entry.revoked.map(Stamp::from),
        }
    }
}

impl Pki {
    /// Does it.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let now = SystemClock::start(Timestamp::default()).now();
        let folder = &self.folder;
        match self.what {
            What::Init { name } => {
                let authority = Authority::init(folder, &name, now).map_err(failure)?;
                let certificate = authority.certificate().map_err(failure)?;
                let report = serde_json::json!({ "folder": folder, "certificate": Shown::from(&certificate) });
                context.show(&report, |screen| made(folder, &certificate, screen))
            }
            What::Issue(asked) => {
                let issued = Authority::open(folder).and_then(|authority| authority.issue(&asked.into(), now));
                hand_out(&issued.map_err(failure)?, context)
            }
            What::Renew { asked, new_key } => {
                let issued = Authority::open(folder).and_then(|authority| authority.renew(&asked.into(), new_key, now));
                hand_out(&issued.map_err(failure)?, context)
            }
            What::Revoke { which } => {
                let authority = Authority::open(folder).map_err(failure)?;
                let revoked = authority.revoke(&which, now).map_err(failure)?;
                let rows: Vec<Row> = revoked.iter().map(|entry| Row::of(entry, now)).collect();
                let report = serde_json::json!({ "revoked": rows, "crl": authority.crl_path() });
                context.show(&report, |_| taken_back(&revoked, &authority.crl_path()))
            }
            What::Show(show) => show.run(folder, now, context),
        }
    }
}

/// What was asked for and is not so is an answer; the rest is wrong input.
fn failure(error: PkiError) -> Failure {
    match error {
        PkiError::Issued { .. } | PkiError::Unknown(_) => Failure::no(error.to_string()),
        error => Failure::wrong(error.to_string()),
    }
}

fn made(folder: &Path, certificate: &Certificate, screen: &Screen) -> String {
    format!(
        "an authority is in {}, valid until {}; ca.key signs for it: keep it where nobody else can read it\n\
         next: embot pki issue PLANE\n",
        folder.display(),
        screen.date(certificate.until.into())
    )
}

fn hand_out(issued: &Issued, context: &Context) -> Result<(), Failure> {
    let Issued { certificate, folder, new_key } = issued;
    let report = serde_json::json!({ "certificate": Shown::from(certificate), "folder": folder, "new_key": new_key });
    context.show(&report, |screen| handed_out(issued, screen))
}

fn handed_out(Issued { certificate, folder, new_key }: &Issued, screen: &Screen) -> String {
    let rows = [
        ("plane", certificate.plane.as_deref().unwrap_or("none").to_owned()),
        ("serial", certificate.serial.clone()),
        ("valid until", screen.date(certificate.until.into())),
        ("folder", folder.display().to_string()),
    ];
    let next = if *new_key {
        "next: copy the folder to the plane's machine and name its files under `link` in plane.yaml\n"
    } else {
        "next: copy plane.crt to the plane's machine; the key stays, and the plane reads the file without a restart\n"
    };
    pairs(&rows, screen) + next
}

fn taken_back(revoked: &[Entry], list: &Path) -> String {
    let mut text = String::new();
    for entry in revoked {
        text += &format!("revoked: {}, serial {}\n", entry.plane, entry.serial);
    }
    format!(
        "{text}{} taken back; next: copy {} to every plane, each reads it within seconds\n",
        count(revoked.len(), "certificate"),
        list.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::{Out, Output};
    use crate::cli::screen::plain;
    use crate::error::Style;
    use clap::Parser;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        what: Command,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Command {
        Pki(Pki),
    }

    fn run(words: &str, folder: &Path) -> Result<(), String> {
        let words = words.replace("FOLDER", &folder.display().to_string());
        let Command::Pki(pki) = Line::try_parse_from(words.split(' ')).map_err(|error| error.to_string())?.what;
        let context = Context {
            socket: None,
            remote: Default::default(),
            config: None,
            output: Output::Json,
            screen: plain(100),
            out: Out::kept(&Arc::default()),
        };
        pki.run(&context).map_err(|failure| {
            format!("{:?} {}", failure.code(), failure.text(Style::Plain)).replace(&folder.display().to_string(), "FOLDER")
        })
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn from_nothing_to_a_certificate_that_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        run("embot pki --folder FOLDER/pki init", folder.path()).unwrap();
        run("embot pki --folder FOLDER/pki issue site-a --name a.example --name 10.0.0.1", folder.path()).unwrap();
        let first = Certificate::read_file(&at("pki/planes/site-a/plane.crt")).unwrap();
        assert_eq!(first.plane.as_deref(), Some("site-a"));
        assert_eq!(first.names, ["a.example", "10.0.0.1"]);
        for (path, expected) in
            [("pki", 0o700), ("pki/ca.key", 0o600), ("pki/planes/site-a/plane.key", 0o600), ("pki/ca.crt", 0o644)]
        {
            assert_eq!(mode(&at(path)) & !0o022, expected & !0o022, "{path}");
        }
        let key = fs::read(at("pki/planes/site-a/plane.key")).unwrap();
        run("embot pki --folder FOLDER/pki renew site-a", folder.path()).unwrap();
        let second = Certificate::read_file(&at("pki/planes/site-a/plane.crt")).unwrap();
        assert_ne!(second.serial, first.serial);
        assert_eq!(second.names, first.names, "names stay unless others are given");
        assert_eq!(fs::read(at("pki/planes/site-a/plane.key")).unwrap(), key);
        run("embot pki --folder FOLDER/pki renew site-a --new-key --name b.example", folder.path()).unwrap();
        assert_ne!(fs::read(at("pki/planes/site-a/plane.key")).unwrap(), key);
        let kept = fs::read_dir(at("pki/planes/site-a")).unwrap().map(|entry| entry.unwrap().path());
        let kept: Vec<PathBuf> = kept.filter(|path| path.to_string_lossy().contains("plane.key.before-")).collect();
        assert_eq!(fs::read(&kept[0]).unwrap(), key, "the old key is kept");
        run("embot pki --folder FOLDER/pki revoke site-a", folder.path()).unwrap();
        let index = Authority::open(&at("pki")).unwrap().index().unwrap();
        assert!(index.certificates.iter().all(|entry| entry.revoked.is_some()) && index.certificates.len() == 3);
        assert_eq!(index.crl_number, 5, "each change writes a new list");
    }

    #[test]
    fn what_is_refused_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let mut said = Vec::new();
        for words in [
            "embot pki --folder FOLDER/pki issue site-a",
            "embot pki --folder FOLDER/pki init",
            "embot pki --folder FOLDER/pki init",
            "embot pki --folder FOLDER/pki issue site/a",
            "embot pki --folder FOLDER/pki issue site-a --name not_a_host",
            "embot pki --folder FOLDER/pki issue site-a --days 0",
            "embot pki --folder FOLDER/pki issue site-a --days 4000",
            "embot pki --folder FOLDER/pki renew site-a",
            "embot pki --folder FOLDER/pki issue site-b",
            "embot pki --folder FOLDER/pki issue site-c --to FOLDER/pki/planes/site-b",
            "embot pki --folder FOLDER/pki revoke site-z",
            "embot pki --folder FOLDER/pki show FOLDER/pki/issued.json",
            "embot pki --folder FOLDER/pki show FOLDER/none.crt",
        ] {
            let answer = run(words, folder.path()).map_or_else(|text| text, |()| "done\n".to_owned());
            said.push(format!("$ {words}\n{answer}"));
        }
        // A plane that has one is not given a second by mistake; its serial number is random.
        let again = run("embot pki --folder FOLDER/pki issue site-b", folder.path()).unwrap_err();
        assert!(again.contains("`embot pki renew site-b`") && again.contains("serial "), "{again}");
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn answers_as_people_see_them() {
        let certificate = Certificate {
            plane: Some("site-a".into()),
            names: vec!["a.example".to_owned()],
            serial: "5f0c2b6e8d4a4a1c9b7e3d2f1a0b9c8d".to_owned(),
            subject: "CN=site-a".to_owned(),
            issuer: "CN=embot planes".to_owned(),
            from: Timestamp(1_790_000_000_000),
            until: Timestamp(1_797_776_000_000),
        };
        let issued = |new_key| Issued { certificate: certificate.clone(), folder: "pki/planes/site-a".into(), new_key };
        let entry = Entry {
            serial: certificate.serial.clone(),
            plane: "site-a".to_owned(),
            names: certificate.names.clone(),
            issued: certificate.from,
            expires: certificate.until,
            revoked: None,
        };
        let screen = plain(100);
        let revoked = Entry { revoked: Some(Timestamp(1_790_000_500_000)), plane: "site-b".to_owned(), ..entry.clone() };
        let now = Timestamp(1_790_000_600_000);
        let texts = [
            made(Path::new("pki"), &certificate, &screen),
            handed_out(&issued(true), &screen),
            handed_out(&issued(false), &screen),
            taken_back(&[entry.clone(), revoked.clone()], Path::new("pki/crl.pem")),
            show::list(&[Row::of(&entry, now), Row::of(&revoked, now)], &screen),
            show::one(&certificate, now, &screen),
            show::list(&[], &screen),
        ];
        insta::assert_snapshot!(texts.join("---\n"));
    }
}
