//! The check of whole modules: manifests together with the policies they name.
//!
//! A pure function from files to complaints, so that the command line, the hot reload and the tests all ask the same
//! question. What a manifest or a policy alone can tell is checked where it is read; here is what only shows when they
//! are put together.

use super::manifest::{Cover, Manifest};
use crate::error::{Diagnostic, Severity, Spot, nearest};
use crate::model::{EventKind, Kind, Verb, World};
use crate::policy::suite::SUFFIX;
use crate::policy::{Engine, Facts, Inspection, Limits};
use crate::usage::Usage;
use crate::yaml::Document;
use serde::Serialize;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Complaints, by file, line and column.
    pub diagnostics: Vec<Diagnostic>,
    /// How many of them are errors.
    pub errors: usize,
    /// How many of them are warnings.
    pub warnings: usize,
    /// How many manifests were checked.
    pub modules: usize,
    /// How many policies were checked.
    pub policies: usize,
}

impl Report {
    /// One line: `4 modules, 5 policies: 1 error, no warnings`.
    pub fn summary(&self) -> String {
        let counted = |count: usize, one: &str, many: &str| match count {
            0 => format!("no {many}"),
            1 => format!("1 {one}"),
            count => format!("{count} {many}"),
        };
        format!(
            "{}, {}: {}, {}",
            counted(self.modules, "module", "modules"),
            counted(self.policies, "policy", "policies"),
            counted(self.errors, "error", "errors"),
            counted(self.warnings, "warning", "warnings"),
        )
    }
}

/// A manifest that could be read.
struct Module<'a> {
    file: &'a str,
    manifest: Manifest,
    document: Document,
}

/// A policy's file, and what was learnt of it.
struct Policy<'a> {
    file: &'a str,
    facts: Facts,
    /// It has errors: what is missing in it may be there once it is mended.
    broken: bool,
}

/// Checks files: `*.yaml` and `*.yml` are manifests, `*.rhai` policies; others are left alone. A manifest names policies as
/// they stand under `policies/`, the folder beside its own: `embots/web.yaml` with `a.rhai` means `policies/a.rhai`.
pub fn check_tree(files: &BTreeMap<String, String>) -> Report {
    // Settings are computed in an empty world: they depend on none.
    let world = Rc::new(RefCell::new(World::new("check")));
    let engine = Engine::new(world, Rc::new(RefCell::new(Usage::default())), Limits::default());
    let mut tree = Tree { diagnostics: Vec::new(), all_found: true };
    let mut policies = BTreeMap::new();
    let mut modules = Vec::new();
    let mut manifests = 0;
    for (file, text) in files {
        if file.ends_with(SUFFIX) {
            // Tests of policies stand beside them, and see other things.
            continue;
        }
        if file.ends_with(".rhai") {
            let Inspection { diagnostics, facts, policy } = engine.inspect(file, text);
            tree.diagnostics.extend(diagnostics);
            policies.insert(file.as_str(), Policy { file, facts, broken: policy.is_none() });
        } else if file.ends_with(".yaml") || file.ends_with(".yml") {
            manifests += 1;
            match Manifest::read_with_places(file, text) {
                Ok((manifest, document, warnings)) => {
                    tree.diagnostics.extend(warnings);
                    modules.push(Module { file, manifest, document });
                }
                Err(complaints) => tree.diagnostics.extend(complaints),
            }
        }
    }
    let all_read = modules.len() == manifests;
    tree.names(&modules);
    for module in &modules {
        let own = tree.policies(module, &policies);
        tree.settings(module, &own);
        tree.permits(module, &own);
        tree.events(module, &own);
        tree.channels(module, &own);
    }
    if all_read && manifests > 0 && tree.all_found {
        tree.unnamed(&modules, &policies);
    }
    if all_read {
        tree.unheard(&modules);
    }
    tree.report(manifests, policies.len())
}

/// The path of a policy that a manifest names.
pub fn policy_path(manifest: &str, policy: &str) -> String {
    let folder = manifest.rsplit_once('/').map_or("", |(folder, _)| folder);
    match folder.rsplit_once('/') {
        Some((above, _)) => format!("{above}/policies/{policy}"),
        None => format!("policies/{policy}"),
    }
}

struct Tree {
    diagnostics: Vec<Diagnostic>,
    /// All policies that manifests name are there.
    all_found: bool,
}

impl Tree {
    fn error(&mut self, diagnostic: Diagnostic, hint: impl Into<String>) {
        self.diagnostics.push(diagnostic.with_hint(hint));
    }

    fn warn(&mut self, diagnostic: Diagnostic, hint: impl Into<String>) {
        self.diagnostics.push(diagnostic.as_warning().with_hint(hint));
    }

