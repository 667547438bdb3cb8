//! Days whose figures can be computed by hand.

use super::native::Reference;
use super::*;
use crate::simulate::figures::Figures;
use crate::simulate::traces::{Trace, Traces};
use std::sync::Arc;

/// The time from the first tick to the last.
const TICKED_S: f64 = 286.0 * SAMPLE_S;
/// The watts of the second kind of host when 1,000 of its 5,320 MIPS are in use: 18.8 %, between 97 W at 10 % and 101 W at 20 %.
const WATTS: f64 = 97.0 + 4.0 * (10_000.0 / 5_320.0 - 1.0);

/// Guests whose use of CPU at each sample is given by a function.
fn traces(guests: usize, percent: impl Fn(usize, usize) -> f32) -> Arc<Traces> {
    let trace =
        |guest| Trace { name: format!("guest-{guest}"), percent: (0..SAMPLES).map(|slot| percent(guest, slot)).collect() };
    Arc::new(Traces { step_s: 300, guests: (0..guests).map(trace).collect() })
}

/// One guest that wants 1,000 of its 2,500 MIPS all day. Only a host of the second kind has such processors.
fn steady() -> Arc<Traces> {
    traces(1, |_, _| 40.0)
}

fn run(name: &str, traces: &Arc<Traces>) -> Figures {
    Reference::named(name).unwrap().run(traces).unwrap()
}

fn dvfs() -> Setup {
    Reference::named("Dvfs").unwrap().setup
}

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-9), "{found} is not {expected}");
}

#[test]
fn a_steady_guest_costs_its_hosts_power_from_the_first_tick_on() {
    let figures = run("Dvfs", &steady());
    close(figures.energy_kwh, WATTS * TICKED_S / 3.6e6);
    assert_eq!((figures.migrations, figures.slatah, figures.pdm, figures.overall_sla), (0, 0.0, 0.0, 0.0));
    // All other hosts count as in use until the first tick.
    assert_eq!(figures.host_shutdowns, 799);
    close(figures.mean_time_before_shutdown_s, 300.1);
}

#[test]
fn hosts_that_know_no_rest_draw_full_power_all_day() {
    let figures = run("NonPowerAware", &steady());
    close(figures.energy_kwh, (117.0 + 135.0) * 400.0 * (TICKED_S + 300.1) / 3.6e6);
}

#[test]
fn ticks_come_a_little_after_the_samples() {
    let traces = traces(1, |_, slot| if slot < 2 { 40.0 } else { 80.0 });
    let mut day = Day::new(&traces, &dvfs()).unwrap();
    let first = day.next_tick().unwrap().guests[0].utilisation;
    // A tenth of a second, of the 300 in which it rises by 0.4.
    close(first, 0.4 + 0.4 * 0.1 / 300.0);
    assert_eq!(day.energy_kwh(), 0.0);
    let second = day.next_tick().unwrap().guests[0].utilisation;
    close(second, 0.8);
    // 2,000 of 5,320 MIPS are 37.6 %: between 105 W at 30 % and 110 W at 40 %.
    let watts = |utilisation: f64, from: f64, to: f64| {
        let tenths = utilisation * 25_000.0 / 5_320.0;
        from + (to - from) * (tenths - tenths.floor())
    };
    close(day.energy_kwh(), (watts(first, 97.0, 101.0) + watts(second, 105.0, 110.0)) / 2.0 * SAMPLE_S / 3.6e6);
    let history = day.cluster().guests[0].history;
    assert_eq!((history[0], history[1], history[2]), (second, first, 0.0));
}

#[test]
fn a_guest_that_wants_nothing_is_gone() {
    // Nothing at the samples 2 and 3, and so at the second tick; 40 % before and after that.
    let traces = traces(1, |_, slot| if slot == 2 || slot == 3 { 0.0 } else { 40.0 });
    let mut day = Day::new(&traces, &dvfs()).unwrap();
    assert_eq!(day.next_tick().unwrap().guests[0].host, Some(1));
    let first = day.cluster().hosts[1].watts;
    for _ in 2..SAMPLES {
        let cluster = day.next_tick().unwrap();
        assert_eq!((cluster.guests[0].host, cluster.hosts[1].guests().count()), (None, 0));
    }
    assert!(day.next_tick().is_none());
    // The host that it left draws half of its idle watts, and half of what it drew before, for one interval.
    close(day.figures().energy_kwh, (first + 93.7) / 2.0 * SAMPLE_S / 3.6e6);
}

