//! One channel to admins: which notifications pass, how many, and how often a delivery is tried.
//!
//! A channel has a thread, so that one that does not answer holds up no other. What its rate does not let pass is counted and
//! told in one message as soon as the rate allows.

use super::Notification;
use super::mail::{Mail, MailSettings};
use super::webhook::{Webhook, WebhookSettings};
use crate::clock::Clock;
use crate::model::{ActionId, Level, Span, Timestamp};
use crossbeam_channel::{Receiver, RecvTimeoutError, SendError, Sender, TrySendError, bounded};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Notifications that may wait for a channel.
const WAITING: usize = 1_024;
/// A delivery is tried again after these.
const PAUSES: [Span; 2] = [Span::seconds(1), Span::seconds(5)];
/// What was held back and could not be told is tried again after this.
const AGAIN: Span = Span::seconds(10);
/// Of those that were held back, so many are told word for word.
const TOLD_IN_FULL: usize = 5;

/// How many messages a channel may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageRate {
    /// So many ...
    pub messages: u32,
    /// ... in this time.
    pub per: Span,
}

impl Default for MessageRate {
    fn default() -> MessageRate {
        MessageRate { messages: 20, per: Span::hours(1) }
    }
}

/// A channel to admins, as configured: a webhook or mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSettings {
    /// Its name, for messages about it.
    pub name: Arc<str>,
    /// What is as loud as this or louder passes.
    #[serde(default = "warning")]
    pub level: Level,
    /// How many messages pass; what is held back is told later, together.
    #[serde(default)]
    pub rate: MessageRate,
    /// POSTs JSON to a web address.
    #[serde(default)]
    pub webhook: Option<WebhookSettings>,
    /// Sends mail.
    #[serde(default)]
    pub mail: Option<MailSettings>,
}

fn warning() -> Level {
    Level::Warning
}

/// What a channel carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The plane that speaks.
    pub plane: Arc<str>,
    /// The same key means the same message, sent again.
    pub key: String,
    /// How loud.
    pub level: Level,
    /// What.
    pub text: String,
    /// The embot that has it told.
    pub embot: Option<String>,
    /// The action that tells it.
    pub action: Option<ActionId>,
    /// When.
    pub at: Timestamp,
}

impl Message {
    /// The level's word, as it stands at the head of a message.
    pub fn word(&self) -> &'static str {
        match self.level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Alarm => "ALARM",
        }
    }
}

/// Why a delivery failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Undelivered {
    /// Why.
    pub why: String,
    /// May it work when it is tried again?
    pub may_pass: bool,
}

/// What takes messages out of the house.
pub(super) trait Carrier: Send {
    /// Delivers a message; gives up by itself after some seconds.
    fn deliver(&mut self, message: &Message) -> Result<(), Undelivered>;
}

struct Post {
    message: Message,
    answer: Sender<Result<(), String>>,
}

/// The answer to come to a notification.
pub struct Answer {
    channel: Arc<str>,
    answer: Result<Receiver<Result<(), String>>, String>,
}

impl Answer {
    /// Does not wait. What cannot even be handed over is told in the log.
    pub fn leave(self) {
        if let Err(why) = self.answer {
            tracing::error!(channel = %self.channel, "an admin could not be told: {why}");
        }
    }

    /// Waits until it was delivered or held back; or says why it was not.
    pub fn wait(self) -> Result<(), String> {
        let named = |why: String| format!("channel {}: {why}", self.channel);
        let answer = self.answer.map_err(named)?;
        answer.recv().map_err(|_| named("the plane stopped before it was told".to_owned()))?.map_err(named)
    }
}

/// A channel at work. Its thread ends when this is dropped.
#[derive(Debug)]
pub struct Channel {
    name: Arc<str>,
    level: Level,
    plane: Arc<str>,
    clock: ClockOf,
    posts: Sender<Post>,
}

struct ClockOf(Arc<dyn Clock>);

impl std::fmt::Debug for ClockOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Channel {
    /// Starts a channel.
    pub fn start(plane: Arc<str>, settings: &ChannelSettings, clock: Arc<dyn Clock>) -> io::Result<Channel> {
        let carrier: Box<dyn Carrier> = match (&settings.webhook, &settings.mail) {
            (Some(webhook), _) => Box::new(Webhook::new(webhook.clone())),
            (None, Some(mail)) => Box::new(Mail::new(mail.clone())),
            (None, None) => {
                return Err(io::Error::other(format!("notify channel {} has neither webhook nor mail", settings.name)));
            }
        };
        Channel::with(plane, settings, clock, carrier)
    }

