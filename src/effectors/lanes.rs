//! Where orders of migrations are carried out: a lane for each migration, in which one order follows the other.
//!
//! Threads live as long as their lane has work, and there is a lane only for a guest on its way, so their number is bounded by
//! the guardrails for migrations, here and at the peers that were let in.

use super::Catalog;
use super::job::lock;
use super::migration::{carry_out, describe};
use crate::hypervisor::{Hypervisor, Watch};
use crate::migration::order::MigrationOrder;
use crate::migration::{Answer, Order, OrderFault, Reason, ReasonKind, Way};
use crate::model::{Bytes, HostId, MigrationId, MigrationInput, Progress, VmId};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Receives what hosts say.
pub type MigrationSink = Arc<dyn Fn(MigrationInput) + Send + Sync>;

/// What is to be done for a migration.
enum Errand {
    Describe { migration: MigrationId, vm: VmId, host: HostId, way: Way },
    Order(Box<MigrationOrder>),
}

/// One migration's errands.
#[derive(Default)]
struct Lane {
    errands: VecDeque<Errand>,
    /// Asks the job that runs to stop.
    cancelled: Arc<AtomicBool>,
    /// Does a job run that somebody here waits for?
    runs: bool,
}

struct Inner {
    catalog: Catalog,
    hosts: BTreeMap<HostId, Arc<dyn Hypervisor>>,
    lanes: Mutex<BTreeMap<MigrationId, Lane>>,
    sink: MigrationSink,
}

/// The lanes of a plane.
#[derive(Clone)]
pub struct Lanes(Arc<Inner>);

/// Whoever waits for a job.
struct Waiting<'a> {
    migration: &'a MigrationId,
    cancelled: &'a AtomicBool,
    sink: &'a MigrationSink,
}