#[test]
fn a_move_costs_a_tenth_on_both_sides() {
    let traces = steady();
    let mut day = Day::new(&traces, &dvfs()).unwrap();
    day.next_tick().unwrap();
    day.start(&[Move { guest: 0, to: 3 }]).unwrap();
    let of_5320 = |mips: f64| mips / 5_320.0;
    assert_eq!(day.cluster().hosts[1].utilisation, of_5320(1_000.0));
    assert_eq!(day.cluster().hosts[3].utilisation, of_5320(100.0));
    while day.next_tick().is_some() {}
    assert_eq!(day.cluster().guests[0].host, Some(3));
    let figures = day.figures();
    assert_eq!(figures.migrations, 1);
    // 870 MB at 62.5 MB a second, in which it gets 900 MIPS of 1,000.
    let moved_s = 13.92;
    close(figures.pdm, 100.0 * moved_s / (1_000.0 * TICKED_S));
    close(figures.overall_sla, figures.pdm);
    // The target violates for so long; the source was in use for so long, and the target always.
    close(figures.slatah, moved_s / (TICKED_S + moved_s));
    close(figures.slav, figures.slatah * figures.pdm);
    close(figures.esv, figures.energy_kwh * figures.slav);
    // 100 of 5,320 MIPS are 1.9 %, between 93.7 W and 97 W. The target's first moments count, since it was in use by then.
    let arriving = 93.7 + 3.3 * (1_000.0 / 5_320.0);
    close(figures.energy_kwh, (WATTS * TICKED_S + arriving * moved_s) / 3.6e6);
    // The target never was idle; the source was, once the guest had left.
    assert_eq!(figures.host_shutdowns, 799);
    close(figures.mean_time_before_shutdown_s, (798.0 * 300.1 + 314.02) / 799.0);
}

#[test]
fn a_guest_can_be_moved_twice_at_once() {
    let traces = steady();
    let mut day = Day::new(&traces, &dvfs()).unwrap();
    day.next_tick().unwrap();
    day.start(&[Move { guest: 0, to: 3 }, Move { guest: 0, to: 5 }]).unwrap();
    let cluster = day.next_tick().unwrap();
    assert_eq!(cluster.guests[0].host, Some(5));
    assert!(!cluster.guests[0].moving);
    let there: Vec<usize> = (0..800).filter(|host| cluster.hosts[*host].guests().count() > 0).collect();
    assert_eq!(there, [5]);
    while day.next_tick().is_some() {}
    assert_eq!(day.figures().migrations, 2);
}

#[test]
fn moves_that_make_no_sense_are_refused() {
    let traces = steady();
    let mut day = Day::new(&traces, &dvfs()).unwrap();
    day.next_tick().unwrap();
    for (guest, to, complaint) in [
        (1, 3, "guest 1 is not there to be moved"),
        (0, 800, "guest 0 cannot be moved to host 800: there is no such host"),
        (0, 1, "guest 0 is on host 1 already, or on its way"),
    ] {
        assert_eq!(day.start(&[Move { guest, to }]).unwrap_err().to_string(), complaint);
    }
    day.start(&[Move { guest: 0, to: 3 }]).unwrap();
    assert_eq!(day.start(&[Move { guest: 0, to: 3 }]), Err(Illegal::Already(0, 3)));
}

