//! A small certificate authority in a folder.
//!
//! ```text
//! ca.crt  ca.key (0600)  crl.pem  issued.json  planes/NAME/{plane.crt, plane.key (0600), ca.crt, crl.pem}
//! ```
//! What is issued is on record before it is written, so that nothing is valid that cannot be revoked. Two commands at once
//! wait for each other.

use super::index::{Entry, Index};
use super::{Certificate, PLANE_URI, PkiError, files, is_plane_name};
use crate::model::{Span, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use serde::Serialize;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// How long the authority itself is valid.
pub const AUTHORITY_DAYS: u32 = 3_650;
/// How long a plane's certificate is valid, unless something else is asked for.
pub const PLANE_DAYS: u32 = 90;
/// The longest that a plane's certificate may be valid.
pub const MOST_DAYS: u32 = 825;
/// When the next list of revoked certificates is due.
const CRL_DAYS: u32 = 365;
/// Clocks differ; a certificate is valid this long before it was made.
const EARLIER: Span = Span::minutes(5);
/// Serial numbers are random, so that they tell nothing and never repeat.
const SERIAL_BYTES: usize = 16;

/// An authority that is open for work. Others wait until it is dropped.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    /// Holds the lock of the folder.
    _lock: File,
}

/// What a plane asks of the authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The plane's name.
    pub plane: String,
    /// Host names and addresses to stand in its certificate.
    pub names: Vec<String>,
    /// For how many days.
    pub days: u32,
    /// Where certificate and key are written; `None`: `planes/NAME` in the authority's folder.
    pub to: Option<PathBuf>,
}

impl Request {
    /// The usual, for this plane.
    pub fn new(plane: &str) -> Request {
        Request { plane: plane.to_owned(), names: Vec::new(), days: PLANE_DAYS, to: None }
    }
}

/// What was issued, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Issued {
    /// The certificate as it reads.
    pub certificate: Certificate,
    /// The folder with `plane.crt`, `plane.key`, `ca.crt` and `crl.pem`.
    pub folder: PathBuf,
    /// Was a key made? If not, the one that is there goes on.
    pub new_key: bool,
}