impl Watch for Waiting<'_> {
    fn progress(&self, progress: Progress) {
        (self.sink)(MigrationInput::Progress { migration: self.migration.clone(), progress });
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

impl Lanes {
    /// Lanes to these hosts. `sink` may wait.
    pub fn new(hosts: BTreeMap<HostId, Arc<dyn Hypervisor>>, catalog: Catalog, sink: MigrationSink) -> Lanes {
        Lanes(Arc::new(Inner { catalog, hosts, lanes: Mutex::default(), sink }))
    }

    /// Asks a host what a peer must know of a guest.
    pub fn describe(&self, migration: MigrationId, vm: VmId, host: HostId, way: Way) {
        self.enter(migration.clone(), Errand::Describe { migration, vm, host, way });
    }

    /// Carries an order out, after those before it. A job that runs is cancelled at once.
    pub fn order(&self, order: MigrationOrder) {
        if order.order == Order::CancelJob
            && let Some(lane) = lock(&self.0.lanes).get(&order.migration).filter(|lane| lane.runs)
        {
            lane.cancelled.store(true, Ordering::Release);
            return;
        }
        self.enter(order.migration.clone(), Errand::Order(Box::new(order)));
    }

    fn enter(&self, migration: MigrationId, errand: Errand) {
        let mut lanes = lock(&self.0.lanes);
        let is_new = !lanes.contains_key(&migration);
        lanes.entry(migration.clone()).or_default().errands.push_back(errand);
        if !is_new {
            return;
        }
        let inner = self.0.clone();
        let name = format!("migration {migration}");
        let of_lane = migration.clone();
        if let Err(error) = thread::Builder::new().name(name).spawn(move || inner.work(&of_lane)) {
            tracing::error!(%migration, "an order of a migration cannot be carried out: no thread: {error}");
            let errands = lanes.remove(&migration).map(|lane| lane.errands).unwrap_or_default();
            drop(lanes);
            let text: Arc<str> = format!("no thread could be started for it: {error}").into();
            errands.iter().filter_map(|errand| not_done(errand, text.clone())).for_each(|told| (self.0.sink)(told));
        }
    }
}

impl Inner {
    /// Works until the lane is empty.
    fn work(&self, migration: &MigrationId) {
        loop {
            let (errand, cancelled) = {
                let mut lanes = lock(&self.lanes);
                let Some(lane) = lanes.get_mut(migration) else { return };
                let Some(errand) = lane.errands.pop_front() else {
                    lanes.remove(migration);
                    return;
                };
                lane.runs = matches!(&errand, Errand::Order(order) if matches!(order.order, Order::StartJob(_)));
                lane.cancelled = Arc::default();
                (errand, lane.cancelled.clone())
            };
            let told = catch_unwind(AssertUnwindSafe(|| self.run(&errand, &cancelled))).unwrap_or_else(|_| {
                tracing::error!(%migration, "carrying out an order of a migration panicked");
                not_done(&errand, "embot itself failed over it: please report this with the log".into())
            });
            if let Some(told) = told {
                (self.sink)(told);
            }
        }
    }

    fn run(&self, errand: &Errand, cancelled: &AtomicBool) -> Option<MigrationInput> {
        match errand {
            Errand::Describe { migration, vm, host, way } => {
                let guest = match self.hosts.get(host) {
                    Some(hypervisor) => describe(&**hypervisor, *vm, *way, &self.catalog),
                    None => Err(format!("the plane has no host {host}")),
                };
                let bytes = guest.and_then(|guest| postcard::to_stdvec(&guest).map_err(|error| error.to_string()));
                let guest = bytes.map(Bytes::from).map_err(Arc::from);
                Some(MigrationInput::Described { migration: migration.clone(), guest })
            }
            Errand::Order(order) => {
                let watch = Waiting { migration: &order.migration, cancelled, sink: &self.sink };
                let answer = match self.hosts.get(&order.host) {
                    Some(hypervisor) => carry_out(&**hypervisor, order, &self.catalog, &watch)?,
                    None => Answer::Failed(
                        OrderFault::Unreachable,
                        format!("the plane has no host {}; put it back into the configuration", order.host).into(),
                    ),
                };
                Some(answered(order, &answer))
            }
        }
    }
}

/// What is told of an errand that came to nothing here.
fn not_done(errand: &Errand, text: Arc<str>) -> Option<MigrationInput> {
    match errand {
        Errand::Describe { migration, .. } => {
            Some(MigrationInput::Described { migration: migration.clone(), guest: Err(text) })
        }
        Errand::Order(order) if order.order == Order::CancelJob => None,
        Errand::Order(order) => Some(answered(
            order,
            &match order.order {
                Order::StartJob(_) => Answer::JobEnded(Err(Reason::new(ReasonKind::Hypervisor, text))),
                _ => Answer::Failed(OrderFault::Refused, text),
            },
        )),
    }
}

fn answered(order: &MigrationOrder, answer: &Answer) -> MigrationInput {
    // Writing to memory fails for types without a fixed shape only, and there are none here.
    let answer = Bytes::from(postcard::to_stdvec(answer).unwrap_or_default());
    MigrationInput::Answer { migration: order.migration.clone(), order: order.number, answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::testing::{grants, id};
    use crate::migration::{Job, ResumeBy};
    use crate::model::Mark;

    fn told(order: Order) -> Option<Answer> {
        let mark = Mark { plane: "a".into(), epoch: 7 };
        let order = MigrationOrder {
            migration: id(),
            number: 3,
            vm: VmId(uuid::Uuid::nil()),
            host: "h".into(),
            offered: mark.clone(),
            coming: mark,
            definition: "".into(),
            autostart: false,
            copies: false,
            bases: Vec::new(),
            rewrites: None,
            order,
        };
        match not_done(&Errand::Order(Box::new(order)), "no thread".into())? {
            MigrationInput::Answer { order: 3, answer, .. } => Some(postcard::from_bytes(&answer.0).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// Whoever waits for a job waits for its end, and for an answer else: neither may wait for ever.
    #[test]
    fn of_what_is_not_done_is_told_in_the_words_that_are_waited_for() {
        let (way, resume) = (Way::Live, ResumeBy::Manager);
        let job = Job { way, resume, shut_down: false, force_after: None, grants: grants() };
        assert!(matches!(told(Order::StartJob(Box::new(job))), Some(Answer::JobEnded(Err(_)))));
        assert!(matches!(told(Order::Look), Some(Answer::Failed(OrderFault::Refused, _))));
        assert_eq!(told(Order::CancelJob), None, "nobody waits");
    }
}
