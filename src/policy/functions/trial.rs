//! Trials: moves are tried, looked at and taken back, before any is proposed.
//!
//! A trial is shared by all of a script's variables that hold it; a set of hosts is a value of its own in each, as lists are.
//! Each search costs about a unit for each host.

use super::{HostView, PlaneView, VmView};
use crate::model::{HostId, VmId};
use crate::plan::trial::{HostSet, Overload, SLOT, SLOTS, Trial};
use crate::policy::context::{Context, Outcome, complaint, span};
use rhai::{Array, Dynamic, Engine};
use std::cell::RefCell;
use std::rc::Rc;

/// A trial.
#[derive(Clone)]
struct TrialView {
    trial: Rc<RefCell<Box<dyn Trial>>>,
    hosts: Rc<[HostId]>,
}

/// Some of a trial's hosts.
#[derive(Clone)]
struct HostsView {
    set: HostSet,
    hosts: Rc<[HostId]>,
}

/// A test for overload.
#[derive(Debug, Clone, Copy, PartialEq)]
struct TestView(Overload);

/// A move that was tried.
#[derive(Debug, Clone)]
struct MoveView(VmId, HostId);

impl IntoIterator for HostsView {
    type Item = HostView;
    type IntoIter = std::vec::IntoIter<HostView>;

    fn into_iter(self) -> Self::IntoIter {
        self.set.iter().map(|host| HostView(self.hosts[host].clone())).collect::<Vec<_>>().into_iter()
    }
}

pub(super) fn register_view(engine: &mut Engine) {
    engine.register_type_with_name::<TrialView>("trial");
    engine.register_type_with_name::<HostsView>("hosts");
    engine.register_type_with_name::<TestView>("load test");
    engine.register_type_with_name::<MoveView>("move");
    for name in ["to_string", "to_debug"] {
        engine.register_fn(name, |trial: &mut TrialView| format!("a trial with {} hosts", trial.hosts.len()));
        engine.register_fn(name, |hosts: &mut HostsView| {
            let names: Vec<&str> = hosts.set.iter().map(|host| hosts.hosts[host].as_str()).take(NAMED).collect();
            let more = hosts.set.len() - names.len();
            if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
        });
        engine.register_fn(name, |test: &mut TestView| format!("{:?}", test.0));
        engine.register_fn(name, |one: &mut MoveView| format!("{} to {}", one.0, one.1));
    }
}

/// So many hosts of a set are named when it is printed.
const NAMED: usize = 20;

pub(super) fn register(engine: &mut Engine, context: &Rc<Context>) {
    let here = context.clone();
    engine.register_fn("trial", move |_: &mut PlaneView| -> Outcome<TrialView> {
        let now = here.now("trial")?;
        {
            let world = here.world.borrow();
            here.charge((world.hosts().len() + world.vm_count()) as u64)?;
        }
        let trial = here.trials.borrow().trial(now);
        let hosts = trial.hosts().clone();
        Ok(TrialView { trial: Rc::new(RefCell::new(trial)), hosts })
    });
    looks(engine, context);
    tries(engine);
    searches(engine, context);
    sets(engine, context);
    tests(engine);
    engine.register_get("vm", |one: &mut MoveView| VmView(one.0));
    engine.register_get("to", |one: &mut MoveView| HostView(one.1.clone()));
}

