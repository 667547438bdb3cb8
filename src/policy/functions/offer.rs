//! An offered guest, as a script of the target reads it, and the answers it can give.
//!
//! What is read here is not noted as a read: the whole offer stands in the event, which the journal holds.

use super::propose::{place, shortened};
use super::{HostView, peer, vm};
use crate::model::{Grant, HostId, Mode, Offer, OfferedModule, Verb, Verdict};
use crate::policy::context::{Context, Outcome, complaint};
use crate::policy::state::to_dynamic;
use rhai::{Array, Dynamic, Engine, Map, NativeCallContext};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

/// The offer that is being answered.
#[derive(Debug, Clone)]
pub(in crate::policy) struct OfferView(pub(in crate::policy) Arc<Offer>);

/// One of its modules, by its position.
#[derive(Debug, Clone)]
struct ModuleView(Arc<Offer>, usize);

pub(super) fn register_view(engine: &mut Engine) {
    engine.register_type_with_name::<OfferView>("offer");
    engine.register_type_with_name::<ModuleView>("module");
    for name in ["to_string", "to_debug"] {
        engine.register_fn(name, |offer: &mut OfferView| format!("{} from {}", offer.0.guest.name, offer.0.plane));
        engine
            .register_fn(name, |module: &mut ModuleView| module.get().map_or(String::new(), |module| module.name.to_string()));
    }
}

pub(super) fn register(engine: &mut Engine, context: &Rc<Context>) {
    engine.register_get("id", |offer: &mut OfferView| offer.0.migration.to_string());
    engine.register_get("plane", |offer: &mut OfferView| offer.0.plane.to_string());
    engine.register_get("reason", |offer: &mut OfferView| offer.0.reason.to_string());
    engine.register_get("vm", |offer: &mut OfferView| offer.0.guest.id.to_string());
    engine.register_get("name", |offer: &mut OfferView| offer.0.guest.name.to_string());
    engine.register_get("epoch", |offer: &mut OfferView| whole(offer.0.guest.epoch));
    engine.register_get("vcpus", |offer: &mut OfferView| i64::from(offer.0.guest.vcpus));
    engine.register_get("memory_mib", |offer: &mut OfferView| whole(offer.0.guest.memory_mib));
    engine.register_get("cpu_cores", |offer: &mut OfferView| offer.0.guest.cpu_cores.map_or(f64::NAN, f64::from));
    engine.register_get("cpu_model", |offer: &mut OfferView| offer.0.guest.cpu_model.to_string());
    engine.register_get("devices", |offer: &mut OfferView| texts(&offer.0.guest.devices));
    engine.register_get("networks", |offer: &mut OfferView| texts(&offer.0.guest.networks));
    engine.register_get("copy_bytes", |offer: &mut OfferView| whole(offer.0.guest.copy_bytes));
    engine.register_get("labels", |offer: &mut OfferView| to_dynamic(&vm::labels(&offer.0.guest.labels)));
    engine.register_get("live", |offer: &mut OfferView| offer.0.live);
    engine.register_get("mode", |offer: &mut OfferView| offer.0.mode.to_string());
    engine.register_get("permits", |offer: &mut OfferView| texts(&offer.0.permits));
    engine.register_get("modules", |offer: &mut OfferView| -> Array {
        (0..offer.0.modules.len()).map(|index| Dynamic::from(ModuleView(offer.0.clone(), index))).collect()
    });
    engine.register_get("obstacles", |offer: &mut OfferView| -> Map {
        let of = |place: &crate::model::OfferedHost| {
            place.obstacle.as_ref().map(|why| (place.host.as_str().into(), Dynamic::from(why.to_string())))
        };
        offer.0.hosts.iter().filter_map(of).collect()
    });
    engine.register_fn("label", |offer: &mut OfferView, key: &str| -> String {
        offer.0.guest.labels.get(key).map_or(String::new(), |text| text.to_string())
    });
    let here = context.clone();
    engine.register_get("peer", move |offer: &mut OfferView| peer::find(&here, &offer.0.plane));
    let here = context.clone();
    engine.register_get("host", move |offer: &mut OfferView| {
        let known = offer.0.host.as_ref().filter(|host| here.world.borrow().host(host).is_some());
        known.map_or(Dynamic::UNIT, |host| Dynamic::from(HostView(host.clone())))
    });
    let here = context.clone();
    engine.register_get("hosts", move |offer: &mut OfferView| -> Array {
        let world = here.world.borrow();
        let asked = |host: &HostId| offer.0.host.as_ref().is_none_or(|asked| asked == host);
        let fits = offer.0.hosts.iter().filter(|place| place.obstacle.is_none() && asked(&place.host));
        let known = fits.filter(|place| world.host(&place.host).is_some());
        known.map(|place| Dynamic::from(HostView(place.host.clone()))).collect()
    });
    modules(engine);
    answers(engine, context);
}

