//! Modula, twemproxy's: the hash modulo the sum of weights. Members stand in the order of their names, each as often as
//! it weighs.
//!
//! Every change of a member or a weight moves nearly all keys.

use super::spec::Member;

/// The members in order, each with the end of its stretch of the sum.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Modula {
    stretches: Box<[Stretch]>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    end: u32,
    member: u32,
}

impl Modula {
    pub(super) fn new(members: &[Member]) -> Modula {
        let mut end = 0;
        let stretches = by_name(members).into_iter().map(|member| {
            // The spec was checked: whole weights, and a sum that fits.
            end += members[member as usize].weight.whole().unwrap_or(1);
            Stretch { end, member }
        });
        Modula { stretches: stretches.collect() }
    }

    pub(super) fn home(&self, hash: u32) -> usize {
        let total = self.stretches.last().map_or(1, |last| last.end);
        let at = self.stretches.partition_point(|stretch| stretch.end <= hash % total);
        self.stretches.get(at).map_or(0, |stretch| stretch.member as usize)
    }

    /// Where twemproxy has the hash when only these are alive: it forgets the others and divides by what is left.
    pub(super) fn home_among(&self, hash: u32, is_up: impl Fn(usize) -> bool) -> Option<usize> {
        let weights = self.stretches.iter().scan(0, |before, stretch| {
            let weight = stretch.end - std::mem::replace(before, stretch.end);
            Some((stretch.member as usize, weight))
        });
        let mut alive = weights.filter(|(member, _)| is_up(*member));
        let total: u32 = alive.clone().map(|(_, weight)| weight).sum();
        let mut left = hash.checked_rem(total)?;
        alive.find_map(|(member, weight)| match left.checked_sub(weight) {
            Some(rest) => {
                left = rest;
                None
            }
            None => Some(member),
        })
    }
}

/// The members as twemproxy sorts them when it reads its file: shorter names first, then by their bytes.
pub(super) fn by_name(members: &[Member]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..members.len() as u32).collect();
    order.sort_by_key(|at| {
        let label = members[*at as usize].label.as_bytes();
        (label.len(), label)
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::vectors::fleet;

    #[test]
    fn members_stand_in_the_order_of_their_names_as_often_as_they_weigh() {
        let modula = Modula::new(&fleet(["gamma", "b", "alpha"], [1, 2, 3]));
        let homes: Vec<usize> = (0..13).map(|hash| modula.home(hash)).collect();
        assert_eq!(homes, [1, 1, 2, 2, 2, 0, 1, 1, 2, 2, 2, 0, 1], "b b alpha alpha alpha gamma");
    }

    #[test]
    fn the_dead_are_left_out_of_the_sum() {
        let (names, weights) = (["a", "b", "c"], [1, 2, 3]);
        let all = Modula::new(&fleet(names, weights));
        let left = Modula::new(&fleet(["a", "c"], [1, 3]));
        for hash in 0..100 {
            assert_eq!(all.home_among(hash, |_| true), Some(all.home(hash)));
            assert_eq!(all.home_among(hash, |member| member != 1), Some([0, 2][left.home(hash)]));
        }
        assert_eq!(all.home_among(7, |_| false), None);
    }
}
