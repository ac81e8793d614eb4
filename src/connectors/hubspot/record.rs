//! HubSpot's answers as borrowed values: pages, records, associations (R38: parsed once, nothing owned without need).
//! Pure; what a record means is `mapping`'s.

use std::{borrow::Cow, collections::HashMap, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::config::To;

/// Text that borrows from the page unless it holds an escape.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A page of anything, each record still raw, so that a bad one spoils no other.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    records: Vec<Range<usize>>,
    after: Option<String>,
}

#[derive(Deserialize)]
struct RawPage<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
    #[serde(default)]
    paging: Option<Paging>,
}

#[derive(Debug, Deserialize)]
struct Paging {
    #[serde(default)]
    next: Option<Next>,
}

#[derive(Debug, Deserialize)]
struct Next {
    after: String,
}

impl Paging {
    fn after(&self) -> Option<&str> {
        Some(&self.next.as_ref()?.after)
    }
}

impl Page {
    /// `None` for HTML, a cut-off answer or anything else that is not a page.
    pub(super) fn parse(body: Vec<u8>) -> Option<Self> {
        let text = String::from_utf8(body).ok()?;
        let raw: RawPage<'_> = serde_json::from_str(&text).ok()?;
        let start = text.as_ptr() as usize;
        let range = |record: &&RawValue| {
            let from = record.get().as_ptr() as usize - start;
            from..from + record.get().len()
        };
        let records = raw.results.iter().map(range).collect();
        let after = raw.paging.as_ref().and_then(Paging::after).map(str::to_owned);
        Some(Self { records, after, text })
    }

    /// The records, each as raw JSON, in the order served.
    pub(super) fn records(&self) -> impl ExactSizeIterator<Item = &str> {
        self.records.iter().map(|range| &self.text[range.clone()])
    }

    /// Where the next page starts.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }
}

/// The id of a record, from a record that may be unreadable otherwise.
pub(super) fn id_of(raw: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Id<'a> {
        #[serde(borrow)]
        id: Text<'a>,
    }
    serde_json::from_str::<Id<'_>>(raw).ok().map(|found| found.id.0)
}

/// Which properties are asked for, and where each stands among a record's values.
#[derive(Debug, Default)]
pub(super) struct Properties {
    names: Vec<String>,
    positions: HashMap<String, usize>,
}

impl Properties {
    /// The position of a property, added if it is new.
    pub(super) fn add(&mut self, name: &str) -> usize {
        if let Some(&position) = self.positions.get(name) {
            return position;
        }
        self.names.push(name.to_owned());
        self.positions.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

/// A record of any object type.
#[derive(Debug)]
pub(super) struct Object<'a> {
    pub(super) id: Cow<'a, str>,
    /// Raw JSON of each property in the order of `Properties`; `None` where the answer did not hold it.
    pub(super) values: Vec<Option<&'a str>>,
    pub(super) created_at: Option<Cow<'a, str>>,
    pub(super) updated_at: Option<Cow<'a, str>>,
    pub(super) archived: bool,
    pub(super) archived_at: Option<Cow<'a, str>>,
    pub(super) associations: Option<&'a str>,
}

impl<'a> Object<'a> {
    /// Reads a record.
    pub(super) fn parse(raw: &'a str, properties: &Properties) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(raw);
        ObjectSeed(properties).deserialize(&mut deserializer).ok()
    }
}

struct ObjectSeed<'p>(&'p Properties);

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = Object<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Object<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_> {
    type Value = Object<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a CRM object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut id = None;
        let mut object = Object {
            id: Cow::Borrowed(""),
            values: vec![None; self.0.names.len()],
            created_at: None,
            updated_at: None,
            archived: false,
            archived_at: None,
            associations: None,
        };
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match &*key.0 {
                "id" => id = Some(map.next_value::<Text<'de>>()?.0),
                "properties" => map.next_value_seed(ValuesSeed(self.0, &mut object.values))?,
                "createdAt" => object.created_at = optional_text(&mut map)?,
                "updatedAt" => object.updated_at = optional_text(&mut map)?,
                "archivedAt" => object.archived_at = optional_text(&mut map)?,
                "archived" => object.archived = map.next_value::<Option<bool>>()?.unwrap_or(false),
                "associations" => object.associations = Some(map.next_value::<&'de RawValue>()?.get()),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        object.id = id.ok_or_else(|| A::Error::missing_field("id"))?;
        Ok(object)
    }
}

fn optional_text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
    Ok(map.next_value::<Option<Text<'de>>>()?.map(|text| text.0))
}

struct ValuesSeed<'p, 'v, 'de>(&'p Properties, &'v mut Vec<Option<&'de str>>);

impl<'de> DeserializeSeed<'de> for ValuesSeed<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ValuesSeed<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("properties")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match self.0.positions.get(&*key.0) {
                Some(&position) => self.1[position] = Some(map.next_value::<&'de RawValue>()?.get()),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// One associated record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) id: String,
    /// Labelled Primary by HubSpot.
    pub(super) primary: bool,
}

/// A record's associations by type, without doubles, in the order of their ids, so that equal sets are equal text.
pub(super) type Links = HashMap<To, Vec<Link>>;

/// Adds a link, once per id; a second label of the same record may make it the primary one.
pub(super) fn add_link(links: &mut Vec<Link>, id: String, primary: bool) {
    match links.iter_mut().find(|link| link.id == id) {
        Some(link) => link.primary |= primary,
        None => links.push(Link { id, primary }),
    }
}

/// Numeric order where both are numbers.
pub(super) fn sort_links(links: &mut [Link]) {
    links.sort_by(|a, b| (a.id.len(), &a.id).cmp(&(b.id.len(), &b.id)));
}

#[derive(Deserialize)]
struct ListedLinks<'a> {
    #[serde(borrow)]
    results: Vec<ListedLink<'a>>,
    #[serde(default)]
    paging: Option<Paging>,
}

#[derive(Deserialize)]
struct ListedLink<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, rename = "type", default)]
    kind: Option<Text<'a>>,
}

