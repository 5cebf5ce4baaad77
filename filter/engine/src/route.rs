//! Which route a path leads to: version × namespace, then the segments below it.
//!
//! The cost of a look-up depends on the length of the path and on the routes of one namespace's
//! matching branches, never on the number of modules. It knows nothing of flags and tokens.

use alloc::{borrow::Cow, boxed::Box, string::String, vec::Vec};
use hashbrown::HashMap;

use crate::path::{self, ModulePath, Segments};

/// Index of a route in the policy's list.
pub type RouteId = u32;

/// All routes, by version and namespace.
#[derive(Debug, Default)]
pub struct RouteTable {
    by_namespace: HashMap<Box<[u8]>, Versions>,
}

/// The versions of one namespace: a handful.
type Versions = Vec<(Box<str>, Node)>;

/// What a path and method lead to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A route.
    Route(RouteId),
    /// The path is known, the method is not; these are.
    WrongMethod(Vec<&'a str>),
    /// The namespace is known, the path below it is not.
    NoRoute,
    /// The namespace is known, but not in this version; these are.
    NoVersion(Vec<&'a str>),
    /// The namespace is not known.
    NoModule,
}

/// The one route of a module that lists none: everything below its namespace.
pub const EVERYTHING: &str = "/{*path}";

/// Why a pattern cannot be added.
#[derive(Debug, PartialEq, Eq)]
pub enum PatternError {
    /// The pattern itself is wrong, and how.
    Malformed(&'static str),
    /// The same path and method lead to this route already.
    Taken {
        /// The route that has it.
        by: RouteId,
        /// The method in common; none where either takes every method.
        method: Option<String>,
    },
}

impl RouteTable {
    /// Adds a route. No methods means every method.
    ///
    /// # Errors
    /// A malformed pattern, or one that another route has already; the table is then unchanged
    /// but for empty branches.
    pub fn insert(
        &mut self,
        version: &str,
        namespace: &str,
        pattern: &str,
        methods: &[String],
        id: RouteId,
    ) -> Result<(), PatternError> {
        let segments = parse_pattern(pattern)?;
        let versions = self.by_namespace.entry_ref(namespace.as_bytes()).or_default();
        let index = versions.iter().position(|(known, _)| **known == *version).unwrap_or(versions.len());
        if index == versions.len() {
            versions.push((version.into(), Node::default()));
        }
        match versions.get_mut(index) {
            Some((_, tree)) => tree.endpoint(&segments).add(methods, id),
            None => Ok(()),
        }
    }

    /// The route for a path. HEAD is served wherever GET is (RFC 9110 §9.3.2).
    #[must_use]
    pub fn find(&self, path: &ModulePath<'_>, method: &[u8]) -> Found<'_> {
        let Some(versions) = self.by_namespace.get(&*path.namespace) else {
            return Found::NoModule;
        };
        let Some((_, tree)) = versions.iter().find(|(known, _)| known.as_bytes() == &*path.version) else {
            return Found::NoVersion(versions.iter().map(|(version, _)| &**version).collect());
        };
        tree.find(path.rest).map_or(Found::NoRoute, |endpoint| endpoint.route(method))
    }
}

/// The place of a pattern's parameter `{name}` among its segments, counted from zero.
pub(crate) fn parameter(pattern: &str, name: &str) -> Option<usize> {
    let is_it = |text: &str| text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) == Some(name);
    pattern.strip_prefix('/').filter(|_| is_name(name))?.split('/').position(is_it)
}

/// One segment of a pattern.
#[derive(Debug, PartialEq, Eq)]
enum Segment<'a> {
    Literal(Cow<'a, [u8]>),
    /// `{name}`
    One,
    /// `{*name}`, always last.
    Rest,
}

fn parse_pattern(pattern: &str) -> Result<Vec<Segment<'_>>, PatternError> {
    let below = pattern.strip_prefix('/').ok_or(PatternError::Malformed("it must begin with `/`"))?;
    let below = below.strip_suffix('/').unwrap_or(below);
    if below.is_empty() {
        return Ok(Vec::new());
    }
    let mut segments = Vec::new();
    let mut names = Vec::new();
    for text in below.split('/') {
        if matches!(segments.last(), Some(Segment::Rest)) {
            return Err(PatternError::Malformed("nothing may follow `{*name}`"));
        }
        let parameter = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        if parameter.is_some_and(|name| names.contains(&name)) {
            return Err(PatternError::Malformed("each of its parameters needs a name of its own"));
        }
        names.extend(parameter);
        segments.push(match parameter.map(|name| (name.strip_prefix('*').is_some(), name.trim_start_matches('*'))) {
            Some((rest, name)) if is_name(name) => if rest { Segment::Rest } else { Segment::One },
            Some(_) => {
                return Err(PatternError::Malformed("a parameter is `{name}` or `{*name}`, of letters, digits and `_`"));
            }
            None => Segment::Literal(path::decode_segment(text.as_bytes()).ok_or(PatternError::Malformed(
                "a segment is not empty and holds only letters, digits and - . _ ~ ! $ & ' ( ) * + , = : @",
            ))?),
        });
    }
    if segments.len() > path::MAX_SEGMENTS {
        return Err(PatternError::Malformed("it has more than 64 segments"));
    }
    Ok(segments)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The routes of one namespace and version, as a tree over segments; the root is the namespace.
/// A look-up visits each node at most once.
#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<[u8]>, Node>,
    one: Option<Box<Node>>,
    here: Option<Endpoint>,
    rest: Option<Endpoint>,
}

impl Node {
    /// The endpoint of a pattern, created on the way.
    fn endpoint(&mut self, segments: &[Segment<'_>]) -> &mut Endpoint {
        match segments.split_first() {
            None => self.here.get_or_insert_default(),
            Some((Segment::Rest, _)) => self.rest.get_or_insert_default(),
            Some((Segment::One, others)) => self.one.get_or_insert_default().endpoint(others),
            Some((Segment::Literal(text), others)) => {
                self.literals.entry_ref(&**text).or_default().endpoint(others)
            }
        }
    }

    /// The most specific endpoint, segment by segment: literal, `{name}`, `{*name}`. The path alone
    /// decides; `{*name}` takes what is left, be it nothing.
    fn find(&self, segments: Segments<'_>) -> Option<&Endpoint> {
        let Some((first, others)) = segments.split_first() else {
            return self.here.as_ref().or(self.rest.as_ref());
        };
        let literal = self.literals.get(&*first).and_then(|next| next.find(others));
        literal.or_else(|| self.one.as_ref()?.find(others)).or(self.rest.as_ref())
    }
}

/// The routes at one path, by method.
#[derive(Debug, Default)]
struct Endpoint {
    every: Option<RouteId>,
    methods: Vec<(Box<str>, RouteId)>,
}

impl Endpoint {
    fn add(&mut self, methods: &[String], id: RouteId) -> Result<(), PatternError> {
        if let Some(by) = self.every {
            return Err(PatternError::Taken { by, method: None });
        }
        if methods.is_empty() {
            if let Some((_, by)) = self.methods.first() {
                return Err(PatternError::Taken { by: *by, method: None });
            }
            self.every = Some(id);
        }
        for method in methods {
            if let Some((_, by)) = self.methods.iter().find(|(known, _)| **known == **method) {
                return Err(PatternError::Taken { by: *by, method: Some(method.clone()) });
            }
            self.methods.push((method.as_str().into(), id));
        }
        Ok(())
    }

    fn route(&self, method: &[u8]) -> Found<'_> {
        let serves = |wanted: &[u8]| {
            self.methods.iter().find(|(known, _)| known.as_bytes() == wanted).map(|(_, id)| *id)
        };
        let head_as_get = || if method == b"HEAD" { serves(b"GET") } else { None };
        match self.every.or_else(|| serves(method)).or_else(head_as_get) {
            Some(id) => Found::Route(id),
            None => Found::WrongMethod(self.methods.iter().map(|(method, _)| &**method).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Target;
    use alloc::{format, string::ToString, vec};

    fn table(routes: &[(&str, &[&str])]) -> RouteTable {
        let mut table = RouteTable::default();
        for (id, (pattern, methods)) in (0..).zip(routes) {
            insert(&mut table, pattern, methods, id).unwrap();
        }
        table
    }

    fn insert(
        table: &mut RouteTable,
        pattern: &str,
        methods: &[&str],
        id: RouteId,
    ) -> Result<(), PatternError> {
        let methods: Vec<String> = methods.iter().map(ToString::to_string).collect();
        table.insert("v1", "ns", pattern, &methods, id)
    }

    fn find<'a>(table: &'a RouteTable, method: &str, below: &str) -> Found<'a> {
        let path = format!("/api/v1/modules/{below}");
        let Target::Module(path) = path::parse(path.as_bytes()) else { panic!("{path}") };
        table.find(&path, method.as_bytes())
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let table =
            table(&[("/a/b", &[]), ("/a/{x}", &[]), ("/{*x}", &[]), ("/a/{x}/c", &[]), ("/{y}/b/d", &[])]);
        for (path, id) in [
            ("/a/b", 0),
            ("/a/z", 1),
            ("/q", 2),
            ("", 2),
            ("/q/r/s", 2),
            ("/a/b/c", 3),
            ("/a/b/d", 4),
            ("/a/b/e", 2),
            ("/a/b/", 0),
            ("/a/%62", 0),
        ] {
            assert_eq!(find(&table, "GET", &format!("v1/ns{path}")), Found::Route(id), "{path}");
        }
    }

    #[test]
    fn says_what_is_unknown() {
        let table = table(&[("/a", &["GET", "POST"])]);
        assert_eq!(find(&table, "HEAD", "v1/ns/a"), Found::Route(0));
        assert_eq!(find(&table, "PUT", "v1/ns/a"), Found::WrongMethod(vec!["GET", "POST"]));
        assert_eq!(find(&table, "get", "v1/ns/a"), Found::WrongMethod(vec!["GET", "POST"]));
        assert_eq!(find(&table, "GET", "v1/ns/b"), Found::NoRoute);
        assert_eq!(find(&table, "GET", "v1/ns"), Found::NoRoute);
        assert_eq!(find(&table, "GET", "v2/ns/a"), Found::NoVersion(vec!["v1"]));
        assert_eq!(find(&table, "GET", "v1/other/a"), Found::NoModule);
        assert_eq!(find(&table, "GET", "v1"), Found::NoModule);
    }

    #[test]
    fn the_same_path_and_method_twice_is_a_conflict() {
        let taken = |pattern, methods: &[&str]| {
            let mut table = table(&[("/a/{x}", &["GET"]), ("/every", &[])]);
            insert(&mut table, pattern, methods, 9)
        };
        let by_get = PatternError::Taken { by: 0, method: Some("GET".into()) };
        assert_eq!(taken("/a/{other}/", &["POST", "GET"]), Err(by_get));
        assert_eq!(taken("/a/{x}", &[]), Err(PatternError::Taken { by: 0, method: None }));
        assert_eq!(taken("/every", &["GET"]), Err(PatternError::Taken { by: 1, method: None }));
        assert_eq!(taken("/a/{x}", &["POST"]), Ok(()));
        assert_eq!(taken("/a/me", &["GET"]), Ok(()));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in [
            "", "a", "/a//b", "/{}", "/{*}", "/{a-b}", "/{*x}/b", "/a b", "/..", "/a%2fb", "/x;y", "/{a",
            "/a{b}", "/{a}/{a}",
        ] {
            let result = insert(&mut RouteTable::default(), pattern, &[], 0);
            assert!(matches!(result, Err(PatternError::Malformed(_))), "{pattern}: {result:?}");
        }
    }
}