fn modules(engine: &mut Engine) {
    type Property = (&'static str, fn(&OfferedModule) -> Dynamic);
    let properties: [Property; 8] = [
        ("name", |module| module.name.to_string().into()),
        ("version", |module| module.version.to_string().into()),
        ("serial", |module| whole(module.serial).into()),
        ("signed_by", |module| or_nothing(module.signed_by.as_ref())),
        ("mode", |module| module.mode.to_string().into()),
        ("permits", |module| texts(&module.permits).into()),
        ("in_force", |module| module.in_force.into()),
        ("refusal", |module| or_nothing(module.refusal.as_ref())),
    ];
    for (name, look) in properties {
        engine.register_get(name, move |module: &mut ModuleView| module.get().map_or(Dynamic::UNIT, look));
    }
}

fn answers(engine: &mut Engine, context: &Rc<Context>) {
    let here = context.clone();
    engine.register_fn("accept", move |call: NativeCallContext, _: &mut OfferView| {
        answer(&here, &call, Verdict::Accept(Grant::default()))
    });
    let here = context.clone();
    engine.register_fn("accept", move |call: NativeCallContext, offer: &mut OfferView, limits: Map| {
        answer(&here, &call, Verdict::Accept(grant(&here, &offer.0, &limits)?))
    });
    let here = context.clone();
    engine.register_fn("deny", move |call: NativeCallContext, _: &mut OfferView, reason: &str| {
        if reason.trim().is_empty() {
            return complaint("a denial needs a reason: whoever asked reads it, and so do admins of both planes");
        }
        answer(&here, &call, Verdict::Deny { reason: shortened(reason) })
    });
}

/// The words of the map given to `accept`.
pub(in crate::policy) const LIMITS: [&str; 3] = ["mode", "permits", "host"];

fn grant(context: &Context, offer: &Offer, limits: &Map) -> Outcome<Grant> {
    let mut grant = Grant::default();
    for (key, value) in limits {
        match key.as_str() {
            "mode" => {
                let text = value.clone().into_immutable_string().unwrap_or_default();
                let modes = [Mode::Observe, Mode::Advise, Mode::Act];
                let Some(mode) = modes.into_iter().find(|mode| mode.to_string() == text.as_str()) else {
                    return complaint(format!("`mode` is \"observe\", \"advise\" or \"act\", not {value}"));
                };
                grant.mode = Some(mode);
            }
            "permits" => {
                let Some(words) = value.read_lock::<Array>() else {
                    return complaint(format!("`permits` is a list of words, not {value}"));
                };
                let mut permits = BTreeSet::new();
                for word in words.iter() {
                    let text = word.clone().into_immutable_string().unwrap_or_default();
                    permits.insert(text.parse::<Verb>().or_else(|why| complaint(format!("in `permits`, {why}")))?);
                }
                grant.permits = Some(permits);
            }
            "host" => {
                let host = match value.read_lock::<HostView>() {
                    Some(host) => host.0.clone(),
                    None => HostId::from(value.clone().into_immutable_string().unwrap_or_default().as_str()),
                };
                if context.world.borrow().host(&host).is_none() {
                    return complaint(format!("the plane has no host `{host}`"));
                }
                if let Some(why) = offer.hosts.iter().find(|place| place.host == host).and_then(|place| place.obstacle.clone())
                {
                    return complaint(format!("host {host} cannot take {}: {why}", offer.guest.name));
                }
                grant.host = Some(host);
            }
            other => {
                let known = LIMITS.join("`, `");
                return complaint(format!("an offer cannot be accepted with `{other}`; known are `{known}`"));
            }
        }
    }
    Ok(grant)
}

/// Puts the answer on the step's sheet. There is one: a script that gives two does not know what it wants.
fn answer(context: &Context, call: &NativeCallContext, verdict: Verdict) -> Outcome<()> {
    context.now("an answer")?;
    let mut sheet = context.sheet.borrow_mut();
    if let Some((_, before)) = &sheet.verdict {
        return complaint(format!("the offer was answered already, in line {}; write `return` after an answer", before.line));
    }
    sheet.verdict = Some((verdict, place(&sheet, call)));
    Ok(())
}

impl ModuleView {
    fn get(&self) -> Option<&OfferedModule> {
        self.0.modules.get(self.1)
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn texts<T: Display>(all: impl IntoIterator<Item = T>) -> Array {
    all.into_iter().map(|one| Dynamic::from(one.to_string())).collect()
}

fn or_nothing(text: Option<&Arc<str>>) -> Dynamic {
    text.map_or(String::new(), |text| text.to_string()).into()
}

#[cfg(test)]
pub(super) fn module_type_id() -> std::any::TypeId {
    std::any::TypeId::of::<ModuleView>()
}
