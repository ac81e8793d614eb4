//! What belongs to the account rather than to a record: owners and the deal pipelines with their stages.
//! Fixed when the simulator starts.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::vocabulary::{FIRST_NAMES, LAST_NAMES};
use crate::random::Random;

/// A user who owns records.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) id: u64,
    pub(super) email: String,
    pub(super) first_name: String,
    pub(super) last_name: String,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) archived: bool,
    team: Option<(u64, &'static str)>,
}

impl Owner {
    /// As the owners API shows it (developers.hubspot.com, owners guide).
    pub(super) fn json(&self) -> Value {
        let user_id = self.id / 4;
        let mut shown = json!({
            "id": self.id.to_string(),
            "email": self.email,
            "type": "PERSON",
            "firstName": self.first_name,
            "lastName": self.last_name,
            "userId": if self.archived { Value::Null } else { json!(user_id) },
            "userIdIncludingInactive": user_id,
            "createdAt": self.created_at.to_string(),
            "updatedAt": self.updated_at.to_string(),
            "archived": self.archived,
        });
        if let Some((id, name)) = self.team {
            shown["teams"] = json!([{"id": id.to_string(), "name": name, "primary": true}]);
        }
        shown
    }
}

/// A stage of a deal pipeline.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub(super) id: &'static str,
    pub(super) label: &'static str,
    /// Percent; 100 = won, 0 with `closed` = lost.
    pub(super) probability: &'static str,
    pub(super) closed: bool,
}

/// A deal pipeline.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) id: &'static str,
    pub(super) label: &'static str,
    pub(super) stages: &'static [Stage],
}

const fn stage(id: &'static str, label: &'static str, probability: &'static str, closed: bool) -> Stage {
    Stage { id, label, probability, closed }
}

/// The vendor's default pipeline (its internal ids as in the pipelines guide) and one made by a user, with numeric ids.
pub(super) const PIPELINES: &[Pipeline] = &[
    Pipeline {
        id: "default",
        label: "Sales Pipeline",
        stages: &[
            stage("appointmentscheduled", "Appointment Scheduled", "0.2", false),
            stage("qualifiedtobuy", "Qualified To Buy", "0.4", false),
            stage("presentationscheduled", "Presentation Scheduled", "0.6", false),
            stage("decisionmakerboughtin", "Decision Maker Bought-In", "0.8", false),
            stage("contractsent", "Contract Sent", "0.9", false),
            stage("closedwon", "Closed Won", "1.0", true),
            stage("closedlost", "Closed Lost", "0.0", true),
        ],
    },
    Pipeline {
        id: "84213907",
        label: "Partner Pipeline 🤝",
        stages: &[
            stage("161834711", "Erstgespräch", "0.1", false),
            stage("161834712", "Negotiation, 2nd round", "0.65", false),
            stage("161834713", "Won", "1.0", true),
            stage("161834714", "Lost", "0.0", true),
        ],
    },
];

/// Pipelines have no time of change of their own here: set up long ago, never changed.
pub(super) const PIPELINES_CREATED_AT: &str = "2019-03-04T10:00:00Z";
/// As above.
pub(super) const PIPELINES_UPDATED_AT: &str = "2024-06-11T08:30:00Z";

impl Pipeline {
    /// As the pipelines API shows it.
    pub(super) fn json(&self) -> Value {
        let stages: Vec<_> = self
            .stages
            .iter()
            .enumerate()
            .map(|(order, stage)| {
                json!({
                    "id": stage.id,
                    "label": stage.label,
                    "displayOrder": order,
                    "metadata": {"isClosed": stage.closed.to_string(), "probability": stage.probability},
                    "createdAt": PIPELINES_CREATED_AT,
                    "updatedAt": PIPELINES_UPDATED_AT,
                    "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT",
                    "archived": false,
                })
            })
            .collect();
        json!({
            "id": self.id,
            "label": self.label,
            "displayOrder": usize::from(self.id != PIPELINES[0].id),
            "stages": stages,
            "createdAt": PIPELINES_CREATED_AT,
            "updatedAt": PIPELINES_UPDATED_AT,
            "archived": false,
        })
    }
}

/// The owners of an account with so many records: one for 400, at least three, one in ten archived.
pub(super) fn owners(seed: u64, records: u32, anchor: Timestamp) -> Vec<Owner> {
    const TEAMS: &[(u64, &str)] = &[(3001, "Enterprise"), (3002, "Équipe France"), (3003, "SMB \"inbound\"")];
    let count = u64::from(records / 400).clamp(3, 500);
    (0..count)
        .map(|index| {
            let mut random = Random::of(&[seed, 99, index]);
            let created = anchor.as_millisecond() - 1_000 * i64::try_from(random.below(150_000_000)).unwrap_or(0);
            let created_at = Timestamp::from_millisecond(created).expect("within five years of the anchor");
            let updated = created + i64::try_from(random.below(86_400_000)).unwrap_or(0);
            Owner {
                id: 41_629_000 + 13 * index,
                email: format!("owner.{index}@crm.example"),
                first_name: (*random.pick(FIRST_NAMES)).to_owned(),
                last_name: if random.chance(50) { String::new() } else { (*random.pick(LAST_NAMES)).to_owned() },
                created_at,
                updated_at: Timestamp::from_millisecond(updated.min(anchor.as_millisecond())).unwrap_or(created_at),
                archived: index % 10 == 2,
                team: (!random.chance(300)).then(|| *random.pick(TEAMS)),
            }
        })
        .collect()
}