fn looks(engine: &mut Engine, context: &Rc<Context>) {
    engine.register_get("hosts", |trial: &mut TrialView| trial.hosts_where(|_, _| true));
    engine.register_get("idle", |trial: &mut TrialView| trial.hosts_where(|trial, host| trial.used(host) == 0.0));
    engine.register_get("unused", |trial: &mut TrialView| trial.hosts_where(|trial, host| trial.is_unused(host)));
    let here = context.clone();
    engine.register_get("moves", move |trial: &mut TrialView| -> Outcome<Array> {
        let moves = trial.trial.borrow().moves();
        here.charge(moves.len() as u64)?;
        if moves.len() > here.limits.array {
            let (count, limit) = (moves.len(), here.limits.array);
            return complaint(format!(
                "the trial has {count} moves, more than the {limit} a list may hold; try fewer at a time"
            ));
        }
        let view = |(vm, to): (VmId, usize)| Dynamic::from(MoveView(vm, trial.hosts[to].clone()));
        Ok(moves.into_iter().map(view).collect())
    });
    let here = context.clone();
    engine.register_get("room", move |trial: &mut TrialView| -> i64 {
        let taken = here.sheet.borrow().proposals.len() + trial.trial.borrow().moves().len();
        i64::try_from(here.limits.proposals.saturating_sub(taken)).unwrap_or(i64::MAX)
    });
    let here = context.clone();
    engine.register_fn("vms", move |trial: &mut TrialView, host: HostView| -> Outcome<Array> {
        let host = trial.number(&host)?;
        here.vms(trial.trial.borrow().guests(host))
    });
    engine
        .register_fn("fixed", |trial: &mut TrialView, host: HostView| trial.of_host(&host, |trial, host| trial.is_fixed(host)));
    engine.register_fn("load", |trial: &mut TrialView, host: HostView| trial.of_host(&host, |trial, host| trial.load(host)));
    engine.register_fn("used", |trial: &mut TrialView, host: HostView| trial.of_host(&host, |trial, host| trial.used(host)));
    engine.register_fn("wanted", |trial: &mut TrialView, vm: VmView| -> Outcome<f64> {
        trial.known(vm)?;
        Ok(trial.trial.borrow().wanted(vm.0))
    });
    engine.register_fn("wanted", |trial: &mut TrialView, vm: VmView, host: HostView| -> Outcome<f64> {
        trial.known(vm)?;
        trial.of_host(&host, |trial, host| trial.wanted_of(vm.0, host))
    });
    // Scripts compare numbers with some tolerance, so what the last bit decides is decided here.
    type Key = fn(&dyn Trial, VmId) -> f64;
    let orders: [(&str, Key); 2] = [("demanding", |trial, vm| -trial.demand(vm)), ("calmest", |trial, vm| trial.wanted(vm))];
    for (name, key) in orders {
        let here = context.clone();
        engine.register_fn(name, move |trial: &mut TrialView, vms: Array| -> Outcome<Array> {
            let mut keyed = Vec::with_capacity(vms.len());
            for vm in vms {
                let Some(vm) = vm.try_cast::<VmView>() else { return complaint(format!("`{name}` takes a list of guests")) };
                trial.known(vm)?;
                keyed.push((key(&**trial.trial.borrow(), vm.0), vm.0));
            }
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            here.vms(keyed.into_iter().map(|(_, vm)| vm).collect())
        });
    }
}

fn tries(engine: &mut Engine) {
    engine.register_fn("take", |trial: &mut TrialView, vm: VmView| -> Outcome<()> {
        trial.known(vm)?;
        trial.trial.borrow_mut().take(vm.0);
        Ok(())
    });
    engine.register_fn("put", |trial: &mut TrialView, vm: VmView, host: HostView| -> Outcome<()> {
        trial.known(vm)?;
        let host = trial.number(&host)?;
        trial.trial.borrow_mut().put(vm.0, host);
        Ok(())
    });
    engine.register_fn("mark", |trial: &mut TrialView| trial.trial.borrow().mark() as i64);
    engine.register_fn("back", |trial: &mut TrialView, mark: i64| -> Outcome<()> {
        let Ok(mark) = usize::try_from(mark) else { return complaint(format!("{mark} is no mark of a trial")) };
        trial.trial.borrow_mut().back(mark);
        Ok(())
    });
}

fn searches(engine: &mut Engine, context: &Rc<Context>) {
    engine.register_fn("over", |trial: &mut TrialView, host: HostView, test: TestView| {
        trial.of_host(&host, |trial, host| trial.is_over(host, test.0))
    });
    engine.register_fn("expected", |trial: &mut TrialView, host: HostView, test: TestView| {
        trial.of_host(&host, |trial, host| trial.expected(host, test.0))
    });
    let here = context.clone();
    engine.register_fn("over", move |trial: &mut TrialView, test: TestView| -> Outcome<HostsView> {
        here.charge(trial.hosts.len() as u64)?;
        Ok(trial.hosts_where(|trial, host| trial.is_over(host, test.0)))
    });
    let here = context.clone();
    engine.register_fn("ranked", move |trial: &mut TrialView, test: TestView| -> Outcome<Array> {
        here.charge(trial.hosts.len() as u64)?;
        // Of more than a list may hold, the first are those that count.
        let ranked = trial.trial.borrow().ranked(test.0).into_iter().take(here.limits.array);
        Ok(ranked.map(|host| Dynamic::from(HostView(trial.hosts[host].clone()))).collect())
    });
    let here = context.clone();
    engine.register_fn("least_used", move |trial: &mut TrialView, except: HostsView| -> Outcome<Dynamic> {
        trial.find(&here, &except, |trial| trial.least_used(&except.set))
    });
    let here = context.clone();
    engine.register_fn(
        "cheapest",
        move |trial: &mut TrialView, vm: VmView, test: TestView, except: HostsView| -> Outcome<Dynamic> {
            trial.known(vm)?;
            trial.find(&here, &except, |trial| trial.cheapest(vm.0, test.0, &except.set))
        },
    );
    let here = context.clone();
    engine.register_fn(
        "fullest",
        move |trial: &mut TrialView, vm: VmView, test: TestView, except: HostsView| -> Outcome<Dynamic> {
            trial.known(vm)?;
            trial.find(&here, &except, |trial| trial.fullest(vm.0, test.0, &except.set))
        },
    );
}

