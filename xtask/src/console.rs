//! What a person sees: lines, steps with their time, spinners on a terminal. It decides nothing.

use std::{fmt::Display, io::Write as _, sync::LazyLock, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// There is one terminal, and everything that moves on it must know of everything else.
static SCREEN: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Writes one line to standard output. A closed pipe is no reason to stop the clean-up that follows.
pub(crate) fn line(text: impl Display) {
    let _closed_pipe = SCREEN.suspend(|| writeln!(std::io::stdout().lock(), "{text}"));
}

/// Whether bars and spinners can be seen.
pub(crate) fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stdout())
}

/// Puts a bar on the screen, below those that are there.
pub(crate) fn show(bar: ProgressBar) -> ProgressBar {
    SCREEN.add(bar)
}

/// `1.4 s`, `75 s`, `12 min 05 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        whole @ 10..120 => format!("{whole} s"),
        whole => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

/// One step of the work; its end tells how long it took, and dropping it unfinished says so too.
pub(crate) struct Step {
    name: String,
    start: Instant,
    bar: Option<ProgressBar>,
    ended: bool,
}

/// Begins a step.
pub(crate) fn step(name: impl Into<String>) -> Step {
    let name = name.into();
    let bar = is_terminal().then(|| {
        let style = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})").expect("the template is a constant");
        let bar = show(ProgressBar::new_spinner().with_style(style).with_message(name.clone()));
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    });
    Step { name, start: Instant::now(), bar, ended: false }
}

impl Step {
    /// Ends the step well, with a short remark.
    pub(crate) fn done(mut self, remark: impl Display) {
        let remark = remark.to_string();
        let remark = if remark.is_empty() { remark } else { format!(": {remark}") };
        self.end(&format!("  ok   {}{remark}", self.name));
    }

    fn end(&mut self, text: &str) {
        self.ended = true;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        line(format!("{text} ({})", seconds(self.start.elapsed())));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.end(&format!("  stop {}", self.name));
        }
    }
}
