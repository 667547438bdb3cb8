//! What the configuration may change while the plane runs, and how it takes effect.

use super::{Manager, Settings};
use crate::model::{AffinityRule, Mode};
use crate::plan::Guardrails;
use crate::plan::trial::PlaneTrials;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// What decisions rest on and may change at any time. It reaches the manager in the text form of a [`crate::model::Command`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adjustable {
    /// The planner's limits.
    pub guardrails: Guardrails,
    /// Affinity rules.
    pub rules: Vec<AffinityRule>,
    /// How far the plane goes with guests it sees for the first time.
    pub adopt: Mode,
    /// How far modules that it sees for the first time may go.
    pub new_modules: Mode,
}

impl Adjustable {
    /// As text.
    pub fn to_text(&self) -> String {
        // Plain data, which JSON can always hold.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Manager {
    /// Takes it over. What is under way goes on under the limits it was decided by.
    pub(super) fn adjust(&mut self, settings: &str) -> Result<String, String> {
        let new: Adjustable =
            serde_json::from_str(settings).map_err(|error| format!("the changed settings are not understood: {error}"))?;
        let Adjustable { guardrails, rules, adopt, new_modules } = new;
        self.world.borrow_mut().set_rules(rules.clone());
        self.inventory.adopt = adopt;
        self.looks_for_unmarked = true;
        self.set_trials(Rc::new(PlaneTrials::new(self.world.clone(), self.usage.clone(), guardrails.clone())));
        self.settings = Settings { guardrails, rules, adopt, new_modules, ..std::mem::take(&mut self.settings) };
        Ok("the changed settings are in force".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::Output;
    use crate::model::testing::{host, vm};
    use crate::model::{Affinity, Command, Input, Reply, Span, Ticket, Timestamp};
    use crate::store::Recovered;

    fn told(manager: &mut Manager, settings: &str) -> Reply {
        let command = Command::Adjust { settings: settings.into() };
        let input = Input::Command { command, by: "ada".into(), ticket: Some(Ticket(1)) };
        let (batch, mut outputs) = manager.turn(vec![input.clone()], Timestamp(1)).expect("a batch");
        assert!(batch.durable && batch.inputs == [input], "it stands in the journal among the inputs");
        match outputs.pop() {
            Some(Output::Reply(_, reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn changed_settings_are_in_force_from_their_turn_on() {
        let recovered = Recovered {
            hosts: [host("a")].into_iter().map(|host| (host.id.clone(), host)).collect(),
            vms: [vm(1, "web-1", "a"), vm(2, "web-2", "a")].into_iter().map(|vm| (vm.id, vm)).collect(),
            ..Recovered::nothing()
        };
        let mut manager = Manager::new(Settings::default(), recovered);
        let apart = AffinityRule { name: "web".into(), kind: Affinity::Apart, hard: true, vms: vec!["web-*".into()] };
        let new = Adjustable {
            guardrails: Guardrails { cooldown: Span::minutes(7), ..Guardrails::default() },
            rules: vec![apart],
            adopt: Mode::Act,
            new_modules: Mode::Observe,
        };
        assert!(manager.world().violations().is_empty());
        assert!(matches!(told(&mut manager, &new.to_text()), Reply::Done { .. }));
        assert_eq!(manager.settings().guardrails.cooldown, Span::minutes(7));
        assert_eq!((manager.settings().adopt, manager.settings().new_modules), (Mode::Act, Mode::Observe));
        assert_eq!(manager.world().violations().len(), 1);
        assert!(matches!(told(&mut manager, "{}"), Reply::Refused { .. }));
        assert_eq!(manager.settings().guardrails.cooldown, Span::minutes(7), "what is not understood changes nothing");
    }
}
