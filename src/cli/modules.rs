//! `embot modules`: what is deployed, and deploying it.

use super::context::Context;
use super::failure::Failure;
use super::manage::ModeName;
use super::migrate::show;
use super::screen::Screen;
use super::table::{Fit, pairs, table};
use crate::api::commands::{LoadModule, Module, ModuleMode};
use crate::api::modules::{ModuleDetail, ModuleView};
use crate::api::state::ReplyView;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Show, load, change and roll back modules.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot modules                                    what is loaded\n  embot modules load embots/relieve-hot-host.yaml  load it, or its changed version\n  embot modules mode relieve-hot-host act          let it act\n  embot modules roll-back relieve-hot-host         back to the version before\n\nThe daemon takes over by itself what changes in the configured folders."
)]
pub struct Modules {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Show what is loaded (also without a word).
    List,
    /// Show a module: mode, permits, settings in force.
    #[command(after_help = "Example:\n  embot modules show relieve-hot-host")]
    Show {
        /// The module.
        module: String,
        /// Show the texts of its manifest and policies, too.
        #[arg(long)]
        texts: bool,
    },
    /// Load a module, or take over its changed version. State is kept; a version that does not check is not taken over.
    #[command(after_help = "Example:\n  embot modules load embots/relieve-hot-host.yaml")]
    Load {
        /// The manifest.
        file: PathBuf,
        /// The folder of its policies; without it, `policies` beside the manifest's folder.
        #[arg(long, value_name = "FOLDER")]
        policies: Option<PathBuf>,
    },
    /// Forget a module, its embots and what they remember.
    #[command(after_help = "Example:\n  embot modules unload relieve-hot-host")]
    Unload {
        /// The module.
        module: String,
    },
    /// Change how far a module may go.
    #[command(after_help = "Example:\n  embot modules mode relieve-hot-host act")]
    Mode {
        /// The module.
        module: String,
        /// How far.
        #[arg(value_enum)]
        mode: ModeName,
    },
    /// Show the versions that were loaded, the one in force first.
    #[command(after_help = "Example:\n  embot modules history relieve-hot-host")]
    History {
        /// The module.
        module: String,
    },
    /// Go back to the version before the one in force.
    #[command(after_help = "Example:\n  embot modules roll-back relieve-hot-host")]
    RollBack {
        /// The module.
        module: String,
    },
}

impl Modules {
    /// Asks and shows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let detail = async |module: &str| -> Result<ModuleDetail, Failure> {
            client.get(&format!("/v1/modules/{}", super::client::segment(module))).await
        };
        let reply: ReplyView = match self.what.unwrap_or(What::List) {
            What::List => {
                let all: Vec<ModuleView> = client.get("/v1/modules").await?;
                return context.show(&all, |screen| render(&all, screen));
            }
            What::Show { module, texts } => {
                let detail = detail(&module).await?;
                return context.show(&detail, |screen| render_detail(&detail, texts, screen));
            }
            What::History { module } => {
                let detail = detail(&module).await?;
                return context.show(&detail.versions, |screen| render_history(&detail, screen));
            }
            What::Load { file, policies } => {
                client.post("/v1/commands/load_module", &read(&file, policies.as_deref())?).await?
            }
            What::Unload { module } => client.post("/v1/commands/unload_module", &Module { module }).await?,
            What::Mode { module, mode } => {
                client.post("/v1/commands/module_mode", &ModuleMode { module, mode: mode.into() }).await?
            }
            What::RollBack { module } => client.post("/v1/commands/roll_back", &Module { module }).await?,
        };
        show(context, &reply)
    }
}

/// All that is needed of a manifest to find its policies. Whether the rest is right, the daemon says.
#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    policies: Vec<String>,
}

fn read(file: &Path, policies: Option<&Path>) -> Result<LoadModule, Failure> {
    let text = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| Failure::wrong(format!("cannot read {}: {error}", path.display())))
    };
    let manifest = text(file)?;
    let names = serde_yaml::from_str(&manifest).unwrap_or(Names { policies: Vec::new() });
    let beside = file.parent().and_then(Path::parent).unwrap_or(Path::new("")).join("policies");
    let folder = policies.unwrap_or(&beside);
    let mut texts = BTreeMap::new();
    for name in names.policies {
        // A name is a file's name; a path would read what lies elsewhere.
        if Path::new(&name).file_name().is_none_or(|plain| plain != name.as_str()) {
            return Err(Failure::wrong(format!("{} names the policy `{name}`", file.display()))
                .with_hint("write the name of a file in the policies' folder, without a path"));
        }
        let hint = format!("policies are read from {}; name another folder with --policies", folder.display());
        let policy = text(&folder.join(&name)).map_err(|failure| failure.with_hint(hint))?;
        texts.insert(name, policy);
    }
    let name = file.file_name().map_or_else(|| file.display().to_string(), |name| name.to_string_lossy().into_owned());
    Ok(LoadModule { file: name, manifest, policies: texts })
}

