use std::sync::{Mutex, PoisonError};

use crate::Operation;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// 503 `SlowDown`; nothing is done.
    Unavailable,
    /// 200 with an error in the body, as S3 does when the work fails after the headers went out; nothing is done.
    ErrorInBody,
    /// 400; nothing is done. To a HEAD, whose answer has no body, it does not say why.
    BadRequest,
    /// It is done, and the connection ends without an answer.
    AnswerLost,
    /// Nothing is done, and no answer ever comes.
    Silence,
}

/// The faults that are still to come.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Planned>>);

#[derive(Debug)]
struct Planned {
    operation: Operation,
    before: u32,
    fault: Fault,
}

impl Faults {
    pub(crate) fn plan(&self, operation: Operation, nth: u32, fault: Fault) {
        let planned = Planned { operation, before: nth.saturating_sub(1), fault };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(planned);
    }

    /// What goes wrong with a request of this kind that comes now.
    pub(crate) fn next(&self, operation: Operation) -> Option<Fault> {
        let mut planned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = None;
        planned.retain_mut(|fault| {
            if fault.operation != operation {
                return true;
            }
            if let Some(before) = fault.before.checked_sub(1) {
                fault.before = before;
                return true;
            }
            if due.is_some() {
                return true;
            }
            due = Some(fault.fault);
            false
        });
        due
    }
}
