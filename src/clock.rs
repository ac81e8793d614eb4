//! The only caller of the system clock; `clippy.toml` bans it elsewhere.
//! Workflow code must not come here: it has `ctx.workflow_time()`.

use jiff::Timestamp;

/// The wall-clock time of this process.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
