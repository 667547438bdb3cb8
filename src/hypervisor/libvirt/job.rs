//! Long jobs of a domain (migration, saving): how far they are, and how to end them.
//!
//! The call that started a job blocks in a session of its own. Here the worker looks at the job through another session,
//! tells of its progress, and aborts it when the wish is withdrawn or time is up.

use super::failure::{Trouble, is_missing, is_wrong_state};
use super::ffi::{self, Param};
use super::order::lookup;
use super::session::{Pending, Session};
use crate::clock::Clock;
use crate::hypervisor::{HypervisorError, Watch};
use crate::model::{Progress, Span, Timestamp, VmId};
use std::time::Duration;
use virt::domain::Domain;
use virt::error::Error;

/// `VIR_DOMAIN_JOB_NONE`.
const NO_JOB: i32 = 0;
/// How often a job is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Looking is given up after this time, not the job.
const GLANCE: Duration = Duration::from_secs(5);
/// A job that was aborted has this long to end. A migration to a host that hangs ends only when that host lives again.
const GRACE: Span = Span::seconds(30);

/// A job as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// The domain has none.
    None,
    /// It has one, this far.
    Active(Done),
    /// There is no such domain.
    NoDomain,
}

/// Bytes moved and bytes still to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    processed: u64,
    remaining: u64,
}

impl Done {
    fn of<'a>(params: impl Iterator<Item = (&'a str, Param<'a>)>) -> Done {
        let mut done = Done::default();
        for (name, value) in params {
            match name {
                "data_processed" => done.processed = value.count().unwrap_or(0),
                "data_remaining" => done.remaining = value.count().unwrap_or(0),
                _ => {}
            }
        }
        done
    }

    /// As the plane has it. What a busy guest dirties again counts as still to move, so the total may grow.
    pub fn progress(self) -> Progress {
        Progress { done_bytes: self.processed, total_bytes: self.processed.saturating_add(self.remaining) }
    }
}

/// Looks at a domain's job. Possible at the source of a migration only.
pub fn look(session: &Session, vm: VmId) -> Result<Job, HypervisorError> {
    session.call(format!("look at the job of guest {vm}"), GLANCE, move |connect| {
        let found = lookup(connect, vm).and_then(|domain| ffi::job_stats(&domain, |kind, params| (kind, Done::of(params))));
        match found {
            Ok((NO_JOB, _)) => Ok(Job::None),
            // Also one that was cancelled or has failed: libvirt is still putting things right.
            Ok((_, done)) => Ok(Job::Active(done)),
            Err(error) if is_wrong_state(&error) => Ok(Job::None),
            Err(error) if is_missing(&error) => Ok(Job::NoDomain),
            Err(error) => Err(Trouble::from(error)),
        }
    })
}

/// Has a domain a job? One that is over but not yet put away counts. At the target of a migration libvirt does not tell and
/// fails.
pub fn is_active(domain: &Domain) -> Result<bool, Error> {
    ffi::job_stats(domain, |kind, _| kind != NO_JOB)
}

/// How far a domain's job is, if it has one; as for [`is_active`].
pub fn progress(domain: &Domain) -> Result<Option<Progress>, Error> {
    ffi::job_stats(domain, |kind, params| (kind != NO_JOB).then(|| Done::of(params).progress()))
}

/// Asks libvirt to end a domain's job.
pub fn abort(session: &Session, vm: VmId) -> Result<(), HypervisorError> {
    session.call(format!("abort the job of guest {vm}"), GLANCE, move |connect| Ok(ffi::abort_job(&lookup(connect, vm)?)?))
}

/// Why a job was aborted by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// Whoever wanted it no longer does.
    Cancelled,
    /// It took too long.
    TimedOut,
}

/// How the wait for a job's call ended.
#[derive(Debug)]
pub enum Outcome<T> {
    /// The call returned; whether we had aborted it.
    Ended(Result<T, HypervisorError>, Option<Abort>),
    /// It was aborted, and the call has not returned.
    Stuck(Abort),
}

