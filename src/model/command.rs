//! What an admin asks of the plane, and what it answers. The API turns requests into these; the CLI turns words into requests.

use super::action::{ActionId, ActionKind};
use super::element::{EmbotId, HostId, VmId};
use super::migration::MigrationId;
use super::time::Span;
use super::vm::Mode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Names the one who waits for a reply; meaningless after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// A manifest's text, and its policies: file name and text.
pub type ModuleTexts = (Arc<str>, Vec<(Arc<str>, Arc<str>)>);

/// What an admin asks. Every command is a fact: it is journalled before it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Do this now; guardrails about safety still hold, those about pace do not.
    Act {
        /// What.
        kind: ActionKind,
        /// Why.
        reason: Arc<str>,
    },
    /// Put a host in maintenance, or back.
    Maintenance {
        /// Which.
        host: HostId,
        /// In or back.
        on: bool,
    },
    /// Start nothing new until [`Command::Arm`].
    Disarm {
        /// Cancel what runs, too.
        cancel: bool,
    },
    /// Act again.
    Arm,
    /// Approve an advised action.
    Approve {
        /// Which.
        action: ActionId,
        /// Why, where the admin says so.
        reason: Option<Arc<str>>,
    },
    /// Reject an advised action.
    Reject {
        /// Which.
        action: ActionId,
        /// Why, where the admin says so.
        reason: Option<Arc<str>>,
        /// Its module does not advise the same for its guest again for so long; `None`: an hour.
        rest: Option<Span>,
    },
    /// Cancel a running action.
    Cancel {
        /// Which.
        action: ActionId,
        /// Why, where the admin says so.
        reason: Option<Arc<str>>,
    },
    /// How far the plane may go with these guests; `act` and `advise` put its mark on them.
    Manage {
        /// Whom; empty: all that the plane knows.
        vms: Vec<VmId>,
        /// How far.
        mode: Mode,
    },
    /// Load a module, or take over its changed version. The texts are those of its files.
    LoadModule {
        /// The manifest's file name, for messages.
        file: Arc<str>,
        /// The manifest.
        manifest: Arc<str>,
        /// The policies it names: file name and text.
        policies: Vec<(Arc<str>, Arc<str>)>,
    },
    /// Forget a module, its embots and their state.
    UnloadModule {
        /// Which.
        module: Arc<str>,
    },
    /// Change a module's mode.
    ModuleMode {
        /// Which.
        module: Arc<str>,
        /// To what.
        mode: Mode,
    },
    /// Go back to the version of a module that was loaded before this one.
    RollBack {
        /// Which.
        module: Arc<str>,
    },
    /// Let a suspended embot step again.
    Unsuspend {
        /// Which.
        embot: EmbotId,
    },
    /// Give a migration to another plane up; the guest stays.
    CancelMigration {
        /// Which.
        migration: MigrationId,
    },
    /// Decide a migration that the planes cannot decide.
    ResolveMigration {
        /// Which.
        migration: MigrationId,
        /// The plane that owns the guest from now on.
        owner: Arc<str>,
        /// The host that is certain not to run it.
        fenced: HostId,
    },
    /// What a file in the folder of modules holds now. It is taken over where it differs from what the file held before.
    DeclareModule {
        /// The manifest's file name.
        file: Arc<str>,
        /// The manifest, and the policies it names: file name and text. `None`: the file is gone, and its module goes.
        texts: Option<ModuleTexts>,
    },
    /// The configuration says something else now.
    Adjust {
        /// What may change while the plane runs, in the form of `manager`.
        settings: Arc<str>,
    },
    /// Take back that advice was rejected: its module may give it again.
    Lift {
        /// The action that was rejected.
        action: ActionId,
        /// Why, where the admin says so.
        reason: Option<Arc<str>>,
    },
    /// Something is done beside the manager. It decides nothing, and stands in the audit.
    Audit {
        /// What.
        deed: Deed,
    },
}

/// What the API does by itself, and must answer for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// A token was made.
    CreateToken {
        /// Its name.
        name: Arc<str>,
        /// What it allows.
        role: Arc<str>,
        /// For how long; `None`: until it is revoked.
        lives: Option<Span>,
    },
    /// A token was taken back.
    RevokeToken {
        /// Its name.
        name: Arc<str>,
    },
    /// A backup is being taken.
    Backup,
}

impl std::fmt::Display for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Deed::CreateToken { name, role, lives: None } => write!(f, "token `{name}` is made, with the role {role}"),
            Deed::CreateToken { name, role, lives: Some(span) } => {
                write!(f, "token `{name}` is made, with the role {role}, for {span}")
            }
            Deed::RevokeToken { name } => write!(f, "token `{name}` is revoked"),
            Deed::Backup => f.write_str("a backup of the store is taken"),
        }
    }
}

/// The answer to a command: done (and what came of it), or why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Done {
        /// In words.
        message: String,
        /// The actions that follow from it.
        actions: Vec<ActionId>,
    },
    /// The answer is no.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}
