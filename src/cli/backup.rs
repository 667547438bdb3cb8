//! `embot backup`: a copy of everything a plane knows, made while it runs; and a store made from it.

use super::context::Context;
use super::failure::Failure;
use super::journal::{broken, remember_end};
use super::progress::Progress;
use super::screen::{Screen, Tone};
use super::table::pairs;
use crate::api::stamp::Stamp;
use crate::clock::{Clock, SystemClock};
use crate::model::Timestamp;
use crate::store::{BackupView, Restore, verify_backup};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Make a backup of a running plane's store, verify one, or make a store from one.
#[derive(Debug, Clone, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  embot backup /backup/plane.backup             while the plane runs, and checked when it is made\n  embot backup verify /backup/plane.backup\n  embot backup restore /backup/plane.backup --config plane.yaml\n\nA backup holds what the store holds: state, policies and what they remember, the journal, the audit; not the configuration, the\nmodules' files, keys and tokens. It is of one moment; the plane goes on meanwhile. After a restore all guests are only observed until their own marks say that they are still this plane's."
)]
pub struct Backup {
    /// The file to write.
    #[arg(value_name = "FILE", required = true)]
    file: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Check that a backup is whole: its sum, every row, the audit in it.
    #[command(after_help = "Example:\n  embot backup verify /backup/plane.backup")]
    Verify(Verify),
    /// Make the configuration's store from a backup. The plane must not run.
    #[command(
        after_help = "Examples:\n  embot backup restore /backup/plane.backup --config plane.yaml\n  embot backup restore /backup/plane.backup --force      the store that is there is set aside\n\nEverything is checked first; until the new store is whole, nothing changes. At its next start the plane resumes nothing that was\nunder way when the backup was made, and only observes its guests: each is managed again once its mark is read and is the one\nthat the backup knows. About others `embot events` says what to do."
    )]
    Restore(RestoreFile),
}

#[derive(Debug, Clone, clap::Args)]
struct Verify {
    /// The backup.
    file: PathBuf,
}

#[derive(Debug, Clone, clap::Args)]
struct RestoreFile {
    /// The backup.
    file: PathBuf,
    /// Set a store that is there aside, under another name.
    #[arg(long)]
    force: bool,
}

/// What was made.
#[derive(Debug, Serialize)]
struct Made<'a> {
    file: &'a Path,
    bytes: u64,
    #[serde(flatten)]
    backup: &'a BackupView,
}

/// What was restored.
#[derive(Debug, Serialize)]
struct RestoredView<'a> {
    store: &'a Path,
    /// Where the store is now that was there.
    set_aside: Option<&'a Path>,
    #[serde(flatten)]
    backup: &'a BackupView,
}

impl Backup {
    /// Makes, verifies or restores.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match (self.what, self.file) {
            (Some(What::Verify(Verify { file })), _) => {
                let backup = checked(&file)?;
                context.show(&backup, |screen| {
                    format!("{} is {}\n{}", file.display(), screen.paint(Tone::Good, "whole"), told(&backup, screen))
                })?;
                if backup.audit_fault.is_some() { Err(Failure::Said(1)) } else { Ok(()) }
            }
            (Some(What::Restore(restore)), _) => restore.run(context).await,
            (None, Some(file)) => make(context, &file, self.force).await,
            (None, None) => Err(Failure::wrong("no file is named").with_hint("write `embot backup FILE`")),
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

fn checked(file: &Path) -> Result<BackupView, Failure> {
    let progress = Progress::new();
    let size = std::fs::metadata(file).map_or(0, |found| found.len());
    let tell = &mut |done| progress.say(&format!("reading {}: {} of {}", file.display(), mib(done), mib(size)));
    verify_backup(file, tell).map_err(|error| Failure::of(&error))
}

/// A file that goes when it does not come to be what it should.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Once it has its name, it is no longer there.
        std::fs::remove_file(&self.0).ok();
    }
}

