//! What a certificate says, for logs, tables and the check of names. Whether it is true is for [`Trust`](super::Trust) to say.

use super::{PLANE_URI, PkiError, files, is_plane_name};
use crate::model::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;

/// Names beyond this are not read: nobody needs so many, and what a peer presents must not cost much.
const MOST_NAMES: usize = 64;

/// A certificate as it reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The plane it names; `None` where it names none, or more than one.
    pub plane: Option<Arc<str>>,
    /// Host names and addresses it names.
    pub names: Vec<String>,
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// Whom it is about, as written.
    pub subject: String,
    /// Who signed it, as written.
    pub issuer: String,
    /// Not valid before.
    pub from: Timestamp,
    /// Not valid after.
    pub until: Timestamp,
}

impl Certificate {
    /// Reads a certificate. Never panics, whatever the bytes.
    pub fn read(bytes: &[u8]) -> Result<Certificate, String> {
        let (rest, found) =
            x509_parser::parse_x509_certificate(bytes).map_err(|error| format!("not a certificate: {error}"))?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow the certificate", rest.len()));
        }
        let alternative = found.subject_alternative_name().map_err(|error| format!("its names cannot be read: {error}"))?;
        let alternative = alternative.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let (mut planes, mut names) = (Vec::new(), Vec::new());
        for name in alternative.iter().take(MOST_NAMES) {
            match name {
                GeneralName::URI(uri) => planes.extend(uri.strip_prefix(PLANE_URI).filter(|plane| is_plane_name(plane))),
                GeneralName::DNSName(name) => names.push(printable(name)),
                GeneralName::IPAddress(bytes) => names.extend(address(bytes).map(|address| address.to_string())),
                _ => {}
            }
        }
        let seconds = |time: x509_parser::time::ASN1Time| Timestamp(time.timestamp().saturating_mul(1_000));
        Ok(Certificate {
            plane: match planes.as_slice() {
                [plane] if alternative.len() <= MOST_NAMES => Some((*plane).into()),
                _ => None,
            },
            names,
            serial: found.raw_serial().iter().take(32).map(|byte| format!("{byte:02x}")).collect(),
            subject: printable(&found.subject().to_string()),
            issuer: printable(&found.issuer().to_string()),
            from: seconds(found.validity().not_before),
            until: seconds(found.validity().not_after),
        })
    }

    /// Reads the first certificate of a PEM file.
    pub fn read_file(path: &Path) -> Result<Certificate, PkiError> {
        let first = chain(path)?;
        Certificate::read(&first[0]).map_err(|what| PkiError::Content { path: path.to_owned(), what })
    }
}

/// For logs: whom a certificate names, and how to find it.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.plane {
            Some(plane) => write!(f, "plane {plane}")?,
            None => write!(f, "no plane ({})", self.subject)?,
        }
        write!(f, ", serial {}, issued by {}", self.serial, self.issuer)
    }
}

/// All certificates of a PEM file, at least one.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let text = files::read(path)?;
    let wrong = |what: String| PkiError::Content { path: path.to_owned(), what };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let found = found.map_err(|error| wrong(format!("not a certificate in PEM form: {error:?}")))?;
    if found.is_empty() {
        return Err(wrong("holds no certificate; one begins with `-----BEGIN CERTIFICATE-----`".to_owned()));
    }
    Ok(found)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// What strangers write goes to logs and terminals only in this form.
fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
