//! Unguessable text for passwords and tokens of one run.

use std::{fs::File, io::Read as _};

use anyhow::Context as _;

/// `bytes` random bytes in hexadecimal.
///
/// # Errors
/// When the system's source cannot be read.
pub(crate) fn hexadecimal(bytes: usize) -> anyhow::Result<String> {
    let mut buffer = vec![0; bytes];
    let mut source = File::open("/dev/urandom").context("could not open /dev/urandom")?;
    source.read_exact(&mut buffer).context("could not read /dev/urandom")?;
    Ok(buffer.iter().map(|it| format!("{it:02x}")).collect())
}
