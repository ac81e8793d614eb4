//! Pages of lists, rendered once: what makes a simulator cheap enough to be a benchmark's source. Knows nothing of records.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{body::Bytes, http::StatusCode};

use super::{account::Served, request::Request};

/// The pages kept so far, by path and parameters in any order.
#[derive(Debug, Clone, Default)]
pub(super) struct KeptPages(Arc<Mutex<HashMap<String, Bytes>>>);

impl KeptPages {
    /// The page of an earlier request for the same.
    pub(super) fn get(&self, request: &Request) -> Option<Bytes> {
        let key = key(request)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Keeps an answer, if it is a page of a list and no fault touched it.
    pub(super) fn keep(&self, request: &Request, served: &Served) {
        let Some(key) = key(request) else { return };
        let Some(body) = served.answer.body.as_ref().filter(|_| served.answer.status == StatusCode::OK) else { return };
        if served.transport.is_none() {
            let page = Bytes::from(body.to_string());
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, page);
        }
    }
}

/// Lists of objects only: everything else may change or is read seldom.
fn key(request: &Request) -> Option<String> {
    if request.method != "GET" || !request.path.starts_with("/crm/objects/") {
        return None;
    }
    let mut parameters: Vec<String> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    parameters.sort_unstable();
    Some(format!("{}?{}", request.path, parameters.join("&")))
}
