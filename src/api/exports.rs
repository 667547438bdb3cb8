//! Answers that are written bit by bit, by threads that may block: how many there may be at once, so that nobody takes them all.

use super::caller::Caller;
use super::error::ApiError;
use axum::http::StatusCode;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// At once, in all.
const ALL: usize = 32;
/// At once, by one caller.
const PER_CALLER: usize = 4;

/// Those that are being written.
#[derive(Debug, Default)]
pub(super) struct Exports(Mutex<BTreeMap<Arc<str>, usize>>);

/// One counts as long as this lives.
#[derive(Debug)]
pub(super) struct Export {
    exports: Arc<Exports>,
    by: Arc<str>,
}

impl Exports {
    /// Room for one more, or why there is none.
    pub(super) fn take(self: &Arc<Exports>, by: &Caller) -> Result<Export, ApiError> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.get(&by.name).is_some_and(|own| *own >= PER_CALLER) {
            let error = format!("{} reads {PER_CALLER} exports or backups already, which is the most at once", by.name);
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, error).with_hint("read those to their end, or close them"));
        }
        if taken.values().sum::<usize>() >= ALL {
            let error = format!("{ALL} exports and backups are being read already, which is the most at once");
            return Err(ApiError::unavailable(error).with_hint("try again later"));
        }
        *taken.entry(by.name.clone()).or_default() += 1;
        Ok(Export { exports: self.clone(), by: by.name.clone() })
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        let mut taken = self.exports.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.by) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::caller::Role;

    #[test]
    fn one_caller_has_a_few_and_all_together_have_more() {
        let exports = Arc::new(Exports::default());
        let caller = |number: usize| Caller { name: format!("token:{number}").into(), role: Role::Viewer };
        let said =
            |result: Result<Export, ApiError>| result.map(drop).map_err(|error| (error.status.as_u16(), error.problem.error));
        let mut taken: Vec<Export> = (0..PER_CALLER).map(|_| exports.take(&caller(0)).unwrap()).collect();
        assert!(matches!(said(exports.take(&caller(0))), Err((429, text)) if text.starts_with("token:0 reads 4")));
        taken.extend((PER_CALLER..ALL).map(|number| exports.take(&caller(number)).unwrap()));
        assert!(matches!(said(exports.take(&caller(ALL))), Err((503, _))));
        drop(taken.pop());
        assert_eq!(said(exports.take(&caller(ALL))), Ok(()));
        taken.clear();
        assert!(exports.0.lock().unwrap().is_empty(), "nothing stays behind");
    }
}
