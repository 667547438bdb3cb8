//! What a host can give guests beside room: CPU models, networks and bridges. Whatever its driver does not tell stays unknown,
//! and what is unknown is no obstacle to anybody: libvirt itself looks once more when a guest comes.

use super::failure::is_unsupported;
use crate::model::Abilities;
use roxmltree::Document;
use std::collections::BTreeSet;
use std::sync::Arc;
use virt::connect::Connect;
use virt::error::Error;
use virt_sys as sys;

/// Asks the host.
pub fn read(connect: &Connect) -> Result<Abilities, Error> {
    let mut cpu_models = BTreeSet::new();
    // What runs by hardware, and what is emulated: a guest may want either.
    for kind in [None, Some("qemu")] {
        match connect.domain_capabilities(None, None, None, kind, 0) {
            Ok(xml) => cpu_models.extend(models(&xml)),
            Err(error) if is_not_told(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Abilities { cpu_models, networks: networks(connect)? })
}

/// Networks that are up, and bridges. Guests ask for either, so one without the other would only seem to be all.
fn networks(connect: &Connect) -> Result<BTreeSet<Arc<str>>, Error> {
    let active = sys::VIR_CONNECT_LIST_NETWORKS_ACTIVE;
    let networks =
        connect.list_all_networks(active).and_then(|all| all.iter().map(|one| one.name()).collect::<Result<Vec<_>, _>>());
    let interfaces =
        connect.list_all_interfaces(0).and_then(|all| all.iter().map(|one| one.name()).collect::<Result<Vec<_>, _>>());
    match (networks, interfaces) {
        // Every host has some interface, if only the one to itself.
        (Ok(networks), Ok(interfaces)) if !interfaces.is_empty() => {
            Ok(networks.into_iter().chain(interfaces).map(Arc::from).collect())
        }
        (Err(error), _) | (_, Err(error)) if !is_not_told(&error) => Err(error),
        _ => Ok(BTreeSet::new()),
    }
}

/// Has the host no driver for the question, or nothing to answer it by?
fn is_not_told(error: &Error) -> bool {
    use virt::enumutil::Enum;
    use virt::error::ErrorNumber;
    is_unsupported(error) || matches!(error.code(), Enum::Known(ErrorNumber::ConfigUnsupported | ErrorNumber::InternalError))
}

/// The CPU models that a domain may name there, and the ways of having the host's own.
fn models(xml: &str) -> Vec<Arc<str>> {
    let Ok(document) = Document::parse(xml) else { return Vec::new() };
    let modes = document.descendants().filter(|node| node.has_tag_name("mode") && node.attribute("supported") == Some("yes"));
    let mut models = Vec::new();
    for mode in modes {
        match mode.attribute("name") {
            Some("custom") => {
                let usable =
                    mode.children().filter(|node| node.has_tag_name("model") && node.attribute("usable") != Some("no"));
                models.extend(usable.filter_map(|model| model.text()).map(|name| Arc::from(name.trim())));
            }
            Some(own) => models.push(own.into()),
            None => {}
        }
    }
    models
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_models_and_supported_modes_are_told() {
        let xml = "<domainCapabilities><cpu>
            <mode name='host-passthrough' supported='yes'><enum name='hostPassthroughMigratable'/></mode>
            <mode name='maximum' supported='no'/>
            <mode name='host-model' supported='yes'><model fallback='forbid'>EPYC</model></mode>
            <mode name='custom' supported='yes'>
              <model usable='yes' vendor='unknown'>qemu64</model>
              <model usable='no' vendor='Intel'>Icelake-Server</model>
              <model usable='unknown' vendor='IBM'>POWER9</model>
            </mode>
          </cpu></domainCapabilities>";
        let told: Vec<_> = models(xml).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["host-passthrough", "host-model", "qemu64", "POWER9"]);
        assert!(models("<domainCapabilities/>").is_empty() && models("not XML").is_empty());
    }
}
