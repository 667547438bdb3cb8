//! Domain XML on its way to another host: what it needs there, and what is called otherwise there.
//!
//! Pure: text in, text out. Only what must change is changed, everything else stays to the byte, for libvirt compares what it
//! is given for a live move with what runs. [`rewrite`] is for that; the hosts' libvirts trust each other there. [`import`] is
//! for XML that another plane sends and this plane defines: it lets nothing through that reaches the host in a way the map
//! does not name.

use roxmltree::{Document, Node};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What is called otherwise at the target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rewriting {
    /// Files and devices, by absolute path. A key that ends in `/` stands for a folder and all in it. The longest that fits
    /// counts. Where a path stays as it is and shall be allowed for a cold move, map it to itself.
    pub paths: BTreeMap<Arc<str>, Arc<str>>,
    /// Bridges, by name.
    pub bridges: BTreeMap<Arc<str>, Arc<str>>,
    /// libvirt networks, by name.
    pub networks: BTreeMap<Arc<str>, Arc<str>>,
    /// The address that consoles listen at; as it is where not set.
    pub listen: Option<Arc<str>>,
}

/// A disk that is a file or a device of its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFile {
    /// Its target in the guest (`vda`).
    pub target: Arc<str>,
    /// Its path on the host.
    pub path: Arc<str>,
    /// The guest only reads it.
    pub read_only: bool,
}

/// What a definition needs of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Portrait {
    /// Disks that are files or devices.
    pub disks: Vec<DiskFile>,
    /// Disks that are neither, by target and type: on the network, in a pool.
    pub remote_disks: Vec<(Arc<str>, Arc<str>)>,
    /// The file of its firmware's variables.
    pub nvram: Option<Arc<str>>,
    /// Other files that it is started with: firmware, the template of its variables, a kernel.
    pub starts_with: Vec<Arc<str>>,
    /// It has an emulated TPM, whose state lies in a folder of its host. It travels in a live move only.
    pub tpm: bool,
    /// Bridges its network cards hang on.
    pub bridges: Vec<Arc<str>>,
    /// Networks of libvirt its network cards hang on.
    pub networks: Vec<Arc<str>>,
    /// Devices of the host that it was given, each in a few words: it cannot move live with them.
    pub passthrough: Vec<Arc<str>>,
    /// The processor it wants: `qemu64`, `host-model`, `host-passthrough`; empty where it says nothing.
    pub cpu: Arc<str>,
    /// The machine it wants: `pc-q35-7.2`.
    pub machine: Arc<str>,
}

impl Portrait {
    /// The files that are copied when it goes cold: disks that it writes, where they are not shared (`copies`), and its firmware's
    /// variables.
    pub fn copied(&self, copies: bool) -> impl Iterator<Item = &Arc<str>> {
        self.disks.iter().filter(move |disk| copies && !disk.read_only).map(|disk| &disk.path).chain(&self.nvram)
    }

    /// The files that it needs there and that are not copied.
    pub fn stationary(&self, copies: bool) -> impl Iterator<Item = &Arc<str>> {
        self.disks.iter().filter(move |disk| !copies || disk.read_only).map(|disk| &disk.path).chain(&self.starts_with)
    }

    /// Why a guest cannot go cold, if it cannot: what of it would have to be copied, and cannot be. `copies`: its disks are not
    /// shared.
    pub fn obstacle_to_a_copy(&self, copies: bool) -> Option<String> {
        if self.tpm {
            return Some("the state of its TPM cannot be read through libvirt; move it live, or without its TPM".to_owned());
        }
        let (target, kind) = self.remote_disks.iter().find(|(_, kind)| copies && **kind != *"network")?;
        Some(format!("its disk {target} is of type {kind}; only files and devices are copied"))
    }
}

fn parse(xml: &str) -> Result<Document<'_>, String> {
    let document = Document::parse(xml).map_err(|error| format!("the domain's XML does not parse: {error}"))?;
    match document.root_element().tag_name().name() {
        "domain" => Ok(document),
        other => Err(format!("the XML describes a <{other}>, not a <domain>")),
    }
}

