//! Telling admins.

use super::job::Job;
use crate::model::{ActionId, ActionKind, ActionUpdate, EmbotId, Level};

/// Something admins should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The action that tells it: the same number means the same notification, told again after a restart.
    pub action: ActionId,
    /// How loud.
    pub level: Level,
    /// What.
    pub text: &'a str,
    /// Who has it told; `None`: an admin.
    pub embot: Option<&'a EmbotId>,
}

/// A way to tell admins: the log, mail, a web hook. May block; runs on a thread of its own.
pub trait Notifier: Send + Sync {
    /// Tells it, or says why that was not possible.
    fn notify(&self, notification: &Notification<'_>) -> Result<(), String>;
}

/// Tells it in the log, at its own level.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogNotifier;

impl Notifier for LogNotifier {
    fn notify(&self, notification: &Notification<'_>) -> Result<(), String> {
        let Notification { action, level, text, embot } = notification;
        let embot = embot.map_or_else(|| "an admin".to_owned(), ToString::to_string);
        match level {
            Level::Info => tracing::info!(target: "embot::notify", %action, %embot, "{text}"),
            Level::Warning => tracing::warn!(target: "embot::notify", %action, %embot, "{text}"),
            Level::Alarm => tracing::error!(target: "embot::notify", %action, %embot, "ALARM: {text}"),
        }
        Ok(())
    }
}

/// Does a notification's job. Recovering one means to tell it again.
pub fn carry_out(notifier: &dyn Notifier, job: &Job) {
    job.work(|| {
        let ActionKind::Notify { level, text } = &job.order.kind else {
            return ActionUpdate::Failed("this is no notification; a fault in embot: please report it".into());
        };
        let notification = Notification { action: job.id(), level: *level, text, embot: job.embot.as_ref() };
        match notifier.notify(&notification) {
            Ok(()) => ActionUpdate::Done,
            Err(why) => ActionUpdate::Failed(why.into()),
        }
    });
}
