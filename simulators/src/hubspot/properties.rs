//! The seeded value of any property of any record.
//! A value is a function of (seed, type, index, name): nothing is kept in memory until a record is edited.

use super::{
    directory::{Owner, PIPELINES, Pipeline, Stage},
    kind::Kind,
    vocabulary as words,
};
use crate::random::Random;

/// Generates seeded values.
#[derive(Debug, Clone)]
pub(super) struct Generator {
    pub(super) seed: u64,
    pub(super) anchor_ms: i64,
    pub(super) owners: Vec<Owner>,
}

impl Generator {
    fn random(&self, kind: Kind, index: u32, name: &str) -> Random {
        let salt = name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        Random::of(&[self.seed, kind as u64, u64::from(index), salt])
    }

    /// The seeded value of a property that is not the system's; `None` = null.
    pub(super) fn value(&self, kind: Kind, index: u32, name: &str) -> Option<String> {
        if name == "hubspot_owner_id" {
            return self.owner(kind, index);
        }
        match kind {
            Kind::Companies => self.company(index, name),
            Kind::Contacts => self.contact(index, name),
            Kind::Deals => self.deal(index, name),
            _ => self.activity(kind, index, name),
        }
    }

    fn owner(&self, kind: Kind, index: u32) -> Option<String> {
        let mut random = self.random(kind, index, "hubspot_owner_id");
        match random.below(50) {
            0..4 => None,
            4 => Some(String::new()),
            _ => Some(random.pick(&self.owners).id.to_string()),
        }
    }

    /// Now and then a record repeats the names of the one before it.
    fn persona(&self, kind: Kind, index: u32) -> u32 {
        if index > 0 && self.random(kind, index, "persona").chance(40) { index - 1 } else { index }
    }

    fn company_name(&self, index: u32) -> String {
        let mut random = self.random(Kind::Companies, index, "name");
        let (stem, trade, form) =
            (random.pick(words::COMPANY_STEMS), random.pick(words::COMPANY_TRADES), random.pick(words::COMPANY_FORMS));
        match random.below(100) {
            0 => format!("{stem} {trade} ").repeat(40),
            1 => format!("  {} {} ", stem.to_uppercase(), trade),
            _ => format!("{stem} {trade} {form}").trim_end().to_owned(),
        }
    }

    fn company_domain(&self, index: u32) -> String {
        let mut random = self.random(Kind::Companies, index, "domain");
        let label: String = self
            .company_name(index)
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(20)
            .collect::<String>()
            .to_lowercase();
        format!("{label}{}.{}", index / 3, random.pick(words::TOP_LEVEL_DOMAINS))
    }

    fn company(&self, index: u32, name: &str) -> Option<String> {
        let mut random = self.random(Kind::Companies, index, name);
        let persona = self.persona(Kind::Companies, index);
        let (city, state, country) = *self.random(Kind::Companies, persona, "place").pick(words::CITIES);
        match name {
            "name" if random.chance(10) => None,
            "name" => Some(self.company_name(persona)),
            "domain" => sparse(&mut random, 60).map(|()| self.company_domain(persona)),
            "website" => sparse(&mut random, 200).map(|()| format!("https://www.{}/", self.company_domain(persona))),
            "industry" => sparse(&mut random, 150).map(|()| (*random.pick(words::INDUSTRIES)).to_owned()),
            "numberofemployees" => Some(random.below(20_000).to_string()).filter(|_| random.chance(800)),
            "annualrevenue" => money(&mut random),
            "phone" => phone(&mut random),
            "address" => {
                sparse(&mut random, 200).map(|()| format!("{} {}", random.pick(words::STREETS), random.below(300)))
            }
            "city" => Some(city.to_owned()),
            "state" => Some(state.to_owned()),
            "zip" => sparse(&mut random, 100).map(|()| format!("{:05}", random.below(100_000))),
            "country" => Some(country.to_owned()),
            "type" => sparse(&mut random, 500).map(|()| (*random.pick(&["PROSPECT", "PARTNER", "VENDOR"])).to_owned()),
            "lifecyclestage" => Some((*random.pick(words::LIFECYCLE_STAGES)).to_owned()),
            "description" => sparse(&mut random, 700).map(|()| text(&mut random, 12)),
            "notes_last_updated" => sparse(&mut random, 400).map(|()| self.moment(&mut random)),
            _ => None,
        }
    }

