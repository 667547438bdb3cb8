//! Packages from packing to loading; each way in which one is refused; what peers may send.

use super::*;
use crate::model::{ContentHash, Mode, ModuleVersion, Span, Timestamp, Verb};
use std::collections::BTreeSet;
use std::sync::Arc;

const MANIFEST: &str = "module: relieve
version: '1.2.0'
description: For tests.
policies: [relieve.rhai, more/cool.rhai]
covers: { each: host }
mode: act
permits: [migrate, notify]
";
const NOW: Timestamp = Timestamp(1_000_000_000);

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32]).unwrap()
}

fn policies() -> Vec<(Arc<str>, Arc<str>)> {
    vec![
        ("relieve.rhai".into(), "fn on_load(vm) { vm.migrate(\"hot\"); }".into()),
        ("more/cool.rhai".into(), "fn on_load(vm) { notify(vm.name); }".into()),
        ("spare.rhai".into(), "fn on_load() {}".into()),
    ]
}

fn packed_as(manifest: &str, recipe: Recipe) -> Package<Unverified> {
    pack(&"relieve.yaml".into(), manifest, &policies(), recipe).unwrap()
}

fn packed(serial: u64) -> Package<Unverified> {
    packed_as(MANIFEST, Recipe { serial, ..Recipe::default() })
}

fn signed(serial: u64) -> Package<Unverified> {
    packed(serial).sign(&key(1)).unwrap()
}

fn trust() -> TrustStore {
    let permits = [Verb::Migrate, Verb::Notify, Verb::Start].into();
    TrustStore::new(vec![TrustedKey { name: "ops".into(), key: key(1).public(), permits, mode: Mode::Advise }])
}

fn verify_as(package: Package<Unverified>, in_force: Option<&InForce>) -> Result<Package<Verified>, PackageError> {
    let trust = trust();
    package.verify(&Gate { trust: &trust, plane: "site-b", now: NOW }, in_force)
}

fn verify(package: Package<Unverified>) -> Result<Package<Verified>, PackageError> {
    verify_as(package, None)
}

fn contents(package: &Package<Unverified>) -> Contents {
    let mut contents = Contents::default();
    for blob in package.blobs() {
        contents.put(blob);
    }
    contents
}

fn version(manifest: &str, second: i64) -> ModuleVersion {
    let mut policies = policies();
    policies.pop();
    let (file, by) = ("relieve.yaml".into(), "folder".into());
    ModuleVersion { file, manifest: manifest.into(), policies, loaded_at: Timestamp(second * 1_000 + 5), by }
}

#[test]
fn a_package_is_packed_signed_read_verified_and_loaded() {
    let package = signed(7);
    let read = Package::read(&package.to_bytes()).unwrap();
    assert_eq!(read, package);
    assert_eq!(package.blobs().len(), 4, "listing, manifest and the policies it names");
    let verified = verify(read).unwrap();
    assert_eq!((verified.take(), verified.mode(), &*verified.signed_by().name), (Take::Install, Mode::Advise, "ops"));
    let loaded = verified.version(NOW);
    assert_eq!((&*loaded.file, &*loaded.manifest), ("relieve.yaml", MANIFEST));
    assert_eq!(loaded.policies, policies()[..2]);
}

#[test]
fn equal_contents_make_equal_bytes() {
    assert_eq!(signed(7).to_bytes(), signed(7).to_bytes());
    let mut turned = policies();
    turned.reverse();
    let other = pack(&"relieve.yaml".into(), MANIFEST, &turned, Recipe { serial: 7, ..Recipe::default() }).unwrap();
    assert_eq!(other.to_bytes(), packed(7).to_bytes());
    // The form of version 1: what was signed once stays valid.
    insta::assert_snapshot!(format!("{}\n{}", signed(7).hash(), ContentHash::of(&signed(7).to_bytes())));
}

