//! HubSpot's records as canonical rows. Pure and golden-tested: bytes in, rows, tombstones and rejections out.
//! A record that cannot be read becomes a rejection with its raw text, never an error of its page.

use std::{borrow::Cow, collections::HashSet};

use jiff::Timestamp;

use super::{
    config::{From, IS_CLOSED, IS_CLOSED_WON, MERGED_IDS, ObjectType, To},
    record::{Links, Object, Properties, id_of},
    values::{self, Unreadable},
};
use crate::model::{
    custom::text_of,
    entity::Entity,
    page::{PageWriter, Unfit},
    policy::Policy,
    record::{Cell, Rejected, Row, code},
};

/// Why one record becomes a rejection: its frame (id, times, associations) cannot be read. A value that is not of its
/// column's type is `Unfit` instead, and the stream's contract decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    code: &'static str,
    field: Option<String>,
}

impl Fault {
    pub(super) const RECORD: Self = Self { code: code::UNPARSABLE_RECORD, field: None };

    pub(super) fn value(property: &str) -> Self {
        Self { code: code::UNPARSABLE_VALUE, field: Some(property.to_owned()) }
    }
}

/// How the records of one object type become rows: compiled once from the table in `config` and the Connector's own properties.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) object: &'static ObjectType,
    pub(super) properties: Properties,
    /// Types whose associations are read with it.
    pub(super) associations: Vec<To>,
    columns: Vec<Column>,
    /// The first this many properties feed canonical columns; the others only `custom`.
    pub(super) canonical_count: usize,
    merged: usize,
}

/// The property at this position is not of its column's type.
struct Misread(usize);

#[derive(Debug)]
enum Column {
    Nothing,
    Kind,
    Value(Vec<usize>, for<'a> fn(Cow<'a, str>) -> Result<Cell<'a>, Unreadable>),
    DealStatus { won: usize, closed: usize },
    Company,
    Contacts,
    Links,
    Custom(Vec<usize>),
}

impl Plan {
    /// For an object type and the properties a Connector asks for beside the canonical ones. What `policy` drops is
    /// not asked for.
    pub(super) fn new(object: &'static ObjectType, custom: &[String], policy: &Policy) -> Self {
        let mut properties = Properties::default();
        let kept = |(index, from): (usize, &From)| if policy.keeps_column(index) { *from } else { From::Nothing };
        let kept: Vec<_> = object.columns.iter().enumerate().map(kept).collect();
        let mut columns: Vec<_> = kept.iter().map(|from| Column::compile(*from, &mut properties)).collect();
        let mut associations = Vec::new();
        for to in kept.iter().flat_map(|from| from.associations()) {
            if !associations.contains(to) {
                associations.push(*to);
            }
        }
        let merged = properties.add(MERGED_IDS);
        let canonical_count = properties.names().len();
        let custom = custom.iter().filter(|name| policy.keeps_property(name));
        let custom: Vec<_> = custom.map(|name| properties.add(name)).collect();
        for column in &mut columns {
            if let Column::Custom(positions) = column {
                positions.clone_from(&custom);
            }
        }
        Self { object, properties, associations, columns, canonical_count, merged }
    }

