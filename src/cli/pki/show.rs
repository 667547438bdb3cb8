//! `embot pki show`: what was issued, or what a certificate says.

use super::{Row, Shown, failure};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::screen::{Screen, Tone};
use crate::cli::table::{Fit, pairs, table};
use crate::model::{Span, Timestamp};
use crate::pki::{Authority, Certificate};
use std::path::{Path, PathBuf};

/// A certificate that ends sooner is shown as something to see to.
const SOON: Span = Span::hours(14 * 24);

/// Show what was issued, or what a certificate says.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Show {
    /// A certificate file; without it, what the authority has issued.
    file: Option<PathBuf>,
    /// Expired and revoked certificates as well.
    #[arg(long)]
    all: bool,
}

impl Show {
    pub(super) fn run(self, folder: &Path, now: Timestamp, context: &Context) -> Result<(), Failure> {
        if let Some(file) = &self.file {
            let certificate = Certificate::read_file(file).map_err(failure)?;
            return context.show(&Shown::from(&certificate), |screen| one(&certificate, now, screen));
        }
        let index = Authority::open(folder).and_then(|authority| authority.index()).map_err(failure)?;
        let entries = index.certificates.iter().filter(|entry| self.all || entry.is_valid(now));
        let rows: Vec<Row> = entries.map(|entry| Row::of(entry, now)).collect();
        context.show(&rows, |screen| list(&rows, screen))
    }
}

pub(super) fn list(rows: &[Row], screen: &Screen) -> String {
    if rows.is_empty() {
        return "no certificate is valid; `embot pki issue PLANE` makes one, `--all` shows old ones\n".to_owned();
    }
    let columns =
        [("PLANE", Fit::Keep), ("STATE", Fit::State), ("EXPIRES", Fit::Keep), ("SERIAL", Fit::Keep), ("NAMES", Fit::Cut)];
    let cells = rows.iter().map(|row| {
        let names = row.names.join(", ");
        vec![row.plane.clone(), row.state.to_owned(), screen.date(row.expires), short(&row.serial), names]
    });
    table(&columns, cells.collect(), screen)
}

/// Columns cut at 28 characters; a serial number is found by its beginning, and whole in `--output json`.
fn short(serial: &str) -> String {
    serial.chars().take(16).collect()
}

pub(super) fn one(certificate: &Certificate, now: Timestamp, screen: &Screen) -> String {
    let until = screen.date(certificate.until.into());
    let until = if certificate.until <= now {
        screen.paint(Tone::Bad, &format!("{until}, expired"))
    } else if certificate.until <= now + SOON {
        screen.paint(Tone::Warning, &format!("{until}, soon"))
    } else {
        until
    };
    let names = if certificate.names.is_empty() { "none".to_owned() } else { certificate.names.join(", ") };
    let rows = [
        ("plane", certificate.plane.as_deref().unwrap_or("none: not a plane's certificate").to_owned()),
        ("names", names),
        ("subject", certificate.subject.clone()),
        ("issued by", certificate.issuer.clone()),
        ("serial", certificate.serial.clone()),
        ("valid from", screen.date(certificate.from.into())),
        ("valid until", until),
    ];
    pairs(&rows, screen)
}
