//! Those whom a plane does not speak to, and those who are not who they say they are.

use super::world::{DAY, Hand, World, dial, eventually, hello, now, paths, peer, turned_away};
use embot::migration::link::{Direction, VERSIONS};
use embot::pki::{Authority, Request};
use std::path::Path;

/// A plane that serves `good`, and what it says to a connection with this identity, which presents `presented`.
fn refuses(world: &World, identity: Option<&Path>, alert: &str, presented: &str, reason: &str) {
    let plane = world.listening("site-b", &["good", "site-a"]);
    let said = world.runtime.block_on(turned_away(plane.address(), identity));
    assert!(said.contains(alert), "{said}");
    let refused = plane.refused(reason);
    assert!(refused.0.contains(presented), "{refused:?}");
    assert!(plane.peer("site-a").incoming.is_none());
    plane.still_works(world, "good");
}

#[test]
fn no_certificate() {
    refuses(&World::new(), None, "CertificateRequired", "nobody", "peer sent no certificates");
}

#[test]
fn the_certificate_of_a_foreign_authority() {
    let (world, foreign) = (World::new(), World::new());
    let folder = foreign.certified("site-a");
    refuses(&world, Some(&folder), "UnknownCA", "plane site-a", "no authority that this plane trusts");
}

#[test]
fn a_certificate_of_an_authority_with_the_same_name() {
    // The issuer's name is the same; only its key differs.
    let (world, foreign) = (World::new(), World::new());
    let folder = foreign.certified("good");
    refuses(&world, Some(&folder), "UnknownCA", "plane good", "no authority that this plane trusts");
}

#[test]
fn an_expired_certificate() {
    let world = World::new();
    let folder = world.folder.path().join("expired");
    let old = Request { days: 1, to: Some(folder.clone()), ..Request::new("site-a") };
    world.authority().issue(&old, now() - DAY - DAY).unwrap();
    refuses(&world, Some(&folder), "CertificateExpired", "plane site-a", "it has expired");
}

#[test]
fn a_certificate_from_the_future() {
    let world = World::new();
    let folder = world.folder.path().join("early");
    let early = Request { to: Some(folder.clone()), ..Request::new("site-a") };
    world.authority().issue(&early, now() + DAY).unwrap();
    refuses(&world, Some(&folder), "CertificateExpired", "plane site-a", "not valid yet");
}

#[test]
fn a_revoked_certificate() {
    let world = World::new();
    let folder = world.certified("site-a");
    world.authority().revoke("site-a", now()).unwrap();
    refuses(&world, Some(&folder), "CertificateRevoked", "plane site-a", "it was revoked");
}

