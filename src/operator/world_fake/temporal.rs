//! Temporal in the fake world: schedules with memo, conflict token and updates that are applied in the server's own time,
//! and workflows by id. Ticks are not played.

use jiff::SignedDuration;

use super::State;
use crate::{
    error_class::Class,
    operator::{cron::minutes_of_day, error::Error, schedule::tests::seen, world::StartWorkflow},
    temporal::{
        self, StartOutcome,
        client::IdReuse,
        schedules::{Backfill, ListedSchedule, RecentRun, ScheduleUpdate, SeenSchedule, WantedSchedule},
    },
};

/// An update that the server has taken and not yet applied.
#[derive(Debug)]
pub(in crate::operator) struct Waiting {
    update: ScheduleUpdate,
    /// Marks the schedule as left.
    leaves: bool,
    descriptions: usize,
}

impl State {
    pub(super) fn describe(&mut self, id: &str) -> Option<SeenSchedule> {
        let due = |waiting: &mut Waiting| {
            let due = waiting.update.id == id && waiting.descriptions == 0;
            waiting.descriptions = waiting.descriptions.saturating_sub(usize::from(waiting.update.id == id));
            due
        };
        let due: Vec<_> = self.updates.extract_if(.., due).collect();
        due.into_iter().for_each(|waiting| self.take_effect(waiting));
        self.schedules.get(id).cloned()
    }

    pub(super) fn delete_schedule(&mut self, id: &str) {
        if self.schedules.remove(id).is_some() {
            *self.deletions.entry(id.to_owned()).or_default() += 1;
        }
        self.updates.retain(|waiting| waiting.update.id != id);
    }

    /// Time has passed: nothing waits any more.
    pub(in crate::operator) fn apply_updates(&mut self) {
        let due = std::mem::take(&mut self.updates);
        due.into_iter().for_each(|waiting| self.take_effect(waiting));
    }

    pub(super) fn create_schedule(&mut self, wanted: &WantedSchedule) -> Result<StartOutcome, Error> {
        accepted("create a schedule", wanted)?;
        if self.schedules.contains_key(&wanted.id) {
            return Ok(StartOutcome::AlreadyStarted);
        }
        self.crons.insert(wanted.hash(), wanted.crons.join(", "));
        let created = SeenSchedule { next_run: Some(self.next_tick), ..seen(wanted) };
        self.schedules.insert(wanted.id.clone(), created);
        Ok(StartOutcome::Started)
    }

    pub(super) fn update(&mut self, update: ScheduleUpdate) -> Result<(), Error> {
        let attempted = "update a schedule";
        let Some(schedule) = self.schedules.get(&update.id) else {
            return Err(Error::Temporal(temporal::Error::NotFound { attempted }));
        };
        match &update.content {
            // As `Temporal::update_schedule` does it, which looks before it writes what it saw.
            None if !update.is_of(schedule) => {
                let code = "token".to_owned();
                return Err(Error::Temporal(temporal::Error::Conflict { attempted, code }));
            }
            None => {}
            Some(wanted) => accepted(attempted, wanted)?,
        }
        self.write(update, false);
        Ok(())
    }

    fn write(&mut self, update: ScheduleUpdate, leaves: bool) {
        let waiting = Waiting { update, leaves, descriptions: self.update_lag };
        if self.update_lag == 0 {
            self.take_effect(waiting);
        } else {
            self.updates.push(waiting);
        }
    }

    /// As `Temporal::leave_schedule` does it: it looks before it writes, and the mark goes with the next write of a content.
    pub(super) fn leave_schedule(&mut self, id: &str, conflict_token: &[u8]) -> Result<(), Error> {
        let attempted = "update a schedule";
        let schedule = self.schedules.get(id).ok_or(Error::Temporal(temporal::Error::NotFound { attempted }))?;
        if schedule.conflict_token != conflict_token {
            return Err(Error::Temporal(temporal::Error::Conflict { attempted, code: "token".to_owned() }));
        }
        let (id, state, conflict_token) = (id.to_owned(), schedule.state.clone(), conflict_token.to_vec());
        self.write(ScheduleUpdate { id, content: None, state, conflict_token }, true);
        Ok(())
    }

