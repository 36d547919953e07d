//! SpookyHash V2 by Bob Jenkins (public domain), cut to the 32 bits mcrouter takes.
//!
//! Two hashes in one: a state of four words for messages below 192 bytes, which is nearly every key, and one of twelve
//! for longer ones.

/// Fills the words that no seed does.
const FILLER: u64 = 0xdead_beef_dead_beef;
/// From this length on the long form.
const LONG: usize = 192;
/// The long form's words, and bytes in a block.
const WORDS: usize = 12;
const BLOCK: usize = WORDS * 8;

/// The low 32 bits of the hash with both seeds `seed`.
pub(in crate::hash) fn spooky_32(message: &[u8], seed: u32) -> u32 {
    let seed = u64::from(seed);
    (if message.len() < LONG { short(message, seed) } else { long(message, seed) }) as u32
}

fn short(message: &[u8], seed: u64) -> u64 {
    let mut state = [seed, seed, FILLER, FILLER];
    let (halves, rest) = message.as_chunks::<16>();
    for (at, half) in halves.iter().enumerate() {
        let (words, _) = half.as_chunks::<8>();
        let (low, high) = (u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]));
        // Two halves make a round: the first goes in before the mixing, the second behind it.
        let into = if at % 2 == 0 { 2 } else { 0 };
        state[into] = state[into].wrapping_add(low);
        state[into + 1] = state[into + 1].wrapping_add(high);
        if at % 2 == 0 {
            short_mix(&mut state);
        }
    }
    state[3] = state[3].wrapping_add((message.len() as u64) << 56);
    if rest.is_empty() {
        state[2] = state[2].wrapping_add(FILLER);
        state[3] = state[3].wrapping_add(FILLER);
    } else {
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let (words, _) = last.as_chunks::<8>();
        state[2] = state[2].wrapping_add(u64::from_le_bytes(words[0]));
        state[3] = state[3].wrapping_add(u64::from_le_bytes(words[1]));
    }
    short_end(&mut state);
    state[0]
}

fn short_mix(state: &mut [u64; 4]) {
    for (step, turn) in [50, 52, 30, 41, 54, 48, 38, 37, 62, 34, 5, 36].into_iter().enumerate() {
        let (at, next, across) = ((step + 2) % 4, (step + 3) % 4, step % 4);
        state[at] = state[at].rotate_left(turn).wrapping_add(state[next]);
        state[across] ^= state[at];
    }
}

fn short_end(state: &mut [u64; 4]) {
    for (step, turn) in [15, 52, 26, 51, 28, 9, 47, 54, 32, 25, 63].into_iter().enumerate() {
        let (at, before) = ((step + 3) % 4, (step + 2) % 4);
        state[at] ^= state[before];
        state[before] = state[before].rotate_left(turn);
        state[at] = state[at].wrapping_add(state[before]);
    }
}

fn long(message: &[u8], seed: u64) -> u64 {
    let mut state = [seed, seed, FILLER, seed, seed, FILLER, seed, seed, FILLER, seed, seed, FILLER];
    let (blocks, rest) = message.as_chunks::<BLOCK>();
    for block in blocks {
        long_mix(&mut state, &words_of(block));
    }
    let mut last = [0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    last[BLOCK - 1] = rest.len() as u8;
    for (word, more) in state.iter_mut().zip(words_of(&last)) {
        *word = word.wrapping_add(more);
    }
    for _ in 0..3 {
        long_end(&mut state);
    }
    state[0]
}

fn words_of(block: &[u8; BLOCK]) -> [u64; WORDS] {
    let (bytes, _) = block.as_chunks::<8>();
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

fn long_mix(state: &mut [u64; WORDS], block: &[u64; WORDS]) {
    for (at, turn) in [11, 32, 43, 31, 17, 28, 39, 57, 55, 54, 22, 46].into_iter().enumerate() {
        let [next, second, tenth, before] = [1, 2, 10, 11].map(|step| (at + step) % WORDS);
        state[at] = state[at].wrapping_add(block[at]);
        state[second] ^= state[tenth];
        state[before] ^= state[at];
        state[at] = state[at].rotate_left(turn);
        state[before] = state[before].wrapping_add(state[next]);
    }
}

fn long_end(state: &mut [u64; WORDS]) {
    for (step, turn) in [44, 15, 34, 21, 38, 33, 10, 13, 38, 53, 42, 54].into_iter().enumerate() {
        let [at, next, second] = [11, 1, 2].map(|by| (step + by) % WORDS);
        state[at] = state[at].wrapping_add(state[next]);
        state[second] ^= state[at];
        state[next] = state[next].rotate_left(turn);
    }
}
