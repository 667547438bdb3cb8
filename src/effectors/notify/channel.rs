//! One channel to admins: which notifications pass, how many, and how often a delivery is tried.
//!
//! A channel has a thread, so that one that does not answer holds up no other. What its rate does not let pass, and what comes
//! while it cannot be reached, is counted and told in one message as soon as that is possible. It waits in a file beside the
//! store, so that it outlives the daemon.

use super::Notification;
use super::mail::{Mail, MailSettings};
use super::rfc_3339;
use super::webhook::{Webhook, WebhookSettings};
use crate::clock::Clock;
use crate::model::{ActionId, Level, Span, Timestamp};
use crate::pki::files;
use crossbeam_channel::{Receiver, RecvTimeoutError, SendError, Sender, TrySendError, bounded};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Notifications that may wait for a channel.
const WAITING: usize = 1_024;
/// A delivery is tried again after these.
const PAUSES: [Span; 2] = [Span::seconds(1), Span::seconds(5)];
/// What was held back and could not be told is tried again after this, then after twice as long, and so on,
const AGAIN_FIRST: Span = Span::seconds(10);
/// up to this.
const AGAIN_MOST: Span = Span::minutes(5);
/// After this nobody wants to hear it any more.
const STALE: Span = Span::hours(24);
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
    standing: Arc<Mutex<Standing>>,
}

/// How a channel stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Notifications that wait to be told together.
    pub held: usize,
    /// Why it cannot be reached; `None`: as far as is known, it can.
    pub away: Option<String>,
}

struct ClockOf(Arc<dyn Clock>);