fn child<'a>(node: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// Reads what a definition needs of a host.
pub fn portrait(xml: &str) -> Result<Portrait, String> {
    let document = parse(xml)?;
    let root = document.root_element();
    let mut portrait = Portrait::default();
    let os = child(root, "os");
    let text = |node: Node<'_, '_>| node.text().map(str::trim).filter(|text| !text.is_empty()).map(Arc::from);
    portrait.nvram = os.and_then(|os| child(os, "nvram")).and_then(text);
    let started_with = os.into_iter().flat_map(|os| os.children()).filter_map(|part| match part.tag_name().name() {
        "loader" | "kernel" | "initrd" | "dtb" => text(part),
        "nvram" => part.attribute("template").map(Arc::from),
        _ => None,
    });
    portrait.starts_with = started_with.filter(|path| path.starts_with('/')).collect();
    portrait.machine =
        os.and_then(|os| child(os, "type")).and_then(|kind| kind.attribute("machine")).unwrap_or_default().into();
    portrait.cpu = child(root, "cpu").map_or_else(Default::default, |cpu| {
        child(cpu, "model").and_then(text).or_else(|| cpu.attribute("mode").map(Arc::from)).unwrap_or_default()
    });
    let devices = child(root, "devices").into_iter().flat_map(|devices| devices.children()).filter(Node::is_element);
    for device in devices {
        let kind = device.attribute("type").unwrap_or_default();
        let source = child(device, "source");
        let of_source = |name: &str| source.and_then(|source| source.attribute(name)).map(Arc::<str>::from);
        match device.tag_name().name() {
            "disk" => {
                let target = child(device, "target").and_then(|target| target.attribute("dev")).unwrap_or("?").into();
                let path = ["file", "dev", "dir"].into_iter().find_map(of_source).filter(|path| path.starts_with('/'));
                match path {
                    Some(path) => {
                        let read_only = child(device, "readonly").is_some();
                        portrait.disks.push(DiskFile { target, path, read_only });
                    }
                    // An empty drive needs nothing.
                    None if source.is_none() => {}
                    None => portrait.remote_disks.push((target, kind.into())),
                }
            }
            "interface" if kind == "hostdev" => portrait.passthrough.push("a network card of the host".into()),
            "interface" => {
                portrait.bridges.extend(of_source("bridge"));
                portrait.networks.extend(of_source("network"));
            }
            "hostdev" => portrait.passthrough.push(format!("a {kind} device of the host").into()),
            "filesystem" => portrait.passthrough.push("a folder of the host".into()),
            "tpm" => {
                let emulated = child(device, "backend").and_then(|backend| backend.attribute("type")) == Some("emulator");
                if emulated { portrait.tpm = true } else { portrait.passthrough.push("the TPM of the host".into()) }
            }
            _ => {}
        }
    }
    Ok(portrait)
}

/// Replacements in a text.
struct Edits<'a> {
    xml: &'a str,
    edits: Vec<(Range<usize>, String)>,
}

impl Edits<'_> {
    fn put(&mut self, place: Range<usize>, new: &str) {
        self.edits.push((place, new.to_owned()));
    }

    fn apply(mut self) -> String {
        self.edits.sort_by_key(|(place, _)| place.start);
        let (mut new, mut done) = (String::with_capacity(self.xml.len() + 64), 0);
        for (place, text) in self.edits {
            new.push_str(&self.xml[done..place.start]);
            new.push_str(&text);
            done = place.end;
        }
        new.push_str(&self.xml[done..]);
        new
    }
}

/// Text as it stands in XML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&apos;")
}

impl Rewriting {
    /// Where a path of the source lies at the target; `None`: the map does not name it.
    pub fn path(&self, path: &str) -> Option<String> {
        let fits = |key: &str| path == key || (key.ends_with('/') && path.starts_with(key));
        // What climbs out of its folder is not in it.
        let climbs = path.split('/').any(|step| step == "..");
        let longest = self.paths.iter().filter(|(key, _)| fits(key) && !climbs).max_by_key(|(key, _)| key.len());
        longest.map(|(key, new)| format!("{new}{}", &path[key.len()..]))
    }
}

/// The XML for the target: names replaced as the map says; what it does not name stays.
pub fn rewrite(xml: &str, rewriting: &Rewriting) -> Result<String, String> {
    change(xml, rewriting, false)
}

/// The XML of another plane's guest for a host of this plane: as [`rewrite`], but what reaches the host must be named in the map,
/// and what can be meant for the source's host only (its emulator, its security labels) is left out.
pub fn import(xml: &str, rewriting: &Rewriting) -> Result<String, String> {
    change(xml, rewriting, true)
}

fn change(xml: &str, rewriting: &Rewriting, strictly: bool) -> Result<String, String> {
    let document = parse(xml)?;
    let mut edits = Edits { xml, edits: Vec::new() };
    walk(document.root_element(), rewriting, strictly, &mut edits)?;
    Ok(edits.apply())
}