    fn with(
        plane: Arc<str>,
        settings: &ChannelSettings,
        clock: Arc<dyn Clock>,
        carrier: Box<dyn Carrier>,
    ) -> io::Result<Channel> {
        let (posts, inbox) = bounded(WAITING);
        let keeper = Keeper {
            name: settings.name.clone(),
            plane: plane.clone(),
            carrier,
            clock: clock.clone(),
            rate: settings.rate,
            sent: VecDeque::new(),
            held: None,
            is_down: false,
        };
        std::thread::Builder::new().name(format!("notify {}", settings.name)).spawn(move || keeper.run(&inbox))?;
        Ok(Channel { name: settings.name.clone(), level: settings.level, plane, clock: ClockOf(clock), posts })
    }

    /// Hands a notification over; `None` where it is not loud enough for this channel.
    pub fn tell(&self, notification: &Notification<'_>) -> Option<Answer> {
        if notification.level < self.level {
            return None;
        }
        let (answer, answered) = bounded(1);
        let message = Message {
            plane: self.plane.clone(),
            key: notification.key.clone(),
            level: notification.level,
            text: notification.text.to_owned(),
            embot: notification.embot.map(ToString::to_string),
            action: notification.action,
            at: self.clock.0.now(),
        };
        let handed = self.posts.try_send(Post { message, answer }).map_err(|error| match error {
            TrySendError::Full(_) => format!("{WAITING} notifications wait for it already"),
            TrySendError::Disconnected(_) => "it has stopped".to_owned(),
        });
        Some(Answer { channel: self.name.clone(), answer: handed.map(|()| answered) })
    }
}

/// What the rate held back.
struct Held {
    since: Timestamp,
    count: usize,
    level: Level,
    /// The loudest ones.
    texts: Vec<(Level, String)>,
    last: String,
}