impl Authority {
    /// Makes an authority of this name in a folder that has none.
    pub fn init(folder: &Path, name: &str, now: Timestamp) -> Result<Authority, PkiError> {
        files::private_folder(folder)?;
        let authority = Authority { folder: folder.to_owned(), _lock: lock(folder)? };
        for file in [authority.certificate_path(), authority.key_path(), authority.index_path()] {
            if file.exists() {
                let hint =
                    "an authority can be used for many planes (`embot pki issue`); for another one choose another folder";
                return Err(PkiError::Exists { path: file, hint });
            }
        }
        let key = KeyPair::generate()?;
        let mut params = params(name, AUTHORITY_DAYS, now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        let hint = "choose another folder";
        files::write_new(&authority.key_path(), files::PRIVATE, key.serialize_pem().as_bytes(), hint)?;
        files::write_new(&authority.certificate_path(), files::PUBLIC, certificate.pem().as_bytes(), hint)?;
        let mut index = Index::default();
        authority.write_crl(&mut index, now)?;
        index.write(&authority.index_path())?;
        Ok(authority)
    }

    /// Opens the authority in a folder.
    pub fn open(folder: &Path) -> Result<Authority, PkiError> {
        if !folder.join("ca.key").exists() || !folder.join("ca.crt").exists() {
            return Err(PkiError::NoAuthority(folder.to_owned()));
        }
        Ok(Authority { folder: folder.to_owned(), _lock: lock(folder)? })
    }

    /// Its certificate's file, which planes trust.
    pub fn certificate_path(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Its list of revoked certificates.
    pub fn crl_path(&self) -> PathBuf {
        self.folder.join("crl.pem")
    }

    fn key_path(&self) -> PathBuf {
        self.folder.join("ca.key")
    }

    fn index_path(&self) -> PathBuf {
        self.folder.join("issued.json")
    }

    /// What it has issued.
    pub fn index(&self) -> Result<Index, PkiError> {
        Index::read(&self.index_path())
    }

    /// Its own certificate.
    pub fn certificate(&self) -> Result<Certificate, PkiError> {
        Certificate::read_file(&self.certificate_path())
    }

    /// Gives a plane its first certificate, with a new key.
    pub fn issue(&self, request: &Request, now: Timestamp) -> Result<Issued, PkiError> {
        let index = self.index()?;
        if let Some(entry) = index.valid(&request.plane, now).next() {
            return Err(PkiError::Issued { plane: request.plane.clone(), serial: entry.serial.clone() });
        }
        let folder = self.folder_of(request);
        let hint = "name another folder with --to, or give the plane a new key with `embot pki renew --new-key`";
        for path in [folder.join("plane.key"), folder.join("plane.crt")] {
            if path.exists() {
                return Err(PkiError::Exists { path, hint });
            }
        }
        let key = KeyPair::generate()?;
        let made = self.make(request, &key, index, now)?;
        files::private_folder(&folder)?;
        files::write_new(&folder.join("plane.key"), files::PRIVATE, key.serialize_pem().as_bytes(), hint)?;
        files::write_new(&folder.join("plane.crt"), files::PUBLIC, made.0.as_bytes(), hint)?;
        self.hand_out(folder, made.1, true)
    }

    /// Gives a plane a fresh certificate: for the key it has, or for a new one, in which case the old key is kept beside it.
    /// The old certificate stays valid until it expires or is revoked. Without names, those of the last certificate stay.
    pub fn renew(&self, request: &Request, new_key: bool, now: Timestamp) -> Result<Issued, PkiError> {
        let index = self.index()?;
        let last = index.certificates.iter().rev().find(|entry| entry.plane == request.plane);
        let last = last.ok_or_else(|| PkiError::Unknown(request.plane.clone()))?.clone();
        let names = if request.names.is_empty() { last.names } else { request.names.clone() };
        let request = Request { names, ..request.clone() };
        let folder = self.folder_of(&request);
        let (key_path, path) = (folder.join("plane.key"), folder.join("plane.crt"));
        let key = if new_key { KeyPair::generate()? } else { read_key(&key_path)? };
        files::private_folder(&folder)?;
        let made = self.make(&request, &key, index, now)?;
        if new_key {
            if key_path.exists() {
                let kept = files::beside(&key_path, &format!("before-{}", &made.1.serial[..8]));
                fs::rename(&key_path, &kept).map_err(files::refused("keep the old key", &key_path))?;
            }
            files::write_new(&key_path, files::PRIVATE, key.serialize_pem().as_bytes(), "another process writes it")?;
        }
        files::replace(&path, files::PUBLIC, made.0.as_bytes())?;
        self.hand_out(folder, made.1, new_key)
    }

    /// Takes certificates back: all of a plane, or one by its serial number. Says which.
    pub fn revoke(&self, plane_or_serial: &str, now: Timestamp) -> Result<Vec<Entry>, PkiError> {
        let mut index = self.index()?;
        let mut revoked = Vec::new();
        for entry in &mut index.certificates {
            let meant = entry.plane == plane_or_serial || entry.serial == plane_or_serial;
            if meant && entry.is_valid(now) {
                entry.revoked = Some(now);
                revoked.push(entry.clone());
            }
        }
        if revoked.is_empty() {
            return Err(PkiError::Unknown(plane_or_serial.to_owned()));
        }
        self.write_crl(&mut index, now)?;
        index.write(&self.index_path())?;
        Ok(revoked)
    }

    fn folder_of(&self, request: &Request) -> PathBuf {
        request.to.clone().unwrap_or_else(|| self.folder.join("planes").join(&request.plane))
    }

    /// Makes a certificate and puts it on record.
    fn make(
        &self,
        request: &Request,
        key: &KeyPair,
        mut index: Index,
        now: Timestamp,
    ) -> Result<(String, Certificate), PkiError> {
        if !is_plane_name(&request.plane) {
            return Err(PkiError::Plane(request.plane.clone()));
        }
        self.check_lifetime(request.days, now)?;
        let mut params = params(&request.plane, request.days, now)?;
        params.subject_alt_names.push(SanType::URI(format!("{PLANE_URI}{}", request.plane).try_into()?));
        for name in &request.names {
            params.subject_alt_names.push(alternative(name)?);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(key, &self.issuer()?)?;
        let content = |what| PkiError::Content { path: self.folder.clone(), what };
        let certificate = Certificate::read(made.der()).map_err(content)?;
        index.certificates.push(Entry {
            serial: certificate.serial.clone(),
            plane: request.plane.clone(),
            names: request.names.clone(),
            issued: now,
            expires: certificate.until,
            revoked: None,
        });
        self.write_crl(&mut index, now)?;
        index.write(&self.index_path())?;
        Ok((made.pem(), certificate))
    }

    /// Puts beside a plane's certificate what the plane has to trust.
    fn hand_out(&self, folder: PathBuf, certificate: Certificate, new_key: bool) -> Result<Issued, PkiError> {
        for (source, name) in [(self.certificate_path(), "ca.crt"), (self.crl_path(), "crl.pem")] {
            files::replace(&folder.join(name), files::PUBLIC, files::read(&source)?.as_bytes())?;
        }
        Ok(Issued { certificate, folder, new_key })
    }

    fn check_lifetime(&self, days: u32, now: Timestamp) -> Result<(), PkiError> {
        let refuse = |limit: String| Err(PkiError::Lifetime { days, limit });
        if days == 0 || days > MOST_DAYS {
            return refuse(format!("write 1 to {MOST_DAYS}; {PLANE_DAYS} is usual, and renewing needs no restart"));
        }
        let left = self.certificate()?.until.since(now).0 / day(1).0;
        if u64::from(days) > left {
            return refuse(format!("the authority itself is valid for {left} more days"));
        }
        Ok(())
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, PkiError> {
        let text = files::read(&self.certificate_path())?;
        Ok(Issuer::from_ca_cert_pem(&text, read_key(&self.key_path())?)?)
    }

    /// Writes the list of revoked certificates anew, with the next number. Expired ones are left out: they are refused anyway.
    fn write_crl(&self, index: &mut Index, now: Timestamp) -> Result<(), PkiError> {
        index.crl_number += 1;
        let mut revoked = Vec::new();
        for entry in index.certificates.iter().filter(|entry| now < entry.expires) {
            let Some(at) = entry.revoked else { continue };
            let serial = entry.serial_bytes().ok_or_else(|| PkiError::Content {
                path: self.index_path(),
                what: format!("`{}` is not a serial number", entry.serial),
            })?;
            revoked.push(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&serial),
                revocation_time: system_time(at).into(),
                reason_code: None,
                invalidity_date: None,
            });
        }
        let list = CertificateRevocationListParams {
            this_update: system_time(now - EARLIER).into(),
            next_update: system_time(now + day(CRL_DAYS)).into(),
            crl_number: SerialNumber::from(index.crl_number),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer()?)?.pem()?;
        files::replace(&self.crl_path(), files::PUBLIC, list.as_bytes())
    }
}

fn day(days: u32) -> Span {
    Span::hours(24 * u64::from(days))
}

/// Certificates know whole seconds.
fn system_time(at: Timestamp) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at.0 / 1_000).unwrap_or(0))
}

fn lock(folder: &Path) -> Result<File, PkiError> {
    let path = folder.join(".lock");
    let file = File::options().create(true).append(true).open(&path).map_err(files::refused("write", &path))?;
    file.lock().map_err(files::refused("lock", &path))?;
    Ok(file)
}

/// What every certificate has: a name, a serial number, a time.
fn params(name: &str, days: u32, now: Timestamp) -> Result<CertificateParams, PkiError> {
    let mut serial = [0; SERIAL_BYTES];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut serial).map_err(|_| rustls::Error::FailedToGetRandomBytes)?;
    // Positive and of full length in any encoding.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = system_time(now - EARLIER).into();
    params.not_after = system_time(now + day(days)).into();
    Ok(params)
}

fn read_key(path: &Path) -> Result<KeyPair, PkiError> {
    let text = files::read_private(path)?;
    KeyPair::from_pem(&text)
        .map_err(|error| PkiError::Content { path: path.to_owned(), what: format!("not a private key: {error}") })
}

/// A host's name or an address.
fn alternative(name: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(PkiError::Name(name.to_owned()));
    }
    Ok(SanType::DnsName(name.try_into()?))
}
