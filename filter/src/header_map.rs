//! The host's header buffer, read in place: counts, lengths, then NUL-terminated names and values
//! (proxy-wasm ABI 0.2.1, "serialized map"). Bytes throughout: clients may send any.

use rampart_engine::request::Headers;

/// A serialised header map.
pub(crate) struct HeaderMap(Vec<u8>);

impl HeaderMap {
    /// Takes the host's buffer. A malformed one reads as having fewer headers, never as a fault.
    pub(crate) fn new(buffer: Vec<u8>) -> Self {
        Self(buffer)
    }

    /// Serialises headers for the host.
    pub(crate) fn serialise(headers: &[(&str, String)]) -> Vec<u8> {
        let mut lengths = Vec::new();
        let mut text = Vec::new();
        lengths.extend((headers.len() as u32).to_le_bytes());
        for (name, value) in headers {
            for part in [name.as_bytes(), value.as_bytes()] {
                lengths.extend((part.len() as u32).to_le_bytes());
                text.extend(part);
                text.push(0);
            }
        }
        lengths.append(&mut text);
        lengths
    }
}

impl Headers for HeaderMap {
    fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (count, after) = self
            .0
            .split_first_chunk()
            .map_or((0, &[][..]), |(count, after)| (u32::from_le_bytes(*count) as usize, after));
        let split = count.saturating_mul(8).min(after.len());
        let (lengths, mut text) = after.split_at(split);
        let (lengths, _) = lengths.as_chunks();
        lengths.iter().map_while(move |pair| {
            let lengths = u64::from_le_bytes(*pair);
            let (name, rest) = text.split_at_checked(lengths as u32 as usize)?;
            let (value, rest) = rest.get(1..)?.split_at_checked((lengths >> 32) as usize)?;
            text = rest.get(1..)?;
            Some((name, value))
        })
    }
}
