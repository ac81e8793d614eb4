//! `cargo xtask histories`: records the workflow histories of `tests/histories` anew, from real runs on the dev server.
//! Which shapes there are and whether they replay is the test's business (`tests/it/replays`).

use crate::{backends::Stage, console, machine::Machine};

const RECORDER: &str = "replays::record::histories_recorded_now_replay_and_a_long_run_goes_on_as_a_new_execution";
const DIRECTORY: &str = "tests/histories";

/// Records every shape and replays it.
///
/// # Errors
/// When a run does not take the shape it should, or does not replay.
pub(crate) async fn run(machine: &Machine, yes: bool) -> anyhow::Result<()> {
    let stage = Stage::set(machine, yes, "histories").await?;
    let directory = machine.repository.join(DIRECTORY);
    let variables = [("GTM_TEST_HISTORIES", directory.display().to_string())];
    stage.play(RECORDER, &variables, |line| console::line(line)).await?;
    console::line(format_args!("recorded in {DIRECTORY}; commit them"));
    Ok(())
}
