//! Owners and pipeline stages as canonical rows: small lists with shapes of their own, read whole each time.
//! Pure, like `mapping`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    mapping::{Fault, envelope_time, reject},
    record::{Text, id_of},
    values,
};
use crate::model::{
    entity::Entity,
    page::{PageWriter, Unfit},
    record::{Cell, Row},
};

/// What feeds each column of `owner`.
pub(super) const OWNER_PROPERTIES: [Option<&str>; 7] =
    [Some("firstName"), Some("lastName"), Some("email"), Some("archived"), None, Some("teams"), None];
/// What feeds each column of `stage`.
pub(super) const STAGE_PROPERTIES: [Option<&str>; 7] = [
    Some("label"),
    Some("pipeline"),
    Some("pipelineLabel"),
    Some("displayOrder"),
    Some(PROBABILITY),
    Some(IS_CLOSED),
    None,
];
const PROBABILITY: &str = "metadata.probability";
const IS_CLOSED: &str = "metadata.isClosed";
/// Indexes of the two columns above.
const PROBABILITY_COLUMN: usize = 4;
const STATUS_COLUMN: usize = 5;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, default)]
    email: Option<Text<'a>>,
    #[serde(borrow, default)]
    first_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    last_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    created_at: Option<Text<'a>>,
    #[serde(borrow, default)]
    updated_at: Option<Text<'a>>,
    #[serde(default)]
    archived: bool,
    #[serde(borrow, default)]
    teams: Vec<Team<'a>>,
}

#[derive(Deserialize)]
struct Team<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

/// Pushes an owner. A deactivated user still owns records, so it stays a row, with `active` false, and is no tombstone.
pub(super) fn push_owner(raw: &str, into: &mut PageWriter<'_>) {
    let owner = serde_json::from_str::<Owner<'_>>(raw).map_err(|_| Fault::RECORD);
    match owner.and_then(owner_row) {
        Ok(row) => into.push(row, Vec::new(), raw.as_bytes()),
        Err(fault) => reject(Entity::Owner, id_of(raw), raw, fault, into),
    }
}

fn owner_row(owner: Owner<'_>) -> Result<Row<'_>, Fault> {
    let teams: Vec<_> = owner.teams.iter().map(|team| &team.name.0).collect();
    let teams = serde_json::to_string(&teams).expect("texts are serialisable");
    Ok(Row {
        entity: Entity::Owner,
        source_created_at: envelope_time(text(&owner.created_at), "createdAt")?,
        source_updated_at: envelope_time(text(&owner.updated_at), "updatedAt")?,
        deleted_at: None,
        merged_into_source_id: None,
        cells: vec![
            cell(owner.first_name),
            cell(owner.last_name),
            cell(owner.email),
            Cell::Boolean(!owner.archived),
            Cell::Null,
            if owner.teams.is_empty() { Cell::Null } else { Cell::Json(Cow::Owned(teams)) },
            Cell::Null,
        ],
        source_id: owner.id.0,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pipeline<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, default)]
    label: Option<Text<'a>>,
    #[serde(borrow)]
    stages: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stage<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, default)]
    label: Option<Text<'a>>,
    #[serde(default)]
    display_order: Option<i64>,
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    created_at: Option<Text<'a>>,
    #[serde(borrow, default)]
    updated_at: Option<Text<'a>>,
    #[serde(default)]
    archived: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    /// `"true"`, as text.
    #[serde(borrow, default)]
    is_closed: Option<Text<'a>>,
    /// `"0.8"`, as text.
    #[serde(borrow, default)]
    probability: Option<Text<'a>>,
}

/// What a pipeline held of the stages wanted.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The `source_id` of each stage that was pushed or rejected.
    pub(super) stages: Vec<String>,
    /// The pipeline is unreadable as a whole: of its stages nothing can be said.
    pub(super) unreadable: bool,
}

