//! The request path as the upstream will see it.
//!
//! A path that upstreams may read in two ways is refused, so that no spelling of a gated path gets
//! past its gate: encoded slashes, encoded or literal backslashes, encoded dots that make dot
//! segments, `;` parameters, empty segments, control bytes, what is no UTF-8 and bytes that no URL
//! may hold. Envoy normalises before the filter runs; this module does not rely on it.

use alloc::{borrow::Cow, vec::Vec};

/// Paths below this are modules' (the API's own version is fixed; modules have theirs).
pub const PREFIX: &[u8] = b"/api/v1/modules/";

/// Longest path that is looked at, in bytes, without the query.
pub const MAX_LENGTH: usize = 8 * 1024;

/// Most segments below [`PREFIX`] that are looked at.
pub const MAX_SEGMENTS: usize = 64;

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Not below [`PREFIX`].
    Outside,
    /// Below [`PREFIX`], well-formed.
    Module(ModulePath<'a>),
    /// Below [`PREFIX`] or so near to it that a server may think so, but not to be trusted.
    Refused,
}

/// A path below [`PREFIX`], taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct ModulePath<'a> {
    /// `v1`, …
    pub version: Cow<'a, [u8]>,
    /// Second segment; empty where the path ends after the version.
    pub namespace: Cow<'a, [u8]>,
    /// Segments below the namespace. One trailing slash is ignored, so that `/x/` can never get
    /// past the gate of `/x`.
    pub rest: Segments<'a>,
}

/// Well-formed path segments, decoded as they are asked for; nothing is allocated for a path
/// without escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments<'a> {
    rest: Option<&'a [u8]>,
    /// Whether any of them has an escape; most paths have none, and are not searched again.
    escaped: bool,
}

impl<'a> Segments<'a> {
    /// The segment at a place, counted from zero, percent-decoded.
    #[must_use]
    pub fn nth(self, place: usize) -> Option<Cow<'a, [u8]>> {
        let mut rest = self;
        for _ in 0..place {
            rest = rest.split_first()?.1;
        }
        rest.split_first().map(|(segment, _)| segment)
    }

    /// The first segment, percent-decoded, and the others.
    #[must_use]
    pub fn split_first(self) -> Option<(Cow<'a, [u8]>, Self)> {
        let mut parts = self.rest?.splitn(2, |byte| *byte == b'/');
        let first = parts.next()?;
        // `read` has decoded every segment once: the fallback is never taken.
        let decoded = if self.escaped { decode_segment(first) } else { None };
        Some((decoded.unwrap_or(Cow::Borrowed(first)), Self { rest: parts.next(), ..self }))
    }

    /// Takes a path apart, if all of it is well-formed.
    fn read(path: &'a [u8]) -> Option<Self> {
        let (mut count, mut escaped) = (0, false);
        for segment in path.split(|byte| *byte == b'/') {
            count += 1;
            escaped |= matches!(decode_segment(segment)?, Cow::Owned(_));
        }
        (count <= MAX_SEGMENTS).then_some(Self { rest: Some(path), escaped })
    }
}

/// Takes `:path` apart.
#[must_use]
pub fn parse(path: &[u8]) -> Target<'_> {
    let path = before_query(path);
    let Some(below) = path.strip_prefix(PREFIX) else {
        let refused = resembles(path) || has_dot_segment(path);
        return if refused { Target::Refused } else { Target::Outside };
    };
    let segments = if path.len() <= MAX_LENGTH {
        Segments::read(below.strip_suffix(b"/").unwrap_or(below))
    } else {
        None
    };
    let Some((version, others)) = segments.and_then(Segments::split_first) else {
        return Target::Refused;
    };
    let (namespace, rest) = others.split_first().unwrap_or((Cow::Borrowed(b""), others));
    Target::Module(ModulePath { version, namespace, rest })
}

fn before_query(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|byte| matches!(byte, b'?' | b'#'));
    end.and_then(|end| path.get(..end)).unwrap_or(path)
}