/// The channel's thread.
struct Keeper {
    name: Arc<str>,
    plane: Arc<str>,
    carrier: Box<dyn Carrier>,
    clock: Arc<dyn Clock>,
    rate: MessageRate,
    /// When messages were sent, within the rate's time.
    sent: VecDeque<Timestamp>,
    held: Option<Held>,
    /// The last delivery failed however often it was tried: the next ones get one try each, until one succeeds.
    is_down: bool,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Post>) {
        loop {
            let post = match self.held {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => inbox.recv_timeout(self.free_in()),
            };
            match post {
                Ok(Post { message, answer }) => {
                    // Where nobody waits for the answer, it is told here.
                    if let Err(SendError(Err(why))) = answer.send(self.take(message)) {
                        tracing::error!(channel = %self.name, "an admin could not be told: {why}");
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.tell_held(),
                Err(RecvTimeoutError::Disconnected) => {
                    // The plane stops: now or never.
                    return self.tell_held();
                }
            }
        }
    }

    /// Until the rate lets a message pass.
    fn free_in(&mut self) -> Duration {
        let now = self.clock.now();
        while self.sent.front().is_some_and(|at| *at + self.rate.per <= now) {
            self.sent.pop_front();
        }
        match self.sent.front().filter(|_| self.sent.len() >= self.rate.messages as usize) {
            Some(oldest) => (*oldest + self.rate.per).since(now).as_duration(),
            None => Duration::ZERO,
        }
    }

    fn take(&mut self, message: Message) -> Result<(), String> {
        if self.held.is_none() && self.free_in() == Duration::ZERO {
            return self.deliver(&message);
        }
        let held = self.held.get_or_insert_with(|| Held {
            since: message.at,
            count: 0,
            level: message.level,
            texts: Vec::new(),
            last: String::new(),
        });
        held.count += 1;
        held.level = held.level.max(message.level);
        held.last = message.key.clone();
        held.texts.push((message.level, format!("{}: {}", message.word(), message.text)));
        held.texts.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
        held.texts.truncate(TOLD_IN_FULL);
        Ok(())
    }

    /// Tells what was held back, in one message.
    fn tell_held(&mut self) {
        let Some(held) = &self.held else { return };
        let mut text = format!(
            "{} notifications were held back, because channel {} carries at most {} per {}:",
            held.count, self.name, self.rate.messages, self.rate.per
        );
        for (_, one) in &held.texts {
            text += &format!("\n- {one}");
        }
        if held.count > held.texts.len() {
            text += &format!("\nand {} more: `embot plan list --state done` has them all", held.count - held.texts.len());
        }
        let key = format!("held-{}", held.last);
        let (plane, at) = (self.plane.clone(), held.since);
        let message = Message { plane, key, level: held.level, text, embot: None, action: None, at };
        match self.deliver(&message) {
            Ok(()) => self.held = None,
            Err(why) => {
                tracing::error!(channel = %self.name, "what was held back could not be told yet: {why}");
                self.clock.sleep(AGAIN);
            }
        }
    }

    fn deliver(&mut self, message: &Message) -> Result<(), String> {
        let pauses = if self.is_down { &[] } else { &PAUSES[..] };
        let mut pauses = pauses.iter();
        loop {
            self.sent.push_back(self.clock.now());
            match (self.carrier.deliver(message), pauses.next()) {
                (Ok(()), _) => {
                    if std::mem::take(&mut self.is_down) {
                        tracing::info!(channel = %self.name, "notifications are delivered again");
                    }
                    return Ok(());
                }
                (Err(Undelivered { may_pass: true, .. }), Some(pause)) => {
                    // A try does not count for the rate; only what arrived may bother anybody.
                    self.sent.pop_back();
                    self.clock.sleep(*pause);
                }
                (Err(Undelivered { why, may_pass }), _) => {
                    self.sent.pop_back();
                    self.is_down |= may_pass;
                    return Err(why);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::VirtualClock;
    use std::sync::{Mutex, PoisonError};

    /// Takes what it is given, and fails as it is told.
    #[derive(Clone, Default)]
    struct Fake {
        taken: Arc<Mutex<Vec<String>>>,
        fails: Arc<Mutex<Vec<bool>>>,
        tries: Arc<Mutex<usize>>,
    }

    fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    impl Carrier for Fake {
        fn deliver(&mut self, message: &Message) -> Result<(), Undelivered> {
            *lock(&self.tries) += 1;
            match lock(&self.fails).pop() {
                Some(may_pass) => Err(Undelivered { why: "nobody is there".to_owned(), may_pass }),
                None => {
                    lock(&self.taken).push(format!("{} {}: {}", message.key, message.word(), message.text));
                    Ok(())
                }
            }
        }
    }

    fn settings(messages: u32, per: Span) -> ChannelSettings {
        let rate = MessageRate { messages, per };
        ChannelSettings { name: "chat".into(), level: Level::Warning, rate, webhook: None, mail: None }
    }

    fn tell(channel: &Channel, key: u64, level: Level) -> Option<Result<(), String>> {
        let text = format!("host {key} is hot");
        let action = ActionId(key);
        let notification = Notification { key: key.to_string(), action: Some(action), level, text: &text, embot: None };
        channel.tell(&notification).map(Answer::wait)
    }

    #[test]
    fn what_is_too_much_is_told_together_later() {
        let fake = Fake::default();
        // Real time here: the thread waits for the rate.
        let clock = crate::clock::SystemClock::start(Timestamp(0));
        let settings = settings(2, Span::seconds(1));
        let channel = Channel::with("home".into(), &settings, clock, Box::new(fake.clone())).unwrap();
        assert_eq!(tell(&channel, 1, Level::Info), None, "not loud enough");
        for key in 2..=9 {
            assert_eq!(tell(&channel, key, Level::Warning), Some(Ok(())));
        }
        assert_eq!(tell(&channel, 10, Level::Alarm), Some(Ok(())));
        while lock(&fake.taken).len() < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        insta::assert_snapshot!(lock(&fake.taken).join("\n"));
    }

    #[test]
    fn a_delivery_is_tried_again_where_that_may_help() {
        let fake = Fake::default();
        let clock = VirtualClock::at(Timestamp(0));
        let settings = settings(100, Span::hours(1));
        let channel = Channel::with("home".into(), &settings, clock.clone(), Box::new(fake.clone())).unwrap();
        lock(&fake.fails).extend([true, true]);
        assert_eq!(tell(&channel, 1, Level::Alarm), Some(Ok(())), "the third try succeeds");
        assert_eq!((*lock(&fake.tries), clock.now()), (3, Timestamp(6_000)));
        // Refused for good: not tried again.
        lock(&fake.fails).push(false);
        let refused = Some(Err("channel chat: nobody is there".to_owned()));
        assert_eq!((tell(&channel, 2, Level::Alarm), *lock(&fake.tries)), (refused.clone(), 4));
        // Down: the tries of the first, then one for each, until one succeeds.
        lock(&fake.fails).extend([true; 4]);
        assert_eq!((tell(&channel, 3, Level::Alarm), *lock(&fake.tries)), (refused.clone(), 7));
        assert_eq!((tell(&channel, 4, Level::Alarm), *lock(&fake.tries)), (refused, 8));
        assert_eq!((tell(&channel, 5, Level::Alarm), *lock(&fake.tries)), (Some(Ok(())), 9));
        lock(&fake.fails).extend([true, true]);
        assert_eq!((tell(&channel, 6, Level::Alarm), *lock(&fake.tries)), (Some(Ok(())), 12));
    }
}
