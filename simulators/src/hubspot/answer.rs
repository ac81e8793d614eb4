//! An answer of the simulated API before it becomes HTTP, and the vendor's error bodies.
//! Shapes: developers.hubspot.com "Error handling" and "API usage guidelines", and the models of `hubspot-api-client` 12.

use axum::http::StatusCode;
use serde_json::{Value, json};

/// What a handler answers.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(&'static str, String)>,
    /// `None` = no content.
    pub(super) body: Option<Value>,
}

impl Answer {
    pub(super) fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body: Some(body) }
    }

    pub(super) fn with_status(status: StatusCode, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Some(body) }
    }

    pub(super) fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: None }
    }

    /// An error in the vendor's shape.
    pub(super) fn error(status: StatusCode, category: &str, message: impl Into<String>) -> Self {
        let body = json!({
            "status": "error",
            "message": message.into(),
            "correlationId": CORRELATION_ID,
            "category": category,
        });
        Self::with_status(status, body)
    }

    pub(super) fn with(mut self, field: &str, value: Value) -> Self {
        if let Some(Value::Object(body)) = &mut self.body {
            body.insert(field.to_owned(), value);
        }
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One id for all errors: answers are a function of the state and the request.
pub(super) const CORRELATION_ID: &str = "7a1e5c0e-5111-4a70-b0b5-c0ffee000000";

/// 400 with one message.
pub(super) fn invalid(message: impl Into<String>) -> Answer {
    Answer::error(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
}

/// 400 for a property: the message holds JSON as text, as the vendor's does.
pub(super) fn invalid_property(name: &str, code: &str, what: &str) -> Answer {
    let detail = json!([{"isValid": false, "message": what, "error": code, "name": name}]);
    invalid(format!("Property values were not valid: {detail}"))
        .with("errors", json!([{"message": what, "code": code, "context": {"propertyName": [name]}}]))
}

/// 404 for a record.
pub(super) fn not_found() -> Answer {
    Answer::error(StatusCode::NOT_FOUND, "OBJECT_NOT_FOUND", "Object not found.  objectId are usually numeric.")
}

/// 404 for a path, where the vendor answers HTML.
pub(super) fn no_such_path() -> Answer {
    Answer::error(StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND", "Unable to infer object type or resource from the path.")
}

/// 401; `expired` tells an old token from an unknown one.
pub(super) fn unauthorised(expired: bool) -> Answer {
    if expired {
        return Answer::error(
            StatusCode::UNAUTHORIZED,
            "EXPIRED_AUTHENTICATION",
            "The OAuth token used to make this call expired.",
        );
    }
    Answer::error(
        StatusCode::UNAUTHORIZED,
        "INVALID_AUTHENTICATION",
        "Authentication credentials not found. This API supports OAuth 2.0 authentication.",
    )
}

/// 403 for a scope that the token lacks.
pub(super) fn missing_scope(scope: &str) -> Answer {
    Answer::error(
        StatusCode::FORBIDDEN,
        "MISSING_SCOPES",
        "This app hasn't been granted all required scopes to make this call.",
    )
    .with(
        "errors",
        json!([{
            "message": "One or more of the following scopes are required.",
            "context": {"requiredGranularScopes": [scope]},
        }]),
    )
}

/// 429 under a policy; `Retry-After` is not always sent.
pub(super) fn rate_limited(policy: &str, retry_after_seconds: Option<u32>) -> Answer {
    let answer = Answer::error(
        StatusCode::TOO_MANY_REQUESTS,
        "RATE_LIMITS",
        format!("You have reached your {} limit.", policy.to_ascii_lowercase()),
    )
    .with("errorType", json!("RATE_LIMIT"))
    .with("policyName", json!(policy));
    match retry_after_seconds {
        Some(seconds) => answer.header("retry-after", seconds.to_string()),
        None => answer,
    }
}