impl std::fmt::Debug for ClockOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Channel {
    /// Starts a channel. What it holds back is kept in a file next to `store`, where there is one.
    pub fn start(
        plane: Arc<str>,
        settings: &ChannelSettings,
        clock: Arc<dyn Clock>,
        store: Option<&Path>,
    ) -> io::Result<Channel> {
        let carrier: Box<dyn Carrier> = match (&settings.webhook, &settings.mail) {
            (Some(webhook), _) => Box::new(Webhook::new(webhook.clone())),
            (None, Some(mail)) => Box::new(Mail::new(mail.clone())),
            (None, None) => {
                return Err(io::Error::other(format!("notify channel {} has neither webhook nor mail", settings.name)));
            }
        };
        let file = store.map(|store| store.with_added_extension(format!("notify-{}.json", settings.name)));
        Channel::with(plane, settings, clock, carrier, file)
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with(
        plane: Arc<str>,
        settings: &ChannelSettings,
        clock: Arc<dyn Clock>,
        carrier: Box<dyn Carrier>,
        file: Option<PathBuf>,
    ) -> io::Result<Channel> {
        let (posts, inbox) = bounded(WAITING);
        let standing = Arc::<Mutex<Standing>>::default();
        let keeper = Keeper {
            name: settings.name.clone(),
            plane: plane.clone(),
            carrier,
            clock: clock.clone(),
            rate: settings.rate,
            sent: VecDeque::new(),
            held: file.as_deref().and_then(Held::read),
            file,
            away: None,
            again: None,
            standing: standing.clone(),
        };
        std::thread::Builder::new().name(format!("notify {}", settings.name)).spawn(move || keeper.run(&inbox))?;
        Ok(Channel { name: settings.name.clone(), level: settings.level, plane, clock: ClockOf(clock), posts, standing })
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

/// What was held back, by the rate or because the channel cannot be reached.
#[derive(Debug, Serialize, Deserialize)]
struct Held {
    since: Timestamp,
    count: usize,
    level: Level,
    /// The loudest ones.
    texts: Vec<(Level, String)>,
    last: String,
    /// Could the channel not be reached?
    was_away: bool,
}

impl Held {
    /// What the last daemon left. What cannot be read is told in the log and given up.
    fn read(path: &Path) -> Option<Held> {
        let text = std::fs::read(path).ok()?;
        let held = serde_json::from_slice(&text);
        held.inspect_err(|error| tracing::error!("{} is not understood, and left alone: {error}", path.display())).ok()
    }
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
    /// Where that outlives the daemon.
    file: Option<PathBuf>,
    /// Why the last delivery failed, however often it was tried.
    away: Option<String>,
    /// When what was held back is tried again, after it could not be told, and how long to wait after that.
    again: Option<(Timestamp, Span)>,
    standing: Arc<Mutex<Standing>>,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Post>) {
        loop {
            self.say_how_it_stands();
            let post = match self.held {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => inbox.recv_timeout(self.free_in()),
            };
            match post {
                Ok(Post { message, answer }) => {
                    let taken = self.take(message);
                    // Whoever has the answer sees how the channel stands.
                    self.say_how_it_stands();
                    // Where nobody waits for the answer, it is told here.
                    if let Err(SendError(Err(why))) = answer.send(taken) {
                        tracing::error!(channel = %self.name, "an admin could not be told: {why}");
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.tell_held(),
                Err(RecvTimeoutError::Disconnected) => {
                    // The plane stops: now, or when it is started again.
                    return self.tell_held();
                }
            }
        }
    }

    fn say_how_it_stands(&self) {
        let held = self.held.as_ref().map_or(0, |held| held.count);
        let standing = Standing { held, away: self.away.clone() };
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// Writes down what is held back, or that nothing is any more.
    fn keep(&self) {
        let Some(path) = &self.file else { return };
        let kept = match self.held.as_ref().map(serde_json::to_vec) {
            None => match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
                _ => Ok(()),
            },
            Some(Ok(text)) => files::replace(path, files::PRIVATE, &text).map_err(|error| error.to_string()),
            Some(Err(error)) => Err(error.to_string()),
        };
        if let Err(why) = kept {
            tracing::error!(channel = %self.name, "what is held back would not outlive the daemon: {why}");
        }
    }

    /// Until the rate lets a message pass.
    fn free_in(&mut self) -> Duration {
        let now = self.clock.now();
        while self.sent.front().is_some_and(|at| *at + self.rate.per <= now) {
            self.sent.pop_front();
        }
        let free = match self.sent.front().filter(|_| self.sent.len() >= self.rate.messages as usize) {
            Some(oldest) => (*oldest + self.rate.per).since(now),
            None => Span::ZERO,
        };
        free.max(self.again.map_or(Span::ZERO, |(at, _)| at.since(now))).as_duration()
    }

    fn take(&mut self, message: Message) -> Result<(), String> {
        if self.held.is_none() && self.free_in() == Duration::ZERO {
            match self.deliver(&message, &PAUSES) {
                Err(Undelivered { why, may_pass: true }) => {
                    tracing::error!(channel = %self.name, "an admin cannot be told now, and is told later: {why}");
                    self.put_off();
                }
                result => return result.map_err(|undelivered| undelivered.why),
            }
        }
        let was_away = self.away.is_some();
        let held = self.held.get_or_insert_with(|| Held {
            since: message.at,
            count: 0,
            level: message.level,
            texts: Vec::new(),
            last: String::new(),
            was_away,
        });
        held.count += 1;
        held.level = held.level.max(message.level);
        held.last = message.key.clone();
        held.texts.push((message.level, format!("{}: {}", message.word(), message.text)));
        held.texts.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
        held.texts.truncate(TOLD_IN_FULL);
        self.keep();
        Ok(())
    }

    /// Tells what was held back, in one message.
    fn tell_held(&mut self) {
        let Some(held) = &self.held else { return };
        let why = if held.was_away {
            format!("could not be reached since {}", rfc_3339(held.since))
        } else {
            format!("carries at most {} per {}", self.rate.messages, self.rate.per)
        };
        let mut text = format!("{} notifications were held back, because channel {} {why}:", held.count, self.name);
        for (_, one) in &held.texts {
            text += &format!("\n- {one}");
        }
        if held.count > held.texts.len() {
            text += &format!("\nand {} more: `embot plan list --state done` has them all", held.count - held.texts.len());
        }
        let key = format!("held-{}", held.last);
        let (plane, at) = (self.plane.clone(), held.since);
        let message = Message { plane, key, level: held.level, text, embot: None, action: None, at };
        let (count, since) = (held.count, held.since);
        match self.deliver(&message, &[]) {
            Ok(()) => {
                (self.held, self.again) = (None, None);
                self.keep();
            }
            Err(Undelivered { why, .. }) if self.clock.now().since(since) > STALE => {
                tracing::error!(channel = %self.name, "{count} notifications are given up, after {STALE}: {why}");
                self.held = None;
                self.keep();
                self.put_off();
            }
            Err(Undelivered { why, .. }) => {
                tracing::warn!(channel = %self.name, "{count} notifications could not be told yet: {why}");
                self.put_off();
            }
        }
    }

    /// The next try has to wait, the longer the more often it failed.
    fn put_off(&mut self) {
        let pause = self.again.map_or(AGAIN_FIRST, |(_, pause)| pause);
        self.again = Some((self.clock.now() + pause, Span(pause.0 * 2).min(AGAIN_MOST)));
    }

    fn deliver(&mut self, message: &Message, pauses: &[Span]) -> Result<(), Undelivered> {
        let mut pauses = pauses.iter();
        loop {
            self.sent.push_back(self.clock.now());
            match (self.carrier.deliver(message), pauses.next()) {
                (Ok(()), _) => {
                    self.again = None;
                    if self.away.take().is_some() {
                        tracing::info!(channel = %self.name, "notifications are delivered again");
                    }
                    return Ok(());
                }
                (Err(Undelivered { may_pass: true, .. }), Some(pause)) => {
                    // A try does not count for the rate; only what arrived may bother anybody.
                    self.sent.pop_back();
                    self.clock.sleep(*pause);
                }
                (Err(undelivered), _) => {
                    self.sent.pop_back();
                    if undelivered.may_pass {
                        self.away = Some(undelivered.why.clone());
                    }
                    return Err(undelivered);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::VirtualClock;

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
        let channel = Channel::with("home".into(), &settings, clock, Box::new(fake.clone()), None).unwrap();
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
        let channel = Channel::with("home".into(), &settings, clock.clone(), Box::new(fake.clone()), None).unwrap();
        lock(&fake.fails).extend([true, true]);
        assert_eq!(tell(&channel, 1, Level::Alarm), Some(Ok(())), "the third try succeeds");
        assert_eq!((*lock(&fake.tries), clock.now()), (3, Timestamp(6_000)));
        // Refused for good: not tried again.
        lock(&fake.fails).push(false);
        let refused = Some(Err("channel chat: nobody is there".to_owned()));
        assert_eq!((tell(&channel, 2, Level::Alarm), *lock(&fake.tries)), (refused, 4));
        lock(&fake.fails).extend([true, true]);
        assert_eq!((tell(&channel, 6, Level::Alarm), *lock(&fake.tries)), (Some(Ok(())), 7));
    }

    #[test]
    fn what_comes_while_a_channel_is_away_is_told_together_when_it_is_back_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("held.json");
        let (fake, clock) = (Fake::default(), VirtualClock::at(Timestamp(1_790_000_000_000)));
        let settings = settings(100, Span::hours(1));
        let start = |fake: &Fake| {
            let carrier = Box::new(fake.clone());
            Channel::with("home".into(), &settings, clock.clone(), carrier, Some(file.clone())).unwrap()
        };
        let channel = start(&fake);
        lock(&fake.fails).extend([true; 1_000]);
        for key in 1..=8 {
            let level = if key == 7 { Level::Alarm } else { Level::Warning };
            assert_eq!(tell(&channel, key, level), Some(Ok(())), "it is kept");
        }
        assert_eq!(*lock(&fake.tries), 3, "the others are not even tried: it is away");
        assert_eq!(channel.standing(), Standing { held: 8, away: Some("nobody is there".to_owned()) });
        drop(channel);
        let back = Fake::default();
        let channel = start(&back);
        while file.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        insta::assert_snapshot!(lock(&back.taken).join("\n"));
        assert_eq!(tell(&channel, 9, Level::Warning), Some(Ok(())));
        assert_eq!(lock(&back.taken).len(), 2, "and all is as ever");
    }
}