    /// The row's id: activities carry their kind, because ids of two object types may be equal.
    pub(super) fn source_id<'a>(&self, id: Cow<'a, str>) -> Cow<'a, str> {
        match self.object.kind {
            Some(kind) => Cow::Owned(format!("{kind}:{id}")),
            None => id,
        }
    }

    /// HubSpot's id in a row's; `None` for one that HubSpot cannot have given: its ids are positive numbers.
    pub(super) fn vendor_id<'i>(&self, source_id: &'i str) -> Option<&'i str> {
        let id = match self.object.kind {
            Some(kind) => source_id.strip_prefix(kind)?.strip_prefix(':')?,
            None => source_id,
        };
        id.parse::<i64>().is_ok_and(|number| number > 0 && number.to_string() == id).then_some(id)
    }

    /// Pushes a live record: its row, and a tombstone for each record that was merged into it.
    pub(super) fn push_live(
        &self,
        raw: &str,
        object: Result<Object<'_>, Fault>,
        links: &Links,
        into: &mut PageWriter<'_>,
    ) {
        let rows = object.and_then(|object| {
            let (row, unfit) = self.live_row(&object, links)?;
            let merged = self.merged_rows(&object, &row)?;
            Ok((row, unfit, merged))
        });
        match rows {
            Ok((row, unfit, merged)) => {
                into.push(row, unfit, raw.as_bytes());
                for tombstone in merged {
                    into.push(tombstone, Vec::new(), raw.as_bytes());
                }
            }
            Err(fault) => self.reject(raw, fault, into),
        }
    }

    /// Pushes a tombstone for an archived record, unless it was archived before `lower`.
    pub(super) fn push_archived(&self, raw: &str, lower: Option<Timestamp>, into: &mut PageWriter<'_>) {
        match Object::parse(raw, &self.properties).ok_or(Fault::RECORD).and_then(|object| self.tombstone(&object)) {
            Ok(row) if lower.is_some_and(|lower| row.deleted_at < Some(lower)) => {}
            Ok(row) => into.push(row, Vec::new(), raw.as_bytes()),
            Err(fault) => self.reject(raw, fault, into),
        }
    }

    fn reject(&self, raw: &str, fault: Fault, into: &mut PageWriter<'_>) {
        reject(self.object.entity, id_of(raw).map(|id| self.source_id(id)), raw, fault, into);
    }

    fn live_row<'a>(&self, object: &Object<'a>, links: &Links) -> Result<(Row<'a>, Vec<Unfit>), Fault> {
        if object.archived {
            return Ok((self.tombstone(object)?, Vec::new()));
        }
        let mut unfit = Vec::new();
        let mut cells = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            cells.push(self.cell(column, object, links).unwrap_or_else(|Misread(position)| {
                let text = object.values[position].map(text_of).unwrap_or_default();
                unfit.push(Unfit { column: cells.len(), property: self.properties.names()[position].clone(), text });
                Cell::Null
            }));
        }
        let row = Row {
            entity: self.object.entity,
            source_id: self.source_id(object.id.clone()),
            source_created_at: envelope_time(object.created_at.as_deref(), "createdAt")?,
            source_updated_at: envelope_time(object.updated_at.as_deref(), "updatedAt")?,
            deleted_at: None,
            merged_into_source_id: None,
            cells,
        };
        Ok((row, unfit))
    }

    fn tombstone<'a>(&self, object: &Object<'a>) -> Result<Row<'a>, Fault> {
        let updated = envelope_time(object.updated_at.as_deref(), "updatedAt")?;
        let archived = envelope_time(object.archived_at.as_deref(), "archivedAt")?.or(updated);
        Ok(Row {
            entity: self.object.entity,
            source_id: self.source_id(object.id.clone()),
            source_created_at: envelope_time(object.created_at.as_deref(), "createdAt")?,
            source_updated_at: updated.max(archived),
            deleted_at: Some(archived.ok_or_else(|| Fault::value("archivedAt"))?),
            merged_into_source_id: None,
            cells: Vec::new(),
        })
    }

    /// HubSpot says which records were merged but not when: the survivor's last change, which is never before the merge.
    fn merged_rows<'a>(&self, object: &Object<'a>, survivor: &Row<'a>) -> Result<Vec<Row<'a>>, Fault> {
        let ids = self.scalar(object, self.merged).map_err(|_| Fault::value(MERGED_IDS))?;
        let Some(ids) = ids else { return Ok(Vec::new()) };
        let row = |id: &str| Row {
            entity: self.object.entity,
            source_id: self.source_id(Cow::Owned(id.to_owned())),
            source_created_at: None,
            source_updated_at: survivor.source_updated_at,
            deleted_at: survivor.source_updated_at,
            merged_into_source_id: Some(survivor.source_id.clone()),
            cells: Vec::new(),
        };
        let ids = ids.split(';').map(str::trim).filter(|id| !id.is_empty() && *id != object.id);
        let rows: Vec<_> = ids.map(row).collect();
        if rows.is_empty() || survivor.source_updated_at.is_some() { Ok(rows) } else { Err(Fault::value("updatedAt")) }
    }

    /// The ids of the records that were merged into a served one, as far as they can be read.
    pub(super) fn merged_ids(&self, object: &Object<'_>) -> Vec<String> {
        let ids = self.scalar(object, self.merged).ok().flatten().unwrap_or_default();
        ids.split(';').map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()).collect()
    }

    fn cell<'a>(&self, column: &Column, object: &Object<'a>, links: &Links) -> Result<Cell<'a>, Misread> {
        match column {
            Column::Nothing => Ok(Cell::Null),
            Column::Kind => Ok(self.object.kind.map_or(Cell::Null, |kind| Cell::Text(kind.into()))),
            Column::Value(positions, convert) => self.value(object, positions, *convert),
            Column::DealStatus { won, closed } => self.deal_status(object, *won, *closed),
            Column::Company => Ok(primary_company(links)),
            Column::Contacts => Ok(contact_ids(links)),
            Column::Links => Ok(all_links(links)),
            Column::Custom(positions) => Ok(self.custom(object, positions)),
        }
    }

    fn scalar<'a>(&self, object: &Object<'a>, position: usize) -> Result<Option<Cow<'a, str>>, Misread> {
        let Some(raw) = object.values[position] else { return Ok(None) };
        values::scalar(raw).map_err(|Unreadable| Misread(position))
    }

    fn value<'a>(
        &self,
        object: &Object<'a>,
        positions: &[usize],
        convert: for<'b> fn(Cow<'b, str>) -> Result<Cell<'b>, Unreadable>,
    ) -> Result<Cell<'a>, Misread> {
        for &position in positions {
            if let Some(text) = self.scalar(object, position)? {
                return convert(text).map_err(|Unreadable| Misread(position));
            }
        }
        Ok(Cell::Null)
    }

    fn deal_status<'a>(&self, object: &Object<'a>, won: usize, closed: usize) -> Result<Cell<'a>, Misread> {
        let flag = |position| {
            let text = self.scalar(object, position)?;
            text.map(|text| values::flag(&text).map_err(|Unreadable| Misread(position))).transpose()
        };
        Ok(match (flag(won)?, flag(closed)?) {
            (Some(true), _) => Cell::Text("WON".into()),
            (_, Some(true)) => Cell::Text("LOST".into()),
            (None, None) => Cell::Null,
            _ => Cell::Text("OPEN".into()),
        })
    }

    /// The Connector's own properties that have a value, as they were served.
    fn custom<'a>(&self, object: &Object<'a>, positions: &[usize]) -> Cell<'a> {
        let mut json = String::new();
        for &position in positions {
            let Some(raw) = object.values[position].filter(|raw| !matches!(*raw, "null" | "\"\"")) else { continue };
            json.push(if json.is_empty() { '{' } else { ',' });
            // Names are letters, digits and underscores (checked when the source is opened): nothing to escape.
            json.extend(["\"", &self.properties.names()[position], "\":", raw]);
        }
        if json.is_empty() {
            return Cell::Null;
        }
        json.push('}');
        Cell::Json(Cow::Owned(json))
    }
}

