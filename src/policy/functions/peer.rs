//! The other planes, as a script reads them.

use crate::model::{ElementId, Peer, Summary, Value};
use crate::policy::context::{Context, Outcome, complaint};
use crate::policy::state::to_dynamic;
use crate::policy::step::What;
use rhai::{Array, Dynamic, Engine};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

/// A peer by its name: each property is looked up when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policy) struct PeerView(pub(in crate::policy) Arc<str>);

/// A property's name and how it is read.
type Property = (&'static str, fn(&Peer) -> Value);

pub(super) fn register_view(engine: &mut Engine) {
    engine.register_type_with_name::<PeerView>("peer");
    for name in ["to_string", "to_debug"] {
        engine.register_fn(name, |peer: &mut PeerView| peer.0.to_string());
    }
    engine.register_fn("==", |left: PeerView, right: PeerView| left == right);
    engine.register_fn("!=", |left: PeerView, right: PeerView| left != right);
}

pub(super) fn register(engine: &mut Engine, context: &Rc<Context>) {
    let properties: [Property; 14] = [
        ("reachable", |peer| Value::Bool(peer.reachable)),
        ("sends", |peer| Value::Bool(peer.sends)),
        ("receives", |peer| Value::Bool(peer.receives)),
        ("seen", |peer| Value::Int(peer.summary_at.0)),
        ("hosts", |peer| whole(peer, |summary| summary.hosts.into())),
        ("vms", |peer| whole(peer, |summary| summary.vms.into())),
        ("cpus", |peer| whole(peer, |summary| summary.cpus.into())),
        ("cpu", |peer| {
            let share = |summary: &Summary| f64::from(summary.cpu_cores) / f64::from(summary.cpus);
            Value::Float(peer.summary.as_ref().filter(|summary| summary.cpus > 0).map_or(f64::NAN, share))
        }),
        ("memory_mib", |peer| whole(peer, |summary| summary.memory_mib)),
        ("free_memory_mib", |peer| whole(peer, |summary| summary.free_memory_mib)),
        ("largest_free_mib", |peer| whole(peer, |summary| summary.largest_free_mib)),
        ("free_vcpus", |peer| whole(peer, |summary| summary.free_vcpus)),
        ("cpu_models", |peer| words(peer, |summary| &summary.cpu_models)),
        ("classes", |peer| words(peer, |summary| &summary.classes)),
    ];
    for (name, look) in properties {
        let here = context.clone();
        engine.register_get(name, move |peer: &mut PeerView| read(&here, &peer.0, name, look));
    }
    engine.register_get("name", |peer: &mut PeerView| peer.0.to_string());
    let here = context.clone();
    engine.register_fn("peers", move || -> Outcome<Array> {
        let world = here.world.borrow();
        here.charge(world.peers.len() as u64)?;
        if world.peers.len() > here.limits.array {
            return complaint(format!("{} peers are more than the {} a list may hold", world.peers.len(), here.limits.array));
        }
        Ok(world.peers.keys().map(|name| Dynamic::from(PeerView(name.clone()))).collect())
    });
    let here = context.clone();
    engine.register_fn("peer", move |name: &str| find(&here, name));
}

/// The peer of this name, or `()`.
pub(super) fn find(context: &Context, name: &str) -> Dynamic {
    let world = context.world.borrow();
    world.peers.get_key_value(name).map_or(Dynamic::UNIT, |(name, _)| Dynamic::from(PeerView(name.clone())))
}

/// Looks at a peer and notes what was seen.
fn read(context: &Context, name: &Arc<str>, what: &'static str, look: fn(&Peer) -> Value) -> Outcome<Dynamic> {
    let world = context.world.borrow();
    let Some(peer) = world.peers.get(name) else {
        return complaint(format!("the peer {name} is not configured any more; only its `name` is still known"));
    };
    let value = look(peer);
    let seen = to_dynamic(&value);
    context.note(ElementId::Plane, What::Peer(name.clone(), what), value);
    Ok(seen)
}

fn whole(peer: &Peer, figure: fn(&Summary) -> u64) -> Value {
    Value::Int(peer.summary.as_ref().map_or(0, |summary| i64::try_from(figure(summary)).unwrap_or(i64::MAX)))
}

fn words(peer: &Peer, words: fn(&Summary) -> &BTreeSet<Arc<str>>) -> Value {
    let all = peer.summary.iter().flat_map(words);
    Value::Array(all.map(|word| Value::Text(word.to_string())).collect())
}
