//! What may happen to one call, and the errors that tell of it. A store knows no conflict and no limit of its own: there
//! such answers are what its database would say.

use std::time::Duration;

use super::State;
use crate::{
    error_class::Class,
    operator::{
        error::{Dependency, Error},
        world::Request,
    },
    store, temporal,
};

/// What happens to the n-th call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::operator) enum Fault {
    /// It never arrives: 500, 503, a refused connection.
    Lost(usize),
    /// It has its effect, its answer is lost.
    AnswerLost(usize),
    /// 409: somebody else was faster.
    Conflict(usize),
    /// 429.
    RateLimited(usize),
    /// The process dies before it is sent.
    CrashBefore(usize),
    /// The process dies once it had its effect.
    CrashAfter(usize),
}

impl Fault {
    /// Every fault at the n-th call.
    pub(in crate::operator) fn all_at(at: usize) -> [Self; 6] {
        [
            Self::Lost(at),
            Self::AnswerLost(at),
            Self::Conflict(at),
            Self::RateLimited(at),
            Self::CrashBefore(at),
            Self::CrashAfter(at),
        ]
    }

    /// The number of its call.
    pub(in crate::operator) fn at(self) -> usize {
        let (Self::Lost(at)
        | Self::AnswerLost(at)
        | Self::Conflict(at)
        | Self::RateLimited(at)
        | Self::CrashBefore(at)
        | Self::CrashAfter(at)) = self;
        at
    }
}

impl State {
    /// Counts a call; what happens to it.
    pub(super) fn arrives(&mut self, request: &Request) -> Option<Fault> {
        let number = self.calls.len();
        self.calls.push(name(request));
        if let Some((_, act)) = self.meanwhile.filter(|(at, _)| *at == number) {
            act(self);
        }
        self.faults.iter().copied().find(|fault| fault.at() == number)
    }
}

/// The variant's name.
fn name(request: &Request) -> String {
    let whole = format!("{request:?}");
    whole.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

pub(super) fn not_leader() -> Error {
    Error::Store(store::Error::NotLeader)
}

pub(in crate::operator) fn outage(request: &Request) -> Error {
    unavailable(request, "lost")
}

fn unavailable(request: &Request, code: &str) -> Error {
    let code = code.to_owned();
    match request.dependency() {
        Dependency::Store => Error::Store(store::Error::Unavailable { attempted: "answer", code }),
        Dependency::Temporal => Error::Temporal(temporal::Error::Unavailable { attempted: "answer", code }),
        Dependency::Kubernetes => Error::deadline("answer"),
    }
}

pub(in crate::operator) fn conflict(request: &Request) -> Error {
    match request.dependency() {
        // serialization_failure: two transactions met.
        Dependency::Store => unavailable(request, "40001"),
        Dependency::Temporal => {
            Error::Temporal(temporal::Error::Conflict { attempted: "answer", code: "FailedPrecondition".to_owned() })
        }
        Dependency::Kubernetes => status("409 Conflict", Class::Conflict),
    }
}

pub(in crate::operator) fn rate_limit(request: &Request) -> Error {
    match request.dependency() {
        // too_many_connections.
        Dependency::Store => unavailable(request, "53300"),
        Dependency::Temporal => Error::Temporal(temporal::Error::RateLimited { attempted: "answer" }),
        Dependency::Kubernetes => status("429 TooManyRequests", Class::RateLimited(Duration::from_secs(2))),
    }
}

/// An answer of the API server.
pub(super) fn status(code: &str, class: Class) -> Error {
    Error::Kubernetes { attempted: "answer", code: code.to_owned(), class }
}
