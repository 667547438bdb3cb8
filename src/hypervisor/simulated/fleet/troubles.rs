//! What goes wrong, comes back, and gets busy.

use super::super::fault::Mishap;
use super::super::load::share;
use super::orders::{OrderState, error};
use super::sleep::Sleep;
use super::*;
use crate::hypervisor::ErrorKind;
use crate::model::AgentState;

impl Fleet {
    /// Lets something go wrong now. What concerns nobody, or a guest that does not run, does nothing.
    pub fn inject(&mut self, fault: &Fault, now: Timestamp) {
        self.run_to(now);
        match fault {
            Fault::Host { host, trouble, lasts } => self.trouble(host, *trouble, *lasts),
            Fault::Guest { vm, mishap } => self.mishap(*vm, mishap),
        }
    }

    pub(super) fn scheduled_fault(&mut self, index: usize) {
        let Some(Repeated { what, every }) = self.faults.get(index).cloned() else { return };
        self.inject(&what, self.now);
        if let Some(every) = every {
            self.at(self.now + every, Occurrence::Fault(index));
        }
    }

    pub(super) fn trouble(&mut self, host: &HostId, trouble: Trouble, lasts: Span) {
        let until = self.now + lasts;
        let Some(machine) = self.hosts.get_mut(host) else { return };
        let until = machine.until(trouble).map_or(until, |before| before.max(until));
        machine.troubles.retain(|(present, _)| !present.is_like(trouble));
        machine.troubles.push((trouble, until));
        self.at(until, Occurrence::TroubleEnds(host.clone()));
        self.touch(host);
        match trouble {
            Trouble::Dies => {
                if let Some(machine) = self.hosts.get_mut(host) {
                    machine.sleep = Sleep::AWAKE;
                }
                self.give_up_orders(host, "the host went down");
                let guests = self.hosts.get(host).map(|machine| machine.guests.clone()).unwrap_or_default();
                for vm in guests {
                    let Some(guest) = self.guests.get_mut(&vm).filter(|guest| guest.state != VmState::Off) else { continue };
                    (guest.state, guest.reason, guest.agent_up) = (VmState::Off, Reason::Unknown, false);
                    (guest.goes_off_at, guest.awaited_by) = (None, None);
                    self.note_runs(vm);
                }
                self.copies_die(host);
            }
            Trouble::Lost => self.give_up_orders(host, "the connection to the hypervisor was lost"),
            Trouble::Hangs | Trouble::Refuses | Trouble::StatisticsMissing => {}
            Trouble::MigrationsFail(_) | Trouble::CutAtSwitch | Trouble::KilledAtSwitch => {}
        }
    }

    fn give_up_orders(&mut self, host: &HostId, why: &str) {
        for job in self.open_orders(host) {
            let failed = error(ErrorKind::Unreachable, format!("host {host}: {why}"));
            self.end(&job, OrderState::Failed(failed));
        }
    }

    pub(super) fn troubles_end(&mut self, host: &HostId) {
        let now = self.now;
        let Some(machine) = self.hosts.get_mut(host) else { return };
        let mut over = Vec::new();
        machine.troubles.retain(|(trouble, until)| {
            let ends = *until <= now;
            if ends {
                over.push(*trouble);
            }
            !ends
        });
        self.touch(host);
        for trouble in over {
            match trouble {
                Trouble::Dies => {
                    self.connect_anew(host);
                    self.autostart(host);
                }
                Trouble::Lost => self.connect_anew(host),
                Trouble::Hangs => {
                    let Some(machine) = self.hosts.get_mut(host) else { continue };
                    let held = std::mem::take(&mut machine.held);
                    self.notices.extend(held.into_iter().map(|notice| (host.clone(), Notice { at: now, ..notice })));
                    self.release_waiting(host);
                }
                Trouble::Refuses | Trouble::StatisticsMissing => {}
                Trouble::MigrationsFail(_) | Trouble::CutAtSwitch | Trouble::KilledAtSwitch => {}
            }
        }
    }

    fn connect_anew(&mut self, host: &HostId) {
        if let Some(machine) = self.hosts.get_mut(host) {
            machine.connection += 1;
            machine.held.clear();
        }
    }

    fn autostart(&mut self, host: &HostId) {
        let guests = self.hosts.get(host).map(|machine| machine.guests.clone()).unwrap_or_default();
        for vm in guests {
            let Some(guest) = self.guests.get(&vm).filter(|guest| guest.description.autostart && !guest.is_active()) else {
                continue;
            };
            let (held, name) = (guest.balloon_mib, guest.description.name.clone());
            if self.check_room(host, held, &name).is_ok() {
                self.set_state(vm, VmState::Running, Reason::Booted);
                self.boots(vm);
            }
        }
    }

