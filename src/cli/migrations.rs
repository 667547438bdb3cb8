//! `embot migrations`: guests that go to other planes and come from them; what admins do about them.

use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use super::migrate::show;
use super::screen::{Screen, printable};
use super::table::{Fit, pairs, table};
use crate::api::migrations::{CancelMigration, MigrationFilter, MigrationView, ResolveMigration};
use crate::api::state::ReplyView;
use crate::api::words::bytes;
use crate::model::Span;

/// Show guests that go to other planes or come from them; cancel such a migration, or decide it.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  embot migrations                        all of them, the latest last\n  embot migrations show site-a/41         phases with their times, and why it failed\n  embot migrations cancel site-a/41       give it up; the guest stays\n  embot migrations resolve site-a/41 --owner site-b --fenced host-3"
)]
pub struct Migrations {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// List migrations (also without a word).
    List(List),
    /// Show one: its phases with their times, how it ended and why.
    #[command(after_help = "Example:\n  embot migrations show site-a/41")]
    Show(Named),
    /// Give one up; the guest stays. Possible until it has moved, on the plane it leaves.
    #[command(after_help = "Example:\n  embot migrations cancel site-a/41")]
    Cancel(Named),
    /// Decide one that the planes cannot decide, since nobody can tell what became of the guest.
    ///
    /// Make sure first that the guest does not run on the other side, and cannot: switch that host off, or cut it from its
    /// storage. Then say the same on both planes. The epoch rises, so that whoever comes back late does no harm.
    #[command(after_help = "Example:\n  embot migrations resolve site-a/41 --owner site-b --fenced host-3")]
    Resolve(Resolve),
}

#[derive(Debug, Clone, Default, clap::Args)]
struct List {
    /// Only those that go on.
    #[arg(long)]
    open: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct Named {
    /// Its name: the plane that the guest leaves, and a number, as in `site-a/41`.
    id: String,
}

#[derive(Debug, Clone, clap::Args)]
struct Resolve {
    /// Its name: the plane that the guest leaves, and a number, as in `site-a/41`.
    id: String,
    /// The plane that owns the guest from now on.
    #[arg(long, value_name = "PLANE")]
    owner: String,
    /// The host that is certain not to run the guest, and stays so.
    #[arg(long, value_name = "HOST")]
    fenced: String,
}

impl Migrations {
    /// Asks and shows.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        match self.what.unwrap_or(What::List(List::default())) {
            What::List(List { open }) => {
                let filter = MigrationFilter { open: open.then_some(true) };
                let found: Vec<MigrationView> = client.find("/v1/migrations", &filter).await?;
                context.show(&found, |screen| render(&found, screen))
            }
            What::Show(Named { id }) => {
                let migration = one(&client, &id).await?;
                context.show(&migration, |screen| render_one(&migration, screen))
            }
            What::Cancel(Named { id: migration }) => {
                let reply: ReplyView = client.post("/v1/commands/cancel_migration", &CancelMigration { migration }).await?;
                show(context, &reply)
            }
            What::Resolve(Resolve { id: migration, owner, fenced }) => {
                let request = ResolveMigration { migration, owner, fenced };
                let reply: ReplyView = client.post("/v1/commands/resolve_migration", &request).await?;
                show(context, &reply)
            }
        }
    }
}

/// One migration.
pub async fn one(client: &Client, id: &str) -> Result<MigrationView, Failure> {
    client.get(&format!("/v1/migrations/{id}")).await
}

/// What it does, in a word or two.
pub fn state(migration: &MigrationView) -> String {
    if migration.state == "underway" { migration.phase().replace('_', " ") } else { migration.state.clone() }
}

fn render(migrations: &[MigrationView], screen: &Screen) -> String {
    let row = |migration: &MigrationView| {
        vec![
            migration.id.clone(),
            migration.phases.first().map(|phase| screen.time(phase.at)).unwrap_or_default(),
            migration.name.clone(),
            format!("{} -> {}", migration.from, migration.to),
            state(migration),
            migration.reason.clone().unwrap_or_default(),
        ]
    };
    let columns = [
        ("MIGRATION", Fit::Keep),
        ("BEGAN", Fit::Keep),
        ("GUEST", Fit::Keep),
        ("FROM -> TO", Fit::Keep),
        ("STATE", Fit::State),
        ("", Fit::Cut),
    ];
    let text = table(&columns, migrations.iter().map(row).collect(), screen);
    if text.is_empty() { "no guest has gone to another plane or come from one\n".to_owned() } else { text }
}

