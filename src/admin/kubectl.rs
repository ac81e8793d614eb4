//! The `kubectl` command that puts a wish into a Connector's spec. Pure; what the fields mean is `crd::ConnectorRequests`.

use serde_json::{Value, json};

use crate::store::LetterSelection;

/// A verb about dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Replay,
    Discard,
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Discard => "discard",
        }
    }
}

/// The wish as a merge patch: what is not selected is null, so that nothing of a former wish stays.
pub(super) fn patch(verb: Verb, token: &str, letters: &LetterSelection) -> Value {
    let mut wish = json!({
        "token": token,
        "run": letters.workflow_id,
        "batch": letters.batch_index,
        "entity": letters.entity.map(|entity| entity.table()),
        "record": letters.source_id,
    });
    if verb == Verb::Discard {
        wish["all"] = json!(*letters == LetterSelection::default());
    }
    json!({ "spec": { "requests": { verb.name(): wish } } })
}

/// The command that applies a patch to a Connector.
pub(super) fn command(namespace: &str, name: &str, patch: &Value) -> String {
    // In a POSIX shell nothing but the quote itself ends a single-quoted word.
    let quoted = patch.to_string().replace('\'', r"'\''");
    format!("kubectl -n {namespace} patch connector {name} --type merge -p '{quoted}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crd::ConnectorRequests, model::entity::Entity};

    /// What the API server would store.
    fn requests(patch: &Value) -> ConnectorRequests {
        let mut requests = patch["spec"]["requests"].clone();
        for wish in requests.as_object_mut().expect("an object").values_mut() {
            wish.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        }
        serde_json::from_value(requests).expect("a wish that the schema knows")
    }

    #[test]
    fn the_patch_is_a_wish_of_the_schema_and_clears_what_a_former_one_selected() {
        let letters = LetterSelection {
            entity: Some(Entity::Contact),
            source_id: Some("17".to_owned()),
            ..LetterSelection::default()
        };
        let patch = patch(Verb::Replay, "t", &letters);
        let replay = requests(&patch).replay.expect("a replay");
        assert_eq!((replay.token.as_str(), replay.letters.record.as_deref()), ("t", Some("17")));
        assert!(patch["spec"]["requests"]["replay"]["run"].is_null() && patch.to_string().contains("\"run\":null"));
    }

    #[test]
    fn only_a_discard_without_a_selection_is_about_all() {
        let all = patch(Verb::Discard, "t", &LetterSelection::default());
        assert!(requests(&all).discard.expect("a discard").all);
        let batch =
            LetterSelection { workflow_id: Some("run".to_owned()), batch_index: Some(0), ..LetterSelection::default() };
        let some = requests(&patch(Verb::Discard, "t", &batch)).discard.expect("a discard");
        assert!(!some.all && some.letters.batch == Some(0));
    }

    #[test]
    fn an_id_with_a_quote_stays_one_word_of_the_shell() {
        let letters = LetterSelection { source_id: Some("o'brien".to_owned()), ..LetterSelection::default() };
        let command = command("acme", "hubspot", &patch(Verb::Replay, "t", &letters));
        assert!(command.starts_with("kubectl -n acme patch connector hubspot --type merge -p '{"), "{command}");
        assert!(command.contains(r"o'\''brien"), "{command}");
    }
}