    fn names(&mut self, modules: &[Module<'_>]) {
        let mut first: BTreeMap<&str, &str> = BTreeMap::new();
        for module in modules {
            if let Some(other) = first.insert(&module.manifest.module, module.file) {
                let message = format!("there is another module `{}`, in {other}", module.manifest.module);
                self.error(module.document.error(&["module"], message), "give one of the two another name");
            }
        }
    }

    /// The policies a module names, as far as they are there.
    fn policies<'a>(&mut self, module: &Module<'_>, policies: &'a BTreeMap<&str, Policy<'a>>) -> Vec<&'a Policy<'a>> {
        let mut own = Vec::new();
        let folder = policy_path(module.file, "");
        for (index, policy) in module.manifest.policies.iter().enumerate() {
            let path = policy_path(module.file, policy);
            match policies.get(path.as_str()) {
                Some(policy) => own.push(policy),
                None => {
                    self.all_found = false;
                    let known: Vec<&str> = policies.keys().filter_map(|file| file.strip_prefix(folder.as_str())).collect();
                    let hint = match nearest(policy, known.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None if known.is_empty() => format!("create {path}"),
                        None => format!("create it, or name one of: {}", known.join(", ")),
                    };
                    let complaint =
                        module.document.error(&["policies", &index.to_string()], format!("there is no policy {path}"));
                    self.error(complaint, hint);
                }
            }
        }
        own
    }

