//! Reads a domain's XML, as far as a simulated guest has what it describes.

use super::super::fleet_plan::GuestPlan;
use super::super::load::Signal;
use super::guest::{Guest, Signals};
use crate::hypervisor::domain_xml::escape;
use crate::model::{Description, Reason, Timestamp, VmId, VmState};
use roxmltree::{Document, Node};
use std::sync::Arc;

/// The guest that `xml` defines, off and without a mark; its host is yet to be set.
pub(super) fn read(vm: VmId, xml: &str) -> Result<Guest, String> {
    let document = Document::parse(xml).map_err(|error| format!("its XML cannot be read: {error}"))?;
    let root = document.root_element();
    if !root.has_tag_name("domain") {
        return Err(format!("its XML describes a <{}>, not a <domain>", root.tag_name().name()));
    }
    let child = |name: &str| root.children().find(|node| node.has_tag_name(name));
    let text = |name: &str| child(name).and_then(|node| node.text()).map(str::trim).filter(|text| !text.is_empty());
    let name = text("name").ok_or("its XML has no <name>")?;
    if let Some(uuid) = text("uuid")
        && uuid.parse() != Ok(vm.0)
    {
        return Err(format!("its XML has another <uuid>: {uuid}"));
    }
    let memory_mib = child("memory").map(mebibytes).ok_or("its XML has no <memory>")??;
    let balloon_mib = child("currentMemory").map(mebibytes).transpose()?.unwrap_or(memory_mib).min(memory_mib);
    let vcpus = text("vcpu").map_or(Ok(1), str::parse).map_err(|error| format!("its <vcpu> is no number: {error}"))?;
    if vcpus == 0 {
        return Err("its <vcpu> is 0".to_owned());
    }
    let devices = |device: &str, part: &str, attribute: &str| -> Vec<Arc<str>> {
        let all = root.descendants().filter(|node| node.has_tag_name(device));
        let parts = all.filter_map(|node| node.children().find(|child| child.has_tag_name(part)));
        parts.filter_map(|part| part.attribute(attribute)).map(Arc::from).collect()
    };
    let plan = GuestPlan::default();
    let plain = |shape| Signal::new(shape, 0, 0, 0);
    Ok(Guest {
        id: vm,
        host: "".into(),
        description: Description {
            name: name.into(),
            vcpus,
            memory_mib,
            persistent: true,
            autostart: false,
            labels: Default::default(),
            mark: None,
            disks: devices("disk", "target", "dev"),
            nics: devices("interface", "mac", "address"),
        },
        state: VmState::Off,
        reason: Reason::Unknown,
        balloon_mib,
        saved: false,
        seal: None,
        work: None,
        definition: 0,
        starting: false,
        booted_at: Timestamp::default(),
        disk_mib: plan.disk_mib,
        has_agent: plan.agent,
        agent_up: false,
        ignores_shutdown: false,
        autostart_after: false,
        goes_off_at: None,
        awaited_by: None,
        dirty_mib_per_s: plan.load.dirty_mib_per_s,
        heated: None,
        signals: Signals {
            cpu: plain(&plan.load.cpu),
            memory: plain(&plan.load.memory),
            disk_mib_per_s: plain(&plan.load.disk_mib_per_s),
            iops: plain(&plan.load.iops),
            net_mib_per_s: plain(&plan.load.net_mib_per_s),
        },
    })
}

/// The XML that defines this guest, as [`read`] reads it: without its mark, and without how it behaves.
pub(super) fn write(guest: &Guest) -> String {
    let Description { name, vcpus, memory_mib, disks, nics, .. } = &guest.description;
    let disk = |disk: &Arc<str>| {
        let (file, target) = (escape(&format!("/images/{name}-{disk}.img")), escape(disk));
        format!("<disk type='file'><source file='{file}'/><target dev='{target}'/></disk>")
    };
    let disks = disks.iter().map(disk);
    let nics = nics.iter().map(|nic| format!("<interface type='user'><mac address='{}'/></interface>", escape(nic)));
    let devices: String = disks.chain(nics).collect();
    format!(
        "<domain type='simulated'><name>{}</name><uuid>{}</uuid><memory unit='MiB'>{memory_mib}</memory>\
         <currentMemory unit='MiB'>{}</currentMemory><vcpu>{vcpus}</vcpu><devices>{devices}</devices></domain>",
        escape(name),
        guest.id,
        guest.balloon_mib,
    )
}

/// A size with libvirt's unit (KiB where none is given), in MiB, at least 1.
fn mebibytes(node: Node<'_, '_>) -> Result<u64, String> {
    let text = node.text().unwrap_or_default().trim();
    let number: u64 = text.parse().map_err(|_| format!("its memory `{text}` is no number"))?;
    let unit: u64 = match node.attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1_000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        other => return Err(format!("its memory has an unknown unit `{other}`")),
    };
    Ok((number.saturating_mul(unit) >> 20).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_simulated_guest_has() {
        let vm = VmId(uuid::Uuid::from_u128(9));
        let xml = "<domain type='qemu'><name>web</name><memory unit='GiB'>2</memory><currentMemory>1048576</currentMemory>
            <vcpu>4</vcpu><devices><disk><target dev='vda'/></disk><interface><mac address='52:54:00:00:00:01'/></interface>
            </devices></domain>";
        let guest = read(vm, xml).unwrap();
        assert_eq!((guest.description.memory_mib, guest.balloon_mib, guest.description.vcpus), (2_048, 1_024, 4));
        assert_eq!(guest.description.disks, ["vda".into()]);
        assert_eq!(guest.description.nics, ["52:54:00:00:00:01".into()]);
    }

    #[test]
    fn what_is_written_reads_back() {
        let vm = VmId(uuid::Uuid::from_u128(9));
        let xml = "<domain><name>a &lt;&amp;&apos;</name><memory unit='GiB'>2</memory><currentMemory>1048576</currentMemory>
            <vcpu>4</vcpu><devices><disk><target dev='vda'/></disk><interface><mac address='52:54:00:00:00:01'/></interface>
            </devices></domain>";
        let guest = read(vm, xml).unwrap();
        let again = read(vm, &write(&guest)).unwrap();
        assert_eq!((again.description, again.balloon_mib), (guest.description, guest.balloon_mib));
    }

    #[test]
    fn says_what_is_missing() {
        let vm = VmId(uuid::Uuid::from_u128(9));
        for xml in ["", "<network/>", "<domain/>", "<domain><name>a</name></domain>"] {
            assert!(read(vm, xml).is_err(), "{xml}");
        }
    }
}