    fn mishap(&mut self, vm: VmId, mishap: &Mishap) {
        let Some(guest) = self.guests.get(&vm).filter(|guest| guest.state == VmState::Running) else { return };
        let host = guest.host.clone();
        let busy = guest.work.is_some();
        match mishap {
            Mishap::Crashes => {
                self.interrupt(vm, "the guest crashed meanwhile");
                self.set_state(vm, VmState::Crashed, Reason::Crashed);
            }
            Mishap::WatchdogOff => {
                self.interrupt(vm, "the guest's watchdog switched it off meanwhile");
                self.say(&host, vm, NoticeBody::Watchdog("poweroff".into()));
                self.set_state(vm, VmState::Off, Reason::Watchdog);
            }
            Mishap::WatchdogOnly => self.say(&host, vm, NoticeBody::Watchdog("none".into())),
            Mishap::Stops => {
                self.interrupt(vm, "the guest shut itself down meanwhile");
                self.set_state(vm, VmState::Off, Reason::Shutdown);
            }
            Mishap::AgentLost { lasts } => {
                self.set_agent(vm, false);
                self.at(self.now + *lasts, Occurrence::AgentBack(vm));
            }
            // The rest does not happen to guests that are being worked on: it would say nothing about either.
            _ if busy => {}
            Mishap::Sleeps => self.set_state(vm, VmState::Asleep, Reason::Asked),
            Mishap::Reboots => {
                self.boots(vm);
                self.say(&host, vm, NoticeBody::Rebooted);
            }
            Mishap::Watchdog => {
                self.say(&host, vm, NoticeBody::Watchdog("reset".into()));
                self.boots(vm);
                self.say(&host, vm, NoticeBody::Rebooted);
            }
            Mishap::IoError { disk } => {
                let first = || self.guests.get(&vm).and_then(|guest| guest.description.disks.first().cloned());
                let Some(disk) = disk.clone().or_else(first) else { return };
                self.say(&host, vm, NoticeBody::IoError(disk, "input/output error".into()));
                self.set_state(vm, VmState::Paused, Reason::IoError);
            }
        }
    }

    pub(super) fn booted(&mut self, vm: VmId, booted_at: Timestamp) {
        let boots = |guest: &&Guest| guest.booted_at == booted_at && guest.state == VmState::Running;
        if self.guests.get(&vm).filter(boots).is_some() {
            self.set_agent(vm, true);
        }
    }

    pub(super) fn set_agent(&mut self, vm: VmId, connected: bool) {
        let Some(guest) = self.guests.get_mut(&vm).filter(|guest| guest.has_agent && guest.agent_up != connected) else {
            return;
        };
        if connected && (guest.state != VmState::Running || guest.booted_at > self.now) {
            return;
        }
        guest.agent_up = connected;
        let host = guest.host.clone();
        let state = if connected { AgentState::Connected } else { AgentState::Disconnected };
        self.say(&host, vm, NoticeBody::Agent(state));
    }

    pub(super) fn heat(&mut self, index: usize, time: u64) {
        let Some(Repeated { what, every }) = self.heats.get(index) else { return };
        let until = self.now + what.lasts;
        let host = usize::try_from(time).ok().and_then(|time| what.hosts.get(time % what.hosts.len().max(1)));
        let vms = host.and_then(|host| self.hosts.get(host)).map(|machine| machine.guests.clone()).unwrap_or_default();
        let heated = host.cloned();
        let mut left = what.count;
        for vm in vms {
            let Some(guest) = self.guests.get_mut(&vm) else { continue };
            if left > 0 && guest.state == VmState::Running && what.guests.is_match(&*guest.description.name) {
                left -= 1;
                guest.heated = Some((until, what.cpu));
            }
        }
        let every = *every;
        heated.iter().for_each(|host| self.touch(host));
        if let Some(every) = every {
            self.at(self.now + every, Occurrence::Heat(index, time + 1));
        }
    }

    /// Puts the next strike of a kind on the agenda: strikes come independently of each other, at the given rate.
    pub(super) fn plan_strike(&mut self, strike: Strike) {
        let count = if strike < Strike::GuestCrashes { self.hosts.len() } else { self.guests.len() };
        let per_hour = self.chances.per_hour(strike) * count as f64;
        let Some(dice) = self.dice.get_mut(&strike).filter(|_| per_hour > 0.0) else { return };
        let hours = -(1.0 - share(dice)).ln() / per_hour;
        let wait = Span((hours * 3_600_000.0).ceil().max(1.0) as u64);
        self.at(self.now + wait, Occurrence::Strike(strike));
    }

    pub(super) fn strike(&mut self, strike: Strike) {
        let Some(dice) = self.dice.get_mut(&strike) else { return };
        let drawn = share(dice);
        let pick = |count: usize| ((drawn * count as f64) as usize).min(count.saturating_sub(1));
        let lasts = self.chances.lasts();
        let trouble = match strike {
            Strike::HostDies => Some(Trouble::Dies),
            Strike::HostHangs => Some(Trouble::Hangs),
            Strike::HostLost => Some(Trouble::Lost),
            Strike::HostRefuses => Some(Trouble::Refuses),
            Strike::StatisticsMissing => Some(Trouble::StatisticsMissing),
            _ => None,
        };
        let mishap = match strike {
            Strike::GuestCrashes => Some(Mishap::Crashes),
            Strike::GuestStops => Some(Mishap::Stops),
            Strike::GuestReboots => Some(Mishap::Reboots),
            Strike::Watchdog => Some(Mishap::Watchdog),
            Strike::IoError => Some(Mishap::IoError { disk: None }),
            Strike::AgentLost => Some(Mishap::AgentLost { lasts }),
            _ => None,
        };
        if let Some((trouble, host)) = trouble.zip(self.hosts.keys().nth(pick(self.hosts.len())).cloned()) {
            self.trouble(&host, trouble, lasts);
        }
        if let Some((mishap, vm)) = mishap.zip(self.guests.keys().nth(pick(self.guests.len())).copied()) {
            self.mishap(vm, &mishap);
        }
        self.plan_strike(strike);
    }
}
