//! RootRoute: mcrouter's routing prefixes: a key `/region/cluster/rest` goes where `/region/cluster/` says, as `rest`.
//!
//! ```text
//!                     ┌── no prefix, or the default's ──► the default
//! /a/web/user:7 ──►   ├── /a/web/ ─────────────────────► its route     user:7
//!                     ├── /a/other/ ───────────────────► /a/fallback/, where there is one
//!                     └── /a/*/, /*/*/, /a/w*/ ────────► all that match: the default's reply, the others for their effect
//! ```
//!
//! A key that begins with `/` and has not two more has no prefix. A broadcast's reply is that of the default where it
//! matches, else of the first in order; routes with several prefixes are asked once. A prefix nobody has is an error line,
//! or goes to the default with `send_invalid_to_default`. The prefix stays with the request, apart from its key.
//! Below another RootRoute, or a ModifyKeyRoute with `set_routing_prefix`, it goes by the prefix set there.

use super::builder::BuildError;
use super::{Collapse, Policy, Shape};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};
use smallvec::SmallVec;

/// Room for a routing prefix: it is part of a key.
pub(super) const PREFIX_BYTES: usize = 256;

/// The cluster of a region that takes what no other one does.
const FALLBACK: &[u8] = b"fallback/";

/// RootRoute. Its children: one per route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// In the order given.
    aliases: Vec<Alias>,
    /// Indices of `aliases`, by prefix.
    sorted: Vec<usize>,
    /// The child of the default prefix.
    default: usize,
    /// The default prefix.
    default_prefix: Box<[u8]>,
    send_invalid_to_default: bool,
}

/// A prefix and its child.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Alias {
    prefix: Box<[u8]>,
    child: usize,
}

impl Root {
    /// Over prefixes with their children; `default` must be one of them.
    pub fn new(aliases: &[(&str, usize)], default: &str, send_invalid_to_default: bool) -> Result<Root, BuildError> {
        let aliases: Vec<Alias> =
            aliases.iter().map(|(prefix, child)| Alias { prefix: prefix.as_bytes().into(), child: *child }).collect();
        let mut sorted: Vec<usize> = (0..aliases.len()).collect();
        sorted.sort_by_key(|at| &aliases[*at].prefix);
        if let Some(pair) = sorted.windows(2).find(|pair| aliases[pair[0]].prefix == aliases[pair[1]].prefix) {
            let prefix = String::from_utf8_lossy(&aliases[pair[0]].prefix).into_owned();
            return Err(BuildError::DuplicatePrefix { prefix });
        }
        let is_default = |alias: &&Alias| *alias.prefix == *default.as_bytes();
        let Some(found) = aliases.iter().find(is_default).map(|alias| alias.child) else {
            return Err(BuildError::NoDefaultPrefix { prefix: default.to_owned() });
        };
        Ok(Root { aliases, sorted, default: found, default_prefix: default.as_bytes().into(), send_invalid_to_default })
    }

    /// The child of a prefix without stars.
    fn child_of(&self, prefix: &[u8]) -> Option<usize> {
        let exact = self.sorted.binary_search_by(|at| (*self.aliases[*at].prefix).cmp(prefix)).ok();
        if let Some(at) = exact {
            return Some(self.aliases[self.sorted[at]].child);
        }
        let region = prefix.iter().skip(1).position(|byte| *byte == b'/').map_or(prefix, |at| &prefix[..at + 2]);
        let is_fallback = |alias: &&Alias| alias.prefix.strip_prefix(region) == Some(FALLBACK);
        self.aliases.iter().find(is_fallback).map(|alias| alias.child)
    }

    /// True when a prefix with stars stands for some prefix of this child.
    fn is_meant(&self, pattern: &[u8], child: usize) -> bool {
        self.aliases.iter().any(|alias| alias.child == child && matches(pattern, &alias.prefix))
    }

