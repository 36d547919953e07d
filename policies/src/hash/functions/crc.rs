//! CRC-32, and what twemproxy calls CRC-16.

/// CRC-32 (IEEE).
pub(in crate::hash) fn crc32(key: &[u8]) -> u32 {
    crc32fast::hash(key)
}

const POLYNOMIAL_16: u16 = 0x1021;

/// The remainders of all bytes.
const TABLE_16: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut rest = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 0x8000 != 0 { rest << 1 ^ POLYNOMIAL_16 } else { rest << 1 };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

/// CRC-16 (CCITT) in a register of 32 bits: what is shifted out of the lower 16 stays, as in twemproxy.
pub(super) fn crc16(key: &[u8]) -> u32 {
    key.iter().fold(0, |crc: u32, byte| crc << 8 ^ u32::from(TABLE_16[usize::from((crc >> 8) as u8 ^ byte)]))
}
