//! The hypervisors, as they were seen to behave (libvirt 9.0): one host at each plane, a job that goes through its stages by
//! itself, and all the ways in which it was seen to fail.
//!
//! ```text
//! job:      Sending ----------> Switching ----------> Arrived ----------> (over)
//! source:   runs                paused                paused              gone
//! target:   paused copy         paused copy           copy complete       copy (by the manager: paused; else: runs)
//!
//! cold:     waits till it is off  files under way     files complete
//! source:   runs, or off        off                   off                 off
//! target:   defined before, and off all the time
//! ```
//! guest:    runs --asked by the job--> runs, `shuts_down` --some time later--> off --started by its owner--> runs
//! ```
//! A cold job only *asks* the guest to shut down. The guest goes off some time later, whatever has become of the job, of who
//! asked, and of the handover: only power that fails first, or a start, makes it forget.

use embot::migration::{Activity, Answer, Guest, Order, OrderFault, Reason, ReasonKind, ResumeBy, Way};
use embot::model::Mark;

/// The planes' names.
pub const SOURCE: &str = "s";
pub const TARGET: &str = "t";

/// A mark, small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Small {
    pub is_target: bool,
    pub epoch: u64,
}

impl Small {
    pub fn of(mark: &Mark) -> Small {
        Small { is_target: &*mark.plane == TARGET, epoch: mark.epoch }
    }

    fn whole(self) -> Mark {
        Mark { plane: if self.is_target { TARGET } else { SOURCE }.into(), epoch: self.epoch }
    }
}

/// A domain on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Domain {
    pub activity: Activity,
    pub mark: Small,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Sending,
    Switching,
    Arrived,
}

/// A job, and the order it answers (relative to the last one), if its client lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Running {
    pub stage: Stage,
    pub client: Option<u32>,
}

/// Both hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hosts {
    pub way: Way,
    pub resume: ResumeBy,
    pub source: Option<Domain>,
    pub target: Option<Domain>,
    pub job: Option<Running>,
    /// Do they answer?
    pub source_answers: bool,
    pub target_answers: bool,
    /// Will they ever again?
    pub source_is_dead: bool,
    pub target_is_dead: bool,
    /// An order that a plane gave in the instant it died, and that the hypervisor still carries out.
    pub late_job: bool,
    /// The target's half of a job whose source's half was rolled back, and that still comes to its end.
    pub late_finish: bool,
    /// Cold: the target's files are those of the guest as it is.
    pub files: bool,
    /// The guest runs, was asked to shut down, and will.
    pub shuts_down: bool,
    /// Power has failed where the guest was, so that it may be off whoever has it.
    pub power_failed: bool,
}

/// What is left on both sides when a job is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cut {
    /// The source's guest stays paused (else it runs on).
    pub source_paused: bool,
    /// The target's copy stays (else it is cleaned up).
    pub copy_stays: bool,
    /// The target's half still comes to its end.
    pub finish_comes: bool,
}

impl Hosts {
    pub fn new(way: Way, resume: ResumeBy, runs: bool) -> Hosts {
        let activity = if runs { Activity::Running } else { Activity::Off };
        Hosts {
            way,
            resume,
            source: Some(Domain { activity, mark: Small { is_target: false, epoch: 1 } }),
            target: None,
            job: None,
            source_answers: true,
            target_answers: true,
            source_is_dead: false,
            target_is_dead: false,
            late_job: false,
            late_finish: false,
            files: false,
            shuts_down: false,
            power_failed: false,
        }
    }

    pub fn running(&self) -> (bool, bool) {
        let runs = |domain: &Option<Domain>| domain.is_some_and(|domain| domain.activity == Activity::Running);
        (runs(&self.source), runs(&self.target))
    }

    /// The copy's disks are locked where the hypervisor resumes: what cannot get the lock stays paused.
    fn may_run(&self, other: &Option<Domain>) -> bool {
        self.resume == ResumeBy::Manager || other.is_none_or(|other| other.activity != Activity::Running)
    }

    /// Begins the job. `Err`: it was refused.
    pub fn start(&mut self, client: Option<u32>) -> Result<(), ()> {
        let is_awaited = self.target.is_some() == (self.way == Way::Cold);
        let is_free = self.source.is_some() && self.job.is_none() && is_awaited;
        if !is_free || !self.source_answers || !self.target_answers {
            return Err(());
        }
        self.job = Some(Running { stage: Stage::Sending, client });
        match self.way {
            Way::Live => self.target = Some(Domain { activity: Activity::Paused, ..self.source.unwrap() }),
            Way::Cold => {
                self.files = false;
                self.shuts_down = self.running().0;
            }
        }
        Ok(())
    }

