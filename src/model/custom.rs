//! The `custom` column taken apart and put together again: one JSON object, a member for each property.
//! Off the hot path: only rows with a misfit, or of streams with field rules, come here.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::value::RawValue;

use super::{entity::ColumnType, record::Cell};

/// The members of `custom`: raw JSON by property, in the order of names.
#[derive(Debug, Default)]
pub(super) struct Custom(BTreeMap<String, String>);

impl Custom {
    /// Of a cell; what is no object has no members.
    pub(super) fn of(cell: &Cell<'_>) -> Self {
        let Cell::Json(text) = cell else { return Self::default() };
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
        Self(members.into_iter().map(|(name, raw)| (name, raw.get().to_owned())).collect())
    }

    /// Adds a text, unless the property is there already.
    pub(super) fn keep(&mut self, property: &str, text: &str) {
        self.0.entry(property.to_owned()).or_insert_with(|| json_text(text));
    }

    /// Gives each member to `change`, which answers with its new text, or `None` for the value as it is.
    pub(super) fn change(&mut self, change: impl Fn(&str, &str) -> Option<String>) {
        for (name, raw) in &mut self.0 {
            if let Some(text) = change(name, raw) {
                *raw = json_text(&text);
            }
        }
    }

    /// Drops the members that `kept` does not name.
    pub(super) fn retain(&mut self, kept: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| kept(name));
    }

    /// Makes every member storable: as text, or by leaving it out.
    pub(super) fn mend(&mut self, as_text: bool) {
        self.0.retain(|name, raw| {
            let storable = Cell::Json(Cow::Borrowed(raw)).storable(ColumnType::Json);
            if !storable {
                *raw = json_text(&text_of(raw));
            }
            (storable || as_text) && !name.contains('\0')
        });
    }

    /// The cell; null without members.
    pub(super) fn into_cell(self) -> Cell<'static> {
        if self.0.is_empty() {
            return Cell::Null;
        }
        let members: Vec<_> = self.0.iter().map(|(name, raw)| format!("{}:{raw}", json_text(name))).collect();
        Cell::Json(Cow::Owned(format!("{{{}}}", members.join(","))))
    }
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("texts are serialisable")
}

/// A raw JSON value as text that both stores take: a string's content, else the JSON itself; NUL and lone surrogates
/// become U+FFFD.
#[must_use]
pub fn text_of(raw: &str) -> String {
    let whole = without_lone_surrogates(raw);
    serde_json::from_str(&whole).unwrap_or(whole)
}

/// Escapes of NUL and of half a surrogate pair as escapes of U+FFFD.
fn without_lone_surrogates(raw: &str) -> String {
    let mut clean = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match (code_unit(rest), rest.get(6..).and_then(code_unit)) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => 12,
            (Some(0 | 0xD800..0xE000), _) => {
                clean.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            (Some(_), _) => 6,
            // Any other escape is two characters; a backslash at the end is none.
            (None, _) => rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end),
        };
        clean.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    clean + rest
}

/// The UTF-16 code unit of a `\uXXXX` at the beginning.
fn code_unit(text: &str) -> Option<u16> {
    let digits =
        text.strip_prefix("\\u")?.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    u16::from_str_radix(digits?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_becomes_text_that_is_storable() {
        let cases = [
            (r#""plain""#, "plain"),
            (r#""a\u0000b""#, "a\u{fffd}b"),
            (r#""\ud83d\ude00 \ud83d, \ude00\\u0000""#, "😀 \u{fffd}, \u{fffd}\\u0000"),
            ("1e400000", "1e400000"),
            (r#"{"a":"\ud800"}"#, r#"{"a":"\ufffd"}"#),
            (r#""ends\"#, r#""ends\"#),
            (r#""\ud8"#, r#""\ud8"#),
        ];
        for (raw, text) in cases {
            assert_eq!(text_of(raw), text, "{raw}");
            assert!(Cell::Json(json_text(text).into()).storable(ColumnType::Json), "{raw}");
        }
    }

    #[test]
    fn members_are_mended_one_by_one() {
        let cell = Cell::Json(r#"{"good":[1],"huge":1e400000,"nul":"\u0000"}"#.into());
        let mended = |as_text| {
            let mut custom = Custom::of(&cell);
            custom.mend(as_text);
            custom.keep("good", "is there already");
            custom.keep("email", "\"ü\"");
            custom.into_cell()
        };
        assert_eq!(mended(false), Cell::Json(r#"{"email":"\"ü\"","good":[1]}"#.into()));
        let text = r#"{"email":"\"ü\"","good":[1],"huge":"1e400000","nul":"�"}"#;
        assert_eq!(mended(true), Cell::Json(text.into()));
        assert_eq!(Custom::of(&Cell::Json("{".into())).into_cell(), Cell::Null);
    }
}
