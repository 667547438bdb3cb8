//! The command line: words in, a request to the daemon, an answer shown.
//!
//! Each command is a file that holds its options, asks the daemon through the API, and renders the answer with a pure
//! function of the answer and the [`screen::Screen`], so that tests see what people see. Exit codes: 0 done, 1 the answer is
//! no, 2 wrong usage or input.

pub mod arm;
pub mod audit;
pub mod backup;

pub mod bench;
pub mod check;
pub mod client;
pub mod completions;
pub mod context;
pub mod elements;
pub mod embots;
pub mod events;
pub mod explain;
pub mod failure;
pub mod guest;
pub mod hypervisor;
pub mod init;
pub mod journal;
pub mod log;
pub mod maintenance;
pub mod man;
pub mod manage;
pub mod migrate;
pub mod migrations;
pub mod module;
pub mod modules;
pub mod notify;
pub mod peers;
pub mod pki;
pub mod plan;
mod progress;
pub mod reference;
pub mod reload;
pub mod remote;
pub mod run;
pub mod screen;
pub mod simulate;
pub mod status;
pub mod store;
pub mod table;
pub mod test;
pub mod token;
pub mod top;
pub mod usage;
pub mod waiting;
#[cfg(test)]
mod with_daemon;

use crate::error::Style;
use clap::Parser;
use context::{Context, Out, Output};
use failure::Failure;
use screen::Screen;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// What every command takes stands under a head of its own.
const GLOBAL: &str = "Global options";

/// A policy-driven autonomic manager for virtual machines.
#[derive(Debug, Parser)]
#[command(
    name = "embot",
    version,
    propagate_version = true,
    after_help = "First steps:\n  embot run --config plane.yaml      start the plane\n  embot status                       see it\n  embot events --follow              watch what happens and what is decided\n  embot explain 17                   ask why\n\nExit codes: 0 done, 1 the answer is no, 2 wrong usage or input."
)]
pub struct Arguments {
    /// The daemon's socket; without it, the one plane.yaml names.
    #[arg(long, global = true, help_heading = GLOBAL, env = "EMBOT_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    remote: remote::Options,
    /// The plane's configuration; without it, plane.yaml in this folder, or else the
    /// system's, /etc/embot/plane.yaml.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    config: Option<PathBuf>,
    /// For people, or for scripts.
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value = "table")]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Init(init::Init),
    Run(run::Run),
    Check(check::Check),
    Test(test::Test),
    Simulate(simulate::Simulate),
    Reference(reference::Reference),
    Hypervisor(hypervisor::Hypervisor),
    Status(status::Status),
    Top(top::Top),
    Elements(elements::Elements),
    Events(events::Events),
    Plan(plan::Plan),
    Explain(explain::Explain),
    Migrate(migrate::Migrate),
    Migrations(migrations::Migrations),
    Peers(peers::Peers),
    /// Start a guest that is off.
    #[command(after_help = "Example:\n  embot start web-3 --wait")]
    Start(guest::Guest),
    /// Ask a guest to shut down; force it after a time, if that is wanted.
    #[command(after_help = "Examples:\n  embot shutdown web-3\n  embot shutdown web-3 --force-after 2m --wait")]
    Shutdown(guest::Shutdown),
    /// Switch a guest off at once, as by its plug. What it had not written is lost.
    #[command(after_help = "Example:\n  embot destroy web-3 --reason 'hangs, and ignores shutdown'")]
    Destroy(guest::Guest),
    /// Reset a guest, as by its button.
    #[command(after_help = "Example:\n  embot reset web-3")]
    Reset(guest::Guest),
    /// Stop a guest's processors; it keeps its memory.
    #[command(after_help = "Example:\n  embot suspend web-3")]
    Suspend(guest::Guest),
    /// Let a suspended guest run on.
    #[command(after_help = "Example:\n  embot resume web-3")]
    Resume(guest::Guest),
    /// Save a guest's memory to disk and stop it.
    #[command(after_help = "Example:\n  embot save web-3 --wait")]
    Save(guest::Guest),
    /// Start a saved guest where it stopped.
    #[command(
        after_help = "Example:\n  embot restore web-3\n\nA plane's own store is restored from a backup with `embot backup restore FILE`."
    )]
    Restore(guest::Guest),
    /// Change a guest's processors.
    #[command(after_help = "Example:\n  embot set-vcpus web-3 4")]
    SetVcpus(guest::SetVcpus),
    /// Change the most memory a guest may use.
    #[command(after_help = "Example:\n  embot set-memory web-3 4096")]
    SetMemory(guest::SetMemory),
    /// Change the memory a guest holds at present.
    #[command(after_help = "Example:\n  embot balloon web-3 1024")]
    Balloon(guest::SetMemory),
    Maintenance(maintenance::Maintenance),
    Notify(notify::Notify),
    Manage(manage::Manage),
    Modules(modules::Modules),
    Module(module::Module),
    Embots(embots::Embots),
    Unsuspend(embots::Unsuspend),
    Usage(usage::Usage),
    Disarm(arm::Disarm),
    Arm(arm::Arm),
    Reload(reload::Reload),
    Token(token::Token),
    Journal(journal::Journal),
    Audit(audit::Audit),
    Backup(backup::Backup),
    Store(store::Store),
    Pki(pki::Pki),
    Bench(bench::Bench),
    Completions(completions::Completions),
    Man(man::Man),
}