impl Column {
    fn compile(from: From, properties: &mut Properties) -> Self {
        let mut first = |names: &[&str]| names.iter().map(|name| properties.add(name)).collect::<Vec<_>>();
        match from {
            From::Nothing => Self::Nothing,
            From::Kind => Self::Kind,
            From::Text(names) => Self::Value(first(names), values::text),
            From::Integer(name) => Self::Value(first(&[name]), values::integer),
            From::Decimal(name) => Self::Value(first(&[name]), values::decimal),
            From::Boolean(name) => Self::Value(first(&[name]), values::boolean),
            From::Timestamp(names) => Self::Value(first(names), values::timestamp),
            From::Date(name) => Self::Value(first(&[name]), values::date),
            From::Milliseconds(name) => Self::Value(first(&[name]), values::milliseconds),
            From::DealStatus => {
                Self::DealStatus { won: properties.add(IS_CLOSED_WON), closed: properties.add(IS_CLOSED) }
            }
            From::Company => Self::Company,
            From::Contacts => Self::Contacts,
            From::Links => Self::Links,
            From::Custom => Self::Custom(Vec::new()),
        }
    }
}

/// Adds a rejection.
pub(super) fn reject(
    entity: Entity,
    source_id: Option<Cow<'_, str>>,
    raw: &str,
    fault: Fault,
    into: &mut PageWriter<'_>,
) {
    into.reject(&Rejected {
        entity,
        source_id,
        code: fault.code.into(),
        field: fault.field.map(Cow::Owned),
        payload: raw.as_bytes().into(),
    });
}

/// The tombstone of an id that the source does not know: it tells no time of change, and must not outlive the record's return.
pub(super) fn unknown(entity: Entity, source_id: &str, at: Timestamp) -> Row<'_> {
    Row {
        entity,
        source_id: source_id.into(),
        source_created_at: None,
        source_updated_at: None,
        deleted_at: Some(at),
        merged_into_source_id: None,
        cells: Vec::new(),
    }
}

/// A time of the record's envelope.
pub(super) fn envelope_time(text: Option<&str>, field: &str) -> Result<Option<Timestamp>, Fault> {
    text.filter(|text| !text.is_empty())
        .map(|text| values::instant(text).map_err(|Unreadable| Fault::value(field)))
        .transpose()
}

fn primary_company<'a>(links: &Links) -> Cell<'a> {
    let companies = links.get(&To::Companies).map_or(&[][..], Vec::as_slice);
    let chosen = companies.iter().find(|link| link.primary).or_else(|| companies.first());
    chosen.map_or(Cell::Null, |link| Cell::Text(Cow::Owned(link.id.clone())))
}

fn contact_ids<'a>(links: &Links) -> Cell<'a> {
    let ids: Vec<_> = links.get(&To::Contacts).into_iter().flatten().map(|link| &link.id).collect();
    json_unless_empty(ids.is_empty(), &ids)
}

fn all_links<'a>(links: &Links) -> Cell<'a> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ActivityLink<'l> {
        entity: &'static str,
        source_id: &'l str,
    }
    let ends = [To::Companies, To::Contacts, To::Deals].into_iter().flat_map(|to| {
        let found = links.get(&to).into_iter().flatten();
        found.map(move |link| ActivityLink { entity: to.entity().table(), source_id: &link.id })
    });
    let ends: Vec<_> = ends.collect();
    json_unless_empty(ends.is_empty(), &ends)
}

fn json_unless_empty<'a>(empty: bool, value: &impl serde::Serialize) -> Cell<'a> {
    if empty {
        return Cell::Null;
    }
    Cell::Json(Cow::Owned(serde_json::to_string(value).expect("texts are serialisable")))
}

/// The ids of a page's readable records, once each, to ask for what the page did not hold.
pub(super) fn distinct_ids<'a>(objects: &[Option<Object<'a>>]) -> Vec<Cow<'a, str>> {
    let mut seen = HashSet::new();
    let ids = objects.iter().flatten().map(|object| object.id.clone());
    ids.filter(|id| seen.insert(id.clone())).collect()
}
