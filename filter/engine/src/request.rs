//! A borrowed view of one request's headers, as bytes. It knows nothing of hosts: the filter reads
//! Envoy's header buffer in place, tests pass a slice.

/// What the names of headers begin with that no client may send: ours, in which underscores count as
/// hyphens, because CGI-like upstreams cannot tell them apart, and the one that tells of a rewritten
/// path, which access logs believe.
pub const PRIVATE_HEADERS: [&str; 3] = ["x-rampart", "x_rampart", "x-envoy-original-path"];

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
