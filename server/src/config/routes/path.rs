//! Method and path of a route: `"GET /running/{index}"`.
//!
//! A path is made of segments that stand for themselves and of parameters, each a whole segment. Where several paths
//! fit a request, one that says more at its first difference wins: `/running/latest` before `/running/{index}`.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::super::check::hint;

/// Paths that no route may take, and everything below them: the program's own.
const BUILT_IN: &[&str] = &[
    "/v1/streams",
    "/v1/stats",
    "/v1/sql",
    "/livez",
    "/readyz",
    "/metrics",
    "/version",
    "/openapi.json",
    "/docs",
    "/redoc",
    "/demo",
];

/// The method of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteMethod {
    /// A question.
    Get,
    /// Events.
    Post,
    /// A WebSocket, which begins as a GET.
    Ws,
}

impl RouteMethod {
    const ALL: [Self; 3] = [Self::Get, Self::Post, Self::Ws];

    /// As the configuration has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Ws => "WS",
        }
    }
}

/// The path of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePath {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    /// Stands for itself.
    Plain(String),
    /// Any text.
    Parameter(String),
}

/// Reads `METHOD /path`.
pub(super) fn parse(written: &str) -> Result<(RouteMethod, RoutePath), String> {
    let words = RouteMethod::ALL.map(RouteMethod::as_str);
    let Some((method, path)) = written.split_once(' ') else {
        return Err(format!(
            "must be a method and a path, as \"GET /path\"; methods are {}",
            words.join(", ")
        ));
    };
    let Some(method) = RouteMethod::ALL
        .into_iter()
        .find(|known| known.as_str() == method)
    else {
        let hint = hint(method, words.into_iter());
        return Err(format!("`{method}` is not one of {}{hint}", words.join(", ")));
    };
    Ok((method, RoutePath::parse(path)?))
}

impl RoutePath {
    fn parse(path: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        let Some(rest) = path.strip_prefix('/').filter(|rest| !rest.is_empty()) else {
            return Err(format!("`{path}` is no path: it must begin with `/` and go on"));
        };
        let mut segments = Vec::new();
        for segment in rest.split('/') {
            let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            match inner {
                Some(name) if !name.is_empty() && name.bytes().all(of_name) => {
                    let parameter = Segment::Parameter(name.to_owned());
                    if segments.contains(&parameter) {
                        return Err(format!("`{path}` has the parameter `{name}` twice"));
                    }
                    segments.push(parameter);
                }
                None if !segment.is_empty()
                    && ![".", ".."].contains(&segment)
                    && segment.bytes().all(plain) =>
                {
                    segments.push(Segment::Plain(segment.to_owned()));
                }
                _ => {
                    return Err(format!(
                        "`{path}` has a part `{segment}`: each is of letters, digits and -_.~, or a parameter as \
                         `{{index}}`"
                    ));
                }
            }
        }
        Ok(Self { segments })
    }

    /// The program's own path that a request for this one would reach, if any.
    pub(super) fn built_in(&self) -> Option<&'static str> {
        BUILT_IN.iter().copied().find(|own| {
            let own = own.split('/').skip(1);
            let mut segments = self.segments.iter();
            own.into_iter().all(|part| match segments.next() {
                Some(Segment::Plain(plain)) => plain == part,
                Some(Segment::Parameter(_)) => true,
                None => false,
            })
        })
    }

    /// The path without the names of its parameters: two paths of one shape fit the same requests.
    pub(super) fn shape(&self) -> String {
        let mut shape = String::new();
        for segment in &self.segments {
            shape.push('/');
            match segment {
                Segment::Plain(plain) => shape.push_str(plain),
                Segment::Parameter(_) => shape.push_str("{}"),
            }
        }
        shape
    }

    /// The names of its parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Plain(_) => None,
            Segment::Parameter(name) => Some(name.as_str()),
        })
    }

    /// The values of its parameters when the path of a request fits, decoded.
    #[must_use]
    pub fn fit(&self, path: &str) -> Option<Vec<(String, String)>> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let mut values = Vec::new();
        for segment in &self.segments {
            let part = parts.next()?;
            match segment {
                Segment::Plain(plain) if plain == part => {}
                Segment::Plain(_) => return None,
                Segment::Parameter(name) => {
                    let value = percent_decode_str(part).decode_utf8_lossy().into_owned();
                    values.push((name.clone(), value));
                }
            }
        }
        parts.next().is_none().then_some(values)
    }

    /// Puts paths that say more before those that fit more.
    #[must_use]
    pub fn precedence(&self, other: &Self) -> std::cmp::Ordering {
        self.segments.cmp(&other.segments)
    }
}

impl fmt::Display for RoutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Plain(plain) => write!(f, "/{plain}"),
            Segment::Parameter(name) => write!(f, "/{{{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RoutePath {
        RoutePath::parse(text).expect("a path")
    }

    #[test]
    fn a_path_fits_what_it_says_and_gives_its_parameters() {
        let nth = path("/running/{index}");
        assert_eq!(
            nth.fit("/running/5"),
            Some(vec![("index".to_owned(), "5".to_owned())])
        );
        assert_eq!(
            nth.fit("/running/a%20b"),
            Some(vec![("index".to_owned(), "a b".to_owned())])
        );
        for other in ["/running", "/running/5/6", "/music/5", "running/5", "/running/5/"] {
            assert_eq!(nth.fit(other), None, "{other}");
        }
        assert_eq!(nth.to_string(), "/running/{index}");
        let mut both = [path("/running/{index}"), path("/running/latest")];
        both.sort_by(RoutePath::precedence);
        assert_eq!(both[0], path("/running/latest"));
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for wrong in [
            "GET",
            "/x",
            "get /x",
            "PATCH /x",
            "GET x",
            "GET /",
            "GET /a//b",
            "GET /a/",
            "GET /a b",
            "GET /../x",
            "GET /{}",
            "GET /{a-b}",
            "GET /a{b}",
            "GET /{a}/{a}",
            "GET /é",
            "GET  /x",
            "GET /x?y=1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse("WS /v1/ws/events").expect("a route").0, RouteMethod::Ws);
    }

    #[test]
    fn a_path_that_a_request_for_the_programs_own_would_reach_is_known() {
        for own in [
            "/livez",
            "/docs/x",
            "/v1/streams/x/events",
            "/v1/sql",
            "/{any}",
            "/v1/{any}",
            "/{a}/{b}/c",
        ] {
            assert!(path(own).built_in().is_some(), "{own}");
        }
        for free in [
            "/v1/events",
            "/v1/ws/events",
            "/v1",
            "/health",
            "/v2/sql",
            "/stats",
            "/users/{id}",
        ] {
            assert_eq!(path(free).built_in(), None, "{free}");
        }
    }
}