fn sets(engine: &mut Engine, context: &Rc<Context>) {
    engine.register_iterator::<HostsView>();
    engine.register_get("len", |hosts: &mut HostsView| hosts.set.len() as i64);
    let number = |hosts: &HostsView, host: &HostView| hosts.hosts.binary_search(&host.0).or_else(|_| no_host(host));
    engine.register_fn("contains", move |hosts: &mut HostsView, host: HostView| -> Outcome<bool> {
        Ok(hosts.set.contains(number(hosts, &host)?))
    });
    engine.register_fn("add", move |hosts: &mut HostsView, host: HostView| -> Outcome<()> {
        let number = number(hosts, &host)?;
        hosts.set.insert(number);
        Ok(())
    });
    let here = context.clone();
    engine.register_fn("add", move |hosts: &mut HostsView, others: HostsView| -> Outcome<()> {
        here.charge(others.hosts.len() as u64 / 64)?;
        same_trial(&hosts.hosts, &others.hosts)?;
        hosts.set.insert_all(&others.set);
        Ok(())
    });
}

fn tests(engine: &mut Engine) {
    type Make = fn(f64) -> Overload;
    let tests: [(&str, Make); 4] = [
        ("limit", |limit| Overload::Threshold { limit }),
        ("iqr", |safety| Overload::Iqr { safety }),
        ("mad", |safety| Overload::Mad { safety }),
        ("regression", |safety| Overload::Regression { safety }),
    ];
    for (name, make) in tests {
        engine.register_fn(name, move |parameter: Dynamic| -> Outcome<TestView> {
            Ok(TestView(make(number(name, &parameter)?)))
        });
    }
    engine.register_fn("spread", |deviations: Dynamic, cap: Dynamic, ms: i64| -> Outcome<TestView> {
        let slots = usize::try_from(span(ms)?.0 / SLOT.0).unwrap_or(SLOTS);
        if !(1..=SLOTS).contains(&slots) {
            let longest = crate::model::Span(SLOT.0 * SLOTS as u64);
            return complaint(format!(
                "`spread` looks back over {SLOT} at least and {longest} at most, not over {}",
                span(ms)?
            ));
        }
        let (deviations, cap) = (number("spread", &deviations)?, number("spread", &cap)?);
        Ok(TestView(Overload::Spread { deviations, cap, slots }))
    });
}

/// A parameter of a test.
fn number(of: &str, given: &Dynamic) -> Outcome<f64> {
    let number = given.as_float().or_else(|_| given.as_int().map(|whole| whole as f64)).unwrap_or(f64::NAN);
    if number.is_finite() && number >= 0.0 {
        return Ok(number);
    }
    complaint(format!("`{of}` takes a number of 0 or more, not {given}"))
}

fn no_host<T>(host: &HostView) -> Outcome<T> {
    complaint(format!("the trial has no host `{}`", host.0))
}

fn same_trial(hosts: &Rc<[HostId]>, others: &Rc<[HostId]>) -> Outcome<()> {
    if Rc::ptr_eq(hosts, others) { Ok(()) } else { complaint("these hosts are of another trial, which is over") }
}

impl TrialView {
    fn number(&self, host: &HostView) -> Outcome<usize> {
        self.trial.borrow().host(&host.0).map_or_else(|| no_host(host), Ok)
    }

    fn known(&self, vm: VmView) -> Outcome<()> {
        if self.trial.borrow().has(vm.0) {
            Ok(())
        } else {
            complaint(format!("the trial has no guest {}: it is off, or gone", vm.0))
        }
    }

    fn of_host<T>(&self, host: &HostView, look: impl FnOnce(&dyn Trial, usize) -> T) -> Outcome<T> {
        let number = self.number(host)?;
        Ok(look(&**self.trial.borrow(), number))
    }

    fn hosts_where(&self, holds: impl Fn(&dyn Trial, usize) -> bool) -> HostsView {
        let trial = self.trial.borrow();
        HostsView { set: trial.hosts_where(|host| holds(&**trial, host)), hosts: self.hosts.clone() }
    }

    fn find(
        &self,
        context: &Context,
        except: &HostsView,
        search: impl FnOnce(&dyn Trial) -> Option<usize>,
    ) -> Outcome<Dynamic> {
        context.charge(self.hosts.len() as u64)?;
        same_trial(&self.hosts, &except.hosts)?;
        let found = search(&**self.trial.borrow());
        Ok(found.map_or(Dynamic::UNIT, |host| Dynamic::from(HostView(self.hosts[host].clone()))))
    }
}

impl Context {
    fn vms(&self, vms: Vec<VmId>) -> Outcome<Array> {
        self.charge(vms.len() as u64)?;
        Ok(vms.into_iter().map(|vm| Dynamic::from(VmView(vm))).collect())
    }
}

#[cfg(test)]
pub(super) fn type_ids() -> [(std::any::TypeId, &'static str); 4] {
    use std::any::TypeId;
    [
        (TypeId::of::<TrialView>(), "trial"),
        (TypeId::of::<HostsView>(), "hosts"),
        (TypeId::of::<TestView>(), "load test"),
        (TypeId::of::<MoveView>(), "move"),
    ]
}
