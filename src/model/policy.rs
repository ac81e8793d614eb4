//! What a stream's spec says about its values, compiled: the contract for those that do not fit, and which fields are kept.
//! Decides; `page` applies it to rows. The same for every connector.

use super::{
    config::{FieldRules, SchemaContract, StreamConfig},
    entity::{ColumnType, Entity},
    pseudonym::PseudonymKey,
    stream::Stream,
};

/// Name of the column that holds the properties without one, always the last.
pub(super) const CUSTOM: &str = "custom";

/// Field rules that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFields {
    /// A typing error, or a column of another entity.
    #[error("fields names {name:?}, which is neither a column of {table} nor one of the stream's properties")]
    Unknown {
        /// As written.
        name: String,
        /// The entity's table.
        table: &'static str,
    },
    /// A hash stands for a text.
    #[error("fields.hash names {0:?}, which is no text column: drop it instead")]
    NotText(String),
    /// Two rules for one field.
    #[error("fields names {0:?} in drop and in hash: choose one")]
    DropAndHash(String),
    /// Both lists say what is kept.
    #[error("fields has allow and drop: choose one")]
    AllowAndDrop,
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    Keep,
    Drop,
    Hash,
}

/// The policy of one stream.
#[derive(Debug)]
pub struct Policy {
    pub(super) contract: SchemaContract,
    /// The source's name of what feeds each column, where it has one.
    property_names: Vec<Option<&'static str>>,
    /// `None` = every field is kept: nothing is looked at.
    pub(super) fields: Option<Fields>,
}

/// Field rules by column.
#[derive(Debug)]
pub(super) struct Fields {
    rules: FieldRules,
    pub(super) columns: Vec<Treatment>,
    pub(super) key: PseudonymKey,
}

impl Policy {
    /// Of a stream as it is configured; `None` when the Connector names no streams.
    /// `property_names` has one entry for each column of the stream's entity.
    ///
    /// # Errors
    /// Field rules that cannot be meant.
    pub fn of(
        stream: Stream,
        config: Option<&StreamConfig>,
        property_names: Vec<Option<&'static str>>,
        key: &PseudonymKey,
    ) -> Result<Self, InvalidFields> {
        let contract = config.map(|config| config.schema_contract).unwrap_or_default();
        let fields = match config.filter(|config| !config.fields.is_empty()) {
            Some(config) => Some(Fields::of(stream.entity, config, key)?),
            None => None,
        };
        Ok(Self { contract, property_names, fields })
    }

    /// Whether anything of this column's values is stored; what is not need not be asked for.
    #[must_use]
    pub fn keeps_column(&self, index: usize) -> bool {
        self.fields.as_ref().is_none_or(|fields| fields.columns[index] != Treatment::Drop)
    }

    /// Whether anything of this property's values is stored in `custom`.
    #[must_use]
    pub fn keeps_property(&self, name: &str) -> bool {
        self.fields.as_ref().is_none_or(|fields| fields.of_property(name) != Treatment::Drop)
    }

    /// Whether a record holds fields that must not be stored, so that it cannot be kept as it was served.
    pub(super) fn withholds(&self) -> bool {
        self.fields.is_some()
    }

    /// The name under which `custom` keeps a column's misfits.
    pub(super) fn property_name(&self, entity: Entity, index: usize) -> &'static str {
        self.property_names.get(index).copied().flatten().unwrap_or(entity.columns()[index].name)
    }
}

impl Fields {
    fn of(entity: Entity, config: &StreamConfig, key: &PseudonymKey) -> Result<Self, InvalidFields> {
        let rules = &config.fields;
        let column = |name: &str| entity.column_index(name).map(|index| entity.columns()[index]);
        let is_property = |name: &String| config.properties.contains(name);
        if !rules.allow.is_empty() && !rules.drop.is_empty() {
            return Err(InvalidFields::AllowAndDrop);
        }
        let mut named = rules.allow.iter().chain(&rules.drop).chain(&rules.hash);
        if let Some(name) = named.find(|name| column(name).is_none() && !is_property(name)) {
            return Err(InvalidFields::Unknown { name: name.clone(), table: entity.table() });
        }
        if let Some(name) =
            rules.hash.iter().find(|name| column(name).is_some_and(|found| found.kind != ColumnType::Text))
        {
            return Err(InvalidFields::NotText(name.clone()));
        }
        if let Some(name) = rules.hash.iter().find(|name| rules.drop.contains(name)) {
            return Err(InvalidFields::DropAndHash(name.clone()));
        }
        let of_column = |name: &str| if name == CUSTOM { custom_column(rules) } else { treatment(rules, name) };
        let columns = entity.columns().iter().map(|column| of_column(column.name)).collect();
        Ok(Self { columns, rules: rules.clone(), key: key.clone() })
    }

