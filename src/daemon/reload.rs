//! The configuration, read again while the plane runs.
//!
//! What the plane can change at once is taken over; anything else that differs is named, and its old value holds until a
//! restart. A file that does not check changes nothing. What decisions rest on reaches the manager as a command, so it stands
//! in the journal among the inputs, in the order in which it counted.

use super::folder::Folders;
use crate::api::reload::{ReloadView, Wish};
use crate::config::Config;
use crate::error::{Diagnostic, Style, render};
use crate::manager::{Adjustable, Handle};
use crate::model::{Command, Reply};
use serde_yaml::Value;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The keys of `plane.yaml` that are taken over at once; [`taken`] does it.
const AT_ONCE: [&str; 6] = ["adopt", "guardrails", "modules", "new_modules", "policies", "rules"];

/// Reads a plane's configuration again whenever somebody wants it.
pub(super) struct Reload {
    /// The file.
    pub(super) path: PathBuf,
    /// What is in force.
    pub(super) config: Config,
    pub(super) handle: Handle,
    pub(super) folders: watch::Sender<Folders>,
}

/// What decisions rest on and may change at any time.
pub(super) fn adjustable(config: &Config) -> Adjustable {
    Adjustable {
        guardrails: config.guardrails.clone(),
        rules: config.rules.clone(),
        adopt: config.adopt,
        new_modules: config.new_modules,
    }
}

impl Reload {
    /// Serves wishes for as long as the daemon runs.
    pub(super) async fn serve(mut self, mut wishes: mpsc::Receiver<Wish>) {
        while let Some(Wish { by, answer }) = wishes.recv().await {
            super::supervisor::reloading();
            let result = self.reload(by).await;
            super::supervisor::ready();
            match &result {
                Ok(view) => tracing::info!("{}", view.message),
                Err(why) => tracing::error!("{why}"),
            }
            // Whoever asked may have gone.
            answer.send(result).ok();
        }
    }

    async fn reload(&mut self, by: Arc<str>) -> Result<ReloadView, String> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || Config::load(&path)).await;
        let file = self.path.display();
        let read = read.map_err(|error| format!("{file} cannot be read: {error}"))?;
        let new = read.map_err(|found| {
            let found: String = found.iter().map(|one: &Diagnostic| render(one, None, Style::Plain)).collect();
            format!("{file} has errors; nothing has changed:\n{}", found.trim_end())
        })?;
        let changes = changes(&self.config, &new);
        let (at_once, later): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| AT_ONCE.contains(&&*change.key));
        let adjusted = adjustable(&new);
        if adjusted != adjustable(&self.config) {
            let command = Command::Adjust { settings: adjusted.to_text().into() };
            match self.handle.command(command, by).await {
                Ok(Reply::Done { .. }) => {}
                Ok(Reply::Refused { reason }) => return Err(format!("{file} is not taken over: {reason}")),
                Err(_) => return Err("the plane is stopping, or too busy to answer; nothing has changed".to_owned()),
            }
        }
        self.folders.send_replace(Folders::of(&new));
        taken(&mut self.config, new);
        let texts = |changes: Vec<Changed>| changes.into_iter().map(|change| change.text).collect::<Vec<_>>();
        let (taken_over, after_restart) = (texts(at_once), texts(later));
        let list = |what: &str, changes: &[String]| match changes {
            [] => String::new(),
            some => format!("; {what}: {}", some.join(", ")),
        };
        let same = if taken_over.is_empty() && after_restart.is_empty() { "; nothing has changed in it" } else { "" };
        let message = format!(
            "{file} is read again{same}{}{}",
            list("in force now", &taken_over),
            list("in force only after a restart", &after_restart)
        );
        Ok(ReloadView { message, taken_over, after_restart })
    }
}

/// What is taken over at once goes from the new configuration into the one in force.
fn taken(running: &mut Config, new: Config) {
    running.adopt = new.adopt;
    running.guardrails = new.guardrails;
    running.modules = new.modules;
    running.new_modules = new.new_modules;
    running.policies = new.policies;
    running.rules = new.rules;
}

/// A value that differs.
struct Changed {
    /// The key at the top of the file.
    key: String,
    /// Where, and what became of it.
    text: String,
}

fn changes(old: &Config, new: &Config) -> Vec<Changed> {
    let value = |config: &Config| serde_yaml::to_value(config).unwrap_or(Value::Null);
    let mut found = Vec::new();
    differences(&value(old), &value(new), &mut Vec::new(), &mut found);
    found
}

fn differences(old: &Value, new: &Value, path: &mut Vec<String>, found: &mut Vec<Changed>) {
    if old == new {
        return;
    }
    if let (Value::Mapping(one), Value::Mapping(other)) = (old, new) {
        let more = other.keys().filter(|key| !one.contains_key(*key));
        for key in one.keys().chain(more) {
            path.push(key.as_str().unwrap_or("?").to_owned());
            let at = |side: &serde_yaml::Mapping| side.get(key).cloned().unwrap_or(Value::Null);
            differences(&at(one), &at(other), path, found);
            path.pop();
        }
        return;
    }
    let key = path.first().cloned().unwrap_or_default();
    let text = match (brief(old), brief(new)) {
        (Some(old), Some(new)) => format!("{} ({old} -> {new})", path.join(".")),
        _ => path.join("."),
    };
    found.push(Changed { key, text });
}

/// A value that fits in a line.
fn brief(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("none".to_owned()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            serde_yaml::to_string(value).ok().map(|text| text.trim_end().to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(rest: &str) -> Config {
        Config::read("plane.yaml", &format!("plane: home\nfleet: demo\n{rest}"), Path::new("/etc/embot")).unwrap()
    }

    #[test]
    fn changes_name_their_key_and_both_values() {
        let old = config("poll: 5s\n");
        let new = config("poll: 1s\nguardrails: { cooldown: 1m }\nrules: [{ name: r, kind: apart, vms: [a] }]\nmetrics: {}\n");
        let texts: Vec<_> = changes(&old, &new).into_iter().map(|change| change.text).collect();
        assert_eq!(texts, ["poll (5s -> 1s)", "metrics", "rules", "guardrails.cooldown (5m -> 1m)"]);
        assert!(changes(&old, &old).is_empty());
    }

    #[test]
    fn what_is_taken_over_at_once_is_what_the_list_says() {
        let mut running = config("");
        let new = config(
            "adopt: act\nguardrails: { cooldown: 1m }\nmodules: m\nnew_modules: act\npolicies: p\nrules: [{ name: r, kind: apart, \
             vms: [a] }]\npoll: 1s\nstore: other.redb\n",
        );
        taken(&mut running, new.clone());
        let mut left: Vec<_> = changes(&running, &new).into_iter().map(|change| change.key).collect();
        left.sort();
        assert_eq!(left, ["poll", "store"]);
        let mut taken: Vec<_> = changes(&config(""), &running).into_iter().map(|change| change.key).collect();
        taken.sort();
        assert_eq!(taken, AT_ONCE);
    }
}
