//! Domain XML to [`Description`], and the plane's own elements in a domain's metadata.
//!
//! The plane keeps two elements there, each in a namespace of its own, so that writing one never touches the other:
//!
//! * `<mark plane="home" epoch="7"/>` in [`MARK`]: who owns the guest. Written by the plane only. While a migration is under
//!   way it may also say `autostart="yes"`, because libvirt forgets that flag when a guest moves (see `migration`); during a
//!   handover to another plane `handover="home/41"`, the seal, with `paused="yes"` where somebody had paused the guest before.
//! * `<labels tier="web" owner="shop"/>` in [`LABELS`]: what admins say of a guest. Only read here; written by
//!   `virsh metadata GUEST --uri urn:embot:labels:1 --key embot-labels --set '<labels tier="web"/>' --live --config`.

use crate::hypervisor::domain_xml::escape;
use crate::hypervisor::{Seal, with_note};
use crate::model::{Description, Mark};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The namespace of the mark.
pub const MARK: &str = "urn:embot:mark:1";
/// The prefix of the mark.
pub const MARK_KEY: &str = "embot-mark";
/// The namespace of labels.
pub const LABELS: &str = "urn:embot:labels:1";

/// The mark as it stands in the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Owner and epoch.
    pub mark: Mark,
    /// The guest is on its way, and its host used to start it by itself.
    pub autostart: bool,
    /// It is sealed for a handover.
    pub seal: Option<Seal>,
}

impl Marked {
    /// The element, as libvirt wants it set.
    pub fn to_xml(&self) -> String {
        let autostart = if self.autostart { " autostart=\"yes\"" } else { "" };
        let seal = self.seal.as_ref().map_or_else(String::new, |seal| {
            let paused = if seal.stays_paused { " paused=\"yes\"" } else { "" };
            format!(" handover=\"{}\"{paused}", escape(&seal.handover))
        });
        format!("<mark plane=\"{}\" epoch=\"{}\"{autostart}{seal}/>", escape(&self.mark.plane), self.mark.epoch)
    }

    /// A domain's XML with the element in its metadata.
    pub fn in_domain(&self, xml: &str) -> Result<String, String> {
        let element = self.to_xml().replacen("<mark ", &format!("<{MARK_KEY}:mark xmlns:{MARK_KEY}=\"{MARK}\" "), 1);
        with_note(xml, MARK, &element)
    }

    /// Reads the element, as libvirt returns it (without its namespace).
    pub fn from_xml(xml: &str) -> Result<Marked, String> {
        let document = roxmltree::Document::parse(xml).map_err(|error| format!("the mark is no XML: {error}"))?;
        Marked::of(document.root_element())
    }

    fn of(element: roxmltree::Node<'_, '_>) -> Result<Marked, String> {
        let plane = element.attribute("plane").ok_or("the mark names no plane")?;
        let epoch = element.attribute("epoch").and_then(|epoch| epoch.parse().ok()).ok_or("the mark's epoch is no number")?;
        let says_yes = |name: &str| element.attribute(name) == Some("yes");
        let stays_paused = says_yes("paused");
        let seal = element.attribute("handover").map(|id| Seal { handover: id.into(), stays_paused });
        Ok(Marked { mark: Mark { plane: plane.into(), epoch }, autostart: says_yes("autostart"), seal })
    }
}

/// A domain as its XML has it, with what only this adapter needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// For the plane.
    pub description: Description,
    /// Disk targets by device alias, for errors that name the alias. Only a running domain has aliases.
    pub disk_aliases: BTreeMap<String, Arc<str>>,
    /// It is sealed for a handover, and will run after that: while it is paused, it is paused for the move.
    pub sealed: bool,
    /// Is its guest agent connected? `None` where it has no channel for one, or does not run.
    pub agent_connected: Option<bool>,
}