    /// The guest does as it was asked.
    pub fn goes_off(&mut self) {
        self.shuts_down = false;
        if let Some(source) = &mut self.source {
            source.activity = Activity::Off;
        }
    }

    /// The job goes on by one stage. `Some`: it is over, and its client hears of it.
    pub fn advance(&mut self) -> Option<Option<u32>> {
        let mut job = self.job?;
        match (job.stage, self.way) {
            (Stage::Sending, way) => {
                job.stage = Stage::Switching;
                if way == Way::Live {
                    self.pause_source();
                }
            }
            (Stage::Switching, way) => {
                job.stage = Stage::Arrived;
                match way {
                    Way::Live => {
                        self.target = self.source;
                        self.finish();
                    }
                    Way::Cold => self.files = true,
                }
            }
            (Stage::Arrived, way) => {
                if way == Way::Live {
                    self.source = None;
                }
                self.job = None;
                return Some(job.client);
            }
        }
        self.job = Some(job);
        None
    }

    /// The source's guest runs: what was copied of it is old.
    pub fn start_source(&mut self) {
        (self.files, self.shuts_down) = (false, false);
        if let Some(source) = &mut self.source {
            source.activity = Activity::Running;
        }
    }

    fn pause_source(&mut self) {
        if let Some(source) = self.source.as_mut().filter(|source| source.activity == Activity::Running) {
            source.activity = Activity::Paused;
        }
    }

    /// The target's half comes to its end.
    pub fn finish(&mut self) {
        self.late_finish = false;
        let runs = self.resume == ResumeBy::Hypervisor && self.way == Way::Live && self.may_run(&self.source);
        if let Some(copy) = self.target.as_mut().filter(|copy| runs && copy.activity == Activity::Paused) {
            copy.activity = Activity::Running;
        }
    }

    /// The job ends without having moved the guest. Its client hears of it.
    pub fn cut(&mut self, cut: Cut) -> Option<u32> {
        let job = self.job.take()?;
        if self.way == Way::Live {
            self.pause_source();
            let runs_on = !cut.source_paused && self.may_run(&self.target);
            if let Some(source) = self.source.as_mut().filter(|source| runs_on && source.activity == Activity::Paused) {
                source.activity = Activity::Running;
            }
        }
        // A copy that is complete is a domain like any other, and so is one that was defined: nobody cleans it up.
        if job.stage != Stage::Arrived && !cut.copy_stays && self.way == Way::Live {
            self.target = None;
        }
        self.late_finish = cut.finish_comes && self.target.is_some();
        job.client
    }

    /// Power fails at the source's host; what ran there is off.
    pub fn source_down(&mut self) -> Option<u32> {
        let client = self.cut(Cut { source_paused: true, copy_stays: true, finish_comes: false });
        if let Some(source) = &mut self.source {
            source.activity = Activity::Off;
        }
        self.shuts_down = false;
        self.power_failed = true;
        self.source_answers = false;
        client
    }

    /// Power fails at the target's host; a copy that is not complete is gone.
    pub fn target_down(&mut self) -> Option<u32> {
        if self.way == Way::Live && self.job.is_some_and(|job| job.stage != Stage::Arrived) {
            self.target = None;
        }
        self.power_failed = true;
        if let Some(copy) = &mut self.target {
            copy.activity = Activity::Off;
        }
        self.late_finish = false;
        self.target_answers = false;
        self.cut(Cut { source_paused: false, copy_stays: true, finish_comes: false })
    }

    /// Carries out an order of the source's plane. `None`: it is answered later, or never.
    pub fn at_source(&mut self, order: &Order, number: u32) -> Option<Answered> {
        let failed = |fault| Some(Answered::Failed(fault));
        if let (Order::Reclaim { mark, redefine: true, .. }, true) = (order, self.source_is_dead) {
            // On another host of this plane.
            self.source_answers = true;
            self.source_is_dead = false;
            self.source = Some(Domain { activity: Activity::Off, mark: Small::of(mark) });
            return Some(Answered::Done);
        }
        let not_begun = Answered::JobEnded { ok: false };
        if !self.source_answers {
            return match order {
                Order::StartJob(_) => Some(not_begun),
                Order::CancelJob => None,
                _ => failed(OrderFault::Unreachable),
            };
        }
        match order {
            Order::Mark(mark) => {
                let Some(domain) = &mut self.source else { return failed(OrderFault::Gone) };
                domain.mark = Small::of(mark);
                Some(Answered::Done)
            }
            Order::StartJob(_) => self.start(Some(number)).is_err().then_some(not_begun),
            Order::CancelJob => None,
            Order::Look => Some(Answered::Guest(look(&self.source, self.job.is_some()))),
            Order::Reclaim { mark, start, redefine } => {
                let mark = Small::of(mark);
                if self.job.is_some() {
                    return failed(OrderFault::Refused);
                }
                let is_new = self.source.is_none() && *redefine;
                if is_new {
                    self.source = Some(Domain { activity: Activity::Off, mark });
                }
                let may_run = self.may_run(&self.target);
                let Some(domain) = &mut self.source else { return failed(OrderFault::Gone) };
                if domain.mark.epoch > mark.epoch {
                    return failed(OrderFault::Marked);
                }
                if domain.activity == Activity::Paused {
                    if !may_run {
                        return failed(OrderFault::Refused);
                    }
                    domain.activity = Activity::Running;
                }
                domain.mark = mark;
                if *start && !is_new && domain.activity == Activity::Off {
                    self.start_source();
                }
                Some(Answered::Done)
            }
            Order::Remove(mark) => match self.source {
                None => Some(Answered::Done),
                Some(domain) if domain.mark.epoch > mark.epoch => failed(OrderFault::Marked),
                Some(domain) if domain.activity == Activity::Running => failed(OrderFault::Running),
                Some(_) => {
                    self.source = None;
                    Some(Answered::Done)
                }
            },
            Order::Define(_) | Order::Resume { .. } | Order::DestroyCopy { .. } => panic!("the source orders {order:?}"),
        }
    }

