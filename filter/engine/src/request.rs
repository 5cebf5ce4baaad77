//! A borrowed view of one request's headers, as bytes. It knows nothing of hosts: the filter reads
//! Envoy's header buffer in place, tests pass a slice.

use alloc::vec::Vec;

/// What the names of headers begin with that no client may send: ours, in which underscores count as
/// hyphens, because CGI-like upstreams cannot tell them apart, and the one that tells of a rewritten
/// path, which access logs believe.
pub const PRIVATE_HEADERS: [&str; 3] = ["x-rampart", "x_rampart", "x-envoy-original-path"];

/// Whether no client may send a header, or a trailer, of this name.
#[must_use]
pub fn is_private(name: &[u8]) -> bool {
    // All of them begin with an x, and most names do not.
    name.first() == Some(&b'x') && PRIVATE_HEADERS.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
}

/// Whether two names are one to a CGI-like upstream, which reads underscores as hyphens.
#[must_use]
pub fn alike(one: &[u8], other: &[u8]) -> bool {
    let hyphened = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
    one.iter().map(hyphened).eq(other.iter().map(hyphened))
}

/// `connection` without the private headers that a client names there; none where it names none. On
/// an upgrade Envoy passes the header on, and the next hop would drop what it names (RFC 9110 §7.6.1).
#[must_use]
pub fn without_private(connection: &[u8]) -> Option<Vec<u8>> {
    let begins_with = |option: &[u8], prefix: &str| {
        option.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    let is_private = |option: &&[u8]| PRIVATE_HEADERS.iter().any(|prefix| begins_with(option, prefix));
    let options = || connection.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    options().find(is_private)?;
    Some(options().filter(|option| !is_private(option)).collect::<Vec<_>>().join(&b", "[..]))
}

/// Request headers in the order they came, pseudo-headers (`:method`, `:path`) among them. Names
/// are lower-case, as HTTP/2 and Envoy have them.
pub trait Headers {
    /// All headers, repeated names included.
    fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])>;

    /// The first value of `name`.
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.pairs().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }
}

impl Headers for &[(&str, &str)] {
    fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_names_are_known_by_how_they_begin() {
        for prefix in PRIVATE_HEADERS {
            assert!(
                is_private(prefix.as_bytes()) && is_private(&[prefix.as_bytes(), b"-y"].concat()),
                "{prefix}"
            );
        }
        for public in ["", "x", "x-request-id", "x-envoy-original-host", "rampart", "y-rampart"] {
            assert!(!is_private(public.as_bytes()), "{public}");
        }
    }
}