/// Reads a domain's XML. `persistent` and `autostart` are not in it.
pub fn read(xml: &str, persistent: bool, autostart: bool) -> Result<Described, String> {
    let document = roxmltree::Document::parse(xml).map_err(|error| format!("the domain's XML does not parse: {error}"))?;
    let root = document.root_element();
    let child = |name: &str| root.children().find(|node| node.has_tag_name(name));
    let text = |name: &str| child(name).and_then(|node| node.text()).map(str::trim);

    let name = text("name").ok_or("the domain's XML has no <name>")?;
    let memory_mib = child("memory").and_then(memory_mib).ok_or("the domain's XML has no <memory> that makes sense")?;
    // `current` is present only where fewer processors are plugged in than there are sockets.
    let vcpus = child("vcpu")
        .and_then(|node| node.attribute("current").or_else(|| node.text()))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(1);

    let in_metadata = |namespace: &'static str| {
        child("metadata").and_then(|node| node.children().find(|node| node.tag_name().namespace() == Some(namespace)))
    };
    // A mark nobody can read is a mark nobody can honour: report it as somebody else's.
    let marked = in_metadata(MARK).map(Marked::of);
    let runs_after = |seal: &Seal| !seal.stays_paused;
    let sealed = marked.as_ref().is_some_and(|read| read.as_ref().is_ok_and(|it| it.seal.as_ref().is_some_and(runs_after)));
    let mark =
        marked.map(|read| read.map_or_else(|_| Mark { plane: "unreadable mark".into(), epoch: 0 }, |marked| marked.mark));
    let labels = in_metadata(LABELS)
        .map(|node| node.attributes().map(|label| (label.name().into(), label.value().into())).collect())
        .unwrap_or_default();

    let devices = |kind: &'static str| {
        child("devices").into_iter().flat_map(|node| node.children()).filter(move |node| node.has_tag_name(kind))
    };
    fn part<'a>(node: roxmltree::Node<'a, '_>, tag: &str, attribute: &str) -> Option<&'a str> {
        node.children().find(|node| node.has_tag_name(tag))?.attribute(attribute)
    }
    let target = |disk| part(disk, "target", "dev").map(Arc::<str>::from);
    let disks = devices("disk").filter_map(target).collect();
    let disk_aliases =
        devices("disk").filter_map(|disk| Some((part(disk, "alias", "name")?.to_owned(), target(disk)?))).collect();
    // The address, not the target: `vnet3` changes with each start and each move.
    let nics = devices("interface").filter_map(|nic| part(nic, "mac", "address").or_else(|| part(nic, "target", "dev")));
    let agent_connected = devices("channel")
        .find(|channel| part(*channel, "target", "name") == Some("org.qemu.guest_agent.0"))
        .and_then(|channel| part(channel, "target", "state"))
        .map(|state| state == "connected");

    let description = Description {
        name: name.into(),
        vcpus,
        memory_mib,
        persistent,
        autostart,
        labels,
        mark,
        disks,
        nics: nics.map(Arc::from).collect(),
    };
    Ok(Described { description, disk_aliases, sealed, agent_connected })
}

/// A memory size in MiB; libvirt's default unit is KiB.
fn memory_mib(node: roxmltree::Node<'_, '_>) -> Option<u64> {
    let amount: u64 = node.text()?.trim().parse().ok()?;
    let bytes: u64 = match node.attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1_000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    Some(amount.checked_mul(bytes)? >> 20)
}