    /// Carries out an order of the target's plane. `Err`: what must never happen.
    pub fn at_target(&mut self, order: &Order) -> Result<Answered, String> {
        let failed = |fault| Ok(Answered::Failed(fault));
        if let (Order::Resume { mark, force: true, .. }, true) = (order, self.target_is_dead) {
            // On another host of this plane.
            self.target_answers = true;
            self.target_is_dead = false;
            self.target = Some(Domain { activity: Activity::Off, mark: Small::of(mark) });
            return Ok(Answered::Done);
        }
        if !self.target_answers {
            return failed(OrderFault::Unreachable);
        }
        match order {
            Order::Look => Ok(Answered::Guest(look(&self.target, self.job.is_some()))),
            Order::Define(mark) => {
                let mark = Small::of(mark);
                match self.target {
                    Some(known) if known.mark == mark => Ok(Answered::Done),
                    Some(_) => failed(OrderFault::Refused),
                    None => {
                        self.target = Some(Domain { activity: Activity::Off, mark });
                        Ok(Answered::Done)
                    }
                }
            }
            Order::Resume { mark, start, force } => {
                let mark = Small::of(mark);
                if self.target.is_none() && *force {
                    self.target = Some(Domain { activity: Activity::Off, mark });
                }
                let Some(domain) = &mut self.target else { return failed(OrderFault::Gone) };
                if *force {
                    domain.mark = mark;
                }
                if domain.mark != mark {
                    return failed(OrderFault::Marked);
                }
                let starts = *start && domain.activity == Activity::Off;
                if starts && !self.files {
                    return Err("the copy is started, and its files are not whole".to_owned());
                }
                if domain.activity == Activity::Paused || starts {
                    domain.activity = Activity::Running;
                }
                Ok(Answered::Done)
            }
            Order::DestroyCopy { mark, running } => match self.target {
                None => Ok(Answered::Done),
                Some(domain) if domain.mark.epoch > mark.epoch => failed(OrderFault::Marked),
                Some(domain) if domain.activity == Activity::Running && !running => failed(OrderFault::Running),
                Some(_) if self.job.is_some() => Err("the copy is destroyed while the job still works on it".to_owned()),
                Some(_) => {
                    self.target = None;
                    self.late_finish = false;
                    Ok(Answered::Done)
                }
            },
            _ => panic!("the target orders {order:?}"),
        }
    }
}

fn look(domain: &Option<Domain>, job: bool) -> Option<(Domain, bool)> {
    domain.map(|domain| (domain, job))
}

/// An answer, small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answered {
    Done,
    /// What is there, and whether a job works on it.
    Guest(Option<(Domain, bool)>),
    /// What the hypervisor says of its end.
    JobEnded {
        ok: bool,
    },
    Failed(OrderFault),
}

impl Answered {
    pub fn whole(self) -> Answer {
        match self {
            Answered::Done => Answer::Done,
            Answered::Guest(None) => Answer::Guest(Guest::Gone),
            Answered::Guest(Some((Domain { activity, mark }, job))) => {
                Answer::Guest(Guest::Here { activity, job, mark: Some(mark.whole()) })
            }
            Answered::JobEnded { ok: true } => Answer::JobEnded(Ok(())),
            Answered::JobEnded { ok: false } => Answer::JobEnded(Err(Reason::new(ReasonKind::Hypervisor, "no"))),
            Answered::Failed(fault) => Answer::Failed(fault, "no".into()),
        }
    }
}
