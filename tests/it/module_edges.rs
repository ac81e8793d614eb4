//! The house's walls: which module may use which (layout.md, "Who may use whom"), read from the `use` lines and paths of src/.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const BASE: &[&str] = &["clock", "error_class", "health", "ids", "key_files", "metrics", "settings", "telemetry", "tls"];

/// Module → what it may use beside itself; `base` stands for all of `BASE`.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    BTreeMap::from([
        ("crd", vec!["ids", "error_class"]),
        ("model", vec!["ids", "error_class"]),
        ("contract", vec!["ids"]),
        ("workflows", vec!["contract", "ids"]),
        ("credentials", vec!["model", "base", "store"]),
        ("connectors", vec!["model", "credentials", "base"]),
        ("store", vec!["model", "contract", "credentials", "base"]),
        ("temporal", vec!["contract", "base"]),
        ("activities", vec!["contract", "model", "connectors", "credentials", "store", "temporal", "base"]),
        ("operator", vec!["crd", "contract", "model", "credentials", "temporal", "store", "base"]),
        ("admin", vec!["crd", "model", "store", "base"]),
        (
            "worker",
            vec!["workflows", "activities", "connectors", "contract", "credentials", "store", "temporal", "base"],
        ),
    ])
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src is readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Top-level modules named after `crate::` in a file, also inside `use crate::{a, b::c}` groups.
fn used(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut modules = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        match part.strip_prefix('{') {
            None => drop(modules.insert(word(part))),
            Some(group) => {
                let mut depth = 0;
                let mut name = String::new();
                for character in group.chars() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => drop(modules.insert(word(std::mem::take(&mut name).trim()))),
                        other if depth == 0 => name.push(other),
                        _ => {}
                    }
                }
                modules.insert(word(name.trim()));
            }
        }
    }
    modules.remove("");
    modules
}

#[test]
fn no_module_uses_one_that_the_plan_does_not_grant_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let allowed = allowed();
    let mut broken = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("found below src");
        let module = relative.components().next().expect("a file").as_os_str().to_string_lossy();
        let module = module.trim_end_matches(".rs").to_owned();
        let Some(grants) = allowed.get(module.as_str()) else { continue };
        for name in used(&fs::read_to_string(&file).expect("source is readable")) {
            let base = BASE.contains(&name.as_str()) && grants.contains(&"base");
            let known = allowed.contains_key(name.as_str()) || BASE.contains(&name.as_str());
            if known && name != module && !base && !grants.contains(&name.as_str()) {
                broken.push(format!("{} uses {name}", relative.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_reader_of_use_lines_sees_plain_grouped_and_inline_paths() {
    let text = "use crate::a::B;\nuse crate::{c, d::{E, f}, g};\n// crate::comment\nlet x = crate::h::i();";
    assert_eq!(used(text), ["a", "c", "d", "g", "h"].map(str::to_owned).into());
}

#[test]
fn workflow_code_names_no_clock_no_environment_and_no_io() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/workflows"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).expect("source is readable");
        for banned in ["tokio::", "std::fs", "std::env", "std::net", "SystemTime::now", "Timestamp::now", "rand::"] {
            assert!(!text.contains(banned), "{} names {banned}", file.display());
        }
    }
}