/// Whether a lenient server may take a path for one below [`PREFIX`]: in capitals, escaped, with
/// `;` parameters, backslashes or doubled slashes. It would get past the gates in front of the
/// legacy application, which is asked for everything outside.
fn resembles(mut path: &[u8]) -> bool {
    let (mut wanted, mut last, mut parameter) = (PREFIX, 0, false);
    while let Some((byte, rest)) = read_leniently(path) {
        path = rest;
        parameter = byte == b';' || (parameter && byte != b'/');
        if parameter || (byte == b'/' && last == b'/') {
            continue;
        }
        last = byte;
        match wanted.split_first() {
            Some((next, others)) if *next == byte => wanted = others,
            Some(_) => return false,
            None => return true,
        }
    }
    wanted.is_empty()
}

/// Whether a lenient server may find a dot segment, with which it would climb to a path below
/// [`PREFIX`]. Envoy resolves those it sees; undoing escapes, it makes `..;` of `%2e%2e;` and lets
/// that stand.
fn has_dot_segment(mut path: &[u8]) -> bool {
    let (mut dots, mut others, mut parameter) = (0, false, false);
    let is_one = |dots: usize, others: bool| (1..=2).contains(&dots) && !others;
    while let Some((byte, rest)) = read_leniently(path) {
        path = rest;
        match byte {
            b'/' if is_one(dots, others) => return true,
            b'/' => (dots, others, parameter) = (0, false, false),
            b';' => parameter = true,
            _ if parameter => {}
            b'.' => dots += 1,
            _ => others = true,
        }
    }
    is_one(dots, others)
}

/// The first byte as a lenient server reads it, however often it is escaped, and what follows.
fn read_leniently(path: &[u8]) -> Option<(u8, &[u8])> {
    let (first, mut rest) = path.split_first()?;
    let mut byte = *first;
    while let (b'%', Some(([high, low], after))) = (byte, rest.split_first_chunk()) {
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { break };
        (byte, rest) = ((high << 4) | low, after);
    }
    Some((if byte == b'\\' { b'/' } else { byte.to_ascii_lowercase() }, rest))
}

/// A well-formed module path with `prefix` in place of everything up to and including the namespace;
/// what follows is kept byte for byte, the query included. The prefix has no trailing slash.
#[must_use]
pub fn rewrite(path: &[u8], prefix: &str) -> Vec<u8> {
    let mut slashes = 0;
    let after_namespace = |byte: &u8| {
        slashes += usize::from(*byte == b'/');
        slashes == 2 || matches!(byte, b'?' | b'#')
    };
    let below = path.strip_prefix(PREFIX).unwrap_or_default();
    let rest = below.iter().position(after_namespace).and_then(|end| below.get(end..)).unwrap_or_default();
    let root: &[u8] = if prefix.is_empty() && !rest.starts_with(b"/") { b"/" } else { b"" };
    [prefix.as_bytes(), root, rest].concat()
}

/// One segment, percent-decoded; none where its meaning is open to interpretation.
pub(crate) fn decode_segment(segment: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut escaped = false;
    for byte in segment {
        if !is_allowed(*byte) {
            return None;
        }
        escaped |= *byte == b'%';
    }
    let decoded = if escaped { Cow::Owned(decode(segment)?) } else { Cow::Borrowed(segment) };
    (!matches!(&*decoded, b"" | b"." | b"..")).then_some(decoded)
}

