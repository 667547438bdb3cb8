//! What a module comes to with all defaults filled in, for `embot check --effective`.

use super::check::policy_path;
use super::manifest::{Cover, Manifest};
use crate::model::{Span, Value, World};
use crate::plan::Guardrails;
use crate::policy::{Engine, Limits};
use crate::usage::Usage;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::rc::Rc;

/// All values of all modules that can be read, as YAML with the origin of each value in a comment. `files` are those of
/// [`super::check::check_tree`]; `plane` are the guardrails that hold beside the modules' own.
pub fn effective(files: &BTreeMap<String, String>, plane: &Guardrails) -> String {
    let world = Rc::new(RefCell::new(World::new("check")));
    let engine = Engine::new(world, Rc::new(RefCell::new(Usage::default())), Limits::default());
    let mut out = String::new();
    for (file, text) in files {
        let Ok((manifest, _)) = Manifest::read(file, text) else { continue };
        let mut defaults = BTreeMap::new();
        for policy in &manifest.policies {
            let path = policy_path(file, policy);
            let compiled = files.get(&path).and_then(|text| engine.compile(&path, text).ok());
            for (key, value) in compiled.iter().flat_map(|policy| policy.defaults()) {
                defaults.entry(key.clone()).or_insert((policy.clone(), value.clone()));
            }
        }
        if !out.is_empty() {
            out.push_str("---\n");
        }
        // Writing to a text cannot fail.
        let _ = module(&mut out, file, &manifest, &defaults, plane);
    }
    out
}

type Defaults = BTreeMap<String, (std::sync::Arc<str>, Value)>;

fn module(out: &mut String, file: &str, manifest: &Manifest, defaults: &Defaults, plane: &Guardrails) -> std::fmt::Result {
    writeln!(out, "# {file}")?;
    writeln!(out, "module: {}", manifest.module)?;
    writeln!(out, "version: {}", quoted(&manifest.version))?;
    writeln!(out, "description: {}", quoted(&manifest.description))?;
    writeln!(out, "policies: {}", list(&manifest.policies))?;
    writeln!(out, "covers:")?;
    match manifest.cover {
        Cover::Hosts => writeln!(out, "  each: host")?,
        Cover::Vms => writeln!(out, "  each: vm")?,
        Cover::Plane => writeln!(out, "  one_for: plane")?,
    }
    let names: Vec<String> = manifest.names.iter().map(|name| quoted(name)).collect();
    row(out, "  names", &list(&names), names.is_empty().then_some("all"))?;
    let labels: Vec<String> =
        manifest.labels.iter().map(|(key, value)| format!("{}: {}", quoted(key), quoted(value))).collect();
    row(out, "  labels", &format!("{{{}}}", labels.join(", ")), labels.is_empty().then_some("any"))?;
    writeln!(out, "mode: {}", manifest.mode)?;
    writeln!(out, "permits: {}", list(&manifest.permits))?;
    limits(out, manifest, plane)?;
    writeln!(out, "settings:{}", if defaults.is_empty() { " {}" } else { "" })?;
    for (key, (policy, default)) in defaults {
        let given = manifest.settings.get(key);
        let value = given.unwrap_or(default);
        let mut from = if given.is_some() { String::new() } else { format!("default of {policy}") };
        if let Value::Int(ms) = value
            && *ms >= 1_000
            && ms % 1_000 == 0
        {
            let span = Span(ms.unsigned_abs());
            from = format!("{from}{}as a length of time: {span}", if from.is_empty() { "" } else { "; " });
        }
        row(out, &format!("  {key}"), &yaml(value), (!from.is_empty()).then_some(from.as_str()))?;
    }
    writeln!(out, "channels:")?;
    writeln!(out, "  sends: {}", list(&manifest.sends))?;
    writeln!(out, "  hears: {}", list(&manifest.hears))
}

/// A module may only tighten the plane's guardrails, but for its minimum gain.
fn limits(out: &mut String, manifest: &Manifest, plane: &Guardrails) -> std::fmt::Result {
    let own = &manifest.limits;
    let span = |out: &mut String, key: &str, own: Option<Span>, plane: Span| match own {
        Some(own) if own >= plane => row(out, key, &own, None),
        Some(own) => row(out, key, &plane, Some(&format!("the plane's; the module's own {own} is shorter"))),
        None => row(out, key, &plane, Some("the plane's")),
    };
    writeln!(out, "limits:")?;
    span(out, "  cooldown", own.cooldown, plane.cooldown)?;
    span(out, "  hold", own.hold, plane.hold)?;
    let rate = own.rate.unwrap_or(plane.module_rate);
    let beside = format!("beside the plane's {} per {}", plane.module_rate.actions, plane.module_rate.per);
    let rate = format!("{{ actions: {}, per: {} }}", rate.actions, rate.per);
    row(out, "  rate", &rate, Some(if own.rate.is_some() { beside.as_str() } else { "the plane's" }))?;
    let gain = own.minimum_gain.unwrap_or(plane.minimum_gain);
    row(out, "  minimum_gain", &gain, own.minimum_gain.is_none().then_some("the plane's"))?;
    let cpu = own.target_max_cpu.filter(|own| *own <= plane.target_max_cpu);
    row(out, "  target_max_cpu", &cpu.unwrap_or(plane.target_max_cpu), cpu.is_none().then_some("the plane's"))
}

fn row(out: &mut String, key: &str, value: &impl Display, from: Option<&str>) -> std::fmt::Result {
    match from {
        Some(from) => writeln!(out, "{:<32} # {from}", format!("{key}: {value}")),
        None => writeln!(out, "{key}: {value}"),
    }
}

fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

/// JSON's texts are YAML's as well.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// JSON is YAML, too; a whole floating-point number keeps its point.
fn yaml(value: &Value) -> String {
    value.to_json().to_string()
}
