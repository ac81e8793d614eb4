//! Workers lost at a connector's position: how often work there was begun and did not end (R44), and what follows from it.
//! Pure; the stores keep it beside the position, and the commit that moves the position forgets it.

use serde::{Deserialize, Serialize};

use crate::model::entity::Entity;

/// From so many starts without an end, work goes on alone: no other activity of the process beside it, one page, records
/// looked at one by one. They are three, because the first start of all is not counted: it must cost nothing.
const ALONE_FROM: u32 = 2;
/// From so many, six with the first one, what is alone already is given up.
const GIVEN_UP_FROM: u32 = 5;
/// From so many, a batch that kills even without its records is not begun any more.
const REFUSED_FROM: u32 = 8;
/// A record that killed so many workers, each alone with it, is left out.
const RECORD_GIVEN_UP_FROM: u32 = 3;
/// So many such records in one batch blame the batch: workers are not spent on every one of its records.
const MOST_RECORDS: usize = 5;

/// A record of a staged batch, by what it is known by wherever it is served.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordKey {
    /// Its table.
    pub entity: Entity,
    /// The vendor's id.
    pub source_id: String,
}

/// Starts without an end at the present position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Losses {
    /// Of fetching the batch at the position.
    pub reads: u32,
    /// Of writing it.
    pub writes: u32,
    /// Of writing one record of it alone, and which.
    pub record: Option<(RecordKey, u32)>,
    /// Records that killed too often: the commit of the position makes them dead letters.
    pub left_out: Vec<RecordKey>,
}

/// How the batch at the position is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// As always.
    Whole,
    /// First each record alone, to learn which one kills.
    OneByOne,
    /// No record of it: each becomes a dead letter.
    WithoutRecords,
    /// Not any more.
    Refused,
}

impl Losses {
    /// Nothing was lost here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Work is alone in its process: who dies then has nobody else to blame.
    #[must_use]
    pub fn alone(&self) -> bool {
        self.reads.max(self.writes) >= ALONE_FROM
    }

    /// What is read here is given up.
    #[must_use]
    pub fn reading_given_up(&self) -> bool {
        self.reads >= GIVEN_UP_FROM
    }

    /// How to write here.
    #[must_use]
    pub fn writing(&self) -> Writing {
        match self.writes {
            REFUSED_FROM.. => Writing::Refused,
            GIVEN_UP_FROM.. => Writing::WithoutRecords,
            ALONE_FROM.. if self.left_out.len() >= MOST_RECORDS => Writing::WithoutRecords,
            ALONE_FROM.. => Writing::OneByOne,
            _ => Writing::Whole,
        }
    }

    /// The record under suspicion, if it killed too often, is left out from now on.
    pub fn leave_out_killer(&mut self) {
        let killer = self.record.take_if(|(_, starts)| *starts >= RECORD_GIVEN_UP_FROM);
        self.left_out.extend(killer.map(|(key, _)| key));
    }

    /// One more start of this record alone.
    pub fn start_record(&mut self, key: &RecordKey) {
        match &mut self.record {
            Some((suspect, starts)) if suspect == key => *starts += 1,
            other => *other = Some((key.clone(), 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> RecordKey {
        RecordKey { entity: Entity::Contact, source_id: id.to_owned() }
    }

    #[test]
    fn starts_without_an_end_lead_from_alone_over_giving_up_to_an_end() {
        let read = |reads| Losses { reads, ..Losses::default() };
        assert_eq!([1, 2].map(|reads| read(reads).alone()), [false, true]);
        assert_eq!([4, 5].map(|reads| read(reads).reading_given_up()), [false, true]);
        let write = |writes| Losses { writes, ..Losses::default() };
        assert_eq!([1, 2].map(|writes| write(writes).alone()), [false, true]);
        use Writing::{OneByOne, Refused, Whole, WithoutRecords};
        let ways = [0, 1, 2, 4, 5, 7, 8, 99].map(|writes| write(writes).writing());
        assert_eq!(ways, [Whole, Whole, OneByOne, OneByOne, WithoutRecords, WithoutRecords, Refused, Refused]);
        let many = Losses { left_out: ["1", "2", "3", "4", "5"].map(key).into(), ..write(2) };
        assert_eq!(many.writing(), WithoutRecords, "not a worker for each of a batch's records");
    }

    #[test]
    fn a_record_is_left_out_after_three_starts_in_a_row_and_no_other_is() {
        let mut losses = Losses::default();
        for id in ["1", "2", "2", "1", "1"] {
            losses.start_record(&key(id));
            losses.leave_out_killer();
        }
        assert_eq!((&losses.record, losses.left_out.len()), (&Some((key("1"), 2)), 0), "2 ended in between");
        losses.start_record(&key("1"));
        losses.leave_out_killer();
        assert_eq!((losses.record, losses.left_out), (None, vec![key("1")]));
    }

    #[test]
    fn what_another_release_noted_is_read() {
        let noted = r#"{"reads":3,"record":[{"entity":"contact","sourceId":"7"},2],"later":true}"#;
        let losses: Losses = serde_json::from_str(noted).expect("readable");
        assert_eq!((losses.reads, losses.writes, losses.record), (3, 0, Some((key("7"), 2))));
    }
}