/// All ways to be refused, each with what the admin reads.
#[test]
fn whatever_is_wrong_is_refused_and_explained() {
    let recipe = |recipe: Recipe| packed_as(MANIFEST, recipe).sign(&key(1)).unwrap();
    let asks = MANIFEST.replace("[migrate, notify]", "[migrate, destroy, undefine]");
    let old = recipe(Recipe { expires: Some(NOW), ..Recipe::default() });
    let early = recipe(Recipe { not_before: NOW + Span::minutes(90), ..Recipe::default() });
    let elsewhere = recipe(Recipe { audience: ["site-a".into(), "site-c".into()].into(), ..Recipe::default() });
    let contents = contents(&signed(7));
    let in_force = InForce::of(&version(MANIFEST, 1), &"1.2.0".into(), &contents);
    let newer = MANIFEST.replace("1.2.0", "1.1.0");
    let changed = |serial| packed_as(&newer, Recipe { serial, ..Recipe::default() });
    let refused = [
        verify(packed(7)),
        verify(packed(7).sign(&key(2)).unwrap()),
        verify(elsewhere),
        verify(early),
        verify(old),
        verify(packed_as(&asks, Recipe::default()).sign(&key(1)).unwrap()),
        verify(Package::new(signed(7).sealed().clone(), signed(7).blobs().into_iter().skip(2))),
        verify_as(changed(6).sign(&key(1)).unwrap(), Some(&in_force)),
        verify_as(changed(7).sign(&key(1)).unwrap(), Some(&in_force)),
        take(changed(8).sign(&key(2)).unwrap().sealed(), Some(&in_force)).map(|_| unreachable!()),
    ];
    let told: Vec<String> =
        refused.into_iter().map(|one| one.unwrap_err()).map(|one| format!("{}: {one}", one.word())).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn each_changed_file_is_named() {
    for (index, file) in ["relieve.yaml", "relieve.rhai", "more/cool.rhai"].into_iter().enumerate() {
        let package = signed(7);
        let mut blobs = package.blobs();
        let mut changed = blobs[index + 1].to_vec();
        changed.push(b'\n');
        blobs[index + 1] = changed.into();
        let refused = verify(Package::new(package.sealed().clone(), blobs.into_iter().skip(1))).unwrap_err();
        assert_eq!(refused, PackageError::Tampered { name: "relieve".into(), file: file.into() });
    }
}

#[test]
fn a_signature_is_worth_nothing_on_another_listing() {
    let bytes = signed(7).sealed().bytes().to_vec();
    let mine = packed(7).sealed().bytes().to_vec();
    // The serial number stands in the listing; the signature over 7 does not hold for 8.
    let other = packed(8).sealed().bytes().to_vec();
    let at = mine.iter().zip(&other).position(|(a, b)| a != b).unwrap();
    let mut forged = bytes.clone();
    forged[at] = other[at];
    let forged = Sealed::read(&forged).unwrap();
    assert_eq!(forged.claims().serial, 8);
    assert_eq!(forged.vouch(&trust(), "site-b", NOW).unwrap_err().word(), "tampered");
}

#[test]
fn a_listing_that_promises_less_than_its_manifest_asks_for_is_refused() {
    let mut listing = packed(7).claims().clone();
    listing.permits = BTreeSet::new();
    let sealed = Sealed::new(listing, Some(&key(1))).unwrap();
    let refused = verify(Package::new(sealed, signed(7).blobs())).unwrap_err();
    assert!(refused.to_string().contains("differ in `permits`"), "{refused}");
}

#[test]
fn what_is_in_force_decides_what_becomes_of_a_package() {
    let newer = MANIFEST.replace("1.2.0", "2.0.0");
    let upgrade = packed_as(&newer, Recipe { serial: 8, ..Recipe::default() }).sign(&key(1)).unwrap();
    let number = "1.2.0".into();
    let from_package = InForce::of(&version(MANIFEST, 1), &number, &contents(&signed(7)));
    let local = InForce::of(&version(MANIFEST, 1), &number, &Contents::default());
    assert_eq!(verify_as(upgrade.clone(), Some(&from_package)).unwrap().take(), Take::Replace);
    assert_eq!(verify_as(signed(3), Some(&from_package)).unwrap().take(), Take::Keep, "the same files, whatever the serial");
    assert_eq!(verify_as(upgrade.clone(), Some(&local)).unwrap().take(), Take::Keep, "the plane's own stays");
    // Nothing of it is loaded, so nobody has to stand for it.
    assert_eq!(take(packed(7).sealed(), Some(&local)), Ok(Take::Keep));
    assert_eq!(take(packed(7).sealed(), Some(&from_package)), Ok(Take::Keep));
    let unsigned = packed_as(&newer, Recipe::default());
    assert_eq!(take(unsigned.sealed(), Some(&from_package)).unwrap_err().word(), "unsigned");
}

#[test]
fn a_deployed_module_is_packed_for_travel_and_a_package_goes_on_as_it_came() {
    let loaded = version(MANIFEST, 42);
    let own = for_travel(&loaded, &Contents::default(), Some(&key(9))).unwrap();
    assert!(!own.is_original);
    assert_eq!((own.package.claims().serial, own.package.sealed().key()), (42, Some(key(9).public())));
    assert_eq!(for_travel(&loaded, &Contents::default(), None).unwrap().package.sealed().key(), None);
    let original = signed(7);
    let passed = for_travel(&loaded, &contents(&original), Some(&key(9))).unwrap();
    assert!(passed.is_original);
    assert_eq!(passed.package, original);
    // Changed here since: no longer the author's.
    let changed = version(&MANIFEST.replace("1.2.0", "1.2.1"), 43);
    assert!(!for_travel(&changed, &contents(&original), Some(&key(9))).unwrap().is_original);
    let trust = TrustStore::default().with_own("site-a", key(9).public());
    assert!(own.package.verify(&Gate { trust: &trust, plane: "site-a", now: NOW }, None).is_ok());
}

#[test]
fn packing_says_what_is_missing_and_where() {
    let one: Vec<(Arc<str>, Arc<str>)> = policies().into_iter().take(1).collect();
    let complaints = pack(&"relieve.yaml".into(), MANIFEST, &one, Recipe::default()).unwrap_err();
    assert_eq!((complaints[0].line, &*complaints[0].message), (4, "the policy `more/cool.rhai` is missing"));
    assert!(pack(&"relieve.yaml".into(), "module: x", &one, Recipe::default()).is_err());
    let long: Vec<(Arc<str>, Arc<str>)> =
        policies().into_iter().map(|(file, _)| (file, "// much\n".repeat(40_000).into())).collect();
    let complaints = pack(&"relieve.yaml".into(), MANIFEST, &long, Recipe::default()).unwrap_err();
    assert!(complaints[0].message.contains("262144 is the most"), "{}", complaints[0].message);
}

/// A chain of packages, each importing the next; the first is the root.
fn chain(length: usize) -> Vec<Package<Unverified>> {
    let mut all: Vec<Package<Unverified>> = Vec::new();
    for number in (0..length).rev() {
        let manifest = MANIFEST.replace("module: relieve", &format!("module: relieve-{number}"));
        let import = |next: &Package<Unverified>| Import { name: next.claims().name.clone(), hash: next.hash() };
        let imports = all.first().map(import).into_iter().collect();
        all.insert(0, packed_as(&manifest, Recipe { imports, ..Recipe::default() }).sign(&key(1)).unwrap());
    }
    all
}

fn all_of(packages: &[Package<Unverified>]) -> Contents {
    let mut all = Contents::default();
    for blob in packages.iter().flat_map(Package::blobs) {
        all.put(blob);
    }
    all
}

#[test]
fn only_what_is_missing_is_asked_for_through_all_imports() {
    let packages = chain(3);
    let source = all_of(&packages);
    let roots = [packages[0].hash()];
    let mut target = Contents::default();
    let mut rounds = Vec::new();
    loop {
        let asked = missing(&roots, &target).unwrap();
        if asked.is_empty() {
            break;
        }
        rounds.push(asked.len());
        for piece in unpack(&asked, &parcel(&asked, &roots, &source).unwrap()).unwrap() {
            target.put(piece);
        }
    }
    // The root; its three files and the next package; then of each package its manifest and the package after it.
    assert_eq!(rounds, [1, 4, 2, 1]);
    assert_eq!(target, source);
    let mut partly = contents(&packages[2]);
    assert_eq!(missing(&roots, &partly).unwrap(), roots.into(), "nothing is known of it yet");
    partly.put(packages[0].sealed().bytes().clone());
    partly.put(packages[1].sealed().bytes().clone());
    assert_eq!(missing(&roots, &partly).unwrap().len(), 2, "two manifests; the rest is there");
}

#[test]
fn imports_are_bounded_in_depth_and_lie_about_nothing() {
    let deep = chain(bounds::DEPTH + 2);
    assert!(missing(&[deep[1].hash()], &all_of(&deep)).unwrap().is_empty());
    let refused = missing(&[deep[0].hash()], &all_of(&deep)).unwrap_err();
    assert_eq!(refused, ParcelError::Depth(format!("relieve-{}", bounds::DEPTH).into()));

    let hash = signed(7).hash();
    let wrong = packed_as(MANIFEST, Recipe { imports: vec![Import { name: "other".into(), hash }], ..Recipe::default() });
    let mut all = contents(&wrong);
    all.put(signed(7).sealed().bytes().clone());
    assert!(matches!(missing(&[wrong.hash()], &all), Err(ParcelError::OtherImport { .. })));

    let file = signed(7).blobs()[1].clone();
    let hash = all.put(file);
    assert_eq!(missing(&[hash], &all), Err(ParcelError::NoPackage(hash)));

    let mut listing = signed(7).claims().clone();
    listing.manifest.bytes -= 1;
    let lies = Package::new(Sealed::new(listing, Some(&key(1))).unwrap(), signed(7).blobs());
    assert!(matches!(missing(&[lies.hash()], &contents(&lies)), Err(ParcelError::Length { .. })));
}

#[test]
fn what_an_offer_comes_to_is_bounded_before_it_is_fetched() {
    let listing = |number: u64| {
        let mut listing = signed(number).claims().clone();
        let policy = |index: usize| Listed {
            file: format!("{index}.rhai").into(),
            hash: ContentHash::of(&[number.to_le_bytes(), index.to_le_bytes()].concat()),
            bytes: bounds::FILE_BYTES as u64,
        };
        listing.policies = (0..40).map(policy).collect();
        Sealed::new(listing, None).unwrap()
    };
    let (one, other) = (listing(1), listing(2));
    let mut contents = Contents::default();
    contents.put(one.bytes().clone());
    contents.put(other.bytes().clone());
    assert!(missing(&[one.hash()], &contents).is_ok());
    assert!(matches!(missing(&[one.hash(), other.hash()], &contents), Err(ParcelError::Bytes(_))));
    let many: Vec<ContentHash> = (0..=bounds::PACKAGES).map(|number| ContentHash::of(&number.to_le_bytes())).collect();
    assert_eq!(missing(&many, &contents), Err(ParcelError::Packages));
}

#[test]
fn parcels_hold_what_was_asked_for_and_offered_and_nothing_else() {
    let (package, secret) = (signed(7), b"not for them".as_slice());
    let mut source = contents(&package);
    let hidden = source.put(secret.into());
    let roots = [package.hash()];
    assert_eq!(parcel(&[hidden].into(), &roots, &source), Err(ParcelError::NotOffered(hidden)));
    let asked: BTreeSet<ContentHash> = roots.into();
    let sent = parcel(&asked, &roots, &source).unwrap();
    assert_eq!(unpack(&BTreeSet::from([hidden]), &sent), Err(ParcelError::Unasked(roots[0])));
    let empty = parcel(&BTreeSet::new(), &roots, &source).unwrap();
    assert_eq!(unpack(&asked, &empty), Err(ParcelError::Empty));
    assert!(matches!(unpack(&asked, &sent[..sent.len() - 1]), Err(ParcelError::Unreadable(_))));
}

#[test]
fn what_does_not_fit_one_parcel_comes_with_the_next() {
    let mut source = Contents::default();
    let text = |number: u8| Arc::<str>::from(format!("// {number}\n").repeat(bounds::FILE_BYTES / 6));
    let names: Vec<Arc<str>> = (0..20).map(|number| Arc::from(format!("p{number}.rhai"))).collect();
    let manifest = MANIFEST.replace("relieve.rhai, more/cool.rhai", &names.join(", "));
    let policies: Vec<(Arc<str>, Arc<str>)> = names.into_iter().enumerate().map(|(n, name)| (name, text(n as u8))).collect();
    let package = pack(&"relieve.yaml".into(), &manifest, &policies, Recipe::default()).unwrap();
    for blob in package.blobs() {
        source.put(blob);
    }
    let (mut target, mut rounds) = (Contents::default(), 0);
    loop {
        let asked = missing(&[package.hash()], &target).unwrap();
        if asked.is_empty() {
            break;
        }
        for piece in unpack(&asked, &parcel(&asked, &[package.hash()], &source).unwrap()).unwrap() {
            target.put(piece);
        }
        rounds += 1;
    }
    assert_eq!((rounds, &target), (3, &source));
}

#[test]
fn contents_are_kept_while_a_package_leads_to_them() {
    let (first, second) = (signed(7), chain(1).remove(0));
    let mut all = all_of(&[first.clone(), second.clone()]);
    assert_eq!(all.len(), 6, "the policies are the same in both");
    assert_eq!(all.sweep([first.hash(), second.hash()]), []);
    assert_eq!(all.sweep([second.hash()]).len(), 2, "listing and manifest of the first");
    assert_eq!(all, contents(&second));
    assert_eq!(all.sweep([first.hash()]).len(), 4);
    assert!(all.is_empty());
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = Package::read(&bytes);
        let _ = Sealed::read(&bytes);
        let _ = unpack(&BTreeSet::new(), &bytes);
        let _ = SigningKey::from_pkcs8(&bytes);
    }

    /// One bit turned anywhere in a package: it is refused, or it is the same package.
    #[test]
    fn no_turned_bit_goes_unnoticed(at in 0usize..10_000, bit in 0u32..8) {
        let package = signed(7);
        let mut bytes = package.to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(read) = Package::read(&bytes) {
            proptest::prop_assert!(verify(read).is_err(), "byte {at}, bit {bit}");
        }
    }

    #[test]
    fn no_shortened_package_is_read(cut in 1usize..10_000) {
        let bytes = signed(7).to_bytes();
        let cut = 1 + cut % (bytes.len() - 1);
        proptest::prop_assert!(Package::read(&bytes[..bytes.len() - cut]).is_err());
    }

    #[test]
    fn public_keys_read_back(bytes: [u8; 32]) {
        let key = PublicKey(bytes);
        proptest::prop_assert_eq!(key.to_string().parse(), Ok(key));
    }
}
