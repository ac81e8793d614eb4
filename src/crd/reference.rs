//! docs/crd-reference.md, from the schemas: every field with type, default, bounds and rules.
//! Says nothing that the definitions and constants do not say.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

use super::{
    FORCE_DELETE_ANNOTATION, REQUESTED_AT_ANNOTATION, SCHEDULE_FINALIZER, conditions,
    definition::{GENERATED_BY, definitions, schema},
};

const INTRODUCTION: &str = "# Reference of the custom resources

API group `sync.gtmclarity.io`, version `v1alpha1`, namespaced. The same texts are in `kubectl explain connector.spec` and so on.
Apply with `kubectl apply --server-side --validate=strict`, so that a misspelt field is refused and not dropped.
";

/// The whole page.
#[must_use]
pub fn reference() -> String {
    let mut page = format!("<!-- {GENERATED_BY} -->\n{INTRODUCTION}");
    for definition in definitions().iter().rev() {
        kind(&mut page, definition);
    }
    annotations(&mut page);
    meanings(&mut page, "Conditions", "Type", conditions::TYPES);
    meanings(&mut page, "Reasons", "Reason", conditions::reason::REASONS);
    page
}

/// Appends a line; writing into a `String` cannot fail.
macro_rules! line {
    ($page:expr, $($format:tt)*) => { writeln!($page, $($format)*).expect("a String takes any text") };
}

fn kind(page: &mut String, definition: &CustomResourceDefinition) {
    let names = &definition.spec.names;
    let root = schema(definition);
    let short_names = names.short_names.iter().flatten().map(|name| format!("`kubectl get {name}`"));
    line!(page, "\n## {}\n\n{}", names.kind, root.description.as_deref().unwrap_or_default());
    line!(page, "\n{}, or with all of ours `kubectl get gtm`.", short_names.collect::<Vec<_>>().join(", "));
    for rule in root.x_kubernetes_validations.iter().flatten() {
        line!(page, "Refused otherwise: {}.", rule.message.as_deref().unwrap_or_default());
    }
    for (part, title) in [("spec", "Spec"), ("status", "Status: written by the operator only")] {
        let Some(part_schema) = root.properties.as_ref().and_then(|properties| properties.get(part)) else { continue };
        line!(
            page,
            "\n### {} {title}\n\n| Field | Type | Default | Meaning and rules |\n|---|---|---|---|",
            names.kind
        );
        fields(page, part, part_schema);
    }
    columns(page, definition);
}

fn fields(page: &mut String, path: &str, schema: &JSONSchemaProps) {
    for (name, property) in schema.properties.iter().flatten() {
        let required = schema.required.iter().flatten().any(|required| required == name);
        field(page, &format!("{path}.{name}"), property, required);
    }
}

fn field(page: &mut String, path: &str, schema: &JSONSchemaProps, required: bool) {
    let item = item(schema);
    let default = match &schema.default {
        Some(default) => format!("`{}`", default.0),
        None if required => "required".to_owned(),
        None => String::new(),
    };
    let rules =
        schema.x_kubernetes_validations.iter().chain(item.and_then(|item| item.x_kubernetes_validations.as_ref()));
    let messages = rules.flatten().filter_map(|rule| rule.message.clone());
    let mut meaning: Vec<String> = schema.description.iter().cloned().chain(bounds(schema)).collect();
    for message in messages {
        if !meaning.contains(&message) {
            meaning.push(message);
        }
    }
    let meaning = meaning.join("\n").replace("\n\n", "\n").replace('|', "\\|").replace('\n', "<br>");
    line!(page, "| `{path}` | {} | {default} | {meaning} |", type_name(schema));
    // Kubernetes' own Condition needs no table of its own.
    if !path.ends_with(".conditions") {
        fields(page, path, schema);
        item.into_iter().for_each(|item| fields(page, &format!("{path}[]"), item));
    }
}

fn item(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => Some(item),
        _ => None,
    }
}

fn type_name(schema: &JSONSchemaProps) -> String {
    let name = schema.type_.as_deref().unwrap_or("any");
    match (name, item(schema)) {
        ("array", Some(item)) => format!("list of {}", type_name(item)),
        ("string", _) if schema.enum_.is_some() => "enum".to_owned(),
        ("string", _) if schema.format.as_deref() == Some("date-time") => "time".to_owned(),
        _ => name.to_owned(),
    }
}

/// Numbers and lengths, as far as they are worth a reader's time.
fn bounds(schema: &JSONSchemaProps) -> Option<String> {
    match (schema.minimum, schema.maximum, schema.min_items, schema.max_items) {
        (Some(minimum), Some(maximum), _, _) => Some(format!("{minimum} to {maximum}")),
        (_, _, minimum, Some(maximum)) => Some(format!("{} to {maximum} items", minimum.unwrap_or_default())),
        _ => None,
    }
}

fn columns(page: &mut String, definition: &CustomResourceDefinition) {
    let version = definition.spec.versions.first().expect("one version is derived");
    line!(page, "\n### {} columns\n\n| Column | From |\n|---|---|", definition.spec.names.kind);
    for column in version.additional_printer_columns.iter().flatten() {
        let wide = if column.priority.unwrap_or_default() > 0 { " (`-o wide`)" } else { "" };
        line!(page, "| {}{wide} | `{}` |", column.name, column.json_path);
    }
}

fn annotations(page: &mut String) {
    line!(page, "\n## Annotations and finalizer\n\n| Name | Meaning |\n|---|---|");
    line!(
        page,
        "| `{REQUESTED_AT_ANNOTATION}` | sync now: a token, carried out once, then shown in `status.lastHandled.requestedAt` |"
    );
    line!(
        page,
        "| `{FORCE_DELETE_ANNOTATION}` | `\"true\"` on a TenantSchedule being deleted: do not wait for Temporal and the store |"
    );
    line!(page, "| `{SCHEDULE_FINALIZER}` | finalizer of a TenantSchedule: its schedule in Temporal goes first |");
}

fn meanings(page: &mut String, title: &str, column: &str, table: &[(&str, &str)]) {
    line!(page, "\n## {title}\n\n| {column} | Meaning |\n|---|---|");
    for (name, meaning) in table {
        line!(page, "| `{name}` | {} |", meaning.trim());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_reference_has_a_meaning() {
        let page = reference();
        for row in page.lines().filter(|line| line.starts_with("| `")) {
            assert!(!row.trim_end_matches(['|', ' ']).ends_with('|') && !row.contains("|  |\n"), "{row}");
        }
        assert!(page.contains("| `spec.sync.batchSize` | integer | `5000` |"), "{page}");
        assert!(page.contains("| `spec.tenantId` | string | required |"), "{page}");
    }
}
