//! `embot check`: is what admins wrote right? Needs no daemon.
//!
//! Modules are checked together with the policies they name and with each other (who hears what another sends), so a file
//! that is named alone is still read with its folder; only what concerns it is then shown.

use super::context::{Context, Output};
use super::failure::Failure;
use super::screen::{Screen, Tone};
use crate::config::{self, Config};
use crate::embot::Manifest;
use crate::embot::check::{Report, check_tree, policy_path};
use crate::error::{Diagnostic, Severity, Style, count, render};
use crate::hypervisor::simulated::FleetPlan;
use crate::plan::Guardrails;
use crate::testing::SUFFIX;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Check the configuration, modules and policies, without a daemon.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot check                                the configuration and all it names\n  embot check embots/relieve-hot-host.yaml   one module with its policies\n  embot check site/                          every module and policy below a folder\n  embot check --effective                    print every value in force, defaults included\n  embot check --effective embots/            the same of these modules only\n\nExit codes: 0 all is right (warnings count as right), 1 there are errors, 2 nothing could be checked."
)]
pub struct Check {
    /// Manifests, policies, configurations (plane.yaml) or folders; without any, what the configuration names.
    paths: Vec<PathBuf>,
    /// Print the configuration and the modules with every value in force, where all is right.
    #[arg(long)]
    effective: bool,
}

impl Check {
    /// Checks and shows.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let mut files = self.files(context)?;
        if files.texts.is_empty() && files.complaints.is_empty() && files.configurations == 0 {
            return Err(Failure::wrong("there is nothing to check")
                .with_hint("name manifests (`*.yaml`), policies (`*.rhai`) or folders of them"));
        }
        let configurations = files.configurations;
        let effective = if self.effective { Some(files.effective(context)?) } else { None };
        let (report, texts) = files.check();
        match effective {
            // Values of what is wrong are not in force.
            Some(effective) if report.errors == 0 => effective.show(context)?,
            _ => context.show(&report, |screen| rendered(&report, &texts, configurations, screen))?,
        }
        if report.errors > 0 { Err(Failure::Said(1)) } else { Ok(()) }
    }

    fn files(&self, context: &Context) -> Result<Files, Failure> {
        let mut files = Files::default();
        if self.paths.is_empty() {
            files.configured(context)?;
        }
        for path in &self.paths {
            files.add(path)?;
        }
        Ok(files)
    }
}

/// Every value in force.
struct Effective {
    configurations: Vec<Config>,
    /// The modules' values, as YAML documents.
    modules: String,
}

impl Effective {
    fn show(&self, context: &Context) -> Result<(), Failure> {
        if context.output == Output::Json {
            let modules: Result<Vec<serde_yaml::Value>, _> =
                serde_yaml::Deserializer::from_str(&self.modules).map(serde_yaml::Value::deserialize).collect();
            let modules = modules.map_err(|error| Failure::wrong(format!("the modules cannot be shown: {error}")))?;
            let answer = serde_json::json!({ "configurations": self.configurations, "modules": modules });
            return context.show(&answer, |_| String::new());
        }
        let documents = self.configurations.iter().map(Config::effective);
        let documents = documents.chain((!self.modules.is_empty()).then(|| self.modules.clone()));
        context.print(&documents.collect::<Vec<_>>().join("---\n"))
    }
}

/// What is to be checked.
#[derive(Debug, Default)]
struct Files {
    /// Texts by the path under which the check finds them.
    texts: BTreeMap<String, String>,
    /// Where a policy really stands, for those that the configuration keeps elsewhere than beside the modules.
    elsewhere: BTreeMap<String, String>,
    /// What is to be shown; all if empty.
    wanted: BTreeSet<String>,
    /// Folders whose content is wanted whole.
    whole: Vec<String>,
    complaints: Vec<Diagnostic>,
    configurations: usize,
    /// Those that are right.
    read: Vec<Config>,
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn is_script(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rhai")
}

fn is_policy(path: &Path) -> bool {
    // Tests stand beside policies, and are none.
    is_script(path) && !path.to_string_lossy().ends_with(SUFFIX)
}

fn is_configuration(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == config::FILE || name == "plane.yml")
}

/// The deepest folder that is looked into: nobody nests modules so deep, but links can lead in a circle.
const DEEPEST: usize = 16;