    /// What becomes of a property in `custom`. A column of the same name is treated alike.
    pub(super) fn of_property(&self, name: &str) -> Treatment {
        let named = |list: &[String], name: &str| list.iter().any(|listed| listed == name);
        match treatment(&self.rules, name) {
            Treatment::Drop if named(&self.rules.allow, CUSTOM) => Treatment::Keep,
            _ if named(&self.rules.drop, CUSTOM) => Treatment::Drop,
            treatment => treatment,
        }
    }

    /// Whether `custom` itself may take in the misfits of other columns.
    pub(super) fn keeps_custom(&self) -> bool {
        treatment(&self.rules, CUSTOM) == Treatment::Keep
    }
}

/// Without `custom` in the allow list its members are judged one by one.
fn custom_column(rules: &FieldRules) -> Treatment {
    if rules.drop.iter().any(|name| name == CUSTOM) { Treatment::Drop } else { Treatment::Keep }
}

fn treatment(rules: &FieldRules, name: &str) -> Treatment {
    let named = |list: &[String]| list.iter().any(|listed| listed == name);
    if named(&rules.hash) {
        Treatment::Hash
    } else if named(&rules.drop) || !(rules.allow.is_empty() || named(&rules.allow)) {
        Treatment::Drop
    } else {
        Treatment::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTACTS: Stream = Stream { name: "contacts", entity: Entity::Contact, id_prefix: "" };

    fn policy(allow: &[&str], drop: &[&str], hash: &[&str]) -> Result<Policy, InvalidFields> {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let config = StreamConfig {
            name: "contacts".to_owned(),
            properties: list(&["salary", "badge"]),
            fields: FieldRules { allow: list(allow), drop: list(drop), hash: list(hash) },
            ..StreamConfig::default()
        };
        Policy::of(CONTACTS, Some(&config), Vec::new(), &PseudonymKey::of("i", &"acme".parse().expect("id")))
    }

    #[test]
    fn what_cannot_be_meant_is_said_by_name() {
        let text = |result: Result<Policy, InvalidFields>| result.expect_err("refused").to_string();
        let unknown = text(policy(&[], &["emial"], &[]));
        assert!(unknown.contains("\"emial\"") && unknown.contains("column of contact"), "{unknown}");
        assert!(text(policy(&[], &[], &["opted_out"])).contains("no text column"));
        assert!(text(policy(&[], &["email"], &["email"])).contains("in drop and in hash"));
        assert!(text(policy(&["email"], &["phone"], &[])).contains("allow and drop"));
        assert!(policy(&[], &["email", "salary"], &["phone", "badge"]).is_ok());
    }

    #[test]
    fn an_allow_list_keeps_what_it_names_and_what_is_hashed() {
        let policy = policy(&["first_name", "salary"], &[], &["email"]).expect("valid");
        let kept: Vec<_> = Entity::Contact
            .columns()
            .iter()
            .enumerate()
            .filter(|(index, _)| policy.keeps_column(*index))
            .map(|(_, column)| column.name)
            .collect();
        assert_eq!(kept, ["email", "first_name", "custom"]);
        assert!(policy.keeps_property("salary") && !policy.keeps_property("badge"));
        assert!(!policy.fields.expect("rules").keeps_custom());
    }

    #[test]
    fn custom_in_a_list_stands_for_all_of_its_properties() {
        let dropped = policy(&[], &["custom"], &[]).expect("valid");
        assert!(!dropped.keeps_property("salary") && dropped.keeps_column(0));
        let allowed = policy(&["custom"], &[], &["badge"]).expect("valid");
        assert!(allowed.keeps_property("salary") && !allowed.keeps_column(0));
        assert_eq!(allowed.fields.expect("rules").of_property("badge"), Treatment::Hash);
    }
}
