//! What the tests of all distributions share: the keys, and how the places of many keys become one number.

use super::{Member, Weight};

/// The places of k0, k1 and so on as one number: times 31, plus the next.
pub(super) fn fold(keys: u32, place: impl Fn(&[u8]) -> usize) -> u32 {
    (0..keys).fold(0, |sum, number| sum.wrapping_mul(31).wrapping_add(place(format!("k{number}").as_bytes()) as u32))
}

/// The same over every slice of up to 250 bytes that begins at one of the first 8.
pub(super) fn fold_slices(bytes: &[u8], place: impl Fn(&[u8]) -> usize) -> u32 {
    let slices = (0..8).flat_map(|from| (1..=250 - from).map(move |len| from..from + len));
    slices.fold(0, |sum: u32, slice| sum.wrapping_mul(31).wrapping_add(place(&bytes[slice]) as u32))
}

/// All bytes, from -128 as C has them to 127.
pub(super) fn signed_bytes() -> Vec<u8> {
    (0..=255_u8).map(|byte| byte.wrapping_sub(128)).collect()
}

/// Members of these labels and weights.
pub(super) fn fleet<const N: usize>(labels: [&str; N], weights: [u32; N]) -> Vec<Member> {
    let weighted = labels.into_iter().zip(weights);
    weighted.map(|(label, weight)| Member { weight: Weight::from(weight), ..Member::new(label) }).collect()
}
