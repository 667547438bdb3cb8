//! What goes wrong in the fleet while daemons are killed.

use embot::hypervisor::simulated::{Fault, Mishap, Trouble};
use embot::model::{Span, VmId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Something that goes wrong, or not.
pub fn trouble(dice: &mut ChaCha8Rng, hosts: &[&str], guests: &[VmId]) -> Option<Fault> {
    let mut roll = |below: u64| dice.next_u64() % below;
    let host = hosts[roll(hosts.len() as u64) as usize].into();
    let vm = *guests.get(roll(guests.len().max(1) as u64) as usize)?;
    let lasts = Span(200 + roll(1_500));
    let on_host = |trouble| Some(Fault::Host { host, trouble, lasts });
    match roll(14) {
        0 | 1 => on_host(Trouble::Hangs),
        2 => on_host(Trouble::Lost),
        3 => on_host(Trouble::MigrationsFail(50)),
        4 => on_host(Trouble::Refuses),
        5 => Some(Fault::Guest { vm, mishap: Mishap::Crashes }),
        6 => Some(Fault::Guest { vm, mishap: Mishap::IoError { disk: None } }),
        7 => Some(Fault::Guest { vm, mishap: Mishap::Stops }),
        8 => on_host(Trouble::Dies),
        9 => on_host(Trouble::CutAtSwitch),
        10 => on_host(Trouble::KilledAtSwitch),
        _ => None,
    }
}
