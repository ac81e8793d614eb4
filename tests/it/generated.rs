//! Generated files are what the types say now.

use std::path::Path;

use gtm_sync::crd::generate;

#[test]
fn generated_files_are_current() {
    let stale = generate::stale(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(stale.is_empty(), "stale, run `cargo xtask generate`: {stale:?}");
}
