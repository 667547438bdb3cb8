//! The wiring between the manager and other planes: the link, and the lanes in which hosts carry migrations out.

use super::DaemonError;
use crate::clock::Clock;
use crate::config::Config;
use crate::effectors::Catalog;
use crate::manager::{Handle, HandoverSettings};
use crate::migration::link::{Heard, Link, PeerSettings};
use crate::migration::message;
use crate::model::{Bytes, Input, MigrationInput};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime;

/// A plane tells its peers what it has to give, so often.
const SUMMARY: Duration = Duration::from_secs(5);

/// What the configuration says of guests that go to other planes, and come from them. Peers reach hosts as the hosts of this
/// plane reach each other.
pub(super) fn settings(config: &Config, catalog: &Catalog) -> Result<HandoverSettings, String> {
    let module_key = config.signing_key()?.map(Arc::new);
    let trust = config.trust_store(module_key.as_deref());
    let destinations = catalog.destinations.iter().map(|(host, destination)| {
        let address = destination.migration_uri.clone().unwrap_or_else(|| "".into());
        (host.clone(), (destination.uri.clone(), address))
    });
    Ok(HandoverSettings {
        peers: config.peers.iter().map(PeerSettings::peer).collect(),
        destinations: destinations.collect(),
        timing: config.handover.timing(),
        resume: config.handover.resume,
        lease: config.handover.lease,
        rewrites: config.handover.names.rewrites(),
        trust,
        module_key,
    })
}

/// Starts the link, where the configuration has one.
pub(super) fn link(
    config: &Config,
    runtime: &runtime::Handle,
    handle: &Handle,
    clock: Arc<dyn Clock>,
) -> Result<Option<Link>, DaemonError> {
    let Some(settings) = config.link_settings() else { return Ok(None) };
    let up: Mutex<BTreeMap<Arc<str>, bool>> = Mutex::default();
    let inbox = handle.clone();
    let deliver = move |heard: Heard| {
        let inputs = match &heard {
            Heard::Message { peer, clock, envelope } => {
                let ahead_ms = clock.map_or(0, |clock| -clock.ahead_ms);
                match message::encode(envelope) {
                    Ok(bytes) => vec![MigrationInput::Message { peer: peer.clone(), ahead_ms, bytes: Bytes::from(bytes) }],
                    Err(error) => {
                        tracing::error!(%peer, "a message that was read cannot be written again: {error}");
                        Vec::new()
                    }
                }
            }
            Heard::Peer(peer) => {
                let mut up = up.lock().unwrap_or_else(PoisonError::into_inner);
                let changed = up.insert(peer.name.clone(), peer.reachable) != Some(peer.reachable);
                let link = changed.then(|| MigrationInput::Link { peer: peer.name.clone(), up: peer.reachable });
                let summary = peer.summary.clone();
                let summary = summary.map(|summary| MigrationInput::Summary { peer: peer.name.clone(), summary });
                link.into_iter().chain(summary).collect()
            }
        };
        for input in inputs {
            if inbox.try_send(Input::Migration(input)) {
                continue;
            }
            if let Heard::Peer(peer) = &heard {
                up.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer.name);
            }
            return Err(heard);
        }
        Ok(())
    };
    let link = Link::start(runtime, settings, clock, Arc::new(deliver)).map_err(DaemonError::Link)?;
    let (telling, asked) = (link.clone(), handle.clone());
    runtime.spawn(async move {
        // Ends with the manager: then nobody answers.
        loop {
            let Ok(summary) = asked.ask(|manager| manager.summary()).await else { return };
            telling.tell(summary);
            tokio::time::sleep(SUMMARY).await;
        }
    });
    Ok(Some(link))
}