/// Pushes the stages of a pipeline that `wanted` names, each as a row of its own.
pub(super) fn push_pipeline(raw: &str, wanted: impl Fn(&str) -> bool, into: &mut PageWriter<'_>) -> Seen {
    let Ok(pipeline) = serde_json::from_str::<Pipeline<'_>>(raw) else {
        reject(Entity::Stage, id_of(raw), raw, Fault::RECORD, into);
        return Seen { unreadable: true, ..Seen::default() };
    };
    let mut seen = Seen::default();
    for raw in pipeline.stages.iter().map(|raw| raw.get()) {
        let id = id_of(raw).map(|id| stage_id(&pipeline, &id));
        if id.as_ref().is_some_and(|id| !wanted(id)) {
            continue;
        }
        let stage = serde_json::from_str::<Stage<'_>>(raw).map_err(|_| Fault::RECORD);
        match stage.and_then(|stage| stage_row(&pipeline, stage)) {
            Ok((row, unfit)) => into.push(row, unfit, raw.as_bytes()),
            Err(fault) => reject(Entity::Stage, id.clone(), raw, fault, into),
        }
        seen.stages.extend(id.map(Cow::into_owned));
    }
    seen
}

fn stage_id(pipeline: &Pipeline<'_>, stage: &str) -> Cow<'static, str> {
    Cow::Owned(format!("{}:{stage}", pipeline.id.0))
}

fn stage_row<'a>(pipeline: &Pipeline<'a>, stage: Stage<'a>) -> Result<(Row<'a>, Vec<Unfit>), Fault> {
    let updated = envelope_time(text(&stage.updated_at), "updatedAt")?;
    let mut row = Row {
        entity: Entity::Stage,
        source_id: stage_id(pipeline, &stage.id.0),
        source_created_at: envelope_time(text(&stage.created_at), "createdAt")?,
        source_updated_at: updated,
        deleted_at: None,
        merged_into_source_id: None,
        cells: Vec::new(),
    };
    if stage.archived && updated.is_some() {
        row.deleted_at = updated;
        return Ok((row, Vec::new()));
    }
    let mut unfit = Vec::new();
    let mut misread = |column, property: &str, text: &str| {
        unfit.push(Unfit { column, property: property.to_owned(), text: text.to_owned() });
    };
    let closed = text(&stage.metadata.is_closed)
        .map_or(Some(false), |flag| values::flag(flag).inspect_err(|_| misread(STATUS_COLUMN, IS_CLOSED, flag)).ok());
    let probability =
        text(&stage.metadata.probability).filter(|text| !text.is_empty()).map_or(Some(Cell::Null), |text| {
            let read = values::decimal(Cow::Owned(text.to_owned()));
            read.inspect_err(|_| misread(PROBABILITY_COLUMN, PROBABILITY, text)).ok()
        });
    row.cells = vec![
        cell(stage.label),
        Cell::Text(pipeline.id.0.clone()),
        cell(pipeline.label.clone()),
        stage.display_order.map_or(Cell::Null, Cell::Integer),
        probability.clone().unwrap_or(Cell::Null),
        status(closed, probability.as_ref()).map_or(Cell::Null, |status| Cell::Text(status.into())),
        Cell::Null,
    ];
    Ok((row, unfit))
}

/// A closed stage with any chance is the won one (pipelines guide: closed won has probability 1, closed lost 0);
/// `None` where what it takes to tell could not be read.
fn status(closed: Option<bool>, probability: Option<&Cell<'_>>) -> Option<&'static str> {
    if !closed? {
        return Some("OPEN");
    }
    let some_chance =
        matches!(probability?, Cell::Decimal(text) if text.bytes().any(|digit| (b'1'..=b'9').contains(&digit)));
    Some(if some_chance { "WON" } else { "LOST" })
}

fn text<'t>(text: &'t Option<Text<'_>>) -> Option<&'t str> {
    text.as_ref().map(|text| &*text.0)
}

fn cell(text: Option<Text<'_>>) -> Cell<'_> {
    text.filter(|text| !text.0.is_empty()).map_or(Cell::Null, |text| Cell::Text(text.0))
}
