//! Rendezvous, mcrouter's: each member has a score with each key, and the highest wins.
//!
//! Members may come and go anywhere in the list: only their own keys move. Scores are computed for every key anew, so
//! a choice costs a few multiplications for each member.

use super::functions::murmur::murmur_64a;
use super::spec::Member;

const LABEL_SEED: u64 = 4_193_360_111;
const KEY_SEED: u64 = 2_718_281_828;
const MULTIPLIER: u64 = 0x9ddf_ea08_eb38_2d69;

/// The members, ready to be scored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rendezvous {
    labels: Box<[u64]>,
    /// None without weights, which isn't the same as equal ones.
    weights: Option<Box<[f64]>>,
}

impl Rendezvous {
    pub(super) fn new(members: &[Member], weighted: bool) -> Rendezvous {
        Rendezvous {
            labels: members.iter().map(|member| murmur_64a(member.label.as_bytes(), LABEL_SEED)).collect(),
            weights: weighted.then(|| members.iter().map(|member| member.weight.as_f64()).collect()),
        }
    }

    /// The member a key belongs to.
    pub(super) fn home(&self, key: &[u8]) -> usize {
        let hash = key_hash(key);
        match &self.weights {
            None => self.best(hash, |_, _| true).unwrap_or(0),
            // mcrouter begins with a score of 0 here and takes the first of equals.
            Some(_) => {
                let scores = (0..self.labels.len()).map(|at| (self.score(at, hash), at));
                let highest = scores.fold((0.0, 0), |best, next| if next.0 > best.0 { next } else { best });
                highest.1
            }
        }
    }

    /// The member with the highest score below `last`'s; ranks are scores, then positions.
    pub(super) fn below(&self, key: &[u8], last: Option<usize>) -> Option<usize> {
        let hash = key_hash(key);
        let limit = last.map(|at| (self.score(at, hash), at));
        self.best(hash, |score, at| limit.is_none_or(|limit| (score, at) < limit))
    }

    /// The highest in rank of those that pass.
    fn best(&self, hash: u64, passes: impl Fn(f64, usize) -> bool) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for at in 0..self.labels.len() {
            let score = self.score(at, hash);
            if passes(score, at) && best.is_none_or(|best| (score, at) > best) {
                best = Some((score, at));
            }
        }
        best.map(|(_, at)| at)
    }

    fn score(&self, at: usize, key: u64) -> f64 {
        let mixed = mix(self.labels[at], key);
        match &self.weights {
            None => mixed as f64,
            Some(weights) => {
                let unit = (mixed & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64;
                weights[at] * (1.0 / -unit.ln())
            }
        }
    }
}

fn key_hash(key: &[u8]) -> u64 {
    murmur_64a(key, KEY_SEED)
}

/// Two words to one, as CityHash does it.
fn mix(upper: u64, lower: u64) -> u64 {
    let low = (lower ^ upper).wrapping_mul(MULTIPLIER);
    let high = (upper ^ low ^ low >> 47).wrapping_mul(MULTIPLIER);
    (high ^ high >> 47).wrapping_mul(MULTIPLIER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Weight;
    use crate::hash::vectors::signed_bytes;

    fn members(weights: &[f64]) -> Vec<Member> {
        let weights = weights.iter().map(|weight| Weight::new(*weight).expect("a weight"));
        weights.enumerate().map(|(at, weight)| Member { weight, ..Member::new(format!("xxx.{at}.yy")) }).collect()
    }

    fn counts(rendezvous: &Rendezvous, members: usize, keys: usize) -> Vec<usize> {
        let mut counts = vec![0; members];
        (0..keys).for_each(|number| counts[rendezvous.home(format!("mykey:{number}").as_bytes())] += 1);
        counts
    }

    /// From mcrouter's own tests.
    #[test]
    fn keys_fall_where_mcrouter_puts_them() {
        let three = Rendezvous::new(&members(&[1.0; 3]), false);
        let many = Rendezvous::new(&members(&[1.0; 343]), false);
        let weighted_three = Rendezvous::new(&members(&[1.0; 3]), true);
        let weighted_many = Rendezvous::new(&members(&[1.0; 343]), true);
        let bytes = signed_bytes();
        let cases: [(&[u8], [usize; 4]); 4] = [
            (b"sample", [1, 45, 0, 115]),
            (b"", [1, 291, 2, 279]),
            (b"mykey", [1, 132, 1, 302]),
            (&bytes, [1, 183, 1, 142]),
        ];
        for (key, expected) in cases {
            let found = [&three, &many, &weighted_three, &weighted_many].map(|rendezvous| rendezvous.home(key));
            assert_eq!(found, expected, "{key:?}");
        }
        assert_eq!(counts(&three, 3, 1000), [337, 353, 310]);
        let ten = Rendezvous::new(&members(&[1.0; 10]), false);
        assert_eq!(counts(&ten, 10, 10_000), [947, 1026, 1028, 981, 1016, 970, 1013, 939, 1023, 1057]);
    }

    /// From mcrouter's own tests.
    #[test]
    fn weights_count_as_in_mcrouters_tests() {
        let of = |weights: &[f64]| counts(&Rendezvous::new(&members(weights), true), weights.len(), 10_000);
        assert_eq!(of(&[1.0; 3]), [3409, 3360, 3231]);
        assert_eq!(of(&[1.0, 0.5, 0.1]), [6292, 3118, 590]);
        assert_eq!(of(&[1.0, 0.0, 0.5]), [6737, 0, 3263]);
        let ten = [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5];
        assert_eq!(of(&ten), [1381, 1299, 1283, 1359, 1296, 667, 669, 665, 672, 709]);
    }

    #[test]
    fn the_order_by_score_is_the_one_in_which_members_would_be_homes() {
        let names = ["a", "b", "c", "d", "e"];
        for number in 0..200 {
            let key = format!("key{number}");
            let mut left: Vec<&str> = names.to_vec();
            let all = Rendezvous::new(&names.map(Member::new), false);
            let mut last = None;
            while let Some(next) = all.below(key.as_bytes(), last) {
                let rest: Vec<Member> = left.iter().map(|name| Member::new(*name)).collect();
                let home = Rendezvous::new(&rest, false).home(key.as_bytes());
                assert_eq!(left.remove(home), names[next], "{key}");
                last = Some(next);
            }
            assert!(left.is_empty());
        }
    }
}
