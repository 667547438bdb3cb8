//! What the plane itself has to tell admins: notices of the manager, and embots that were suspended.

use crate::effectors::{Notification, Notifiers};
use crate::manager::Handle;
use crate::model::{Batch, Level, Record};
use std::io;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;

/// Passes on what becomes durable, until the manager has stopped.
pub(super) fn pass_on(handle: &Handle, notifiers: Arc<Notifiers>) -> io::Result<()> {
    let mut batches = handle.follow();
    let told = move || {
        loop {
            match batches.blocking_recv() {
                Ok(batch) => tell(&batch, &notifiers),
                Err(RecvError::Lagged(batches)) => {
                    tracing::warn!("{batches} batches passed too fast to tell admins of them; `embot events` has them")
                }
                Err(RecvError::Closed) => return,
            }
        }
    };
    std::thread::Builder::new().name("notices".into()).spawn(told).map(drop)
}

fn tell(batch: &Batch, notifiers: &Notifiers) {
    for (index, record) in batch.records.iter().enumerate() {
        let (level, text, embot) = match record {
            Record::Notice { level, text } => (*level, text.clone(), None),
            Record::Fault { embot, error, suspended: true, .. } => {
                let text = format!(
                    "embot {embot} is suspended after repeated faults: {error}. Mend the policy, or `embot unsuspend {embot}`"
                );
                (Level::Alarm, text, Some(embot))
            }
            _ => continue,
        };
        let key = format!("{}.{index}", batch.seq);
        notifiers.announce(&Notification { key, action: None, level, text: &text, embot });
    }
}
