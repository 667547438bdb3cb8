//! Modules that travel with guests.
//!
//! ```text
//! source: module in force --for_travel--> package: its listing goes with the offer, the rest when it is asked for (`pack`)
//! target: listing --take, vouch--> policies; --missing--> asked for; kept --verify, read, scope--> in force for this guest
//! ```
//! A module that came with guests stands for those guests and for no others, whatever its manifest covers: nobody gets a policy
//! into this plane that reaches guests it did not bring. It goes with the last of them, and so does its package.
//!
//! Everything is checked before anything is put in force: signature, audience, dates, permits, files, what is in force
//! already, and that each policy compiles.

use super::Manager;
use crate::embot::package::{
    Contents, Gate, InForce, Package, ParcelError, Sealed, Take, Travelling, for_travel, missing, parcel, take, unpack,
};
use crate::embot::{Cover, Module};
use crate::migration::message::{Digest, ModuleOffer, Payload};
use crate::migration::target::Imported;
use crate::migration::{Reason, ReasonKind};
use crate::model::{Bytes, Change, ContentHash, Grant, Level, MobileRow, ModuleRow, ModuleVersion, OfferedModule, VmId};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// Pieces that are asked for at a time.
const ASKED: usize = 500;

/// What a plane keeps of modules that came with guests.
#[derive(Debug, Default)]
pub(super) struct Mobile {
    rows: BTreeMap<Arc<str>, MobileRow>,
    contents: Contents,
}

impl Mobile {
    /// What the store holds.
    pub(super) fn restored(rows: BTreeMap<Arc<str>, MobileRow>, contents: BTreeMap<ContentHash, Bytes>) -> Mobile {
        let mut mobile = Mobile { rows, ..Mobile::default() };
        for bytes in contents.into_values() {
            mobile.contents.put(bytes.0);
        }
        mobile
    }

    /// Narrows a module that came with guests down to them.
    pub(super) fn scope(&self, module: &mut Module) {
        if let Some(row) = self.rows.get(&module.manifest.module) {
            module.stand_for(row.guests.clone());
        }
    }
}

impl Manager {
    /// A module as it is offered: with the listing of its package.
    pub(super) fn module_offer(&self, module: &Module) -> Result<ModuleOffer, Arc<str>> {
        let travelling = self.travelling(module)?;
        let package = &travelling.package;
        Ok(ModuleOffer {
            name: module.manifest.module.clone(),
            hash: Digest(package.hash().0),
            sealed: Payload(package.sealed().bytes().clone()),
            mode: module.mode(),
            permits: module.manifest.permits.clone(),
        })
    }

    fn travelling(&self, module: &Module) -> Result<Rc<Travelling>, Arc<str>> {
        let name = &module.manifest.module;
        module.travelling(|row| {
            let version = row.versions.last().ok_or_else(|| format!("nothing is kept of module {name}"))?;
            let key = self.settings.handover.module_key.as_deref();
            let told = |errors: Vec<crate::error::Diagnostic>| errors.first().map_or(String::new(), ToString::to_string);
            for_travel(version, &self.mobile.contents, key)
                .map_err(|errors| format!("module {name} cannot travel: {}", told(errors)).into())
        })
    }

    /// The pieces that a peer asked for, as many as fit: of what was offered, as it is now.
    pub(super) fn pack(&self, offered: &[ModuleOffer], asked: &BTreeSet<Digest>) -> Result<Payload, Reason> {
        let mut contents = self.mobile.contents.clone();
        for module in offered.iter().filter_map(|offered| self.roster.module(&offered.name)) {
            if let Ok(travelling) = self.travelling(module) {
                for blob in travelling.package.blobs() {
                    contents.put(blob);
                }
            }
        }
        let roots: Vec<ContentHash> = offered.iter().map(|module| ContentHash(module.hash.0)).collect();
        let asked: BTreeSet<ContentHash> = asked.iter().map(|digest| ContentHash(digest.0)).collect();
        let sent = parcel(&asked, &roots, &contents);
        sent.map(Payload::from).map_err(|error| {
            let text = format!("{error}; a module has changed since the guest was offered: offer it again");
            Reason::new(ReasonKind::Instantiation, text)
        })
    }

    /// The version in force of a module, as a package meets it.
    fn in_force(&self, name: &str) -> Option<InForce> {
        let module = self.roster.module(name)?;
        Some(InForce::of(module.row.versions.last()?, &module.manifest.version, &self.mobile.contents))
    }

