//! Reads one staged record; the layout is `batch`'s. `None` is damage: nothing here panics, whatever the bytes.

use std::borrow::Cow;

use jiff::{Timestamp, civil::Date};

use super::{REJECTED, Record, TOMBSTONE};
use crate::model::{
    entity::Entity,
    record::{Cell, Rejected, Row},
};

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(head)
}

pub(super) fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(*take::<4>(rest)?) as usize;
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<Cow<'a, str>> {
    std::str::from_utf8(take_bytes(rest)?).ok().map(Cow::Borrowed)
}

fn take_optional_text<'a>(rest: &mut &'a [u8]) -> Option<Option<Cow<'a, str>>> {
    match take::<1>(rest)?[0] {
        0 => Some(None),
        _ => take_text(rest).map(Some),
    }
}

fn take_timestamp(rest: &mut &[u8]) -> Option<Option<Timestamp>> {
    match take::<1>(rest)?[0] {
        0 => Some(None),
        _ => Timestamp::from_microsecond(i64::from_le_bytes(*take(rest)?)).ok().map(Some),
    }
}

fn take_cell<'a>(rest: &mut &'a [u8]) -> Option<Cell<'a>> {
    Some(match take::<1>(rest)?[0] {
        0 => Cell::Null,
        1 => Cell::Text(take_text(rest)?),
        2 => Cell::Integer(i64::from_le_bytes(*take(rest)?)),
        3 => Cell::Decimal(take_text(rest)?),
        4 => Cell::Boolean(take::<1>(rest)?[0] != 0),
        5 => Cell::Timestamp(Timestamp::from_microsecond(i64::from_le_bytes(*take(rest)?)).ok()?),
        6 => {
            let year = i16::from_le_bytes(*take(rest)?);
            let [month, day] = *take::<2>(rest)?;
            Cell::Date(Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?)
        }
        7 => Cell::Json(take_text(rest)?),
        _ => return None,
    })
}

pub(super) fn decode(body: &[u8]) -> Option<Record<'_>> {
    let mut rest = body;
    let [tag, entity] = *take::<2>(&mut rest)?;
    let entity = *Entity::ALL.get(usize::from(entity))?;
    if tag == REJECTED {
        return Some(Record::Rejected(Rejected {
            entity,
            source_id: take_optional_text(&mut rest)?,
            code: take_text(&mut rest)?,
            field: take_optional_text(&mut rest)?,
            payload: take_bytes(&mut rest)?.into(),
        }));
    }
    let source_id = take_text(&mut rest)?;
    let source_created_at = take_timestamp(&mut rest)?;
    let source_updated_at = take_timestamp(&mut rest)?;
    let deleted_at = take_timestamp(&mut rest)?;
    let merged_into_source_id = take_optional_text(&mut rest)?;
    let mut cells = Vec::new();
    while rest.len() > 16 {
        cells.push(take_cell(&mut rest)?);
    }
    let hash = *take::<16>(&mut rest)?;
    let row = Row { entity, source_id, source_created_at, source_updated_at, deleted_at, merged_into_source_id, cells };
    (row.cells.len() == entity.columns().len() || tag == TOMBSTONE).then_some(Record::Row(row, hash))
}