/// Follows a job.
pub struct Follow<'a> {
    /// Where to look; not the session that waits for the job's call.
    pub monitor: &'a Session,
    /// Whose job.
    pub vm: VmId,
    /// Who waits for it.
    pub watch: &'a dyn Watch,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Abort it when it lasts longer.
    pub timeout: Option<Span>,
    /// For a migration: set as soon as it runs, for libvirt takes it only then.
    pub max_downtime: Option<Span>,
}

impl Follow<'_> {
    /// Until the job's call returns.
    pub fn to_the_end<T>(&self, pending: &Pending<T>) -> Outcome<T> {
        let mut round = Round::new(self);
        loop {
            if let Some(result) = pending.wait(LOOK) {
                return Outcome::Ended(result, round.aborted.map(|(abort, _)| abort));
            }
            // The job's own call tells of everything that goes wrong; a look that fails is only a look less.
            let job = look(self.monitor, self.vm).unwrap_or(Job::None);
            if round.step(job) {
                return Outcome::Stuck(round.aborted.map_or(Abort::Cancelled, |(abort, _)| abort));
            }
        }
    }

    /// Until there is no job any more, where nobody waits for its call.
    pub fn without_call(&self) -> Outcome<()> {
        let mut round = Round::new(self);
        loop {
            let job = match look(self.monitor, self.vm) {
                Ok(job) => job,
                Err(error) => return Outcome::Ended(Err(error), round.aborted.map(|(abort, _)| abort)),
            };
            if !matches!(job, Job::Active(_)) {
                return Outcome::Ended(Ok(()), round.aborted.map(|(abort, _)| abort));
            }
            if round.step(job) {
                return Outcome::Stuck(round.aborted.map_or(Abort::Cancelled, |(abort, _)| abort));
            }
            self.clock.sleep(Span(200));
        }
    }
}

struct Round<'a> {
    follow: &'a Follow<'a>,
    started: Timestamp,
    aborted: Option<(Abort, Timestamp)>,
    told: Done,
    downtime_set: bool,
}

impl<'a> Round<'a> {
    fn new(follow: &'a Follow<'a>) -> Round<'a> {
        let downtime_set = follow.max_downtime.is_none();
        Round { follow, started: follow.clock.now(), aborted: None, told: Done::default(), downtime_set }
    }

    /// One look; `true`: aborted long ago, and it still does not end.
    fn step(&mut self, job: Job) -> bool {
        let Follow { monitor, vm, watch, clock, timeout, max_downtime } = *self.follow;
        let now = clock.now();
        if let Job::Active(done) = job {
            if done != self.told && done != Done::default() {
                self.told = done;
                watch.progress(done.progress());
            }
            if let (false, Some(downtime)) = (self.downtime_set, max_downtime) {
                let set = monitor.call("limit the downtime", GLANCE, move |connect| {
                    Ok(lookup(connect, vm)?.migrate_set_max_downtime(downtime.0.max(1), 0)?)
                });
                self.downtime_set = set.is_ok();
            }
        }
        if self.aborted.is_none() {
            if watch.is_cancelled() {
                self.aborted = Some((Abort::Cancelled, now));
            } else if timeout.is_some_and(|timeout| now.since(self.started) >= timeout) {
                self.aborted = Some((Abort::TimedOut, now));
            }
        }
        if let Some((_, since)) = self.aborted {
            // Too early there is no job to abort, too late there is none any more: so at each look, until it is over.
            let _ = abort(monitor, vm);
            return now.since(since) >= GRACE;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_what_is_dirtied_again() {
        let params = [
            ("operation", Param::Int(5)),
            ("data_total", Param::Uint(100)),
            ("data_processed", Param::Uint(600)),
            ("data_remaining", Param::Uint(40)),
        ];
        assert_eq!(Done::of(params.into_iter()).progress(), Progress { done_bytes: 600, total_bytes: 640 });
    }
}
