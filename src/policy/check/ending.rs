//! What is only known once the whole script was read: what nothing writes, reads or hears.

use super::known;
use super::walk::Walk;
use crate::error::nearest;
use rhai::Stmt;

impl Walk<'_> {
    /// Statements outside of functions are never run.
    pub(super) fn top_level(&mut self) {
        let outside = self.ast.statements().iter().find(|statement| !statement.is_noop());
        if let Some(statement) = outside {
            let hint = "put it in a handler, such as `fn on_loaded()`".to_owned();
            let (spot, message, hint) = match statement {
                Stmt::Var(variable, ..) => {
                    let name = &variable.0.name;
                    let message = format!("`{name}` is defined outside the functions, where they cannot see it");
                    let hint = format!(
                        "make it a setting (`fn settings() {{ #{{ {name}: ... }} }}`) or a function (`fn {name}() {{ ... }}`)"
                    );
                    (self.spot(variable.0.pos, name), message, hint)
                }
                _ => (
                    self.spot(statement.position(), " "),
                    "this stands outside the functions and would never run".to_owned(),
                    hint,
                ),
            };
            self.error(spot, message, hint);
        }
    }

    /// What is only known once all was read.
    pub(super) fn afterwards(&mut self) {
        let keys: Vec<&str> = self.written.iter().map(String::as_str).collect();
        let reads = std::mem::take(&mut self.state_reads);
        let missing: Vec<_> = reads
            .iter()
            .filter(|(key, _)| !self.written.contains(key))
            .map(|(key, spot)| {
                let near = nearest(key, keys.iter().copied());
                let near = near.map_or_else(|| "a".to_owned(), |near| format!("did you mean `this.{near}`? A"));
                (key.clone(), *spot, near)
            })
            .collect();
        for (key, spot, near) in missing {
            let hint = format!("{near} key that may be absent is read with `this.get(\"{key}\", default)`");
            self.warn(spot, format!("`this.{key}` is read, but nothing ever assigns it"), hint);
        }
        self.unread_settings();
        self.unheard_timers();
    }

    fn unread_settings(&mut self) {
        let declared = self.facts.settings.clone().unwrap_or_default();
        for (key, setting) in declared {
            let misspelt = self.settings_undeclared.iter().any(|read| nearest(read, [key.as_str()]).is_some());
            if !misspelt && !self.settings_reads.contains(&key) && !self.texts.contains(&key) {
                let hint = format!("read it as `settings.{key}`, or remove it");
                self.warn(setting.spot, format!("no code reads the setting `{key}`"), hint);
            }
        }
    }

    fn unheard_timers(&mut self) {
        let set = std::mem::take(&mut self.timers_set);
        if let Some((name, spot)) = set.first()
            && !self.facts.handlers.contains_key("timer")
        {
            let message = format!("the timer `{name}` is set, but nothing handles timers");
            self.warn(*spot, message, "add `fn on_timer(event) { ... }`; `event.name` is the timer's name");
        }
        let Some(names) = self.timers.clone() else { return };
        for (name, spot) in std::mem::take(&mut self.timers_compared) {
            if !names.contains(&name) {
                let known: Vec<&str> = names.iter().map(String::as_str).collect();
                let hint = known::suggest(&name, &known, "timers are set with `after(span, \"name\")`; this policy sets");
                self.warn(spot, format!("no timer is ever set with the name `{name}`"), hint);
            }
        }
    }
}
