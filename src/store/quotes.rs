//! Whether the kept payload of a dead letter quotes an e-mail address: what SQL cannot look into (`Store::erase`). Pure.

/// Payloads looked into at once.
pub(super) const AT_ONCE: i64 = 500;

/// Whether a payload in staged form (compressed rows) holds the address, whatever its case. One that cannot be read
/// might, so it does.
pub(super) fn staged(payload: &[u8], address: &str) -> bool {
    let Ok(bytes) = zstd::stream::decode_all(payload) else { return true };
    String::from_utf8_lossy(&bytes).to_lowercase().contains(&address.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_whatever_its_case_and_what_cannot_be_read_counts_as_quoting_it() {
        let payload = zstd::bulk::compress(b"\x01\xff Ada.B@Example.com \x00", -1).expect("compresses");
        assert!(staged(&payload, "ada.b@example.COM"));
        assert!(!staged(&payload, "bob@example.com"));
        assert!(staged(b"junk", "bob@example.com"));
    }
}