/// `pchar` of RFC 3986 §3.3, without `;`: servers differ on whether it starts parameters. Looked up, since
/// every byte of every path is asked about.
fn is_allowed(byte: u8) -> bool {
    #[expect(clippy::indexing_slicing, reason = "the compiler carries it out")]
    static ALLOWED: [bool; 256] = {
        let mut allowed = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            allowed[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut others: &[u8] = b"-._~%!$&'()*+,=:@";
        while let [byte, rest @ ..] = others {
            allowed[*byte as usize] = true;
            others = rest;
        }
        allowed
    };
    ALLOWED.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Percent-decodes; none for a truncated or non-hexadecimal escape, for what is no UTF-8, and for an
/// escaped byte that a server might act upon after decoding.
fn decode(segment: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.iter().copied();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let value = (hex(bytes.next()?)? << 4) | hex(bytes.next()?)?;
            if value.is_ascii_control() || matches!(value, b'/' | b'\\' | b';' | b'%') {
                return None;
            }
            value
        } else {
            byte
        });
    }
    // Overlong UTF-8 (`%c0%ae`) is a dot to those who do not check.
    core::str::from_utf8(&decoded).ok()?;
    Some(decoded)
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(path: &str) -> Vec<Vec<u8>> {
        let Target::Module(path) = parse(path.as_bytes()) else { panic!("{path}") };
        let rest = core::iter::successors(path.rest.split_first(), |(_, others)| others.split_first());
        let rest = rest.map(|(segment, _)| segment);
        [path.version, path.namespace].into_iter().chain(rest).map(Cow::into_owned).collect()
    }

    #[test]
    fn takes_a_module_path_apart() {
        assert_eq!(segments("/api/v1/modules/v1/ns/a/b?q=/x"), [&b"v1"[..], b"ns", b"a", b"b"]);
        assert_eq!(segments("/api/v1/modules/v1/ns/a/"), [&b"v1"[..], b"ns", b"a"]);
        assert_eq!(segments("/api/v1/modules/v1/ns"), [&b"v1"[..], b"ns"]);
        assert_eq!(segments("/api/v1/modules/v1"), [&b"v1"[..], b""]);
        assert_eq!(segments("/api/v1/modules/v1/ns/%61dmin/x%20y"), [&b"v1"[..], b"ns", b"admin", b"x y"]);
    }

    #[test]
    fn leaves_other_paths_alone() {
        for path in [
            "/",
            "",
            "*",
            "/api/v1/modules",
            "/api/v1/modulesx/v1",
            "/API/v1/modules",
            "/api/v1/modules;x",
            "/api/v1/module%73x/v1",
            "/x?/api/v1/modules/",
            "/.hidden/..data/a..",
            "/.../a",
            "/a;../b",
            "/x?/../",
            "/%2541/%zz%",
        ] {
            assert_eq!(parse(path.as_bytes()), Target::Outside, "{path}");
        }
    }

    #[test]
    fn refuses_what_can_be_read_in_two_ways() {
        for tail in [
            "",
            "/",
            "v1//a",
            "v1/ns//a",
            "v1/ns/../a",
            "v1/ns/.",
            "v1/ns/%2e%2E/a",
            "v1/ns/a%2fb",
            "v1/ns/a%5Cb",
            "v1/ns/a\\b",
            "v1/ns/a;x=1",
            "v1/ns/a%3bx",
            "v1/ns/%00",
            "v1/ns/%0a",
            "v1/ns/%2561",
            "v1/ns/%",
            "v1/ns/%6",
            "v1/ns/%zz",
            "v1/ns/a b",
            "v1/ns/caf\u{e9}",
            "v1/ns/a|b",
            "v1/ns/caf%e9",
            "v1/ns/%c0%ae%c0%ae/a",
            "v1/ns/%c0%af",
            "v1/ns/%ed%a0%80",
        ] {
            let path = alloc::format!("/api/v1/modules/{tail}");
            assert_eq!(parse(path.as_bytes()), Target::Refused, "{path}");
        }
        for path in [
            "/API/v1/modules/v1/ns",
            "/out/..;/api/v1/modules/v1/ns",
            "/out/%2e%2e%3bx/api/v1/modules/v1/ns",
            "/.;/api/v1/modules/v1/ns",
            "/out\\..\\api",
            "/out/..",
            "/api/v1/Modules/",
            "/%61pi/v1/modules/v1/ns",
            "/api/v1/module%53/v1/ns",
            "/api/v1/modules;x/v1/ns",
            "/api;/v1;a=b;c/modules/v1/ns",
            "/;x/api/v1/modules/v1/ns",
            "//api/v1///modules/v1/ns",
            "/api\\v1/modules%5Cv1/ns",
            "/api/v1/modules%2fv1/ns",
            "/api%3bx/v1/modules/v1",
            "/%2561pi/v1/modules/v1/ns",
            "/api%25252fv1/modules/v1/ns",
            "/out/%252e%252e/api/v1/modules/v1/ns",
        ] {
            assert_eq!(parse(path.as_bytes()), Target::Refused, "{path}");
        }
        let long = alloc::format!("/api/v1/modules/v1/ns/{}", "a".repeat(MAX_LENGTH));
        assert_eq!(parse(long.as_bytes()), Target::Refused);
        let deep = alloc::format!("/api/v1/modules/v1/ns{}", "/a".repeat(MAX_SEGMENTS - 1));
        assert_eq!(parse(deep.as_bytes()), Target::Refused);
    }
}
