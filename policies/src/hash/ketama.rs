//! Ketama, twemproxy's consistent hash: each server has points on a ring of 32-bit numbers, made from its label; a key
//! belongs to the first point at or after its hash.
//!
//! Owns the ring. Invariants: the points of twemproxy 0.5 for the same labels and weights; sorted; never empty unless
//! there is no server. Where two points collide the server configured first has them (twemproxy's sort leaves it open).

use md5::{Digest, Md5};

/// A server of average weight has so many.
const POINTS_PER_SERVER: f32 = 160.0;
/// One digest makes so many.
const POINTS_PER_DIGEST: usize = 4;
/// The port that twemproxy leaves out of the label.
const DEFAULT_PORT: u16 = 11211;

/// What ketama hashes for a server: its configured name; else host and port, but the host alone at port 11211 (for
/// libmemcached's sake). A Unix socket has no port and is hashed by its path.
pub fn label(name: Option<&str>, host: &str, port: Option<u16>) -> String {
    match (name, port) {
        (Some(name), _) => name.to_owned(),
        (None, None | Some(DEFAULT_PORT)) => host.to_owned(),
        (None, Some(port)) => format!("{host}:{port}"),
    }
}

/// The ring of one pool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ring {
    points: Vec<Point>,
}

/// Ordered by value first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    value: u32,
    server: u32,
}

impl Ring {
    /// The ring of servers with these labels and weights (at least 1), in the order of their indices.
    pub(crate) fn new<'a>(servers: impl Iterator<Item = (&'a str, u32)> + Clone) -> Ring {
        let count = servers.clone().count();
        let total = servers.clone().map(|(_, weight)| weight).sum::<u32>();
        let mut points = Vec::new();
        for (server, (label, weight)) in servers.enumerate() {
            for index in 0..digests(weight, total, count) {
                let digest = Md5::digest(format!("{label}-{index}"));
                let values = digest.as_slice().chunks_exact(size_of::<u32>()).take(POINTS_PER_DIGEST);
                points.extend(values.map(|bytes| Point {
                    value: bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)),
                    server: server as u32,
                }));
            }
        }
        points.sort_unstable();
        Ring { points }
    }

    /// The server of the first point at or after `hash`, round the end.
    pub(crate) fn home(&self, hash: u32) -> usize {
        self.points.get(self.position(hash)).map_or(0, |point| point.server as usize)
    }

    /// The server of the first such point whose server is up.
    pub(crate) fn first_up(&self, hash: u32, is_up: impl Fn(usize) -> bool) -> Option<usize> {
        let (before, after) = self.points.split_at(self.position(hash));
        after.iter().chain(before).map(|point| point.server as usize).find(|server| is_up(*server))
    }

    fn position(&self, hash: u32) -> usize {
        match self.points.partition_point(|point| point.value < hash) {
            end if end == self.points.len() => 0,
            position => position,
        }
    }
}

/// How many digests a server's points take. In twemproxy's own arithmetic: single precision throughout, which matters
/// where a share falls just short of a whole number.
fn digests(weight: u32, total: u32, servers: usize) -> usize {
    let share = weight as f32 / total as f32;
    let exact = share * POINTS_PER_SERVER / POINTS_PER_DIGEST as f32 * servers as f32;
    (f64::from(exact) + 0.000_000_000_1) as f32 as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{HashTag, KeyHash, Placement, routing_key};

    #[test]
    fn labels_leave_out_the_default_port() {
        let cases = [
            (None, "10.0.0.1", Some(11211), "10.0.0.1"),
            (None, "10.0.0.1", Some(11212), "10.0.0.1:11212"),
            (None, "/run/mc.sock", None, "/run/mc.sock"),
            (Some("a"), "10.0.0.1", Some(11212), "a"),
        ];
        for (name, host, port, expected) in cases {
            assert_eq!(label(name, host, port), expected);
        }
    }

    /// Where twemproxy 0.5 (fnv1a_64, ketama) put these keys, looked up in the servers behind it. The sums fold the
    /// positions of key:0 to key:1499.
    #[test]
    fn keys_fall_where_twemproxy_puts_them() {
        let keys = ["u{7}x7", "{}e3", "a}{b3}{c}", "x{open3"].map(str::as_bytes);
        let high: [&[u8]; 4] = [b"\xe5\xb0\xb4\xec\xf3", b"W\xcdn\xea@", b"\x86&m", b"}\x8f\xe3g\xfc"];
        let cases = [
            ([1, 1, 1], HashTag::from_pair(b"{}"), 4_145_771_040_u32, [2, 2, 2, 2], [0, 1, 1, 0]),
            ([1, 2, 7], None, 1_793_970_816, [2, 2, 1, 2], [2, 2, 1, 2]),
        ];
        for (weights, tag, sum, spots, high_spots) in cases {
            let ring = Ring::new(["alpha", "beta", "gamma"].into_iter().zip(weights));
            let placement = Placement::Ketama { function: KeyHash::Fnv1a64, ring };
            let home = |key: &[u8]| placement.home(routing_key(key, tag, &placement), 3);
            let folded = (0..1500).fold(0_u32, |sum, number| {
                sum.wrapping_mul(31).wrapping_add(home(format!("key:{number}").as_bytes()) as u32)
            });
            assert_eq!(folded, sum, "{weights:?}");
            assert_eq!(keys.map(home), spots, "{weights:?}");
            assert_eq!(high.map(home), high_spots, "{weights:?}: bytes are signed");
        }
    }

    #[test]
    fn a_dead_servers_keys_go_where_a_ring_without_it_has_them() {
        let names = ["a", "b", "c", "d"];
        let all = Ring::new(names.into_iter().zip([1; 4]));
        let without = Ring::new(["a", "b", "d"].into_iter().zip([1; 3]));
        for step in 0..20_000_u32 {
            let hash = step.wrapping_mul(0x9e37_79b9);
            let up = all.first_up(hash, |server| server != 2).map(|server| names[server]);
            assert_eq!(up, Some(["a", "b", "d"][without.home(hash)]), "{hash:#x}");
        }
        assert_eq!(all.first_up(0, |_| false), None);
    }
}
