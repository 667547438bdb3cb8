//! A plane that is hot as a whole shares its load: its policy offers a guest, the other plane's policy takes it.

use super::*;

#[test]
fn a_hot_plane_offers_a_guest_and_the_other_takes_it_with_its_embots() {
    let Some(mut sites) = Sites::up("a_hot_plane_offers_a_guest_and_the_other_takes_it_with_its_embots", [2, 8]) else {
        return;
    };
    let guests = ["web", "mail"].map(|name| sites.lab.guest(HOSTS[A], name, &["--start"]));
    let [web, mail] = &guests;
    // Whoever is labelled so is never offered.
    let labels = ["metadata", "mail", "--uri", "urn:embot:labels:1", "--key", "embot-labels", "--live", "--config"];
    sites.lab.virsh(HOSTS[A], &[&labels[..], &["--set", "<labels stay='yes'/>"]].concat()).unwrap();
    for plane in &sites.planes {
        plane.deploy("tally", TALLY.0, TALLY.1);
        // Few samples are enough: where guests and planes share two cores, they come late.
        let hurry = "hot: 0.15\n  every: 1s\n  wait: 8s\n  samples: 4\n  least: 0.05";
        plane.hurry("share-load.yaml", &[("hot: 0.8", hurry), ("cooldown: 10m", "cooldown: 1s")]);
    }
    sites.start();
    for guest in &guests {
        sites.adopted(A, guest);
        sites.rested(A, guest);
        sites.lab.tell(guest, &["burn"]);
    }

    let shared = sites.planes[A].until("a guest to be offered and taken", |plane| {
        let migrations = plane.ask(&["migrations"])?;
        migrations.as_array()?.iter().find(|migration| migration["state"] == "moved").cloned()
    });
    let id = shared["id"].as_str().unwrap();
    guests.iter().for_each(|guest| sites.lab.tell(guest, &["calm"]));
    sites.over(id, "moved");
    sites.is_managed_by(B, web, 2);
    sites.is_managed_by(A, mail, 1);

    // Who let it in heard why.
    let offer = sites.planes[B].told("0", "is offered web by plane site-a").unwrap();
    assert!(offer["text"].as_str().unwrap().contains("plane site-a at "), "{offer}");

    // Why it left is known where it is now: the policy, its line, what it read, and what the other plane had to give.
    let handover = sites.action(B, web, "handover", "share-load");
    let chain = sites.planes[B].ask(&["explain", &handover["id"].to_string()]).unwrap();
    assert_eq!(chain["place"]["file"], "share-load.rhai");
    assert!(chain["place"]["source"].as_str().unwrap().contains("guest.migrate_to("), "{}", chain["place"]);
    let reads = chain["reads"].to_string();
    assert!(reads.contains("usage(cpu).mean") && reads.contains("site-b"), "{reads}");
}
