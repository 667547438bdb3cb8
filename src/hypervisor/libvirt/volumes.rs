//! Files of a host, by their paths, through libvirt's storage volumes.

use super::failure::{Trouble, is_missing, is_unsupported};
use crate::hypervisor::ErrorKind;
use crate::hypervisor::domain_xml::escape;
use roxmltree::Document;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use virt::connect::Connect;
use virt::enumutil::Enum;
use virt::error::{Error, ErrorNumber};
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt_sys as sys;

/// No image rests on so many others; one that rests on itself would have no end.
const DEEPEST: usize = 32;
/// What others have crossed is tried so often, and after so long: making a pool over a large folder takes its time.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// Finds the volume at a path, by a pool over its folder; where there is none, by one that lives as long as the work.
pub fn with_volume<T>(
    connect: &Connect,
    path: &str,
    work: impl FnOnce(&StorageVol) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    in_pool(connect, path, |pool, name| work(&pool.lookup_storage_vol_by_name(name)?))
}

/// The same for a file that need not be there: with its pool and its name in it.
pub fn in_pool<T>(
    connect: &Connect,
    path: &str,
    work: impl FnOnce(&StoragePool, &str) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let (folder, name) = parts(path)?;
    used(steadily(|| pool_over(connect, folder))?, name, work)
}

/// Folder and name of a file.
fn parts(path: &str) -> Result<(&str, &str), Trouble> {
    let parts = path.rsplit_once('/').filter(|(folder, name)| !folder.is_empty() && !name.is_empty() && !path.contains('\0'));
    parts.ok_or_else(|| Trouble::refuse(ErrorKind::Failed, format!("`{path}` is no path of a file")))
}

fn used<T>(
    (pool, made): (StoragePool, bool),
    name: &str,
    work: impl FnOnce(&StoragePool, &str) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let result = work(&pool, name);
    if made {
        // The pool goes, the files stay. Another who made the same one may have taken it away already.
        let _ = pool.destroy();
    }
    result
}

/// A look at a volume.
fn glance<T>(connect: &Connect, path: &str, look: impl Fn(&StorageVol) -> Result<T, Trouble>) -> Result<T, Trouble> {
    let (folder, name) = parts(path)?;
    steadily(|| used(pool_over(connect, folder)?, name, |pool, name| look(&pool.lookup_storage_vol_by_name(name)?)))
}

/// An active pool over a folder, and whether it was made for this.
fn pool_over(connect: &Connect, folder: &str) -> Result<(StoragePool, bool), Trouble> {
    let known = connect.lookup_storage_pool_by_target_path(folder).ok().filter(|pool| pool.is_active().unwrap_or(false));
    if let Some(pool) = known {
        pool.refresh(0)?;
        return Ok((pool, false));
    }
    let digest: String = Sha256::digest(folder).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let path = escape(folder);
    let pool = format!("<pool type='dir'><name>embot-{digest}</name><target><path>{path}</path></target></pool>");
    Ok((connect.create_storage_pool_xml(&pool, sys::VIR_STORAGE_POOL_CREATE_NORMAL)?, true))
}

/// Others who work in the same folder make the same pool, and take it away in the midst: then once more.
fn steadily<T>(work: impl Fn() -> Result<T, Trouble>) -> Result<T, Trouble> {
    let crossed = |error: &Error| {
        matches!(
            error.code(),
            Enum::Known(ErrorNumber::NoStoragePool | ErrorNumber::OperationFailed | ErrorNumber::OperationInvalid)
        )
    };
    let mut result = work();
    for _ in 1..TRIES {
        match &result {
            Err(Trouble::Libvirt(error)) if crossed(error) => std::thread::sleep(PAUSE),
            _ => break,
        }
        result = work();
    }
    result
}

/// Its size as a file.
pub fn physical(volume: &StorageVol) -> Result<u64, Trouble> {
    Ok(volume.info_flags(sys::VIR_STORAGE_VOL_GET_PHYSICAL)?.allocation)
}

/// A file's size; `None`: there is no such file.
pub fn size(connect: &Connect, path: &str) -> Result<Option<u64>, Trouble> {
    match glance(connect, path, physical) {
        Ok(bytes) => Ok(Some(bytes)),
        // A pool cannot be made over a folder that does not exist.
        Err(Trouble::Libvirt(error)) if is_missing(&error) || error.code() == Enum::Known(ErrorNumber::SystemError) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// Is there such a file? What the host has no way to tell counts as there, devices among it: its start will show.
pub fn is_there(connect: &Connect, path: &str) -> Result<bool, Trouble> {
    if path.starts_with("/dev/") {
        return Ok(true);
    }
    match size(connect, path) {
        Err(Trouble::Libvirt(error)) if is_unsupported(&error) => Ok(true),
        size => Ok(size?.is_some()),
    }
}

/// The images that an image rests on, the nearest first, as far as the host tells.
pub fn bases(connect: &Connect, path: &str) -> Result<Vec<Arc<str>>, Trouble> {
    let mut bases: Vec<Arc<str>> = Vec::new();
    let mut top: Arc<str> = path.into();
    while bases.len() < DEEPEST && !top.starts_with("/dev/") {
        let base = match glance(connect, &top, |volume| Ok(base(&volume.xml_desc(0)?))) {
            Ok(Some(base)) => base,
            Ok(None) => break,
            Err(Trouble::Libvirt(error)) if is_missing(&error) || is_unsupported(&error) => break,
            Err(trouble) => return Err(trouble),
        };
        bases.push(base.clone());
        top = base;
    }
    Ok(bases)
}

/// What a volume's XML says that it rests on.
fn base(xml: &str) -> Option<Arc<str>> {
    let document = Document::parse(xml).ok()?;
    let backing = document.root_element().children().find(|node| node.has_tag_name("backingStore"))?;
    let path = backing.children().find(|node| node.has_tag_name("path"))?.text()?.trim();
    path.starts_with('/').then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_tells_what_it_rests_on() {
        let of = |backing: &str| base(&format!("<volume><target><path>/p/a</path></target>{backing}</volume>"));
        assert_eq!(of("<backingStore><path>/p/base</path><format type='qcow2'/></backingStore>"), Some("/p/base".into()));
        assert_eq!(of("<backingStore/>"), None);
        assert_eq!(of("<backingStore><path>nbd://x</path></backingStore>"), None);
    }
}