fn render(modules: &[ModuleView], screen: &Screen) -> String {
    let row = |module: &ModuleView| {
        vec![
            module.module.clone(),
            module.version.clone(),
            module.mode.clone(),
            module.embots.to_string(),
            module.suspended.to_string(),
            module.description.clone(),
        ]
    };
    let columns = [
        ("MODULE", Fit::Keep),
        ("VERSION", Fit::Keep),
        ("MODE", Fit::State),
        ("EMBOTS", Fit::Right),
        ("SUSPENDED", Fit::Right),
        ("WHAT IT DOES", Fit::Cut),
    ];
    let text = table(&columns, modules.iter().map(row).collect(), screen);
    if text.is_empty() { "no module is loaded (`embot modules load FILE`)\n".to_owned() } else { text }
}

/// The function that declares a policy's settings.
const SETTINGS: &str = "settings";

/// What a policy's author says of one of its settings: the item of a list, above `fn settings()`, that begins with its name.
fn said_of(detail: &ModuleDetail, policy: &str, key: &str) -> Option<String> {
    let doc = detail.docs.iter().find(|doc| doc.policy == policy && doc.function == SETTINGS)?;
    let begins = format!("- `{key}`: ");
    let mut lines = doc.text.lines().map(str::trim).skip_while(|line| !line.starts_with(&begins));
    let first = lines.next()?.strip_prefix(&begins)?;
    let more = lines.take_while(|line| !line.is_empty() && !line.starts_with("- "));
    Some(std::iter::once(first).chain(more).collect::<Vec<_>>().join(" "))
}

/// All about a module; with the texts of its manifest and policies, where these are asked for.
pub fn render_detail(detail: &ModuleDetail, texts: bool, screen: &Screen) -> String {
    let module = &detail.module;
    let set = if module.mode_set { " (in place of the manifest's)" } else { " (as its manifest says)" };
    let mut rows = vec![
        ("module", format!("{} {}", module.module, module.version)),
        ("", module.description.clone()),
        ("mode", format!("{}{set}", module.mode)),
        ("permits", module.permits.join(", ")),
        ("policies", module.policies.join(", ")),
    ];
    for (policy, settings) in &module.settings {
        for (key, value) in settings {
            let said = said_of(detail, policy, key).map_or(String::new(), |said| format!(": {said}"));
            rows.push(("setting", format!("{key} = {value} ({policy}){said}")));
        }
    }
    let suspended = if module.suspended > 0 { format!(", {} suspended", module.suspended) } else { String::new() };
    rows.push(("embots", format!("{}{suspended}", module.embots)));
    if let (Some(at), Some(by)) = (module.loaded_at, &module.loaded_by) {
        rows.push(("loaded", format!("{} by {by}", screen.date(at))));
    }
    let mut text = pairs(&rows, screen);
    for doc in detail.docs.iter().filter(|doc| doc.function != SETTINGS) {
        let lines: String = doc.text.lines().map(|line| format!("  {line}\n")).collect();
        text += &format!("\n{} ({})\n{lines}", doc.function, doc.policy);
    }
    if let Some(version) = detail.versions.first().filter(|_| texts) {
        text += &format!("\n--- {}\n{}", version.file, version.manifest);
        for (file, policy) in &version.policies {
            text += &format!("\n--- {file}\n{policy}");
        }
    }
    text
}

fn render_history(detail: &ModuleDetail, screen: &Screen) -> String {
    let rows = detail.versions.iter().enumerate().map(|(index, version)| {
        let state = if index == 0 { "in force" } else { "" };
        let policies: Vec<&str> = version.policies.keys().map(String::as_str).collect();
        vec![screen.date(version.loaded_at), version.loaded_by.clone(), state.to_owned(), policies.join(", ")]
    });
    let columns = [("LOADED", Fit::Keep), ("BY", Fit::Keep), ("", Fit::Keep), ("POLICIES", Fit::Cut)];
    table(&columns, rows.collect(), screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{modules, testing};
    use crate::cli::screen::plain;
    use crate::error::Style;

    #[test]
    fn modules_as_people_see_them() {
        let view = &testing::manager().modules()[0];
        let detail = modules::detail(view);
        let texts = [
            render(&[ModuleView::new(view)], &plain(80)),
            render_detail(&detail, true, &plain(80)),
            render_history(&detail, &plain(80)),
            render(&[], &plain(80)),
        ];
        insta::assert_snapshot!(texts.join("---\n"));
    }

    #[test]
    fn a_module_is_read_with_its_policies() {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("embots/a.yaml", "module: a\npolicies: [a.rhai]\n"),
            ("embots/b.yaml", "module: b\npolicies: [../secret]\n"),
            ("embots/c.yaml", "module: c\npolicies: [c.rhai]\n"),
            ("policies/a.rhai", "fn on_load() {}\n"),
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let embots = folder.path().join("embots");
        let module = read(&embots.join("a.yaml"), None).unwrap();
        assert_eq!((module.file.as_str(), module.policies["a.rhai"].as_str()), ("a.yaml", "fn on_load() {}\n"));
        for bad in ["b.yaml", "c.yaml", "none.yaml"] {
            let text = read(&embots.join(bad), None).unwrap_err().text(Style::Plain);
            assert!(text.contains(".yaml") || text.contains("c.rhai"), "{text}");
        }
    }
}
