//! Types of application failures: what a workflow reads from a failed activity. The message never holds data (R18).

/// A dependency is away: the workflow parks and schedules the same activity again (R2).
pub const UNAVAILABLE: &str = "Unavailable";
/// The activity's input is not what it needs; non-retryable.
pub const INVALID_INPUT: &str = "InvalidInput";
/// The fence refused: another run took over, or the place moved (R1); non-retryable, the next run goes on from the store.
pub const STALE_RUN: &str = "StaleRun";
/// A stopped, paused or deleted connector refused the commit (R30); non-retryable.
pub const STOPPED: &str = "Stopped";
/// The credential was refused; non-retryable.
pub const UNAUTHORISED: &str = "Unauthorised";
/// Configuration that only an edit mends: permission, unknown column, changed account; non-retryable.
pub const CONFIGURATION: &str = "Configuration";
/// Data or an unknown error: three attempts, then the batch is dead-lettered.
pub const REJECTED: &str = "Rejected";
/// More records were rejected than the Connector allows; non-retryable.
pub const TOO_MANY_REJECTED: &str = "TooManyRejected";
