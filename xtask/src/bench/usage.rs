//! What processes cost, read from /proc: CPU time and resident memory. Linux only; measures, decides nothing.

use std::{fs, time::Duration};

/// Ticks a second in /proc: `USER_HZ`, 100 on every architecture Linux builds we run have.
const TICKS_PER_SECOND: u64 = 100;

/// The fields of `/proc/{pid}/stat` that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    group: u32,
    own_ticks: u64,
    /// Of children that ended and were waited for.
    reaped_ticks: u64,
}

/// Parses the text of a `stat` file; the name in brackets may hold anything.
fn parse(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        group: u32::try_from(number(2)?).ok()?,
        own_ticks: number(11)? + number(12)?,
        reaped_ticks: number(13)? + number(14)?,
    })
}

fn stat(process: &str) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// Every process of the machine at this moment.
fn all() -> impl Iterator<Item = (u32, Stat)> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((id, stat(&id.to_string())?))
    })
}

fn time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

/// CPU time of a process and of the children it waited for.
pub(crate) fn of_process(id: u32) -> Duration {
    stat(&id.to_string()).map_or(Duration::ZERO, |it| time(it.own_ticks + it.reaped_ticks))
}

/// CPU time of a server whose children serve: PostgreSQL.
pub(crate) fn of_family(id: u32) -> Duration {
    let children = all().filter(|(_, it)| it.parent == id).map(|(_, it)| time(it.own_ticks + it.reaped_ticks));
    of_process(id) + children.sum::<Duration>()
}

/// CPU time of all our children that ended, with theirs.
pub(crate) fn of_ended_children() -> Duration {
    stat("self").map_or(Duration::ZERO, |it| time(it.reaped_ticks))
}

/// Our own CPU time.
pub(crate) fn of_ourselves() -> Duration {
    stat("self").map_or(Duration::ZERO, |it| time(it.own_ticks))
}

/// Resident memory of a process group now, in KiB.
pub(crate) fn group_resident_kib(group: u32) -> u64 {
    all().filter(|(_, it)| it.group == group).map(|(id, _)| memory(id, "VmRSS")).sum()
}

/// Resident memory of a process now, in KiB.
pub(crate) fn resident_kib(id: u32) -> u64 {
    memory(id, "VmRSS")
}

/// The most resident memory a process had since [`forget_peak`], in KiB.
pub(crate) fn peak_kib(id: u32) -> u64 {
    memory(id, "VmHWM")
}

/// Lets the peak begin anew at what is resident now (proc(5), `clear_refs`).
pub(crate) fn forget_peak(id: u32) {
    let _kernel_without_it = fs::write(format!("/proc/{id}/clear_refs"), "5");
}

fn memory(id: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|it| it.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_move_the_fields() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 10 5 20 0 3 0 100 1 2";
        let wanted = Stat { parent: 7, group: 42, own_ticks: 200, reaped_ticks: 15 };
        assert_eq!(parse(text), Some(wanted));
        assert_eq!(time(200), Duration::from_secs(2));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn our_own_process_has_memory_and_a_parent() {
        let id = std::process::id();
        assert!(resident_kib(id) > 0 && peak_kib(id) >= resident_kib(id) / 2);
        assert!(stat("self").is_some_and(|it| it.parent > 0));
    }
}