    fn settings(&mut self, module: &Module<'_>, own: &[&Policy<'_>]) {
        let complete = own.len() == module.manifest.policies.len() && own.iter().all(|policy| !policy.broken);
        let declared: Vec<_> = own.iter().filter_map(|policy| policy.facts.settings.as_ref()).collect();
        // A policy whose settings could not be told may declare any.
        let told = declared.len() == own.len()
            || own.iter().all(|policy| policy.facts.settings.is_some() || !policy.facts.computes_settings);
        for (key, value) in &module.manifest.settings {
            let mut found = false;
            for setting in declared.iter().filter_map(|settings| settings.get(key)) {
                found = true;
                if let Err(wanted) = setting.accepts(value) {
                    let message = format!("the setting `{key}` must be {wanted}");
                    let complaint = module.document.error(&["settings", key], message);
                    self.error(complaint, "it must be of the same kind as the default in the policy's `fn settings()`");
                }
            }
            if !found && complete && told {
                let keys: BTreeSet<&str> = declared.iter().flat_map(|settings| settings.keys().map(String::as_str)).collect();
                let hint = match nearest(key, keys.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if keys.is_empty() => "its policies have no settings; remove it".to_owned(),
                    None => format!("they declare: {}", keys.into_iter().collect::<Vec<_>>().join(", ")),
                };
                let message = format!("no policy of this module declares the setting `{key}`");
                self.error(module.document.key_error(&["settings", key], message), hint);
            }
        }
    }

    fn permits(&mut self, module: &Module<'_>, own: &[&Policy<'_>]) {
        let complete = own.len() == module.manifest.policies.len() && own.iter().all(|policy| !policy.broken);
        let verbs = |policy: &&Policy<'_>| {
            let certain = policy.facts.verbs.iter().map(|(verb, _)| *verb);
            certain.chain(policy.facts.verbs_perhaps.iter().copied()).collect::<Vec<_>>()
        };
        let needed: BTreeSet<Verb> = own.iter().flat_map(verbs).collect();
        for verb in module.manifest.permits.iter().filter(|verb| complete && !needed.contains(verb)) {
            let index = module.document.position(&["permits"], verb.name()).unwrap_or_default();
            let complaint =
                module.document.error(&["permits", &index], format!("no policy of this module needs the permit `{verb}`"));
            self.warn(complaint, "remove it: a module should be permitted no more than it needs");
        }
        for policy in own {
            let mut told = BTreeSet::new();
            for (verb, spot) in &policy.facts.verbs {
                if !module.manifest.permits.contains(verb) && told.insert(*verb) {
                    let message = format!(
                        "the module `{}` does not permit `{verb}`: this would always be refused",
                        module.manifest.module
                    );
                    let hint = format!("add `{verb}` to `permits` in {}", module.file);
                    self.warn(spot.error(policy.file, message), hint);
                }
            }
        }
    }

    /// Handlers of events that never reach the module's embots.
    fn events(&mut self, module: &Module<'_>, own: &[&Policy<'_>]) {
        let (reached, what): (&[Kind], _) = match module.manifest.cover {
            Cover::Hosts => (&[Kind::Host], "each host"),
            Cover::Vms => (&[Kind::Vm, Kind::Disk, Kind::Nic, Kind::App], "each vm"),
            Cover::Plane => return,
        };
        for policy in own {
            for (name, spot) in &policy.facts.handlers {
                let about = EventKind::named(name).map_or(&[][..], |kind| kind.about);
                if !about.iter().any(|kind| reached.contains(kind)) {
                    let module_name = &module.manifest.module;
                    let message = format!("`on_{name}` is never called in the module `{module_name}`, which covers {what}");
                    let other = if module.manifest.cover == Cover::Hosts { "vm" } else { "host" };
                    let hint = format!("write `covers: {{ each: {other} }}` or `{{ one_for: plane }}` in {}", module.file);
                    self.warn(spot.error(policy.file, message), hint);
                }
            }
        }
    }

    fn channels(&mut self, module: &Module<'_>, own: &[&Policy<'_>]) {
        let Module { manifest, document, file } = module;
        let complete = own.len() == manifest.policies.len() && own.iter().all(|policy| !policy.broken);
        let list =
            |channels: &BTreeSet<std::sync::Arc<str>>| channels.iter().map(|channel| channel.to_string()).collect::<Vec<_>>();
        let (sends, hears) = (list(&manifest.sends), list(&manifest.hears));
        let mut sent = BTreeSet::new();
        for policy in own {
            for (channel, spot) in &policy.facts.sends {
                sent.insert(channel.as_str());
                if !sends.contains(channel) {
                    let message = format!("the module `{}` does not declare that it sends on `{channel}`", manifest.module);
                    let hint = declare(channel, &sends, "sends", file);
                    self.error(spot.error(policy.file, message), hint);
                }
            }
            for (channel, spot) in &policy.facts.hears {
                if !hears.contains(channel) {
                    let message = format!("the module `{}` does not hear `{channel}`", manifest.module);
                    let hint = declare(channel, &hears, "hears", file);
                    self.warn(spot.error(policy.file, message), hint);
                }
            }
            if let Some(spot) = policy.facts.handlers.get("message").filter(|_| hears.is_empty()) {
                let message = format!("`on_message` is never called: the module `{}` hears no channel", manifest.module);
                self.warn(spot.error(policy.file, message), format!("add `channels: {{ hears: [name] }}` in {file}"));
            }
        }
        if !complete {
            return;
        }
        let computed = own.iter().any(|policy| policy.facts.sends_computed);
        for channel in sends.iter().filter(|channel| !computed && !sent.contains(channel.as_str())) {
            let index = document.position(&["channels", "sends"], channel).unwrap_or_default();
            let complaint =
                document.error(&["channels", "sends", &index], format!("no policy of this module sends on `{channel}`"));
            self.warn(complaint, "remove it, or send on it with `send(channel, content)`");
        }
        if !hears.is_empty() && own.iter().all(|policy| !policy.facts.handlers.contains_key("message")) {
            let complaint = document.key_error(&["channels", "hears"], "no policy of this module handles messages");
            self.warn(complaint, "remove it, or add `fn on_message(event) { ... }` to a policy");
        }
    }

    /// Channels that only one side knows.
    fn unheard(&mut self, modules: &[Module<'_>]) {
        let all = |of: fn(&Manifest) -> &BTreeSet<std::sync::Arc<str>>| -> BTreeSet<&str> {
            modules.iter().flat_map(|module| of(&module.manifest).iter().map(|channel| &**channel)).collect()
        };
        let (sent, heard) = (all(|manifest| &manifest.sends), all(|manifest| &manifest.hears));
        for module in modules {
            for (side, own, others, verb) in
                [("sends", &module.manifest.sends, &heard, "hears"), ("hears", &module.manifest.hears, &sent, "sends on")]
            {
                for channel in own.iter().filter(|channel| !others.contains(&***channel)) {
                    let index = module.document.position(&["channels", side], channel).unwrap_or_default();
                    let complaint = module.document.error(&["channels", side, &index], format!("no module {verb} `{channel}`"));
                    let hint = match nearest(channel, others.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "remove it, or load the other module as well".to_owned(),
                    };
                    self.warn(complaint, hint);
                }
            }
        }
    }

    fn unnamed(&mut self, modules: &[Module<'_>], policies: &BTreeMap<&str, Policy<'_>>) {
        let named: BTreeSet<String> = modules
            .iter()
            .flat_map(|module| module.manifest.policies.iter().map(|policy| policy_path(module.file, policy)))
            .collect();
        for file in policies.keys().filter(|file| !named.contains(**file)) {
            let complaint = Spot::START.error(file, "no module names this policy: it never runs");
            let name = file.rsplit('/').next().unwrap_or(file);
            self.warn(complaint, format!("add `{name}` to `policies` of a manifest in `embots/`"));
        }
    }

    fn report(mut self, modules: usize, policies: usize) -> Report {
        self.diagnostics.sort_by(|a, b| {
            (&a.file, a.line, a.column, a.severity, &a.message).cmp(&(&b.file, b.line, b.column, b.severity, &b.message))
        });
        self.diagnostics.dedup();
        let errors = self.diagnostics.iter().filter(|one| one.severity == Severity::Error).count();
        let warnings = self.diagnostics.len() - errors;
        Report { diagnostics: self.diagnostics, errors, warnings, modules, policies }
    }
}

fn declare(channel: &str, declared: &[String], side: &str, file: &str) -> String {
    match nearest(channel, declared.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`? Otherwise add `{channel}` to `channels.{side}` in {file}"),
        None => format!("add `{channel}` to `channels.{side}` in {file}"),
    }
}
