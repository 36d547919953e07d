//! lookup3 by Bob Jenkins, with libmemcached's initial value.

/// Added to the usual start.
const INITIAL: u32 = 13;

pub(super) fn jenkins(key: &[u8]) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(key.len() as u32).wrapping_add(INITIAL);
    let mut state = [start; 3];
    // The last block is finished otherwise than the others, also when it is whole.
    let last = match key.len() {
        0 => return start,
        len => (len - 1) / 12 * 12,
    };
    let (blocks, _) = key[..last].as_chunks::<12>();
    for block in blocks {
        add(&mut state, block);
        mix(&mut state);
    }
    let mut block = [0; 12];
    block[..key.len() - last].copy_from_slice(&key[last..]);
    add(&mut state, &block);
    finish(&mut state);
    state[2]
}

fn add(state: &mut [u32; 3], block: &[u8; 12]) {
    let (words, _) = block.as_chunks::<4>();
    for (number, word) in state.iter_mut().zip(words) {
        *number = number.wrapping_add(u32::from_le_bytes(*word));
    }
}

/// Each step: one number loses another and takes it in turned, the third joins the lost one.
fn mix(state: &mut [u32; 3]) {
    for (step, turn) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
        let (at, other, third) = (step % 3, (step + 2) % 3, (step + 1) % 3);
        state[at] = state[at].wrapping_sub(state[other]) ^ state[other].rotate_left(turn);
        state[other] = state[other].wrapping_add(state[third]);
    }
}

fn finish(state: &mut [u32; 3]) {
    for (step, turn) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
        let (at, other) = ((step + 2) % 3, (step + 1) % 3);
        state[at] = (state[at] ^ state[other]).wrapping_sub(state[other].rotate_left(turn));
    }
}