    /// A module of an offer, as policies read it.
    pub(super) fn offered_module(&self, module: &ModuleOffer) -> OfferedModule {
        let mut told = OfferedModule {
            name: module.name.clone(),
            version: "?".into(),
            serial: 0,
            hash: ContentHash(module.hash.0),
            signed_by: None,
            mode: module.mode,
            permits: module.permits.clone(),
            in_force: false,
            refusal: None,
        };
        let sealed = match Sealed::read(&module.sealed.0) {
            Ok(sealed) if sealed.hash() == told.hash && sealed.claims().name == module.name => sealed,
            Ok(_) => {
                told.refusal = Some(format!("the listing of module {} is that of another", module.name).into());
                return told;
            }
            Err(error) => {
                told.refusal = Some(format!("module {}: {error}", module.name).into());
                return told;
            }
        };
        let listing = sealed.claims();
        (told.version, told.serial) = (listing.version.clone(), listing.serial);
        let vouched = sealed.vouch(&self.settings.handover.trust, &self.settings.plane, self.now);
        told.signed_by = vouched.as_ref().ok().map(|vouched| vouched.key.name.clone());
        match take(&sealed, self.in_force(&module.name).as_ref()) {
            Ok(Take::Keep) => told.in_force = true,
            Ok(Take::Install | Take::Replace) => {
                (told.mode, told.permits) = (listing.mode, listing.permits.clone());
                told.refusal = vouched.err().map(|error| error.to_string().into());
            }
            Err(error) => told.refusal = Some(error.to_string().into()),
        }
        told
    }

    /// An offer is accepted: takes its modules over where everything is here, or says what is missing.
    pub(super) fn take_modules(
        &mut self,
        vm: VmId,
        offered: &[ModuleOffer],
        grant: &Grant,
    ) -> Result<BTreeSet<Digest>, String> {
        let needed = self.needed(offered)?;
        for sealed in &needed {
            self.keep_piece(sealed.bytes().clone());
        }
        let roots: Vec<ContentHash> = needed.iter().map(Sealed::hash).collect();
        let missing = missing(&roots, &self.mobile.contents).map_err(|error| error.to_string())?;
        if missing.is_empty() {
            self.put_packages_in_force(vm, offered, &roots, grant)?;
        }
        Ok(missing.into_iter().take(ASKED).map(|hash| Digest(hash.0)).collect())
    }

    /// Pieces have come.
    pub(super) fn install_parcel(
        &mut self,
        vm: VmId,
        offered: &[ModuleOffer],
        grant: &Grant,
        bytes: &Payload,
    ) -> Result<Imported, String> {
        let told = |error: ParcelError| error.to_string();
        let roots: Vec<ContentHash> = self.needed(offered)?.iter().map(Sealed::hash).collect();
        let asked = missing(&roots, &self.mobile.contents).map_err(told)?;
        // A parcel that comes twice brings nothing new.
        if !asked.is_empty() {
            for piece in unpack(&asked, &bytes.0).map_err(told)? {
                self.keep_piece(piece);
            }
        }
        let missing = missing(&roots, &self.mobile.contents).map_err(told)?;
        if missing.is_empty() {
            self.put_packages_in_force(vm, offered, &roots, grant)?;
            return Ok(Imported::Accepted);
        }
        Ok(Imported::Lacks(missing.into_iter().take(ASKED).map(|hash| Digest(hash.0)).collect()))
    }

    /// The offered packages that are needed: those for which nothing stays in force here.
    fn needed(&self, offered: &[ModuleOffer]) -> Result<Vec<Sealed>, String> {
        let mut needed = Vec::new();
        for module in offered {
            let sealed = Sealed::read(&module.sealed.0).map_err(|error| error.to_string())?;
            if take(&sealed, self.in_force(&module.name).as_ref()).map_err(|error| error.to_string())? != Take::Keep {
                needed.push(sealed);
            }
        }
        Ok(needed)
    }

    /// Verifies these packages and all they import, and puts them in force for the guest that brings them.
    fn put_packages_in_force(
        &mut self,
        vm: VmId,
        offered: &[ModuleOffer],
        roots: &[ContentHash],
        grant: &Grant,
    ) -> Result<(), String> {
        let settings = self.settings.handover.clone();
        let plane = self.settings.plane.clone();
        let gate = Gate { trust: &settings.trust, plane: &plane, now: self.now };
        let mut loads = Vec::new();
        let mut names: BTreeSet<Arc<str>> = offered.iter().map(|module| module.name.clone()).collect();
        for hash in imports_first(roots, &self.mobile.contents) {
            let Some(package) = Package::gather(&hash, &self.mobile.contents) else { continue };
            let name = package.claims().name.clone();
            let in_force = self.in_force(&name);
            names.insert(name.clone());
            if take(package.sealed(), in_force.as_ref()).map_err(|error| error.to_string())? == Take::Keep {
                continue;
            }
            let verified = package.verify(&gate, in_force.as_ref()).map_err(|error| error.to_string())?;
            let version = verified.version(self.now);
            let read = self.read_module(&version)?;
            if read.0.cover != Cover::Vms {
                return Err(format!(
                    "module {name} does not stand for each vm, so it does not travel: an admin of plane {plane} has to load it"
                ));
            }
            loads.push((hash, verified.mode(), version, read));
        }
        for (hash, mode, version, read) in loads {
            let name = read.0.module.clone();
            let row = self.mobile.rows.entry(name.clone()).or_insert(MobileRow { package: hash, guests: BTreeMap::new() });
            row.package = hash;
            row.guests.insert(vm, grant.clone());
            self.turn.changes.push(Change::Mobile(name.clone(), Some(row.clone())));
            let before = self.roster.module(&name).map(|module| module.row.clone());
            let row = grown(before, version, mode);
            self.put_in_force(read, row)?;
        }
        for name in names {
            self.add_bringer(&name, vm, grant);
        }
        self.sweep_packages();
        Ok(())
    }