async fn make(context: &Context, file: &Path, force: bool) -> Result<(), Failure> {
    let exists = || {
        Failure::wrong(format!("{} exists already", file.display()))
            .with_hint("name another file, or replace this one with --force")
    };
    let unwritten = |error: std::io::Error| {
        Failure::wrong(format!("cannot write {}: {error}", file.display()))
            .with_hint("nothing is left of it; name a place with enough room, that you may write to")
    };
    if !force && file.exists() {
        return Err(exists());
    }
    let unfinished = Unfinished(file.with_added_extension(format!("part-{}", std::process::id())));
    let mut options = OpenOptions::new();
    // What it holds is as secret as the store.
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished.0).map_err(unwritten)?;
    let (progress, mut bytes, mut end) = (Progress::new(), 0, Vec::new());
    let mut lines = context.client()?.stream("/v1/backup", &()).await?;
    while let Some(piece) = lines.piece().await? {
        out.write_all(&piece).map_err(unwritten)?;
        remember_end(&mut end, &piece);
        bytes += piece.len() as u64;
        progress.say(&format!("backup to {}: {}", file.display(), mib(bytes)));
    }
    out.sync_all().map_err(unwritten)?;
    drop(out);
    drop(progress);
    // A stream that breaks off says why in its last line.
    let end = String::from_utf8_lossy(&end);
    if let Some(failure) = end.rfind("{\"error\"").and_then(|at| broken(&end[at..])) {
        return Err(failure);
    }
    let backup = checked(&unfinished.0)?;
    if !force && file.exists() {
        return Err(exists());
    }
    std::fs::rename(&unfinished.0, file).map_err(unwritten)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritten)?;
    context.show(&Made { file, bytes, backup: &backup }, |screen| {
        format!("{} is {}, {}\n{}", file.display(), screen.paint(Tone::Good, "made"), mib(bytes), told(&backup, screen))
    })
}

impl RestoreFile {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let config = context.config()?;
        if config.fleet.is_some() {
            return Err(Failure::wrong(
                "the configuration's fleet is simulated within the daemon, and begins anew with each start",
            )
            .with_hint("restore to the configuration of a plane whose hosts outlive it"));
        }
        if tokio::net::UnixStream::connect(&config.socket).await.is_ok() {
            let socket = config.socket.display();
            return Err(Failure::no(format!("a daemon answers on {socket}: its store cannot be replaced while it runs"))
                .with_hint("stop it first"));
        }
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
        let progress = Progress::new();
        let size = std::fs::metadata(&self.file).map_or(0, |found| found.len());
        let restore = Restore {
            backup: &self.file,
            store: &config.store,
            plane: &config.plane,
            by: &user.unwrap_or_else(|| "unknown user".to_owned()),
            now: SystemClock::start(Timestamp(0)).now(),
            force: self.force,
        };
        let tell = &mut |done| progress.say(&format!("restoring: {} of {}", mib(done), mib(size)));
        let (backup, set_aside) = restore.run(tell).map_err(|error| Failure::of(&error))?;
        drop(progress);
        let view = RestoredView { store: &config.store, set_aside: set_aside.as_deref(), backup: &backup };
        context.show(&view, |screen| restored(&view, screen))
    }
}

fn told(backup: &BackupView, screen: &Screen) -> String {
    let head = &backup.head;
    let audit = match (&backup.verified, &backup.audit_fault) {
        (_, Some(fault)) => format!("{}: {fault}", screen.paint(Tone::Bad, "not whole")),
        (Some(verified), None) => format!("head {}", verified.head),
        (None, None) => String::new(),
    };
    pairs(
        &[
            ("plane", format!("{}, at {}", head.plane, screen.time(Stamp(head.made_at)))),
            ("holds", format!("{} guests, {} hosts, {} modules", backup.guests, backup.hosts, backup.modules)),
            ("journal", format!("{} batches, up to {}", backup.journal_entries, head.batch)),
            ("audit", audit),
        ],
        screen,
    )
}

fn restored(view: &RestoredView<'_>, screen: &Screen) -> String {
    let mut text = format!("{} is {}\n", view.store.display(), screen.paint(Tone::Good, "restored"));
    text += &told(view.backup, screen);
    if let Some(aside) = view.set_aside {
        text += &format!("The store that was there is {} now.\n", aside.display());
    }
    text + "Start the plane: it only observes its guests until their marks are read; `embot events` and `embot elements` show how it goes.\n"
}