/// Does what the arguments say; the exit code tells how it went.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Arguments { socket, remote, config, output, command } = arguments;
    let context = Context { socket, remote, config, output, screen: Screen::of_stdout(), out: Out::stdout() };
    match command.run(&context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let text = match context.output {
                Output::Table => failure.text(if color { Style::Colour } else { Style::Plain }),
                Output::Json | Output::Html => failure.json(),
            };
            // Where even this cannot be written, only the exit code is left.
            let _ = std::io::stderr().write_all(text.as_bytes());
            failure.code()
        }
    }
}

impl Command {
    fn run(self, context: &Context) -> Result<(), Failure> {
        if context.output == Output::Html && !matches!(self, Command::Simulate(_)) {
            return Err(
                Failure::wrong("only `embot simulate` writes pages").with_hint("choose `--output table` or `--output json`")
            );
        }
        match self {
            Command::Init(init) => init.run(context),
            Command::Run(run) => run.run(context),
            Command::Check(check) => check.run(context),
            Command::Test(test) => test.run(context),
            Command::Simulate(simulate) => simulate.run(context),
            Command::Reference(reference) => reference.run(context),
            Command::Hypervisor(hypervisor) => hypervisor.run(),
            Command::Store(store) => store.run(context),
            Command::Pki(pki) => pki.run(context),
            Command::Bench(bench) => bench.run(context),
            Command::Module(module) => module.run(context),
            Command::Completions(completions) => completions.run(context),
            Command::Man(man) => man.run(context),
            asking => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| Failure::wrong(format!("cannot start: {error}")))?;
                runtime.block_on(asking.ask(context))
            }
        }
    }

    /// The commands that ask the daemon.
    async fn ask(self, context: &Context) -> Result<(), Failure> {
        match self {
            Command::Status(status) => status.run(context).await,
            Command::Top(top) => top.run(context).await,
            Command::Elements(elements) => elements.run(context).await,
            Command::Events(events) => events.run(context).await,
            Command::Plan(plan) => plan.run(context).await,
            Command::Explain(explain) => explain.run(context).await,
            Command::Migrate(migrate) => migrate.run(context).await,
            Command::Migrations(migrations) => migrations.run(context).await,
            Command::Peers(peers) => peers.run(context).await,
            Command::Start(guest) => guest.run("start", context).await,
            Command::Shutdown(guest) => guest.run(context).await,
            Command::Destroy(guest) => guest.run("destroy", context).await,
            Command::Reset(guest) => guest.run("reset", context).await,
            Command::Suspend(guest) => guest.run("suspend", context).await,
            Command::Resume(guest) => guest.run("resume", context).await,
            Command::Save(guest) => guest.run("save", context).await,
            Command::Restore(guest) => guest.run("restore", context).await,
            Command::SetVcpus(guest) => guest.run(context).await,
            Command::SetMemory(guest) => guest.run("set_memory", context).await,
            Command::Balloon(guest) => guest.run("balloon", context).await,
            Command::Maintenance(maintenance) => maintenance.run(context).await,
            Command::Notify(notify) => notify.run(context).await,
            Command::Manage(manage) => manage.run(context).await,
            Command::Modules(modules) => modules.run(context).await,
            Command::Embots(embots) => embots.run(context).await,
            Command::Unsuspend(unsuspend) => unsuspend.run(context).await,
            Command::Usage(usage) => usage.run(context).await,
            Command::Disarm(disarm) => disarm.run(context).await,
            Command::Arm(arm) => arm.run(context).await,
            Command::Reload(reload) => reload.run(context).await,
            Command::Token(token) => token.run(context).await,
            Command::Journal(journal) => journal.run(context).await,
            Command::Audit(audit) => audit.run(context).await,
            Command::Backup(backup) => backup.run(context).await,
            Command::Init(_)
            | Command::Run(_)
            | Command::Check(_)
            | Command::Test(_)
            | Command::Simulate(_)
            | Command::Reference(_)
            | Command::Hypervisor(_)
            | Command::Module(_)
            | Command::Store(_)
            | Command::Pki(_)
            | Command::Bench(_)
            | Command::Completions(_)
            | Command::Man(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_an_example() {
        let mut command = Arguments::command();
        command.clone().debug_assert();
        command.build();
        fn walk(command: &clap::Command) {
            for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
                let help = one.get_after_help().map(ToString::to_string).unwrap_or_default();
                let example = help.contains("embot ") || one.get_name() == "list";
                assert!(example, "`{}` has no example", one.get_name());
                assert!(one.get_about().is_some(), "`{}` is not described", one.get_name());
                walk(one);
            }
        }
        walk(&command);
    }

    #[test]
    fn help_as_people_see_it() {
        let mut command = Arguments::command().term_width(80);
        insta::assert_snapshot!(command.render_help());
    }
}
