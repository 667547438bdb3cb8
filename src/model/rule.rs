//! Affinity: which guests belong together or apart. Rules are the plane's configuration, not a module's; the planner keeps them.

use super::element::VmId;
use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Together on one host, or each on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// On the same host.
    Together,
    /// No two on the same host.
    Apart,
}

/// One rule over the guests whose names match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AffinityRule {
    /// Its name, used in refusals.
    pub name: Arc<str>,
    /// Together or apart.
    pub kind: Affinity,
    /// Hard rules refuse a placement; soft ones only make it less attractive.
    #[serde(default)]
    pub hard: bool,
    /// Patterns of guest names (`db-*`).
    pub vms: Vec<String>,
}

/// A rule that the present placement breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule's name.
    pub rule: Arc<str>,
    /// Together or apart.
    pub kind: Affinity,
    /// Is it a hard rule?
    pub hard: bool,
    /// The guests concerned, by UUID: those that share a host though they should not, or that are spread though they should
    /// not.
    pub vms: Vec<VmId>,
}

impl AffinityRule {
    /// Says which of its patterns cannot be read, and why. Configuration is refused for it before a world sees the rule.
    pub fn check(&self) -> Result<(), String> {
        let bad = self.vms.iter().find_map(|pattern| Glob::new(pattern).err().map(|error| (pattern, error)));
        bad.map_or(Ok(()), |(pattern, error)| {
            Err(format!("rule `{}`: `{pattern}` is not a pattern: {}", self.name, error.kind()))
        })
    }
}

/// The plane's rules with the guests that each of them concerns.
///
/// Names are matched once, when a guest is first seen or renamed, so that reading the membership costs nothing with ten
/// thousand guests. All patterns of all rules stand in one automaton.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    list: Vec<AffinityRule>,
    patterns: GlobSet,
    /// The rule that each pattern of `patterns` belongs to.
    rule_of_pattern: Vec<usize>,
    members: Vec<BTreeSet<VmId>>,
    rules_of: BTreeMap<VmId, Vec<usize>>,
}

impl Rules {
    /// Rules that concern nobody yet.
    pub(super) fn new(list: Vec<AffinityRule>) -> Rules {
        let mut builder = GlobSetBuilder::new();
        let mut rule_of_pattern = Vec::new();
        for (index, rule) in list.iter().enumerate() {
            // A pattern that cannot be read was refused with the configuration; here it means its own text.
            for glob in rule.vms.iter().filter_map(|text| Glob::new(text).or_else(|_| Glob::new(&globset::escape(text))).ok()) {
                builder.add(glob);
                rule_of_pattern.push(index);
            }
        }
        // Only patterns beyond all size limits fail here; then no rule concerns anybody.
        let patterns = builder.build().unwrap_or_default();
        Rules { members: vec![BTreeSet::new(); list.len()], list, patterns, rule_of_pattern, rules_of: BTreeMap::new() }
    }

    pub(super) fn list(&self) -> &[AffinityRule] {
        &self.list
    }

    /// The rules that concern guests of this name.
    pub(super) fn matching(&self, name: &str) -> Vec<usize> {
        let mut rules: Vec<usize> =
            self.patterns.matches(name).into_iter().map(|pattern| self.rule_of_pattern[pattern]).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// A guest has this name now.
    pub(super) fn enroll(&mut self, vm: VmId, name: &str) {
        self.forget(vm);
        let rules = self.matching(name);
        for rule in &rules {
            self.members[*rule].insert(vm);
        }
        if !rules.is_empty() {
            self.rules_of.insert(vm, rules);
        }
    }

    pub(super) fn forget(&mut self, vm: VmId) {
        for rule in self.rules_of.remove(&vm).unwrap_or_default() {
            self.members[rule].remove(&vm);
        }
    }

    /// The rules that concern a guest, by their position in the configuration.
    pub(super) fn of(&self, vm: VmId) -> &[usize] {
        self.rules_of.get(&vm).map_or(&[], Vec::as_slice)
    }

    /// The guests that the rule at this position concerns.
    pub(super) fn members(&self, rule: usize) -> impl Iterator<Item = VmId> + '_ {
        self.members.get(rule).into_iter().flatten().copied()
    }
}
