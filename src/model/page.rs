//! What a connector fills while it maps a page: applies the stream's policy to each record, and lands as a whole or not
//! at all. Knows no source; `policy` decides, `batch` encodes.

use std::borrow::Cow;

use super::{
    batch::{BatchWriter, Mark, Misfit},
    config::SchemaContract,
    custom::{Custom, text_of},
    entity::ColumnType,
    policy::{Policy, Treatment},
    record::{Cell, Rejected, Row, code},
};

/// A value that its source's mapping could not turn into its column's type; the row's cell is `Null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Index of the column.
    pub column: usize,
    /// The source's name of the property.
    pub property: String,
    /// The value as storable text (`custom::text_of`).
    pub text: String,
}

/// A value did not fit and the stream's contract is `Freeze`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a value of {field} does not fit its column and schemaContract is Freeze")]
pub struct Frozen {
    /// The field's name, never its value (R18).
    pub field: String,
}

/// The records of one page, or of several that belong together. Dropped before `finish`, it takes them all back.
#[derive(Debug)]
pub struct PageWriter<'w> {
    into: &'w mut BatchWriter,
    policy: &'w Policy,
    start: Mark,
    frozen: Option<String>,
    finished: bool,
}

impl Drop for PageWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.into.roll_back(self.start);
        }
    }
}

impl<'w> PageWriter<'w> {
    /// Adds to `into` under `policy`.
    #[must_use]
    pub fn new(into: &'w mut BatchWriter, policy: &'w Policy) -> Self {
        let start = into.mark();
        Self { into, policy, start, frozen: None, finished: false }
    }

    /// Keeps what was added.
    ///
    /// # Errors
    /// The first field that a `Freeze` stopped at; then nothing of the page is kept.
    pub fn finish(mut self) -> Result<(), Frozen> {
        match self.frozen.take() {
            Some(field) => Err(Frozen { field }),
            None => {
                self.finished = true;
                Ok(())
            }
        }
    }

    /// Adds a row and the values that could not be cells of it. `served` is the record as the source served it, kept
    /// only if it becomes a dead letter and holds nothing that must not be stored.
    ///
    /// # Panics
    /// As `BatchWriter::push`.
    pub fn push(&mut self, mut row: Row<'_>, mut unfit: Vec<Unfit>, served: &[u8]) {
        self.apply_field_rules(&mut row, &mut unfit);
        match (self.policy.contract, unfit.first()) {
            (_, None) => {}
            (SchemaContract::DiscardRow, Some(first)) => {
                return self.reject(&Rejected {
                    entity: row.entity,
                    source_id: Some(row.source_id),
                    code: code::UNPARSABLE_VALUE.into(),
                    field: Some(first.property.as_str().into()),
                    payload: served.into(),
                });
            }
            (SchemaContract::Freeze, Some(first)) => return self.freeze(&first.property),
            (SchemaContract::DiscardValue, Some(_)) => {}
            (SchemaContract::Evolve, Some(_)) => {
                unfit.iter().for_each(|unfit| self.keep_as_text(&mut row, &unfit.property, &unfit.text));
            }
        }
        // Each round mends another column: the custom one, mended, is storable.
        while let Err(misfit) = self.into.try_push(&row) {
            match (misfit, self.policy.contract) {
                (Misfit::Column(_), SchemaContract::Freeze) => {
                    let field = misfit.rejection(&row, &[]).field.map(Cow::into_owned);
                    return self.freeze(&field.unwrap_or_default());
                }
                (Misfit::Column(index), SchemaContract::Evolve) => self.mend(&mut row, index, true),
                (Misfit::Column(index), SchemaContract::DiscardValue) => self.mend(&mut row, index, false),
                (Misfit::Column(_), SchemaContract::DiscardRow) | (Misfit::SourceId | Misfit::Oversized, _) => {
                    let served = if self.policy.withholds() { &[] } else { served };
                    return self.into.reject(&misfit.rejection(&row, served));
                }
            }
        }
    }

    /// Adds a record that becomes a dead letter, without its payload where that may hold what must not be stored.
    pub fn reject(&mut self, rejected: &Rejected<'_>) {
        if self.policy.withholds() {
            self.into.reject(&Rejected { payload: Cow::Borrowed(&[]), ..rejected.clone() });
        } else {
            self.into.reject(rejected);
        }
    }

    fn freeze(&mut self, field: &str) {
        self.frozen.get_or_insert_with(|| field.to_owned());
    }

    fn apply_field_rules(&self, row: &mut Row<'_>, unfit: &mut Vec<Unfit>) {
        let Some(fields) = self.policy.fields.as_ref().filter(|_| !row.cells.is_empty()) else { return };
        let hashed = |text: &str| Cell::Text(Cow::Owned(fields.key.pseudonym(text)));
        for (cell, treatment) in row.cells.iter_mut().zip(&fields.columns) {
            *cell = match (treatment, &*cell) {
                (Treatment::Keep, _) => continue,
                (Treatment::Hash, Cell::Text(text)) => hashed(text),
                (Treatment::Hash | Treatment::Drop, _) => Cell::Null,
            };
        }
        unfit.retain(|unfit| match fields.columns[unfit.column] {
            Treatment::Keep => true,
            Treatment::Drop => false,
            Treatment::Hash => {
                row.cells[unfit.column] = hashed(&unfit.text);
                false
            }
        });
        if let Some(cell @ Cell::Json(_)) = row.cells.last_mut() {
            let mut custom = Custom::of(cell);
            custom.retain(|name| fields.of_property(name) != Treatment::Drop);
            custom.change(|name, raw| {
                let hashed = fields.of_property(name) == Treatment::Hash && raw != "null";
                hashed.then(|| fields.key.pseudonym(&text_of(raw)))
            });
            *cell = custom.into_cell();
        }
    }

    /// Takes a cell away that no store takes; `custom` loses (or keeps as text) only the members at fault.
    fn mend(&self, row: &mut Row<'_>, index: usize, keep: bool) {
        let is_custom = index + 1 == row.cells.len();
        let cell = std::mem::replace(&mut row.cells[index], Cell::Null);
        if is_custom {
            let mut custom = Custom::of(&cell);
            custom.mend(keep);
            // Mended members may still be nested too deeply all together.
            row.cells[index] =
                Some(custom.into_cell()).filter(|cell| cell.storable(ColumnType::Json)).unwrap_or(Cell::Null);
        } else if keep && let Some(text) = text_of_cell(&cell) {
            self.keep_as_text(row, self.policy.property_name(row.entity, index), &text);
        }
    }

    fn keep_as_text(&self, row: &mut Row<'_>, property: &str, text: &str) {
        if let Some(cell) = row.cells.last_mut()
            && self.policy.fields.as_ref().is_none_or(super::policy::Fields::keeps_custom)
        {
            let mut custom = Custom::of(cell);
            custom.keep(property, text);
            *cell = custom.into_cell();
        }
    }
}

/// The text of a cell that is not storable; those without text always are, in a column of their type.
fn text_of_cell(cell: &Cell<'_>) -> Option<String> {
    Some(match cell {
        Cell::Null => return None,
        Cell::Text(text) | Cell::Decimal(text) => text.replace('\0', "\u{fffd}"),
        Cell::Json(raw) => text_of(raw),
        Cell::Integer(value) => value.to_string(),
        Cell::Boolean(value) => value.to_string(),
        Cell::Timestamp(value) => value.to_string(),
        Cell::Date(value) => value.to_string(),
    })
}

#[cfg(test)]
mod tests;