#[test]
fn an_overloaded_host_shares_what_it_has() {
    // Two guests, 2,500 and 2,000 MIPS: the first fits hosts of the second kind only, and the first of these has room for both.
    let traces = traces(2, |_, _| 100.0);
    let mut day = Day::new(&traces, &Setup { placement: Placement::LeastPower { limit: 0.1 }, ..dvfs() }).unwrap();
    let places: Vec<_> = day.cluster().guests.iter().map(|guest| guest.host).collect();
    // None is to be used by half where it is in use already, so each has a host of its own.
    assert_eq!(places, [Some(1), Some(3)]);
    day.next_tick().unwrap();
    day.start(&[Move { guest: 0, to: 0 }]).unwrap();
    let cluster = day.next_tick().unwrap();
    // A processor there has 1,860 of the 2,500 MIPS.
    assert_eq!(cluster.hosts[0].granted_mips, 1_860.0);
    while day.next_tick().is_some() {}
    let figures = day.figures();
    let lost = 250.0 * 13.92 + 640.0 * (TICKED_S - 13.92);
    close(figures.overall_sla, lost / (4_500.0 * TICKED_S));
    close(figures.pdm, 250.0 * 13.92 / (4_500.0 * TICKED_S));
    // Host 0 all the time, host 3 never, and host 1 not while it is left: 2,250 / 0.9 are 2,500 again.
    close(figures.slatah, TICKED_S / (2.0 * TICKED_S + 13.92));
}

#[test]
fn guests_get_their_sizes_in_blocks() {
    let traces = traces(6, |_, _| 10.0);
    let day = Day::new(&traces, &dvfs()).unwrap();
    let sizes: Vec<_> = day.cluster().guests.iter().map(|guest| (guest.mips, guest.memory_mb)).collect();
    let [first, second, third, _] = SIZES;
    assert_eq!(sizes, [first, first, second, second, third, third]);
}

#[test]
fn days_that_cannot_begin_say_why() {
    let said = |traces: &Arc<Traces>| Day::new(traces, &dvfs()).unwrap_err().to_string();
    let short = Traces { step_s: 300, guests: vec![Trace { name: "a".into(), percent: vec![1.0; 12] }] };
    assert_eq!(said(&Arc::new(short)), "guest `a` has 12 samples; a day here has 288: cut the trace into days");
    let coarse = Traces { step_s: 60, ..Traces::clone(&steady()) };
    assert_eq!(said(&Arc::new(coarse)), "the samples of the trace are 60 s apart; here they must be 300 s apart");
    let many = said(&traces(9_000, |_, _| 1.0));
    assert_eq!(
        many,
        "guest `guest-800` (2500 MIPS, 870 MB) finds no host with room for it when the day begins: give fewer guests"
    );
}

#[test]
fn policies_have_the_names_of_the_literature() {
    let known = ["Dvfs", "NonPowerAware", "ThrMmt", "IqrMmt", "MadMmt", "LrMmt", "LrrMmt", "ThrMu", "LrMu"];
    assert!(known.iter().all(|name| Reference::named(name).is_some()));
    assert!(["", "Thr", "Mmt", "ThrMax", "thrMmt"].iter().all(|name| Reference::named(name).is_none()));
    assert_eq!(Reference::named("LrrMmt"), Reference::named("LrMmt"));
}

#[test]
fn little_used_hosts_are_emptied_and_busy_ones_relieved() {
    // Two tenths of their MIPS until sample 100, then eight.
    let busy = |_: usize, slot: usize| if slot < 100 { 20.0 } else { 80.0 };
    let guests = traces(16, busy);
    let policy = Reference::named("ThrMmt").unwrap();
    let mut day = Day::new(&guests, &policy.setup).unwrap();
    let active = |cluster: &Cluster| cluster.hosts.iter().filter(|host| host.guests().count() > 0).count();
    let mut counts = Vec::new();
    while let Some(cluster) = day.next_tick() {
        let full = cluster.hosts.iter().filter(|host| host.utilisation > 0.8).count();
        counts.push((active(cluster), full));
        let moves = policy.policy.unwrap().decide(cluster);
        day.start(&moves).unwrap();
    }
    // 16 guests that want 4,800 MIPS together, on two hosts, and then 19,200.
    let (before, after) = (counts[90], counts[200]);
    assert_eq!(before.0, 2, "{counts:?}");
    assert!(after.0 >= 5 && after.1 == 0, "{counts:?}");
}