/// All about one: its phases with their times, and why it ended.
pub fn render_one(migration: &MigrationView, screen: &Screen) -> String {
    let mut rows = vec![
        ("migration", migration.id.clone()),
        ("guest", format!("{} ({})", migration.name, migration.vm)),
        ("from", migration.from.clone()),
        ("to", migration.to.clone()),
        ("how", if migration.live { "live" } else { "cold" }.to_owned()),
        ("state", state(migration)),
    ];
    rows.extend(migration.reason.clone().map(|reason| ("because", reason)));
    if migration.total_bytes > 0 {
        rows.push(("moved", format!("{} of {}", bytes(migration.sent_bytes), bytes(migration.total_bytes))));
    }
    if migration.held > 0 {
        rows.push(("waiting", format!("{} events of the guest", migration.held)));
    }
    let mut before = None;
    for phase in &migration.phases {
        let at = phase.at.0;
        let after = before.map(|before| format!(" (after {})", at.since(before))).unwrap_or_default();
        rows.push(("phase", format!("{} {}{after}", screen.time(phase.at), phase.phase.replace('_', " "))));
        before = Some(at);
    }
    pairs(&rows, screen)
}

/// The live line of a migration: phase, how far, events held, expected end.
pub fn line(migration: &MigrationView, elapsed: Span) -> String {
    let seconds = Span::seconds(elapsed.0 / 1_000);
    let mut parts = vec![printable(&migration.name), state(migration)];
    if migration.total_bytes > 0 {
        let share = (migration.sent_bytes as f64 / migration.total_bytes as f64).clamp(0.0, 1.0);
        let full = (share * 10.0).round() as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(10 - full));
        let (sent, total) = (bytes(migration.sent_bytes), bytes(migration.total_bytes));
        parts.push(format!("{bar} {:3.0} % {sent} of {total}", share * 100.0));
    }
    if migration.held > 0 {
        parts.push(format!("{} events held", migration.held));
    }
    parts.push(seconds.to_string());
    if let Some(remaining) = migration.remaining_s {
        parts.push(format!("about {} more", Span::seconds(remaining.ceil() as u64)));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::migrations::PhaseView;
    use crate::cli::screen::plain;
    use crate::model::{Side, Timestamp};

    fn migration() -> MigrationView {
        let phase = |phase: &str, at: i64| PhaseView { phase: phase.to_owned(), at: Timestamp(1_772_366_584_005 + at).into() };
        MigrationView {
            id: "site-a/41".to_owned(),
            side: Side::Source,
            from: "site-a".to_owned(),
            to: "site-b".to_owned(),
            vm: "00000000-0000-0000-0000-000000000007".to_owned(),
            name: "web-7".to_owned(),
            host: "host-a".to_owned(),
            live: true,
            state: "underway".to_owned(),
            reason: None,
            phases: vec![phase("offering", 0), phase("stating", 40), phase("moving", 120)],
            sent_bytes: 512 << 20,
            total_bytes: 2_048 << 20,
            held: 3,
            cancellable: true,
            remaining_s: Some(8.2),
        }
    }

    #[test]
    fn migrations_as_people_see_them() {
        let stayed = MigrationView {
            id: "site-b/7".to_owned(),
            state: "stayed".to_owned(),
            reason: Some("plane site-a is full".to_owned()),
            from: "site-b".to_owned(),
            to: "site-a".to_owned(),
            ..migration()
        };
        let screen = plain(100);
        let texts = [
            render(&[migration(), stayed.clone()], &screen),
            render(&[], &screen),
            render_one(&migration(), &screen),
            render_one(&stayed, &screen),
            line(&migration(), Span(2_700)),
        ];
        insta::assert_snapshot!(texts.join("\n"));
    }
}