#[test]
fn a_certificate_that_the_plane_itself_made() {
    // A plane's certificate must not serve to sign others, though it comes from the right authority.
    let world = World::new();
    let folder = world.certified("site-a");
    let forged = world.folder.path().join("forged");
    std::fs::create_dir(&forged).unwrap();
    let text = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let issuer_key = rcgen::KeyPair::from_pem(&text("plane.key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&text("plane.crt"), issuer_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names.push(rcgen::SanType::URI("embot:plane:good".try_into().unwrap()));
    let made = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(forged.join("plane.crt"), made.pem() + text("plane.crt").as_str()).unwrap();
    std::fs::write(forged.join("plane.key"), key.serialize_pem()).unwrap();
    refuses(&world, Some(&forged), "", "plane good", "its certificate is not accepted");
}

#[test]
fn a_certificate_that_names_two_planes() {
    let world = World::new();
    let pki = world.folder.path().join("pki");
    let text = |file: &str| std::fs::read_to_string(pki.join(file)).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&text("ca.crt"), rcgen::KeyPair::from_pem(&text("ca.key")).unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    for plane in ["site-a", "good"] {
        params.subject_alt_names.push(rcgen::SanType::URI(format!("embot:plane:{plane}").try_into().unwrap()));
    }
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let folder = world.folder.path().join("two");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("plane.crt"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    std::fs::write(folder.join("plane.key"), key.serialize_pem()).unwrap();
    refuses(&world, Some(&folder), "", "no plane", "it names no plane");
}

#[test]
fn the_right_authority_but_not_among_the_peers() {
    let world = World::new();
    let plane = world.listening("site-b", &["good"]);
    let stranger = world.plane("stranger", vec![peer("site-b", Some(plane.address()), &[Direction::Send])], |_| {});
    let (presented, reason) = plane.refused("not among the peers of plane site-b");
    assert!(presented.contains("plane stranger") && reason.contains("plane stranger"), "{presented}: {reason}");
    eventually("it is told why", || stranger.peer("site-b").problem.filter(|why| why.contains("not among the peers")));
    plane.still_works(&world, "good");
}

#[test]
fn a_peer_from_which_nothing_is_received() {
    let world = World::new();
    let peers = vec![peer("site-a", None, &[Direction::Send]), peer("good", None, &[Direction::Receive])];
    let plane = world.plane("site-b", peers, |_| {});
    let sender = world.plane("site-a", vec![peer("site-b", Some(plane.address()), &[Direction::Send])], |_| {});
    plane.refused("site-b receives nothing from plane site-a");
    eventually("it is told why", || sender.peer("site-b").problem.filter(|why| why.contains("receives nothing")));
    plane.still_works(&world, "good");
}

#[test]
fn a_plane_that_calls_itself_another() {
    let world = World::new();
    let plane = world.listening("site-b", &["good", "site-a"]);
    let folder = world.certified("site-a");
    let ending = world.runtime.block_on(async {
        let mut client = dial(plane.address(), &folder).await;
        Hand::say(&mut client, vec![hello("good", "site-b", VERSIONS)]).await.ending().await
    });
    assert!(ending.starts_with("PermissionDenied") && ending.contains("its certificate names plane site-a"), "{ending}");
    let (presented, _) = plane.refused("it calls itself `good`");
    assert!(presented.contains("plane site-a"), "{presented}");
    plane.still_works(&world, "good");
}

#[test]
fn a_plane_that_looks_for_another() {
    let world = World::new();
    let plane = world.listening("site-b", &["good", "site-a"]);
    let folder = world.certified("site-a");
    let ending = world.runtime.block_on(async {
        let mut client = dial(plane.address(), &folder).await;
        Hand::say(&mut client, vec![hello("site-a", "site-c", VERSIONS)]).await.ending().await
    });
    assert!(ending.contains("it looks for plane `site-c`, and this is plane site-b"), "{ending}");
    plane.still_works(&world, "good");
}

#[test]
fn who_answers_in_the_place_of_a_peer_hears_nothing() {
    // The dialling side looks as closely: at the address of site-b another plane of the same authority listens.
    let world = World::new();
    let impostor = world.listening("site-c", &["site-a"]);
    let sender = world.plane("site-a", vec![peer("site-b", Some(impostor.address()), &[Direction::Send])], |_| {});
    let (presented, reason) = sender.refused("belongs to plane site-c, and plane site-b is expected");
    assert!(presented.contains("plane site-c"), "{presented}: {reason}");
    assert!(sender.peer("site-b").outgoing.is_none() && impostor.peer("site-a").incoming.is_none());
}

#[test]
fn a_listener_of_a_foreign_authority_hears_nothing() {
    let (world, foreign) = (World::new(), World::new());
    let impostor = foreign.listening("site-b", &["site-a"]);
    let sender = world.plane("site-a", vec![peer("site-b", Some(impostor.address()), &[Direction::Send])], |_| {});
    sender.refused("no authority that this plane trusts");
    assert!(sender.peer("site-b").outgoing.is_none());
}

#[test]
fn a_plane_refuses_to_start_with_what_is_not_its_own() {
    let (world, foreign) = (World::new(), World::new());
    let (own, other) = (world.certified("site-a"), world.certified("site-b"));
    let load = |paths: &embot::pki::Paths| embot::pki::Credentials::load(paths, "site-a", now()).unwrap_err().to_string();
    let mut mixed = paths(&own);
    assert!(embot::pki::Credentials::load(&mixed, "site-a", now()).is_ok());
    mixed.key = other.join("plane.key");
    assert!(load(&mixed).contains("does not belong to the key"), "{}", load(&mixed));
    assert!(load(&paths(&other)).contains("names plane site-b, and this is plane site-a"));
    let mut untrusted = paths(&own);
    untrusted.ca = foreign.certified("x").join("ca.crt");
    assert!(load(&untrusted).contains("its own authorities"), "{}", load(&untrusted));
    let mut wrong_list = paths(&own);
    wrong_list.crl = Some(foreign.certified("x").join("crl.pem"));
    assert!(load(&wrong_list).contains("its own authorities"), "{}", load(&wrong_list));
    let mut no_list = paths(&own);
    no_list.crl = Some(own.join("ca.crt"));
    assert!(load(&no_list).contains("holds no list of revoked certificates"), "{}", load(&no_list));
    let exposed = own.join("exposed.key");
    std::fs::copy(own.join("plane.key"), &exposed).unwrap();
    std::fs::set_permissions(&exposed, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let exposed = embot::pki::Paths { key: exposed, ..paths(&own) };
    assert!(load(&exposed).contains("chmod 600"), "{}", load(&exposed));
    // Two authorities may be trusted at once, for the time in which one takes over from the other.
    let both = world.folder.path().join("both.crt");
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    std::fs::write(&both, text(&own.join("ca.crt")) + text(&foreign.certified("x").join("ca.crt")).as_str()).unwrap();
    let both = embot::pki::Paths { ca: both, ..paths(&own) };
    assert!(embot::pki::Credentials::load(&both, "site-a", now()).is_ok());
    drop(Authority::open(&world.folder.path().join("pki")).unwrap());
}
