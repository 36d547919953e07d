//! PrefixSelectorRoute: one route per prefix of the routing key; the longest that matches counts.
//!
//! A selector, anywhere in the tree. With `strip` the prefix is cut off the key that is sent. A hash stop and what follows
//! it is no part of the routing key, as in mcrouter. Finding a prefix takes a binary search and a step for each shorter
//! prefix of the one found.

use super::{Policy, Shape, before_stop};
use crate::LocalReply;
use crate::plan::{Run, Seat, Started};

/// PrefixSelectorRoute. Its children: one per prefix in the order given, then the wildcard where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixSelector {
    /// By prefix.
    entries: Vec<Entry>,
    strip: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    prefix: Box<[u8]>,
    child: usize,
    /// The longest entry that is a prefix of this one.
    shorter: Option<usize>,
}

impl PrefixSelector {
    /// Over these prefixes, none of which may be given twice.
    pub fn new<'p>(prefixes: impl IntoIterator<Item = &'p [u8]>, strip: bool) -> PrefixSelector {
        let entry = |(child, prefix): (usize, &[u8])| Entry { prefix: prefix.into(), child, shorter: None };
        let mut entries: Vec<Entry> = prefixes.into_iter().enumerate().map(entry).collect();
        entries.sort_by(|one, other| one.prefix.cmp(&other.prefix));
        for at in 0..entries.len() {
            let (before, rest) = entries.split_at_mut(at);
            // The one before this, or one that is a prefix of that: in this order nothing comes between.
            rest[0].shorter = longest(before, at.checked_sub(1), &rest[0].prefix);
        }
        PrefixSelector { entries, strip }
    }

    /// The child of a key, and how long its prefix is.
    fn find(&self, key: &[u8], children: usize) -> Option<(usize, usize)> {
        let behind = self.entries.partition_point(|entry| *entry.prefix <= *key);
        match longest(&self.entries, behind.checked_sub(1), key) {
            Some(at) => Some((self.entries[at].child, self.entries[at].prefix.len())),
            // The wildcard is the one child more than there are prefixes.
            None => (children > self.entries.len()).then_some((self.entries.len(), 0)),
        }
    }
}

/// The first of `at` and its shorter entries that `key` begins with.
fn longest(entries: &[Entry], at: Option<usize>, key: &[u8]) -> Option<usize> {
    let mut at = at;
    while let Some(index) = at.filter(|index| !key.starts_with(&entries[*index].prefix)) {
        at = entries[index].shorter;
    }
    at
}

impl Policy for PrefixSelector {
    fn shape(&self) -> Shape {
        Shape::Select
    }

    fn start(&self, run: &mut Run<'_>, seat: Seat) -> Started {
        let children = run.routes.children(seat.node).len();
        let routing_key = before_stop(run.routing_key(seat.variant));
        let Some((child, prefix)) = self.find(routing_key, children) else {
            return Started::Settled(run.settled(LocalReply::Said(seat.node), seat.variant));
        };
        if !self.strip || prefix == 0 || routing_key[..prefix] != *run.key(seat.variant).get(..prefix).unwrap_or(b"") {
            return run.pass(seat, child);
        }
        match run.with_key(seat.variant, |key, out| out.extend_from_slice(&key[prefix..])) {
            Ok(variant) => run.pass(seat.with_variant(variant), child),
            Err(reply) => Started::Settled(run.settled(reply, seat.variant)),
        }
    }

    fn words(&self) -> &str {
        "SERVER_ERROR keyway: PrefixSelectorRoute has no route for this key"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_is_found() {
        let prefixes = ["ab", "a", "abcd", "b:", "abc!", "ac"];
        let selector = PrefixSelector::new(prefixes.map(str::as_bytes), false);
        let keys = ["a", "ab", "abc", "abc!x", "abcd", "abcde", "abce", "ad", "acx", "b", "b:", "c", "", "ABC", "~"];
        for key in keys {
            let plain = prefixes.iter().filter(|prefix| key.starts_with(**prefix)).max_by_key(|prefix| prefix.len());
            let expected = plain.map(|prefix| {
                (prefixes.iter().position(|other| other == prefix).expect("it is one of them"), prefix.len())
            });
            assert_eq!(selector.find(key.as_bytes(), 6), expected, "{key}");
            assert_eq!(selector.find(key.as_bytes(), 7), expected.or(Some((6, 0))), "{key}");
        }
    }
}