    /// A module that came with others stands for this guest, too.
    fn add_bringer(&mut self, name: &Arc<str>, vm: VmId, grant: &Grant) {
        let Some(row) = self.mobile.rows.get_mut(name) else { return };
        if row.guests.insert(vm, grant.clone()).as_ref() == Some(grant) {
            return;
        }
        self.turn.changes.push(Change::Mobile(name.clone(), Some(row.clone())));
        self.roster.set_guests(name, row.guests.clone());
    }

    /// A guest is gone, or will not come: modules that came with it alone go as well.
    pub(super) fn forget_bringer(&mut self, vm: VmId) {
        let brought = |(_, row): &(&Arc<str>, &MobileRow)| row.guests.contains_key(&vm);
        let names: Vec<Arc<str>> = self.mobile.rows.iter().filter(brought).map(|(name, _)| name.clone()).collect();
        for name in &names {
            let Some(row) = self.mobile.rows.get_mut(name) else { continue };
            row.guests.remove(&vm);
            if !row.guests.is_empty() {
                self.turn.changes.push(Change::Mobile(name.clone(), Some(row.clone())));
                self.roster.set_guests(name, row.guests.clone());
                continue;
            }
            self.mobile.rows.remove(name);
            self.turn.changes.push(Change::Mobile(name.clone(), None));
            let gone = self.roster.unload(name, false);
            self.embots_changed(Vec::new(), gone);
            self.tally.forget(name);
            self.turn.changes.push(Change::Module(name.clone(), None));
            self.notice(Level::Info, format!("module {name} is gone with the last guest that brought it"));
        }
        if !names.is_empty() {
            self.sweep_packages();
        }
    }

    /// A module is the plane's own from now on, or nobody's. Says whether it had come with guests.
    pub(super) fn disown(&mut self, name: &Arc<str>) -> bool {
        if self.mobile.rows.remove(name).is_none() {
            return false;
        }
        self.turn.changes.push(Change::Mobile(name.clone(), None));
        self.sweep_packages();
        true
    }

    fn keep_piece(&mut self, bytes: Arc<[u8]>) {
        let hash = ContentHash::of(&bytes);
        if self.mobile.contents.get(&hash).is_none() {
            self.turn.changes.push(Change::Content(hash, Some(Bytes(bytes.clone()))));
            self.mobile.contents.put(bytes);
        }
    }

    /// Packages that no module came in and that nobody offers are forgotten.
    pub(super) fn sweep_packages(&mut self) {
        if self.mobile.contents.is_empty() {
            return;
        }
        let used: Vec<ContentHash> =
            self.mobile.rows.values().map(|row| row.package).chain(self.handovers.offered_packages()).collect();
        for hash in self.mobile.contents.sweep(used) {
            self.turn.changes.push(Change::Content(hash, None));
        }
    }
}

/// The row of a module with one version more, as far as its key lets it go.
fn grown(before: Option<ModuleRow>, version: ModuleVersion, mode: crate::model::Mode) -> ModuleRow {
    let mut row = before.unwrap_or(ModuleRow { mode: Some(mode), versions: Vec::new(), declared: None });
    row.mode = Some(row.mode.map_or(mode, |set| set.min(mode)));
    row.versions.push(version);
    // Packages are not rolled back: whoever signed them releases a newer one.
    row.versions.drain(..row.versions.len() - 1);
    row
}

/// Packages with all they import, so that each comes after what it needs.
fn imports_first(roots: &[ContentHash], contents: &Contents) -> Vec<ContentHash> {
    fn visit(hash: ContentHash, contents: &Contents, seen: &mut BTreeSet<ContentHash>, order: &mut Vec<ContentHash>) {
        if !seen.insert(hash) {
            return;
        }
        for import in contents.sealed(&hash).into_iter().flat_map(|sealed| &sealed.claims().imports) {
            visit(import.hash, contents, seen, order);
        }
        order.push(hash);
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    roots.iter().for_each(|root| visit(*root, contents, &mut seen, &mut order));
    order
}