/// The files that the disks of a guest that runs rest on, each once, as its XML has them.
pub fn backing_files(xml: &str) -> Result<Vec<Arc<str>>, String> {
    let document = parse(xml)?;
    let mut files: Vec<Arc<str>> = Vec::new();
    for backing in document.descendants().filter(|node| node.has_tag_name("backingStore")) {
        let source = child(backing, "source").and_then(|source| source.attribute("file").or_else(|| source.attribute("dev")));
        let new = source.filter(|path| path.starts_with('/') && files.iter().all(|known| **known != **path));
        files.extend(new.map(Arc::from));
    }
    Ok(files)
}

/// The XML with this element of the namespace in its metadata, in place of what is there of it.
pub fn with_note(xml: &str, namespace: &str, element: &str) -> Result<String, String> {
    let document = parse(xml)?;
    let root = document.root_element();
    let mut edits = Edits { xml, edits: Vec::new() };
    match child(root, "metadata").map(|metadata| (metadata, metadata.first_child())) {
        Some((metadata, Some(first))) => {
            edits.put(first.range().start..first.range().start, element);
            let old = metadata.children().filter(|note| note.tag_name().namespace() == Some(namespace));
            old.for_each(|note| edits.put(note.range(), ""));
        }
        Some((metadata, None)) => edits.put(metadata.range(), &format!("<metadata>{element}</metadata>")),
        None => {
            let name = child(root, "name").ok_or("the domain's XML has no <name>")?;
            edits.put(name.range().start..name.range().start, &format!("<metadata>{element}</metadata>"));
        }
    }
    Ok(edits.apply())
}

fn walk(node: Node<'_, '_>, rewriting: &Rewriting, strictly: bool, edits: &mut Edits<'_>) -> Result<(), String> {
    let tag = node.tag_name().name();
    // Admins' and other programs' notes; and the words of a kernel's command line, which are the guest's own.
    if matches!(tag, "metadata" | "name" | "title" | "description" | "cmdline") {
        return Ok(());
    }
    if strictly {
        if matches!(tag, "emulator" | "seclabel") {
            edits.put(node.range(), "");
            return Ok(());
        }
        permit(node)?;
    }
    for attribute in node.attributes() {
        let new = renamed(node, attribute.name(), attribute.value(), rewriting, strictly)?;
        if let Some(new) = new.filter(|new| new != attribute.value()) {
            let place = attribute.range_value();
            // Of absurdly long names the range is not known exactly.
            if !matches!(edits.xml.as_bytes().get(place.start.wrapping_sub(1)), Some(b'"' | b'\'')) {
                return Err(format!("the attribute `{}` of <{tag}> cannot be found again", attribute.name()));
            }
            edits.put(place, &escape(&new));
        }
    }
    for part in node.children() {
        if part.is_element() {
            walk(part, rewriting, strictly, edits)?;
            continue;
        }
        let Some(text) = part.text().filter(|_| part.is_text()).map(str::trim).filter(|text| text.starts_with('/')) else {
            continue;
        };
        if let Some(new) = path(tag, text, rewriting, strictly)? {
            edits.put(part.range(), &escape(&new));
        }
    }
    Ok(())
}

/// What an attribute's value is at the target; `None`: it is no name of anything of the host.
fn renamed(
    node: Node<'_, '_>,
    name: &str,
    value: &str,
    rewriting: &Rewriting,
    strictly: bool,
) -> Result<Option<String>, String> {
    let tag = node.tag_name().name();
    let parent = node.parent_element().map_or("", |parent| parent.tag_name().name());
    let of = |map: &BTreeMap<Arc<str>, Arc<str>>, what: &str| match map.get(value) {
        Some(new) => Ok(Some(new.to_string())),
        None if strictly => Err(format!("it wants the {what} `{value}`, and nothing says which one that is here")),
        None => Ok(None),
    };
    match (parent, tag, name) {
        ("interface", "source", "bridge") => of(&rewriting.bridges, "bridge"),
        ("interface", "source", "network") => of(&rewriting.networks, "network"),
        ("interface", "source", "dev") => of(&rewriting.bridges, "network device"),
        (_, "graphics", "listen") | ("graphics", "listen", "address") => {
            Ok(rewriting.listen.as_ref().map(|new| new.to_string()))
        }
        // Disks on the network and in pools have names without a slash.
        ("disk" | "backingStore" | "mirror", "source", "name" | "volume") if !value.starts_with('/') => {
            let new = rewriting.path(value);
            if new.is_none() && strictly {
                return Err(format!("it wants the disk `{value}`, and nothing says that this is one here"));
            }
            Ok(new)
        }
        _ if value.starts_with('/') => path(tag, value, rewriting, strictly),
        _ => Ok(None),
    }
}

