//! Files of a host, by their paths, through libvirt's storage volumes.

use super::failure::{Trouble, is_missing, is_unsupported};
use crate::hypervisor::ErrorKind;
use roxmltree::Document;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use virt::connect::Connect;
use virt::enumutil::Enum;
use virt::error::ErrorNumber;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt_sys as sys;

/// No image rests on so many others; one that rests on itself would have no end.
const DEEPEST: usize = 32;

/// Finds the volume at a path, by a pool over its folder; where there is none, by one that lives as long as the work.
pub fn with_volume<T>(
    connect: &Connect,
    path: &str,
    work: impl FnOnce(&StorageVol, &StoragePool) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    in_pool(connect, path, |pool, name| work(&pool.lookup_storage_vol_by_name(name)?, pool))
}

/// The same for a file that need not be there: with its pool and its name in it.
pub fn in_pool<T>(
    connect: &Connect,
    path: &str,
    work: impl FnOnce(&StoragePool, &str) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let odd = || Trouble::refuse(ErrorKind::Failed, format!("`{path}` is no path of a file"));
    let (folder, name) =
        path.rsplit_once('/').filter(|(folder, name)| !folder.is_empty() && !name.is_empty()).ok_or_else(odd)?;
    if path.contains(['\0', '<', '&']) {
        return Err(odd());
    }
    let known = connect.lookup_storage_pool_by_target_path(folder).ok().filter(|pool| pool.is_active().unwrap_or(false));
    if let Some(pool) = known {
        pool.refresh(0)?;
        return work(&pool, name);
    }
    let digest: String = Sha256::digest(folder).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let pool = format!("<pool type='dir'><name>embot-{digest}</name><target><path>{folder}</path></target></pool>");
    let pool = connect.create_storage_pool_xml(&pool, sys::VIR_STORAGE_POOL_CREATE_NORMAL)?;
    let result = work(&pool, name);
    // The pool goes, the files stay. Another copy may have taken the pool away already.
    let _ = pool.destroy();
    result
}

/// Its size as a file.
pub fn physical(volume: &StorageVol) -> Result<u64, Trouble> {
    Ok(volume.info_flags(sys::VIR_STORAGE_VOL_GET_PHYSICAL)?.allocation)
}

/// Is there such a file? What the host has no way to tell counts as there, devices among it: its start will show.
pub fn is_there(connect: &Connect, path: &str) -> Result<bool, Trouble> {
    if path.starts_with("/dev/") {
        return Ok(true);
    }
    match with_volume(connect, path, |_, _| Ok(())) {
        Ok(()) => Ok(true),
        Err(Trouble::Libvirt(error)) if is_unsupported(&error) => Ok(true),
        // A pool cannot be made over a folder that does not exist.
        Err(Trouble::Libvirt(error)) if is_missing(&error) || error.code() == Enum::Known(ErrorNumber::SystemError) => {
            Ok(false)
        }
        Err(trouble) => Err(trouble),
    }
}

/// The images that an image rests on, the nearest first, as far as the host tells.
pub fn bases(connect: &Connect, path: &str) -> Result<Vec<Arc<str>>, Trouble> {
    let mut bases: Vec<Arc<str>> = Vec::new();
    let mut top: Arc<str> = path.into();
    while bases.len() < DEEPEST && !top.starts_with("/dev/") {
        let base = match with_volume(connect, &top, |volume, _| Ok(base(&volume.xml_desc(0)?))) {
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