    fn contact(&self, index: u32, name: &str) -> Option<String> {
        let mut random = self.random(Kind::Contacts, index, name);
        let persona = self.persona(Kind::Contacts, index);
        let part = |list: &[&'static str], salt| *self.random(Kind::Contacts, persona, salt).pick(list);
        match name {
            "firstname" => sparse(&mut random, 30).map(|()| part(words::FIRST_NAMES, "firstname").to_owned()),
            "lastname" => sparse(&mut random, 30).map(|()| part(words::LAST_NAMES, "lastname").to_owned()),
            // Unique, as the vendor demands; one in fifty has none.
            "email" => sparse(&mut random, 20)
                .map(|()| format!("person.{index}+{}@mail{}.example", random.below(9), index % 97)),
            "jobtitle" => sparse(&mut random, 250).map(|()| (*random.pick(words::JOB_TITLES)).to_owned()),
            "company" => sparse(&mut random, 400).map(|()| self.company_name(index / 3)),
            "phone" | "mobilephone" => phone(&mut random),
            "lifecyclestage" => Some((*random.pick(words::LIFECYCLE_STAGES)).to_owned()),
            "hs_lead_status" => sparse(&mut random, 600).map(|()| (*random.pick(words::LEAD_STATUSES)).to_owned()),
            "hs_analytics_source" => Some((*random.pick(words::ORIGINS)).to_owned()),
            "hs_email_optout" => sparse(&mut random, 700).map(|()| random.chance(300).to_string()),
            "notes_last_updated" => sparse(&mut random, 400).map(|()| self.moment(&mut random)),
            _ => None,
        }
    }

    fn deal_stage(&self, index: u32) -> (&'static Pipeline, &'static Stage) {
        let mut random = self.random(Kind::Deals, index, "dealstage");
        let pipeline = &PIPELINES[usize::from(random.chance(250))];
        (pipeline, random.pick(pipeline.stages))
    }

    fn deal(&self, index: u32, name: &str) -> Option<String> {
        let mut random = self.random(Kind::Deals, index, name);
        let (pipeline, stage) = self.deal_stage(index);
        match name {
            "dealname" => {
                Some(format!("{} – {}", self.company_name(index / 2).trim(), random.pick(words::DEAL_TOPICS)))
            }
            "amount" => money(&mut random),
            "deal_currency_code" => {
                sparse(&mut random, 200).map(|()| (*random.pick(&["EUR", "USD", "JPY"])).to_owned())
            }
            "closedate" => match random.below(60) {
                0 => Some("1970-01-01T00:00:00Z".to_owned()),
                1 => Some("2099-12-31T23:59:59.999Z".to_owned()),
                2..5 => None,
                _ => Some(self.moment(&mut random)),
            },
            "dealstage" => Some(stage.id.to_owned()),
            "pipeline" => Some(pipeline.id.to_owned()),
            "dealtype" => {
                sparse(&mut random, 300).map(|()| (*random.pick(&["newbusiness", "existingbusiness"])).to_owned())
            }
            "description" => sparse(&mut random, 600).map(|()| text(&mut random, 20)),
            "hs_analytics_source" => Some((*random.pick(words::ORIGINS)).to_owned()),
            "hs_manual_forecast_category" => {
                sparse(&mut random, 500).map(|()| (*random.pick(&["OMIT", "PIPELINE", "COMMIT"])).to_owned())
            }
            _ => None,
        }
    }

    fn activity(&self, kind: Kind, index: u32, name: &str) -> Option<String> {
        let mut random = self.random(kind, index, name);
        let subject = |random: &mut Random| Some((*random.pick(words::SUBJECTS)).to_owned());
        match name {
            "hs_call_title" | "hs_email_subject" | "hs_meeting_title" | "hs_task_subject" => {
                sparse(&mut random, 60).and_then(|()| subject(&mut random))
            }
            "hs_note_body" => Some(body(&mut random)),
            "hs_call_body" | "hs_email_text" | "hs_meeting_body" | "hs_task_body" => {
                sparse(&mut random, 300).map(|()| body(&mut random))
            }
            "hs_timestamp" => Some(self.moment_of(kind, index)),
            "hs_meeting_start_time" => Some(self.moment_of(kind, index)),
            "hs_meeting_end_time" => sparse(&mut random, 100).map(|()| self.moment_of(kind, index)),
            "hs_call_direction" => {
                sparse(&mut random, 200).map(|()| (*random.pick(&["INBOUND", "OUTBOUND"])).to_owned())
            }
            "hs_email_direction" => Some((*random.pick(&["EMAIL", "INCOMING_EMAIL", "FORWARDED_EMAIL"])).to_owned()),
            "hs_call_duration" => Some(random.below(3_600_000).to_string()).filter(|_| random.chance(850)),
            "hs_call_status" => Some((*random.pick(&["COMPLETED", "NO_ANSWER", "BUSY"])).to_owned()),
            "hs_email_status" => Some((*random.pick(&["SENT", "BOUNCED", "SCHEDULED"])).to_owned()),
            "hs_meeting_outcome" => {
                sparse(&mut random, 200).map(|()| (*random.pick(&["SCHEDULED", "COMPLETED", "CANCELED"])).to_owned())
            }
            "hs_task_status" => Some((*random.pick(&["NOT_STARTED", "COMPLETED", "DEFERRED"])).to_owned()),
            "hs_task_priority" => Some((*random.pick(&["NONE", "LOW", "HIGH"])).to_owned()),
            "hs_task_type" => Some((*random.pick(&["TODO", "CALL", "EMAIL"])).to_owned()),
            _ => None,
        }
    }

    fn moment_of(&self, kind: Kind, index: u32) -> String {
        self.moment(&mut self.random(kind, index, "hs_timestamp"))
    }

    /// A time within three years around the anchor.
    fn moment(&self, random: &mut Random) -> String {
        let offset_seconds = i64::try_from(random.below(95_000_000)).unwrap_or(0) - 80_000_000;
        show_time(self.anchor_ms + offset_seconds * 1_000)
    }
}

/// The properties of a deal that follow from its stage.
pub(super) fn derived_from_stage(stage_id: &str, name: &str) -> Option<String> {
    let stage = PIPELINES.iter().flat_map(|pipeline| pipeline.stages).find(|stage| stage.id == stage_id)?;
    match name {
        "hs_deal_stage_probability" => Some(stage.probability.to_owned()),
        "hs_is_closed" => Some(stage.closed.to_string()),
        "hs_is_closed_won" => Some((stage.closed && stage.probability == "1.0").to_string()),
        _ => None,
    }
}

/// A time in the form of the vendor's properties.
pub(super) fn show_time(at_ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(at_ms).expect("times come from this clock or a parsed time");
    format!("{at:.3}")
}

/// `None` (null) in `per_mille` of 1,000 cases.
fn sparse(random: &mut Random, per_mille: u64) -> Option<()> {
    (!random.chance(per_mille)).then_some(())
}

/// Numbers as the API sends them: text, sometimes empty, rarely with an exponent.
fn money(random: &mut Random) -> Option<String> {
    let whole = random.below(2_000_000);
    match random.below(100) {
        0..6 => None,
        6..9 => Some(String::new()),
        9 => Some("1e3".to_owned()),
        10..12 => Some("0".to_owned()),
        12 => Some(format!("-{whole}.50")),
        13..60 => Some(whole.to_string()),
        _ => Some(format!("{whole}.{:02}", random.below(100))),
    }
}

fn phone(random: &mut Random) -> Option<String> {
    match random.below(10) {
        0..3 => None,
        3 => Some(String::new()),
        4 => Some(format!("(0){} / {}", random.below(999), random.below(999_999))),
        _ => Some(format!("+{} {:09}", random.below(98) + 1, random.below(1_000_000_000))),
    }
}

fn text(random: &mut Random, sentences: u64) -> String {
    let count = 1 + random.below(sentences);
    let mut text = String::new();
    for _ in 0..count {
        text.push_str(random.pick::<&str>(words::SENTENCES));
        text.push(if random.chance(200) { '\n' } else { ' ' });
    }
    text
}

/// The body of an activity: mostly short, one in two hundred up to 60 kB.
fn body(random: &mut Random) -> String {
    match random.below(200) {
        0 => {
            let mut long = text(random, 8).repeat(600);
            let end = (0..=60_000.min(long.len())).rev().find(|&at| long.is_char_boundary(at)).unwrap_or(0);
            long.truncate(end);
            long
        }
        1..4 => String::new(),
        _ => text(random, 6),
    }
}
