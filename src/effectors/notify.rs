//! Telling admins: in the log always, and over the channels of the configuration.
//!
//! ```text
//! worker --Notification--> Notifiers --> the log
//!                              +--> channel (a thread each): level, rate, tries --> webhook or mail
//! ```
//! A notification is done when every channel has it: delivered, or held back, by the channel's rate or while it cannot be
//! reached, and told later together with what else was held back. It carries the same key when it is told again after a restart, so that receivers can tell.

mod channel;
mod mail;
mod webhook;

#[cfg(test)]
mod tests;

pub use channel::{Channel, ChannelSettings, MessageRate, Standing};
pub use mail::{MailSettings, MailTls, is_mailbox};
pub use webhook::WebhookSettings;

use super::job::Job;
use crate::clock::Clock;
use crate::model::{ActionId, ActionKind, ActionUpdate, EmbotId, Level, Timestamp};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Something admins should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The same key means the same notification, told again after a restart.
    pub key: String,
    /// The action that tells it; `None`: the plane does by itself.
    pub action: Option<ActionId>,
    /// How loud.
    pub level: Level,
    /// What.
    pub text: &'a str,
    /// Who has it told; `None`: an admin, or the plane.
    pub embot: Option<&'a EmbotId>,
}

/// A way to tell admins. May block; runs on a thread of its own.
pub trait Notifier: Send + Sync {
    /// Tells it, or says why that was not possible.
    fn notify(&self, notification: &Notification<'_>) -> Result<(), String>;
}

/// The log and all channels of a plane.
#[derive(Debug, Default)]
pub struct Notifiers {
    channels: Vec<Channel>,
}

impl Notifiers {
    /// The log and these channels. What those hold back outlives the daemon next to `store`, where there is one.
    pub fn start(
        plane: &Arc<str>,
        channels: &[ChannelSettings],
        clock: &Arc<dyn Clock>,
        store: Option<&Path>,
    ) -> io::Result<Notifiers> {
        let start = |settings: &ChannelSettings| Channel::start(plane.clone(), settings, clock.clone(), store);
        Ok(Notifiers { channels: channels.iter().map(start).collect::<io::Result<_>>()? })
    }
}

/// An instant as everybody reads it.
fn rfc_3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map(|at| format!("{at:.3}")).unwrap_or_default()
}

impl Notifiers {
    /// How each channel stands, by its name.
    pub fn standings(&self) -> impl Iterator<Item = (&Arc<str>, Standing)> {
        self.channels.iter().map(|channel| (channel.name(), channel.standing()))
    }

    /// Tells it without waiting for it to arrive; a channel that cannot deliver it says so in the log.
    pub fn announce(&self, notification: &Notification<'_>) {
        log(notification);
        for answer in self.channels.iter().filter_map(|channel| channel.tell(notification)) {
            answer.leave();
        }
    }
}

impl Notifier for Notifiers {
    fn notify(&self, notification: &Notification<'_>) -> Result<(), String> {
        log(notification);
        // All are asked before any is waited for.
        let answers: Vec<_> = self.channels.iter().filter_map(|channel| channel.tell(notification)).collect();
        let failed: Vec<String> = answers.into_iter().filter_map(|answer| answer.wait().err()).collect();
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }
}

/// Tells it in the log, at its own level.
fn log(notification: &Notification<'_>) {
    let Notification { key, level, text, embot, .. } = notification;
    let embot = embot.map_or_else(|| "the plane".to_owned(), ToString::to_string);
    match level {
        Level::Info => tracing::info!(target: "embot::notify", %key, %embot, "{text}"),
        Level::Warning => tracing::warn!(target: "embot::notify", %key, %embot, "{text}"),
        Level::Alarm => tracing::error!(target: "embot::notify", %key, %embot, "ALARM: {text}"),
    }
}

/// Does a notification's job. Recovering one means to tell it again.
pub fn carry_out(notifier: &dyn Notifier, job: &Job) {
    job.work(|| {
        let ActionKind::Notify { level, text } = &job.order.kind else {
            return ActionUpdate::Failed("this is no notification; a fault in embot: please report it".into());
        };
        let (key, action) = (job.id().to_string(), Some(job.id()));
        let notification = Notification { key, action, level: *level, text, embot: job.embot.as_ref() };
        match notifier.notify(&notification) {
            Ok(()) => ActionUpdate::Done,
            Err(why) => ActionUpdate::Failed(why.into()),
        }
    });
}