fn path(tag: &str, path: &str, rewriting: &Rewriting, strictly: bool) -> Result<Option<String>, String> {
    match rewriting.path(path) {
        None if strictly => Err(format!("its <{tag}> wants `{path}`, and nothing says where that is here")),
        new => Ok(new),
    }
}

/// Devices of the host, and what libvirt does not look at before it acts on it, come from an admin or not at all.
fn permit(node: Node<'_, '_>) -> Result<(), String> {
    let tag = node.tag_name();
    if tag.namespace().is_some() {
        return Err(format!("<{}> is meant for the emulator itself, and is not taken from another plane", tag.name()));
    }
    let kind = node.attribute("type").unwrap_or_default();
    match (tag.name(), kind) {
        ("hostdev" | "filesystem" | "shmem" | "memnvdimm", _) => {
            Err(format!("it has a <{}>, a part of its host, which does not come along", tag.name()))
        }
        ("interface", "bridge" | "network" | "user" | "direct") | ("disk", "file" | "block" | "volume" | "network") => Ok(()),
        ("interface" | "disk", _) => {
            Err(format!("it has <{} type='{kind}'>, which is not taken from another plane", tag.name()))
        }
        ("backend", "passthrough") => Err("it has the TPM of its host, which does not come along".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const XML: &str = r#"<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>/not/a/path</name>
  <metadata><note xmlns='urn:x' file='/pool/web.qcow2'/></metadata>
  <memory unit='KiB'>2097152</memory>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/pool/nvram/web &amp; co.fd</nvram>
    <cmdline>root=/dev/vda1</cmdline>
  </os>
  <cpu mode='host-model'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <source file="/pool/web.qcow2"/>
      <backingStore type='file'><source file='/base/debian &apos;12&apos;.qcow2'/></backingStore>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
    <disk type='network' device='disk'><source protocol='rbd' name='fast/web-2'/><target dev='vdb' bus='virtio'/></disk>
    <interface type='bridge'><source bridge='br0'/></interface>
    <interface type='network'><source network='default'/></interface>
    <graphics type='vnc' port='-1' listen='10.0.0.1'><listen type='address' address='10.0.0.1'/></graphics>
    <serial type='file'><source path='/log/web.log'/></serial>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
  </devices>
</domain>"#;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<Arc<str>, Arc<str>> {
        entries.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    fn rewriting() -> Rewriting {
        Rewriting {
            paths: map(&[
                ("/pool/", "/data/pool-b/"),
                ("/pool/nvram/", "/var/nvram/"),
                ("/base/", "/b<a>se/"),
                ("/log/", "/log/"),
                ("/usr/share/OVMF/", "/usr/share/OVMF/"),
                ("fast/web-2", "slow/web-2"),
            ]),
            bridges: map(&[("br0", "br-lan")]),
            networks: map(&[("default", "lan")]),
            listen: Some("10.0.0.2".into()),
        }
    }

    #[test]
    fn only_what_the_map_names_changes() {
        insta::assert_snapshot!("rewritten", rewrite(XML, &rewriting()).unwrap());
        assert_eq!(rewrite(XML, &Rewriting::default()).unwrap(), XML, "an empty map changes nothing");
    }

    #[test]
    fn what_comes_from_another_plane_reaches_nothing_that_is_not_named() {
        insta::assert_snapshot!("imported", import(XML, &rewriting()).unwrap());
        let without = |change: &dyn Fn(&mut Rewriting)| {
            let mut less = rewriting();
            change(&mut less);
            import(XML, &less).unwrap_err()
        };
        let with = |device: &str| {
            let xml = XML.replace("</devices>", &format!("{device}</devices>"));
            import(&xml, &rewriting()).unwrap_err()
        };
        let refusals = [
            without(&|less| drop(less.paths.remove("/log/"))),
            without(&|less| drop(less.paths.remove("/usr/share/OVMF/"))),
            without(&|less| drop(less.paths.remove("fast/web-2"))),
            without(&|less| less.bridges.clear()),
            without(&|less| less.networks.clear()),
            with("<hostdev mode='subsystem' type='pci'/>"),
            with("<filesystem type='mount'><source dir='/pool/x'/><target dir='x'/></filesystem>"),
            with("<disk type='vhostuser'/>"),
            with("<interface type='hostdev'/>"),
            with("<disk type='file'><source file='/pool/../etc/shadow'/></disk>"),
            with("<qemu:commandline><qemu:arg value='-x'/></qemu:commandline>"),
            with("<tpm><backend type='passthrough'/></tpm>"),
            import("<network/>", &rewriting()).unwrap_err(),
            import("<domain>", &rewriting()).unwrap_err(),
        ];
        insta::assert_snapshot!("refusals", refusals.join("\n"));
    }

    #[test]
    fn a_portrait_says_what_a_host_must_have() {
        insta::assert_debug_snapshot!("portrait", portrait(XML).unwrap());
        let with = |device: &str| portrait(&XML.replace("</devices>", &format!("{device}</devices>"))).unwrap().passthrough;
        assert_eq!(
            with("<hostdev type='pci'/><filesystem/>"),
            ["a pci device of the host".into(), "a folder of the host".into()]
        );
        assert_eq!(with("<interface type='hostdev'/>"), ["a network card of the host".into()]);
    }

    #[test]
    fn what_cannot_be_copied_is_known_before() {
        let whole = portrait(XML).unwrap();
        assert!(whole.obstacle_to_a_copy(false).is_some_and(|why| why.contains("TPM")));
        let plain = Portrait { tpm: false, ..whole };
        assert_eq!(plain.obstacle_to_a_copy(true), None, "disks on the network are where they are for every host");
        let pooled = Portrait { remote_disks: vec![("vdc".into(), "volume".into())], ..plain };
        assert!(pooled.obstacle_to_a_copy(true).is_some_and(|why| why.contains("vdc")));
        assert_eq!(pooled.obstacle_to_a_copy(false), None);
    }

    #[test]
    fn what_is_copied_and_what_must_be_there_make_up_all() {
        let xml = XML.replace("<readonly/>", "<source file='/iso/boot.iso'/><readonly/>");
        let portrait = portrait(&xml).unwrap();
        let told = |copies| {
            let list = |paths: Vec<&Arc<str>>| paths.iter().map(|path| path.to_string()).collect::<Vec<_>>().join(" ");
            (list(portrait.copied(copies).collect()), list(portrait.stationary(copies).collect()))
        };
        let (vars, fixed) = ("/pool/nvram/web & co.fd", "/usr/share/OVMF/OVMF_CODE.fd /usr/share/OVMF/OVMF_VARS.fd");
        assert_eq!(told(true), (format!("/pool/web.qcow2 {vars}"), format!("/iso/boot.iso {fixed}")));
        assert_eq!(told(false), (vars.to_owned(), format!("/pool/web.qcow2 /iso/boot.iso {fixed}")));
    }

    #[test]
    fn a_note_stands_in_the_metadata_once() {
        assert_eq!(backing_files(XML), Ok(vec!["/base/debian '12'.qcow2".into()]));
        let note = "<mark xmlns='urn:m' epoch='2'/>";
        for (before, after) in [
            ("<domain><name>a</name></domain>", format!("<domain><metadata>{note}</metadata><name>a</name></domain>")),
            (
                "<domain><name>a</name><metadata/></domain>",
                format!("<domain><name>a</name><metadata>{note}</metadata></domain>"),
            ),
            (
                "<domain><metadata> <m:mark xmlns:m='urn:m' epoch='1'/><x xmlns='urn:x'/></metadata></domain>",
                format!("<domain><metadata>{note} <x xmlns='urn:x'/></metadata></domain>"),
            ),
        ] {
            assert_eq!(with_note(before, "urn:m", note), Ok(after));
        }
        assert!(with_note("<domain/>", "urn:m", note).is_err());
    }

    #[test]
    fn the_longest_entry_counts() {
        assert_eq!(rewriting().path("/pool/nvram/a"), Some("/var/nvram/a".into()));
        assert_eq!(rewriting().path("/pool/a"), Some("/data/pool-b/a".into()));
        assert_eq!(rewriting().path("/poolside"), None);
        assert_eq!(rewriting().path("/pool/a/../../etc"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_rewritten_without_harm(text in ".{0,200}") {
            let _ = rewrite(&text, &rewriting());
            let _ = import(&format!("<domain><os><kernel>{text}</kernel></os></domain>"), &rewriting());
            let _ = portrait(&text);
        }

        #[test]
        fn what_is_written_reads_back(name in "[a-z<>&'\" ]{1,20}") {
            let target = format!("/b/{name}");
            let rewriting = Rewriting { paths: map(&[("/a", &target)]), ..Rewriting::default() };
            let xml = "<domain><devices><disk type='file'><source file='/a'/><target dev='vda'/></disk></devices></domain>";
            let read = portrait(&rewrite(xml, &rewriting).unwrap()).unwrap();
            prop_assert_eq!(&*read.disks[0].path, target.as_str());
        }
    }
}
