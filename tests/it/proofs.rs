//! docs/proofs.md names tests; each of them is there.

use std::{collections::BTreeSet, fs, path::Path};

/// Every `fn` of the folder's Rust files.
fn functions(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            functions(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("readable");
            let named = text.split("fn ").skip(1).filter_map(|rest| rest.split_once('('));
            into.extend(named.map(|(name, _)| name.to_owned()));
        }
    }
}

/// Sentences in code marks: what no file, field or command looks like.
fn named(text: &str) -> Vec<&str> {
    let sentence = |word: &&str| {
        word.matches('_').count() > 2
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.split('`').skip(1).step_by(2).filter(sentence).collect()
}

#[test]
fn every_test_that_the_proofs_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut there = BTreeSet::new();
    for folder in ["src", "tests", "simulators/src", "xtask/src"] {
        functions(&root.join(folder), &mut there);
    }
    let text = fs::read_to_string(root.join("docs/proofs.md")).expect("the proofs");
    let named = named(&text);
    assert!(named.len() > 80, "{}", named.len());
    let missing: Vec<_> = named.into_iter().filter(|name| !there.contains(*name)).collect();
    assert_eq!(missing, [""; 0]);
}
