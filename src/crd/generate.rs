//! Writes the files made from the types, or says which of them are stale: `cargo xtask generate`, `gtm-sync crds`.
//! What the files say is `definition`'s and `reference`'s.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{manifests, reference};
use crate::error_class::Class;

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("write generated file {path}")]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

impl Error {
    /// Only somebody with access to the disk can mend it.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::Invalid
    }
}

/// Every generated file: its path below the repository's root, and its text.
#[must_use]
pub fn files() -> Vec<(PathBuf, String)> {
    let mut files = vec![(PathBuf::from("docs/crd-reference.md"), reference())];
    for (name, yaml) in manifests() {
        files.push((Path::new("charts/gtm-sync/templates/crds").join(&name), chart_template(&yaml)));
        files.push((Path::new("crds").join(name), yaml));
    }
    files
}

/// The generated files below `root` whose text is not what it should be; nothing is written.
#[must_use]
pub fn stale(root: &Path) -> Vec<PathBuf> {
    let differs = |path: &PathBuf, text: &str| fs::read_to_string(root.join(path)).is_ok_and(|found| found == text);
    files().into_iter().filter(|(path, text)| !differs(path, text)).map(|(path, _)| path).collect()
}

/// Writes the stale files below `root` and names them.
///
/// # Errors
/// The file that could not be written.
///
/// # Idempotency
/// A second call writes nothing.
pub fn write(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let stale = stale(root);
    for (path, text) in files().into_iter().filter(|(path, _)| stale.contains(path)) {
        let target = root.join(&path);
        let parent = target.parent().expect("every generated file is in a directory");
        fs::create_dir_all(parent).and_then(|()| fs::write(&target, text)).map_err(|source| Error { path, source })?;
    }
    Ok(stale)
}

/// The definition as a template of the chart: switched by `crds.enabled`, kept on uninstall by `crds.keep`.
fn chart_template(yaml: &str) -> String {
    const KEEP: &str =
        "\nmetadata:\n  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n";
    let escaped = yaml.replace("{{", "{{ \"{{\" }}");
    format!("{{{{- if .Values.crds.enabled }}}}\n{}{{{{- end }}}}\n", escaped.replacen("\nmetadata:\n", KEEP, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_template_renders_braces_as_they_are_and_keeps_the_definition_on_demand() {
        let template = chart_template("# head\nkind: X\nmetadata:\n  name: x\ntext: a {{ b\n");
        assert!(template.starts_with("{{- if .Values.crds.enabled }}\n# head\n"), "{template}");
        assert!(template.contains("metadata:\n  {{- if .Values.crds.keep }}\n  annotations:"), "{template}");
        assert!(template.ends_with("text: a {{ \"{{\" }} b\n{{- end }}\n"), "{template}");
    }

    #[test]
    fn writing_makes_every_file_current_and_a_second_time_writes_nothing() {
        let root = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(stale(root.path()).len(), files().len());
        assert_eq!(write(root.path()).expect("written").len(), files().len());
        assert_eq!(write(root.path()).expect("written"), Vec::<PathBuf>::new());
        let edited = &files()[1].0;
        fs::write(root.path().join(edited), "by hand").expect("written");
        assert_eq!(stale(root.path()), vec![edited.clone()]);
    }
}
