//! Traces: the way from an event to the action it led to, for a collector that takes OTLP (`traces` in `plane.yaml`).
//!
//! ```text
//! event -> step of an embot -> plan (or refusal) -> action: waits for its effector, is carried out
//! ```
//! Spans are made outside of the manager, from the batches that it has committed, and their ids from the numbers of events and
//! actions: the manager knows nothing of them, and the same journal gives the same traces. A collector that is away costs
//! nothing but spans: what does not fit in a bounded buffer is given up and counted.

mod send;
mod spans;

pub use send::Collector;
pub use spans::{Span, Weaver};

use crate::api::metrics::Metrics;
use crate::clock::Clock;
use crate::manager::Handle;
use crate::model::Batch;
use std::sync::Arc;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::mpsc;

/// Spans that may wait for the collector.
const BUFFER: usize = 4_096;

/// Follows the manager, from this call on, and sends what happens to the collector, until the manager is gone.
pub fn keep(handle: Handle, collector: Collector, metrics: Metrics, clock: Arc<dyn Clock>) -> impl Future<Output = ()> + Send {
    let batches = handle.follow();
    pass_on(handle, batches, collector, metrics, clock)
}

async fn pass_on(
    handle: Handle,
    mut batches: Receiver<Arc<Batch>>,
    collector: Collector,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
) {
    // Asked after subscribing, so that no action falls between.
    let known = handle.ask(|manager| (manager.world().plane.clone(), manager.open().cloned().collect::<Vec<_>>()));
    let Ok((plane, open)) = known.await else { return };
    let mut weaver = Weaver::new(&plane, &open);
    let (sender, receiver) = mpsc::channel(BUFFER);
    let sending = tokio::spawn(send::run(collector, plane, receiver, metrics.clone()));
    loop {
        match batches.recv().await {
            Ok(batch) => {
                let spans = weaver.weave(&batch, clock.now());
                let lost = spans.into_iter().filter_map(|span| sender.try_send(span).err()).count();
                metrics.spans(0, lost as u64);
            }
            // What those batches would have told is not known; the plane goes first.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => break,
        }
    }
    drop(sender);
    // What waits is sent, where the collector takes it soon.
    sending.await.ok();
}
