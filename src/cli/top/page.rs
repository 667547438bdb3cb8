//! Pages: all about one host, guest, action, refusal, embot or migration, in lines of which some open further pages.

use super::cursor::Cursor;
use super::state::Target;
use crate::api::actions::{ActionView, RefusalView};
use crate::api::elements::{ElementDetail, ElementView, VmView};
use crate::api::embots::EmbotView;
use crate::api::explain::{Explanation, RefusalExplanation};
use crate::api::migrations::MigrationView;
use crate::api::modules::ModuleDetail;
use crate::cli::plan::state;
use crate::cli::screen::{Screen, Tone, percent, printable, tone};
use crate::cli::{elements, embots, explain, migrations, modules};

/// A page that was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// What it is about.
    pub target: Target,
    /// What is known of it, or why nothing is; `None` until the daemon has answered.
    pub content: Option<Result<Content, String>>,
    /// Where the reader is.
    pub cursor: Cursor,
}

/// What a page shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A host or a guest, and what concerns it.
    Element(Box<ElementDetail>),
    /// Why an action was decided.
    Action(Box<Explanation>),
    /// Why a proposal was refused.
    Refusal(Box<RefusalExplanation>),
    /// An embot and its module.
    Embot(Box<EmbotView>, Box<ModuleDetail>),
    /// A migration between planes.
    Migration(Box<MigrationView>),
}

/// A line of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The words.
    pub text: String,
    /// How they are painted.
    pub tone: Tone,
    /// What opens from it.
    pub target: Option<Target>,
}

impl Page {
    /// A page that was just opened.
    pub fn new(target: Target) -> Page {
        Page { target, content: None, cursor: Cursor::default() }
    }

    /// Its lines, for a screen of some width.
    pub fn lines(&self, screen: &Screen, width: u16) -> Vec<Line> {
        let screen = Screen { width: usize::from(width), color: false, ..screen.clone() };
        match &self.content {
            None => vec![line("asking the daemon ...", Tone::Faint)],
            Some(Err(why)) => why.lines().map(|text| line(text, Tone::Bad)).collect(),
            Some(Ok(Content::Element(detail))) => element(detail, &screen),
            Some(Ok(Content::Action(explanation))) => text(&explain::render(explanation, &screen)),
            Some(Ok(Content::Refusal(explanation))) => text(&explain::render_refusal(explanation, &screen)),
            Some(Ok(Content::Embot(embot, module))) => {
                let mut lines = text(&embots::render_detail(std::slice::from_ref(embot), &screen));
                lines.push(line("", Tone::Plain));
                lines.extend(text(&modules::render_detail(module, false, &screen)));
                lines
            }
            Some(Ok(Content::Migration(migration))) => text(&migrations::render_one(migration, &screen)),
        }
    }

    /// The title of the page.
    pub fn title(&self) -> String {
        let name = || match &self.content {
            Some(Ok(Content::Element(detail))) => Some(detail.element.name().to_owned()),
            _ => None,
        };
        match &self.target {
            Target::Host(host) => format!("Host {host}"),
            Target::Guest(vm) => format!("Guest {}", name().unwrap_or_else(|| vm.clone())),
            Target::Action(id) => format!("Action {id}"),
            Target::Refusal(number) => format!("Refusal r{number}"),
            Target::Embot(embot) => format!("Embot {embot}"),
            Target::Migration(id) => format!("Migration {id}"),
        }
    }
}

fn line(text: &str, tone: Tone) -> Line {
    Line { text: printable(text), tone, target: None }
}

/// A text as the command of the same name prints it: its first line is its title.
fn text(text: &str) -> Vec<Line> {
    let tone = |at: usize| if at == 0 { Tone::Strong } else { Tone::Plain };
    text.lines().enumerate().map(|(at, one)| line(one, tone(at))).collect()
}

fn guest_line(vm: &VmView) -> Line {
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), percent);
    let (cpu, memory) = (share(vm.cpu), share(vm.memory));
    let busy = vm.action.map(|action| format!("  action {action}")).unwrap_or_default();
    let text = format!("  {:24}  {:8}  {:8}  cpu {cpu:>5}  memory {memory:>5}{busy}", vm.name, vm.state, vm.mode);
    let tone = if vm.state == "running" { Tone::Plain } else { tone(&vm.state) };
    Line { target: Some(Target::Guest(vm.id.clone())), ..line(text.trim_end(), tone) }
}

fn action_line(action: &ActionView, screen: &Screen) -> Line {
    let at = screen.time(action.state_at);
    let text = format!("  {:>6}  {at}  {:15}  {}: {}", action.id, state(action), action.what, action.reason);
    Line { target: Some(Target::Action(action.id)), ..line(&text, tone(&action.state)) }
}

fn refusal_line(refusal: &RefusalView, screen: &Screen) -> Line {
    let at = refusal.at.map(|at| screen.time(at)).unwrap_or_default();
    let number = refusal.number.map(|number| format!("r{number}")).unwrap_or_default();
    let text = format!("  {number:>6}  {at}  {}: {}", refusal.what, refusal.reason);
    Line { target: refusal.number.map(Target::Refusal), ..line(&text, Tone::Plain) }
}

fn embot_line(embot: &EmbotView) -> Line {
    let (state, tone) = match &embot.suspended {
        Some(why) => (format!("suspended: {why}"), Tone::Bad),
        None => ("works".to_owned(), Tone::Plain),
    };
    Line { target: Some(Target::Embot(embot.embot.clone())), ..line(&format!("  {:24}  {state}", embot.module), tone) }
}

/// A host or a guest: what it is, then guests, actions, refusals and embots, each of which opens.
fn element(detail: &ElementDetail, screen: &Screen) -> Vec<Line> {
    let mut lines = text(&elements::facts(&detail.element, screen));
    let mut section = |title: &str, rows: Vec<Line>| {
        if !rows.is_empty() {
            lines.push(line("", Tone::Plain));
            lines.push(line(&format!("{title} ({})", rows.len()), Tone::Strong));
            lines.extend(rows);
        }
    };
    if let ElementView::Vm(vm) = &detail.element {
        let host = Line { target: Some(Target::Host(vm.host.clone())), ..line(&format!("  {}", vm.host), Tone::Plain) };
        section("Host", vec![host]);
    }
    section("Guests", detail.guests.iter().map(guest_line).collect());
    section("Actions", detail.actions.iter().map(|action| action_line(action, screen)).collect());
    section("Refused", detail.refusals.iter().map(|refusal| refusal_line(refusal, screen)).collect());
    section("Embots", detail.embots.iter().map(embot_line).collect());
    lines
}
