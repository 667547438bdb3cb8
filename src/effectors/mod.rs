//! Effectors: carry actions out, and say what came of them.
//!
//! ```text
//! manager --dispatch, recover--> pool of the action's host --> worker --> Hypervisor::execute, ::recover
//!         --cancel----------------------------------------------^             |
//!         <--ActionUpdate: Started, Progress.., then one of Done, Failed, Cancelled
//! ```
//! Guarantees:
//! - Exactly one final update for each action that was dispatched, whatever the hypervisor does: answer, fail, panic, or
//!   never come back. Nothing is said of an action after its final update.
//! - Actions of one host run on that host's few workers only; a host that hangs starves no other.
//! - No call here waits for a hypervisor or for whoever receives the updates, so the manager may call at any time. (Only
//!   [`Effectors::stop`] waits, as long as it is told.)
//!
//! Effectors decide nothing: what to do, under which epoch and on which host stands in the action.

mod job;
mod lanes;
pub mod migration;
mod notify;
mod order;
mod pool;
mod watchdog;

#[cfg(test)]
mod tests;

pub use lanes::{Lanes, MigrationSink};
pub use notify::{
    ChannelSettings, MailSettings, MailTls, MessageRate, Notification, Notifier, Notifiers, WebhookSettings, is_mailbox,
};
pub use order::{Catalog, Patience};

use crate::clock::Clock;
use crate::hypervisor::Hypervisor;
use crate::model::{Action, ActionId, ActionKind, ActionUpdate, HostId, Span};
use job::{Errand, Job};
use pool::Pool;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use watchdog::Watchdog;

/// Receives what effectors say of actions.
pub type Sink = Arc<dyn Fn(ActionId, ActionUpdate) + Send + Sync>;

/// How much effectors may take on at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    /// Threads for each host; started when needed.
    pub per_host: usize,
    /// Actions that may wait for each host: a bound for memory, high enough to adopt all guests of a host at once.
    pub waiting: usize,
    /// A thread without work ends after this time.
    pub idle: Span,
}

impl Default for Workers {
    fn default() -> Workers {
        Workers { per_host: 3, waiting: 4_096, idle: Span::seconds(30) }
    }
}

/// The effectors of a plane.
pub struct Effectors {
    catalog: Catalog,
    hosts: BTreeMap<HostId, Arc<Pool>>,
    notices: Arc<Pool>,
    watchdog: Watchdog,
}

impl Effectors {
    /// Effectors for these hosts. `sink` receives the updates, from many threads; it may wait, but while it does no other
    /// update goes out either.
    pub fn new(
        hosts: BTreeMap<HostId, Arc<dyn Hypervisor>>,
        catalog: Catalog,
        workers: Workers,
        notifier: Arc<dyn Notifier>,
        clock: Arc<dyn Clock>,
        sink: Sink,
    ) -> io::Result<Effectors> {
        let pool = |(host, hypervisor): (HostId, Arc<dyn Hypervisor>)| {
            let run = Box::new(move |job: &Job| job.carry_out(&*hypervisor));
            (host.clone(), Pool::new(host.to_string(), workers, run))
        };
        let hosts = hosts.into_iter().map(pool).collect();
        let tell = Box::new(move |job: &Job| notify::carry_out(&*notifier, job));
        let notices = Pool::new("notifications".to_owned(), workers, tell);
        Ok(Effectors { catalog, hosts, notices, watchdog: Watchdog::start(clock, sink)? })
    }

    /// Carries an action out. It must be durable, and not have been dispatched before.
    pub fn dispatch(&self, action: Action) {
        self.accept(action, Errand::Execute);
    }

    /// Finds out what became of an action that was open when the manager ended, and reports it done or failed; where its host
    /// does not answer yet, it is asked again. Starts nothing, but for notifications: those are sent (again), because one too
    /// many is better than one too few.
    pub fn recover(&self, action: Action) {
        self.accept(action, Errand::Recover);
    }

    /// Withdraws an action, if it is still open: one that waits is cancelled, one that runs, or may run since before a restart,
    /// is asked to stop.
    pub fn cancel(&self, id: ActionId) {
        if let Some(job) = self.watchdog.job(id)
            && job.withdraw()
        {
            self.watchdog.verdict(&job, ActionUpdate::Cancelled("cancelled before it began".into()));
        }
    }

    /// The actions that have had no final update yet.
    pub fn open(&self) -> Vec<ActionId> {
        self.watchdog.open()
    }

    /// Takes nothing more, cancels what has not begun, and gives what runs so much time to end. Returns what then still
    /// runs: nothing more is said of those; they are to be recovered by the next manager.
    pub fn stop(self, grace: Span) -> Vec<ActionId> {
        let mut left = Vec::new();
        for pool in self.hosts.values().chain([&self.notices]) {
            for job in pool.close() {
                if job.errand == Errand::Recover {
                    job.abandon();
                    self.watchdog.board().forget(job.id());
                    left.push(job.id());
                } else if job.withdraw() {
                    self.watchdog.verdict(&job, ActionUpdate::Cancelled("the manager stopped before it began".into()));
                }
            }
        }
        left.extend(self.watchdog.stop(grace));
        left
    }

    fn accept(&self, action: Action, errand: Errand) {
        let order = self.catalog.order(&action);
        let patience = Patience::of(&order.kind, order.limits);
        let job = Job::new(order, action.proposal.embot.clone(), errand, patience, self.watchdog.board().clone());
        let pool = match (&action.proposal.kind, &action.host) {
            (ActionKind::Notify { .. }, _) => Ok(&self.notices),
            (_, Some(host)) => self.hosts.get(host).ok_or_else(|| {
                format!("the plane has no host {host}; move guests away before taking a host out of the configuration")
            }),
            (_, None) => Err("no host was named to carry it out; this is a fault in embot: please report it".to_owned()),
        };
        if !self.watchdog.watch(&job, pool.as_ref().map_or("", |pool| pool.place())) {
            tracing::error!(action = %action.id, "an action was dispatched twice; the second time is ignored");
            return;
        }
        if let Err(why) = pool.and_then(|pool| pool.offer(&job))
            && job.give_up()
        {
            self.watchdog.verdict(&job, ActionUpdate::Failed(why.into()));
        }
    }
}

impl Drop for Effectors {
    /// Workers that wait end; those that work end when they are done.
    fn drop(&mut self) {
        for pool in self.hosts.values().chain([&self.notices]) {
            drop(pool.close());
        }
    }
}
