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
    batch::BatchWriter,
    entity::Entity,
    record::{Cell, Row},
};

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
pub(super) fn push_owner(raw: &str, into: &mut BatchWriter) {
    let owner = serde_json::from_str::<Owner<'_>>(raw).map_err(|_| Fault::RECORD);
    match owner.and_then(owner_row) {
        Ok(row) => into.push(&row, raw.as_bytes()),
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

/// Pushes the stages of a pipeline, each as a row of its own.
pub(super) fn push_pipeline(raw: &str, into: &mut BatchWriter) {
    let Ok(pipeline) = serde_json::from_str::<Pipeline<'_>>(raw) else {
        return reject(Entity::Stage, id_of(raw), raw, Fault::RECORD, into);
    };
    for raw in pipeline.stages.iter().map(|raw| raw.get()) {
        let stage = serde_json::from_str::<Stage<'_>>(raw).map_err(|_| Fault::RECORD);
        match stage.and_then(|stage| stage_row(&pipeline, stage)) {
            Ok(row) => into.push(&row, raw.as_bytes()),
            Err(fault) => reject(Entity::Stage, id_of(raw).map(|id| stage_id(&pipeline, &id)), raw, fault, into),
        }
    }
}

fn stage_id(pipeline: &Pipeline<'_>, stage: &str) -> Cow<'static, str> {
    Cow::Owned(format!("{}:{stage}", pipeline.id.0))
}

fn stage_row<'a>(pipeline: &Pipeline<'a>, stage: Stage<'a>) -> Result<Row<'a>, Fault> {
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
        return Ok(row);
    }
    let closed = match text(&stage.metadata.is_closed) {
        Some(flag) => values::flag(flag).map_err(|_| Fault::value("metadata.isClosed"))?,
        None => false,
    };
    let probability = match stage.metadata.probability.filter(|text| !text.0.is_empty()) {
        Some(text) => values::decimal(text.0).map_err(|_| Fault::value("metadata.probability"))?,
        None => Cell::Null,
    };
    row.cells = vec![
        cell(stage.label),
        Cell::Text(pipeline.id.0.clone()),
        cell(pipeline.label.clone()),
        stage.display_order.map_or(Cell::Null, Cell::Integer),
        Cell::Text(status(closed, &probability).into()),
        Cell::Null,
    ];
    row.cells.insert(4, probability);
    Ok(row)
}

/// A closed stage with any chance is the won one (pipelines guide: closed won has probability 1, closed lost 0).
fn status(closed: bool, probability: &Cell<'_>) -> &'static str {
    let some_chance =
        matches!(probability, Cell::Decimal(text) if text.bytes().any(|digit| (b'1'..=b'9').contains(&digit)));
    match (closed, some_chance) {
        (false, _) => "OPEN",
        (true, true) => "WON",
        (true, false) => "LOST",
    }
}

fn text<'t>(text: &'t Option<Text<'_>>) -> Option<&'t str> {
    text.as_ref().map(|text| &*text.0)
}

fn cell(text: Option<Text<'_>>) -> Cell<'_> {
    text.filter(|text| !text.0.is_empty()).map_or(Cell::Null, |text| Cell::Text(text.0))
}