/// The associations inside a listed record. `Ok(None)` when one of the lists goes on elsewhere and must be read apart.
///
/// # Errors
/// When they are not associations.
pub(super) fn listed_links(raw: Option<&str>, to: &[To]) -> Result<Option<Links>, serde_json::Error> {
    let Some(raw) = raw else { return Ok(Some(Links::new())) };
    let listed: HashMap<&str, ListedLinks<'_>> = serde_json::from_str(raw)?;
    let mut links = Links::new();
    for &to in to {
        let Some(found) = listed.get(to.name()) else { continue };
        if found.paging.as_ref().and_then(Paging::after).is_some() {
            return Ok(None);
        }
        let entry = links.entry(to).or_default();
        for link in &found.results {
            // `contact_to_company` is the primary one, `contact_to_company_unlabeled` any other (associations guide).
            let primary = link.kind.as_ref().is_some_and(|kind| kind.0.ends_with("_to_company"));
            add_link(entry, link.id.0.clone().into_owned(), primary);
        }
        sort_links(entry);
    }
    Ok(Some(links))
}

/// An answer of the associations' batch read.
#[derive(Debug, Deserialize)]
pub(super) struct BatchLinks {
    pub(super) results: Vec<FromLinks>,
}

/// One record's associations, or a part of them.
#[derive(Debug, Deserialize)]
pub(super) struct FromLinks {
    pub(super) from: RecordId,
    #[serde(default)]
    pub(super) to: Vec<ToLink>,
    #[serde(default)]
    paging: Option<Paging>,
}

impl FromLinks {
    /// Where the rest of a long list starts.
    pub(super) fn after(&self) -> Option<&str> {
        self.paging.as_ref()?.after()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct RecordId {
    pub(super) id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToLink {
    #[serde(deserialize_with = "text_or_number")]
    pub(super) to_object_id: String,
    #[serde(default)]
    association_types: Vec<AssociationType>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssociationType {
    #[serde(default)]
    category: String,
    type_id: u32,
}

/// Type ids of the primary company of a contact and of a deal (associations guide, "Association type id values").
const PRIMARY_COMPANY_TYPES: [u32; 2] = [1, 5];

impl ToLink {
    pub(super) fn is_primary(&self, to: To) -> bool {
        let primary =
            |kind: &AssociationType| kind.category != "USER_DEFINED" && PRIMARY_COMPANY_TYPES.contains(&kind.type_id);
        to == To::Companies && self.association_types.iter().any(primary)
    }
}

/// The v4 guide shows ids as numbers, the dated models as text.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(u64),
        Text(String),
    }
    Ok(match Id::deserialize(deserializer)? {
        Id::Number(number) => number.to_string(),
        Id::Text(text) => text,
    })
}