/// The UUID that a domain's XML gives; `None` where it leaves that to libvirt.
pub fn uuid(xml: &str) -> Result<Option<uuid::Uuid>, String> {
    let document = roxmltree::Document::parse(xml).map_err(|error| format!("it is no XML: {error}"))?;
    let node = document.root_element().children().find(|node| node.has_tag_name("uuid"));
    let text = node.and_then(|node| node.text()).map(str::trim);
    text.map(|text| uuid::Uuid::parse_str(text).map_err(|error| format!("its <uuid> is none: {error}"))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r#"<domain type='kvm' id='3'>
  <name>web-1</name>
  <uuid>00000000-0000-0000-0000-000000000007</uuid>
  <metadata>
    <other:thing xmlns:other="urn:other" plane="not ours"/>
    <embot-mark:mark xmlns:embot-mark="urn:embot:mark:1" plane="a &amp; b" epoch="7"/>
    <embot-labels:labels xmlns:embot-labels="urn:embot:labels:1" tier="web" owner="shop"/>
  </metadata>
  <memory unit='KiB'>2097152</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static' current='2'>4</vcpu>
  <devices>
    <disk type='file' device='disk'>
      <source file='/a'/><backingStore><source file='/b'/></backingStore>
      <target dev='vda' bus='virtio'/><alias name='virtio-disk0'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/><target dev='vnet0'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
  </devices>
</domain>"#;

    #[test]
    fn a_domain_reads_as_described() {
        let Described { description, disk_aliases, agent_connected, .. } = read(XML, true, false).unwrap();
        assert_eq!(&*description.name, "web-1");
        assert_eq!((description.vcpus, description.memory_mib), (2, 2048));
        assert_eq!(description.mark, Some(Mark { plane: "a & b".into(), epoch: 7 }));
        assert_eq!(description.labels, [("owner".into(), "shop".into()), ("tier".into(), "web".into())].into());
        assert_eq!(description.disks, [Arc::from("vda"), Arc::from("sda")]);
        assert_eq!(description.nics, [Arc::from("52:54:00:00:00:01")]);
        assert_eq!(disk_aliases, [("virtio-disk0".to_owned(), Arc::from("vda"))].into());
        assert_eq!(agent_connected, Some(true));
        assert_eq!(uuid(XML), Ok(Some(uuid::Uuid::from_u128(7))));
    }

    #[test]
    fn the_least_domain_reads_too() {
        let Described { description, agent_connected, .. } =
            read("<domain><name>x</name><memory unit='GiB'>1</memory><vcpu>3</vcpu></domain>", false, true).unwrap();
        assert_eq!((description.vcpus, description.memory_mib, description.mark), (3, 1024, None));
        assert_eq!((description.persistent, description.autostart, agent_connected), (false, true, None));
    }

    #[test]
    fn what_makes_no_sense_is_an_error_not_a_panic() {
        for xml in ["", "<domain/>", "<domain><name>x</name><memory unit='parsec'>1</memory></domain>", "<domain>"] {
            assert!(read(xml, true, true).is_err(), "{xml}");
        }
        let huge = "<domain><name>x</name><memory unit='TiB'>18446744073709551615</memory></domain>";
        assert!(read(huge, true, true).is_err());
    }

    #[test]
    fn marks_read_back_as_written_whatever_the_planes_name() {
        for plane in ["home", "a\"b", "<&>", "ö"] {
            for autostart in [true, false] {
                for stays_paused in [None, Some(true), Some(false)] {
                    let seal = stays_paused.map(|stays_paused| Seal { handover: "a <b>/41".into(), stays_paused });
                    let marked = Marked { mark: Mark { plane: plane.into(), epoch: u64::MAX }, autostart, seal };
                    assert_eq!(Marked::from_xml(&marked.to_xml()), Ok(marked.clone()));
                    let domain = read(&marked.in_domain(XML).unwrap(), true, false).unwrap();
                    assert_eq!(domain.description.mark, Some(marked.mark), "it takes the place of the one before");
                    assert!(!domain.description.labels.is_empty(), "what others have noted stays");
                }
            }
        }
    }

    #[test]
    fn a_mark_that_cannot_be_read_counts_as_foreign() {
        let xml = XML.replace("epoch=\"7\"", "epoch=\"seven\"");
        let mark = read(&xml, true, true).unwrap().description.mark.unwrap();
        assert_eq!(&*mark.plane, "unreadable mark");
        assert!(Marked::from_xml("<mark plane='x' epoch='-1'/>").is_err());
    }
}
