//! Same inputs, same seed: same decisions, and the same journal, byte for byte.

use crate::kit::{self, Plane};
use embot::hypervisor::simulated::{Chances, FleetPlan};
use embot::model::{ActionState, Span};

/// Faults of every kind, often enough that ten minutes see several.
fn troubled(seed: u64) -> FleetPlan {
    let chances = Chances {
        trouble_lasts: Some(Span::seconds(40)),
        host_dies: 0.3,
        host_hangs: 0.5,
        host_lost: 0.5,
        host_refuses: 0.5,
        statistics_missing: 0.5,
        guest_crashes: 1.0,
        guest_stops: 0.3,
        guest_reboots: 0.5,
        watchdog: 0.3,
        io_error: 0.3,
        agent_lost: 0.3,
        migration_fails: 0.2,
        order_refused: 0.1,
    };
    FleetPlan { seed, chances, ..kit::demo() }
}

fn journal(seed: u64) -> (Vec<u8>, usize) {
    let mut simulation = Plane::default().over(&troubled(seed));
    for module in ["relieve-hot-host", "restart-crashed", "keep-apart"] {
        kit::act(&mut simulation, kit::shipped(module));
    }
    simulation.run_for(Span::minutes(10)).expect("no store, no error");
    let done = simulation.manager(0).actions().filter(|action| action.state == ActionState::Done).count();
    (simulation.plane(0).journal().to_vec(), done)
}

/// Each is adopted, which counts as an action.
fn simulated_guests() -> usize {
    kit::demo().guests.iter().map(|guests| guests.count as usize).sum()
}

fn lines(journal: &[u8]) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    journal.split(|byte| *byte == b'\n').map(String::from_utf8_lossy)
}

#[test]
fn twenty_seeds_with_faults_write_the_same_journal_twice() {
    let (mut journals, mut acted) = (Vec::new(), 0);
    for seed in 1..=20 {
        let ((first, done), (second, _)) = (journal(seed), journal(seed));
        if let Some((one, other)) = lines(&first).zip(lines(&second)).find(|(one, other)| one != other) {
            panic!("seed {seed}: two runs differ:\n{one}\n{other}");
        }
        assert_eq!(first.len(), second.len(), "seed {seed}: one journal goes on longer");
        acted += done.saturating_sub(simulated_guests());
        journals.push(first);
    }
    assert!(acted > 60, "beyond adopting its guests the planes did only {acted} things, so little was compared");
    journals.dedup();
    assert_eq!(journals.len(), 20, "other seeds must lead to other journals");
}
