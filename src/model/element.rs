//! What is managed has a name: the identities of elements.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

/// The name of a host in the plane's configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(pub Arc<str>);

/// A guest's UUID, as its hypervisor knows it. It stays the same when the guest moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VmId(pub Uuid);

/// A map to look things up in, quickly, and never to go through: its order is chance.
pub type Lookup<K, V> = HashMap<K, V, ahash::RandomState>;

// A UUID compares and hashes as one number, in the order of its text. As bytes it would take several times as long, and
// guests are looked up many times for each of their samples.
impl Ord for VmId {
    fn cmp(&self, other: &VmId) -> Ordering {
        self.0.as_u128().cmp(&other.0.as_u128())
    }
}

impl PartialOrd for VmId {
    fn partial_cmp(&self, other: &VmId) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for VmId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.0.as_u128());
    }
}

/// A managed thing. Its text form is `plane`, `host:NAME`, `vm:UUID`, `disk:UUID/TARGET`, `nic:UUID/TARGET`, `app:UUID/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElementId {
    /// The management plane itself.
    Plane,
    /// A hypervisor host.
    Host(HostId),
    /// A guest.
    Vm(VmId),
    /// A disk of a guest, by its target (`vda`).
    Disk(VmId, Arc<str>),
    /// A network card of a guest, by its target (`vnet0`) or MAC address.
    Nic(VmId, Arc<str>),
    /// An application in a guest.
    App(VmId, Arc<str>),
}

/// The kinds of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The plane.
    Plane,
    /// Hosts.
    Host,
    /// Guests.
    Vm,
    /// Disks of guests.
    Disk,
    /// Network cards of guests.
    Nic,
    /// Applications in guests.
    App,
}

/// An embot's identity: its module and the element it stands for (one embot over several elements stands for the plane).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EmbotId {
    /// The module it was made from.
    pub module: Arc<str>,
    /// The element it stands for.
    pub element: ElementId,
}

impl fmt::Display for EmbotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.module, self.element)
    }
}

impl ElementId {
    /// What kind of element this is.
    pub fn kind(&self) -> Kind {
        match self {
            ElementId::Plane => Kind::Plane,
            ElementId::Host(_) => Kind::Host,
            ElementId::Vm(_) => Kind::Vm,
            ElementId::Disk(..) => Kind::Disk,
            ElementId::Nic(..) => Kind::Nic,
            ElementId::App(..) => Kind::App,
        }
    }

    /// The element this one depends on: a disk, nic or application depends on its guest. Guests do not depend on a host,
    /// since they can move.
    pub fn parent(&self) -> Option<ElementId> {
        self.vm().filter(|_| self.kind() != Kind::Vm).map(ElementId::Vm)
    }

    /// The guest this element is or belongs to.
    pub fn vm(&self) -> Option<VmId> {
        match self {
            ElementId::Vm(vm) | ElementId::Disk(vm, _) | ElementId::Nic(vm, _) | ElementId::App(vm, _) => Some(*vm),
            ElementId::Plane | ElementId::Host(_) => None,
        }
    }
}

impl HostId {
    /// The host's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for HostId {
    fn from(name: &str) -> HostId {
        HostId(Arc::from(name))
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Plane => "plane",
            Kind::Host => "host",
            Kind::Vm => "vm",
            Kind::Disk => "disk",
            Kind::Nic => "nic",
            Kind::App => "app",
        })
    }
}

impl fmt::Display for ElementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            ElementId::Plane => write!(f, "{kind}"),
            ElementId::Host(host) => write!(f, "{kind}:{host}"),
            ElementId::Vm(vm) => write!(f, "{kind}:{vm}"),
            ElementId::Disk(vm, part) | ElementId::Nic(vm, part) | ElementId::App(vm, part) => write!(f, "{kind}:{vm}/{part}"),
        }
    }
}

/// Why a text names no element.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no element; write `plane`, `host:NAME`, `vm:UUID` or `disk:UUID/TARGET` (also `nic:`, `app:`)")]
pub struct ElementIdError(String);

impl FromStr for ElementId {
    type Err = ElementIdError;

    fn from_str(text: &str) -> Result<ElementId, ElementIdError> {
        let bad = || ElementIdError(text.to_owned());
        if text == "plane" {
            return Ok(ElementId::Plane);
        }
        let (kind, key) = text.split_once(':').filter(|(_, key)| !key.is_empty()).ok_or_else(bad)?;
        let guest = |text: &str| Uuid::parse_str(text).map(VmId).map_err(|_| bad());
        let part = || -> Result<(VmId, Arc<str>), ElementIdError> {
            let (vm, part) = key.split_once('/').filter(|(_, part)| !part.is_empty()).ok_or_else(bad)?;
            Ok((guest(vm)?, Arc::from(part)))
        };
        Ok(match kind {
            "host" => ElementId::Host(HostId::from(key)),
            "vm" => ElementId::Vm(guest(key)?),
            "disk" => part().map(|(vm, part)| ElementId::Disk(vm, part))?,
            "nic" => part().map(|(vm, part)| ElementId::Nic(vm, part))?,
            "app" => part().map(|(vm, part)| ElementId::App(vm, part))?,
            _ => return Err(bad()),
        })
    }
}

/// What binary formats see of an [`ElementId`]; JSON and YAML see its text form.
#[derive(Serialize, Deserialize)]
enum Wire {
    Plane,
    Host(HostId),
    Vm(VmId),
    Disk(VmId, Arc<str>),
    Nic(VmId, Arc<str>),
    App(VmId, Arc<str>),
}

impl Serialize for ElementId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        match self.clone() {
            ElementId::Plane => Wire::Plane,
            ElementId::Host(host) => Wire::Host(host),
            ElementId::Vm(vm) => Wire::Vm(vm),
            ElementId::Disk(vm, part) => Wire::Disk(vm, part),
            ElementId::Nic(vm, part) => Wire::Nic(vm, part),
            ElementId::App(vm, part) => Wire::App(vm, part),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ElementId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ElementId, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom);
        }
        Ok(match Wire::deserialize(deserializer)? {
            Wire::Plane => ElementId::Plane,
            Wire::Host(host) => ElementId::Host(host),
            Wire::Vm(vm) => ElementId::Vm(vm),
            Wire::Disk(vm, part) => ElementId::Disk(vm, part),
            Wire::Nic(vm, part) => ElementId::Nic(vm, part),
            Wire::App(vm, part) => ElementId::App(vm, part),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_print() {
        let vm = VmId(Uuid::from_u128(7));
        for element in [
            ElementId::Plane,
            ElementId::Host("a".into()),
            ElementId::Vm(vm),
            ElementId::Disk(vm, "vda".into()),
            ElementId::Nic(vm, "52:54:00:00:00:01".into()),
            ElementId::App(vm, "nginx/1".into()),
        ] {
            assert_eq!(element.to_string().parse(), Ok(element.clone()));
            let bytes = postcard::to_stdvec(&element).unwrap();
            assert_eq!(postcard::from_bytes::<ElementId>(&bytes).unwrap(), element);
        }
    }

    proptest::proptest! {
        #[test]
        fn guests_stand_in_the_order_of_their_texts(a: u128, b: u128) {
            let (a, b) = (Uuid::from_u128(a), Uuid::from_u128(b));
            proptest::prop_assert_eq!(VmId(a).cmp(&VmId(b)), a.to_string().cmp(&b.to_string()));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "vm:", "vm:web", "rack:1", "disk:00000000-0000-0000-0000-000000000007", "host:"] {
            assert!(text.parse::<ElementId>().is_err(), "{text}");
        }
    }
}