    /// The child whose reply is the answer: of a prefix with stars, the default's where that is meant, else the first.
    fn first_of(&self, prefix: &[u8], children: usize) -> Option<usize> {
        let first = match prefix {
            [] => Some(self.default),
            pattern if !pattern.contains(&b'*') => self.child_of(pattern),
            pattern if matches(pattern, &self.default_prefix) => Some(self.default),
            pattern => (0..children).find(|child| self.is_meant(pattern, *child)),
        };
        first.or(self.send_invalid_to_default.then_some(self.default))
    }
}

impl Policy for Root {
    fn shape(&self) -> Shape {
        Shape::Join(1, Collapse::Never)
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let children = run.routes.children(seat.node).len();
        let key = run.key(seat.variant);
        let set = run.routing_prefix(seat.variant);
        let in_key = if set.is_empty() { prefix_length(key) } else { 0 };
        let prefix = if set.is_empty() { &key[..in_key] } else { set };
        let Some(first) = self.first_of(prefix, children) else {
            return Started::Settled(run.settled(LocalReply::Said(seat.node), seat.variant));
        };
        let pattern: SmallVec<[u8; PREFIX_BYTES]> =
            if prefix.contains(&b'*') { prefix.into() } else { SmallVec::new() };
        let seat = match in_key {
            0 => seat,
            bytes => match run.with_prefix_apart(seat.variant, bytes) {
                Ok(variant) => seat.with_variant(variant),
                Err(reply) => return Started::Settled(run.settled(reply, seat.variant)),
            },
        };
        let started = run.pass(seat, first);
        if pattern.is_empty() {
            return started;
        }
        let before = run.out.len();
        for child in (0..children).filter(|child| *child != first && self.is_meant(&pattern, *child)) {
            run.background(seat.node, child, seat.variant);
        }
        match started {
            // Others are under way, so this can't be taken back.
            Started::Unusable(reply) if run.out.len() > before => Started::Settled(run.settled(reply, seat.variant)),
            started => started,
        }
    }

    fn words(&self) -> &str {
        "SERVER_ERROR keyway: RootRoute has no route for this prefix"
    }
}

/// How long the routing prefix of a key is, up to its third slash; 0 without one.
fn prefix_length(key: &[u8]) -> usize {
    match key.first() {
        Some(b'/') => memchr::memchr_iter(b'/', key).nth(2).map_or(0, |at| at + 1),
        Some(_) | None => 0,
    }
}

/// True when a pattern such as `/a/w*/` matches a prefix: a star stands for any bytes but slashes.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pattern_at) = (0, 0);
    // Where the latest star stands, and up to where it reaches.
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(pattern_at) {
            Some(b'*') => {
                star = Some((pattern_at, at));
                pattern_at += 1;
            }
            Some(byte) if *byte == text[at] => {
                at += 1;
                pattern_at += 1;
            }
            _ => match star {
                Some((stands, reaches)) if text[reaches] != b'/' => {
                    star = Some((stands, reaches + 1));
                    (at, pattern_at) = (reaches + 1, stands + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[pattern_at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_with_the_third_slash() {
        for (key, length) in
            [("/a/b/c", 5), ("/a/b/", 5), ("/a/b", 0), ("/a", 0), ("a/b/c/d", 0), ("", 0), ("///k", 3), ("/*/*/k", 5)]
        {
            assert_eq!(prefix_length(key.as_bytes()), length, "{key}");
        }
    }

    #[test]
    fn stars_match_within_slashes() {
        for (pattern, text, expected) in [
            ("/*/*/", "/a/b/", true),
            ("/a/*/", "/a/b/", true),
            ("/a/*/", "/b/b/", false),
            ("/*/b/", "/a/b/", true),
            ("/a/w*/", "/a/web/", true),
            ("/a/w*/", "/a/w/", true),
            ("/a/w*/", "/a/xweb/", false),
            ("/a/*b*b/", "/a/web.b/", true),
            ("/a/*b*b/", "/a/webc/", false),
            ("/a/**/", "/a/web/", true),
            ("/*/", "/a/b/", false),
            ("/*/*/", "/a/", false),
            ("/a*/b/", "/a/x/b/", false),
            ("/a*b/c/", "/a/b/c/", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