impl Files {
    /// What the configuration names, or where there is none, the usual folders.
    fn configured(&mut self, context: &Context) -> Result<(), Failure> {
        let path = context.config_path();
        let (modules, policies) = if context.config.is_some() || path.exists() {
            self.configuration(path);
            match self.read.last() {
                Some(config) => (config.modules.clone(), config.policies.clone()),
                None => return Ok(()),
            }
        } else {
            (PathBuf::from("embots"), PathBuf::from("policies"))
        };
        self.whole.push(modules.display().to_string());
        self.whole.push(policies.display().to_string());
        for folder in [&modules, &policies].into_iter().filter(|folder| folder.is_dir()) {
            self.read_folder(folder, 0)?;
        }
        // The check looks for policies beside the modules' folder; where they are kept elsewhere it finds them there, too.
        let beside = modules.parent().unwrap_or(Path::new("")).join("policies");
        if beside != policies {
            let prefix = format!("{}/", policies.display());
            let moved: Vec<String> = self.texts.keys().filter(|file| file.starts_with(&prefix)).cloned().collect();
            for file in moved {
                let virtual_path = policy_path(&modules.join("x.yaml").display().to_string(), &file[prefix.len()..]);
                if let Some(text) = self.texts.remove(&file) {
                    self.texts.insert(virtual_path.clone(), text);
                    self.elsewhere.insert(virtual_path, file);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path) -> Result<(), Failure> {
        let shown = path.display().to_string();
        if path.is_dir() {
            self.whole.push(shown.trim_end_matches('/').to_owned());
            return self.read_folder(path, 0);
        }
        if is_configuration(path) {
            self.configuration(path);
            return Ok(());
        }
        if !is_manifest(path) && !is_script(path) {
            return Err(Failure::wrong(format!("{shown} is neither a manifest nor a policy"))
                .with_hint("manifests end in .yaml, policies in .rhai"));
        }
        self.read_file(path)?;
        self.wanted.insert(shown.clone());
        if is_manifest(path) {
            let named = Manifest::read(&shown, &self.texts[&shown]).map(|(manifest, _)| manifest.policies);
            self.wanted.extend(named.unwrap_or_default().iter().map(|policy| policy_path(&shown, policy)));
            for folder in [path.parent(), Path::new(&policy_path(&shown, "x")).parent()].into_iter().flatten() {
                if folder.as_os_str().is_empty() || !folder.is_dir() {
                    continue;
                }
                self.read_folder(folder, DEEPEST)?;
            }
        }
        Ok(())
    }

    fn configuration(&mut self, path: &Path) {
        self.configurations += 1;
        match Config::load(path) {
            Err(complaints) => self.complaints.extend(complaints),
            Ok(config) => {
                self.complaints.extend(config.fleet.as_ref().and_then(|fleet| FleetPlan::named(fleet).err()));
                self.complaints.extend(config.file_complaints(path));
                self.read.push(config);
            }
        }
    }

    fn read_folder(&mut self, folder: &Path, depth: usize) -> Result<(), Failure> {
        let refused = |error| Failure::wrong(format!("cannot read {}: {error}", folder.display()));
        let mut entries: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(refused)? {
            entries.push(entry.map_err(refused)?.path());
        }
        entries.sort();
        for path in entries {
            if path.is_dir() {
                let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
                if depth < DEEPEST && !hidden {
                    self.read_folder(&path, depth + 1)?;
                }
            } else if is_configuration(&path) && depth < DEEPEST {
                self.configuration(&path);
            } else if (is_manifest(&path) && !is_configuration(&path)) || is_script(&path) {
                self.read_file(&path)?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: &Path) -> Result<(), Failure> {
        let shown = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| Failure::wrong(format!("cannot read {shown}: {error}")))?;
        match String::from_utf8(bytes) {
            Ok(text) => drop(self.texts.insert(shown, text)),
            Err(error) => {
                let whole = error.utf8_error().valid_up_to();
                let line = 1 + error.as_bytes()[..whole].iter().filter(|byte| **byte == b'\n').count();
                let complaint =
                    Diagnostic::error(&shown, u32::try_from(line).unwrap_or(0), 0, 1, "this line is not UTF-8 text");
                self.complaints.push(complaint.with_hint("save the file as UTF-8"));
                self.texts.insert(shown, String::new());
            }
        }
        Ok(())
    }

    /// The values in force of what is wanted. The guardrails beside those of the modules are those of the configuration that is
    /// named or found, or else the usual ones.
    fn effective(&mut self, context: &Context) -> Result<Effective, Failure> {
        let configurations = std::mem::take(&mut self.read);
        let guardrails = match configurations.first() {
            Some(config) => config.guardrails.clone(),
            None if context.config.is_some() || context.config_path().exists() => context.config()?.guardrails,
            None => Guardrails::default(),
        };
        let mut texts = self.texts.clone();
        texts.retain(|file, _| !is_manifest(Path::new(file)) || self.wanted.contains(file) || self.is_inside(file));
        Ok(Effective { configurations, modules: crate::embot::effective(&texts, &guardrails) })
    }

    /// Is it in a folder that is wanted whole?
    fn is_inside(&self, file: &str) -> bool {
        self.whole.iter().any(|folder| folder == "." || Path::new(file).starts_with(folder))
    }

    /// The report on what is wanted, and the texts it is about.
    fn check(mut self) -> (Report, BTreeMap<String, String>) {
        let mut report = check_tree(&self.texts);
        let unreadable: BTreeSet<&str> = self.complaints.iter().map(|complaint| &*complaint.file).collect();
        let all = self.wanted.is_empty();
        report.diagnostics.retain(|found| {
            (all || self.wanted.contains(&*found.file) || self.is_inside(&found.file)) && !unreadable.contains(&*found.file)
        });
        for found in &mut report.diagnostics {
            if let Some(real) = self.elsewhere.get(&*found.file) {
                found.file = real.as_str().into();
            }
        }
        if !all {
            let shown = |is: fn(&Path) -> bool| {
                self.texts
                    .keys()
                    .filter(|file| is(Path::new(file)) && (self.wanted.contains(*file) || self.is_inside(file)))
                    .count()
            };
            (report.modules, report.policies) = (shown(is_manifest), shown(is_policy));
        }
        for (virtual_path, real) in &self.elsewhere {
            if let Some(text) = self.texts.remove(virtual_path) {
                self.texts.insert(real.clone(), text);
            }
        }
        report.diagnostics.splice(0..0, self.complaints);
        report.errors = report.diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
        report.warnings = report.diagnostics.len() - report.errors;
        (report, self.texts)
    }
}

fn rendered(report: &Report, texts: &BTreeMap<String, String>, configurations: usize, screen: &Screen) -> String {
    let style = if screen.color { Style::Colour } else { Style::Plain };
    let mut text = String::new();
    for found in &report.diagnostics {
        let own = texts.get(&*found.file).cloned().or_else(|| std::fs::read_to_string(&*found.file).ok());
        text += &render(found, own.as_deref(), style);
        text += "\n";
    }
    let mut checked = Vec::new();
    for (number, thing) in [(configurations, "configuration"), (report.modules, "module")] {
        if number > 0 {
            checked.push(count(number, thing));
        }
    }
    if report.policies > 0 {
        checked.push(if report.policies == 1 { "1 policy".to_owned() } else { format!("{} policies", report.policies) });
    }
    let verdict = match (report.errors, report.warnings) {
        (0, 0) => screen.paint(Tone::Good, "all is right"),
        (0, warnings) => screen.paint(Tone::Warning, &count(warnings, "warning")),
        (errors, 0) => screen.paint(Tone::Bad, &count(errors, "error")),
        (errors, warnings) => screen.paint(Tone::Bad, &format!("{}, {}", count(errors, "error"), count(warnings, "warning"))),
    };
    format!("{text}{}: {verdict}\n", checked.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::context::Out;
    use super::super::screen::plain;
    use super::*;
    use std::sync::Arc;

    const SOUND: &str = "fn settings() { #{ hot: 0.9 } }\nfn on_load(host, settings) {\n    if host.cpu > settings.hot { host.vms[0].migrate(\"hot\"); }\n}\n";

    fn site() -> tempfile::TempDir {
        let site = tempfile::tempdir().unwrap();
        let manifest = |name: &str| {
            format!(
                "module: {name}\nversion: \"1\"\ndescription: d\npolicies: [{name}.rhai]\ncovers: {{ each: host }}\npermits: [migrate]\n"
            )
        };
        for (path, text) in [
            ("plane.yaml", "plane: home\nfleet: demo\npol: 5s\n"),
            ("embots/good.yaml", &*manifest("good")),
            ("embots/bad.yaml", &*manifest("bad")),
            ("policies/good.rhai", SOUND),
            ("policies/bad.rhai", "fn on_load(host) {\n    host.vms[0].migrat(\"hot\");\n}\n"),
        ] {
            let path = site.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        site
    }

    /// What `embot check --effective` prints of some paths below a site, and whether all is right.
    fn effective(site: &Path, paths: &[&str], output: Output) -> (String, bool) {
        let said = Arc::default();
        let context = Context {
            socket: None,
            remote: Default::default(),
            config: None,
            output,
            screen: plain(80),
            out: Out::kept(&said),
        };
        let paths = paths.iter().map(|path| site.join(path)).collect();
        let is_right = Check { paths, effective: true }.run(&context).is_ok();
        (String::from_utf8(said.lock().unwrap().clone()).unwrap(), is_right)
    }

    #[test]
    fn values_in_force_are_those_of_what_is_named_where_it_is_right() {
        let site = site();
        // No configuration is needed; a broken one beside is none of its business.
        let (said, is_right) = effective(site.path(), &["embots/good.yaml"], Output::Table);
        assert!(is_right && said.contains("module: good") && said.contains("hot: 0.9") && !said.contains("bad"), "{said}");
        let (said, is_right) = effective(site.path(), &["embots/good.yaml"], Output::Json);
        let json: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert!(is_right && json["configurations"] == serde_json::json!([]), "{said}");
        assert_eq!((&json["modules"][0]["module"], &json["modules"][0]["settings"]["hot"]), (&"good".into(), &0.9.into()));
        for wrong in ["embots/bad.yaml", "plane.yaml", ""] {
            let (said, is_right) = effective(site.path(), &[wrong], Output::Table);
            assert!(!is_right && said.contains("error") && !said.contains("module: bad"), "{wrong}: {said}");
        }
        std::fs::write(site.path().join("plane.yaml"), "plane: home\nfleet: demo\n").unwrap();
        let (said, is_right) = effective(site.path(), &["plane.yaml", "embots/good.yaml"], Output::Table);
        assert!(
            is_right && said.starts_with("plane: home\n") && said.contains("---\n# ") && said.contains("module: good"),
            "{said}"
        );
    }

    /// The check of some paths below a site, as people see it.
    fn check(site: &Path, paths: &[&str]) -> String {
        let mut files = Files::default();
        for path in paths {
            if let Err(failure) = files.add(&site.join(path)) {
                return failure.text(Style::Plain).replace(&site.display().to_string(), "SITE");
            }
        }
        let configurations = files.configurations;
        let (report, texts) = files.check();
        rendered(&report, &texts, configurations, &plain(80)).replace(&site.display().to_string(), "SITE")
    }

    #[test]
    fn only_what_is_asked_about_is_shown() {
        let site = site();
        let texts = [
            check(site.path(), &["embots/good.yaml"]),
            check(site.path(), &["embots/bad.yaml"]),
            check(site.path(), &["policies/bad.rhai"]),
            check(site.path(), &["plane.yaml"]),
            check(site.path(), &[""]),
            check(site.path(), &["README.md"]),
            check(site.path(), &["embots/none.yaml"]),
        ];
        insta::assert_snapshot!(texts.join("---\n"));
    }

    #[test]
    fn the_fleet_that_a_configuration_names_is_checked() {
        let site = site();
        std::fs::write(site.path().join("plane.yaml"), "plane: home\nfleet: none.yaml\n").unwrap();
        let missing = check(site.path(), &["plane.yaml"]);
        std::fs::write(site.path().join("none.yaml"), "hosts:\n- name: a\n  cpus: many\n").unwrap();
        let wrong = check(site.path(), &["plane.yaml"]);
        insta::assert_snapshot!([missing, wrong].join("---\n"));
    }

    #[test]
    fn bytes_that_are_no_text_are_a_complaint() {
        let site = site();
        std::fs::write(site.path().join("policies/good.rhai"), b"fn on_load() {\n\xff\n}").unwrap();
        assert!(check(site.path(), &["embots/good.yaml"]).contains("not UTF-8"));
    }

    #[test]
    fn policies_may_be_kept_elsewhere() {
        let site = site();
        std::fs::rename(site.path().join("policies"), site.path().join("rules")).unwrap();
        std::fs::write(site.path().join("plane.yaml"), "plane: home\nfleet: demo\npolicies: rules\n").unwrap();
        let (config, out) = (Some(site.path().join("plane.yaml")), Out::kept(&Arc::default()));
        let context =
            Context { socket: None, remote: Default::default(), config, output: Output::Table, screen: plain(80), out };
        let mut files = Files::default();
        files.configured(&context).unwrap();
        let (report, texts) = files.check();
        let text = rendered(&report, &texts, 1, &plain(80)).replace(&site.path().display().to_string(), "SITE");
        assert!(text.contains("SITE/rules/bad.rhai:2") && text.contains("migrat(\"hot\")"), "{text}");
        assert!(text.contains("1 configuration, 2 modules, 2 policies: 1 error"), "{text}");
    }
}
