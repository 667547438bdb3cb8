//! How long a day in the compatibility world takes: `cargo bench --bench cloudsim`.
//!
//! The day is made up from a seed, as large as the smallest of the published ones: 1,052 guests. The policies are the native
//! ones, which is the floor for those in scripts.

use embot::simulate::cloudsim::native::Reference;
use embot::simulate::traces::Traces;
use std::sync::Arc;

fn main() {
    divan::main();
}

#[divan::bench(args = ["Dvfs", "ThrMmt", "IqrMmt", "MadMmt", "LrMmt", "ThrMu"], sample_count = 10)]
fn day(bencher: divan::Bencher, policy: &str) {
    let traces = Arc::new(Traces::made_up(1_052, 7));
    let Some(reference) = Reference::named(policy) else { return };
    if let Ok(figures) = reference.run(&traces) {
        println!("{policy}: {:.1} kWh, {} migrations", figures.energy_kwh, figures.migrations);
    }
    bencher.bench_local(|| reference.run(&traces));
}