    /// A server that forgets at once which requests it had is the worst of them.
    pub(super) fn backfill(&mut self, backfill: Backfill) -> Result<(), Error> {
        let attempted = "backfill a schedule";
        let schedule = self.schedules.get_mut(&backfill.schedule_id);
        let schedule = schedule.ok_or(Error::Temporal(temporal::Error::NotFound { attempted }))?;
        if self.knows_requests && self.backfills.iter().any(|known| known.request_id == backfill.request_id) {
            return Ok(());
        }
        // After the record of the wish: no two things happen at once.
        let started = self.now + SignedDuration::from_millis(1);
        schedule.recent.push(RecentRun { tick: backfill.from, started });
        self.backfills.push(backfill);
        Ok(())
    }

    pub(super) fn list_schedules(&self) -> Vec<ListedSchedule> {
        let listed = |(id, seen): (&String, &SeenSchedule)| ListedSchedule {
            id: id.clone(),
            owner: seen.owner.clone(),
            upcoming: seen.next_run.into_iter().filter(|_| !seen.state.paused).collect(),
        };
        self.schedules.iter().map(listed).collect()
    }

    /// A lost race is dropped without a word (sdk-rust#1157).
    fn take_effect(&mut self, Waiting { update, leaves, .. }: Waiting) {
        let Some(schedule) = self.schedules.get_mut(&update.id) else { return };
        if !update.is_of(schedule) {
            return;
        }
        if let Some(wanted) = &update.content {
            self.crons.insert(wanted.hash(), wanted.crons.join(", "));
            let before = schedule.clone();
            let SeenSchedule { last_run, running, missed_catch_up, overlap_skipped, .. } = before;
            *schedule = SeenSchedule {
                last_run,
                running,
                missed_catch_up,
                overlap_skipped,
                next_run: Some(self.next_tick),
                ..seen(wanted)
            };
            schedule.conflict_token = before.conflict_token;
        }
        schedule.state = update.state;
        schedule.left |= leaves;
        moved(schedule);
    }

    /// What a person does in the Web UI.
    pub(in crate::operator) fn edit_schedule(&mut self, id: &str, edit: impl FnOnce(&mut SeenSchedule)) {
        if let Some(schedule) = self.schedules.get_mut(id) {
            edit(schedule);
            moved(schedule);
        }
    }

    pub(super) fn start(&mut self, start: StartWorkflow) -> StartOutcome {
        let id = start.workflow_id.clone();
        let ended = match start.reuse {
            IdReuse::Once => self.workflows.contains(&id),
            IdReuse::UntilCompleted => self.completed.contains(&id),
            IdReuse::OneAtATime => false,
        };
        let taken = self.open.contains(&id) || ended;
        if taken {
            return StartOutcome::AlreadyStarted;
        }
        self.open.insert(id.clone());
        self.workflows.push(id);
        self.started.push(start);
        StartOutcome::Started
    }
}

impl ScheduleUpdate {
    /// Whether it knows the schedule as it is; without a token it need not.
    fn is_of(&self, schedule: &SeenSchedule) -> bool {
        self.conflict_token.is_empty() || self.conflict_token == schedule.conflict_token
    }
}

/// The token of a schedule that was written: a count, as in the real one.
fn moved(schedule: &mut SeenSchedule) {
    let token = schedule.conflict_token.iter().fold(0_u64, |token, byte| (token << 8) | u64::from(*byte));
    schedule.conflict_token = (token + 1).to_be_bytes().to_vec();
}

fn accepted(attempted: &'static str, wanted: &WantedSchedule) -> Result<(), Error> {
    let readable = wanted.crons.iter().all(|cron| minutes_of_day(cron).is_some());
    if readable && jiff::tz::TimeZone::get(&wanted.time_zone).is_ok() {
        return Ok(());
    }
    let error = temporal::Error::Refused { attempted, code: "InvalidArgument".to_owned() };
    debug_assert_eq!(error.class(), Class::Invalid);
    Err(Error::Temporal(error))
}
