//! Writes requests and replies of the memcached text protocol behind what a buffer holds already.
//!
//! Owns: the exact bytes of lines and blocks. Never allocates beyond growing the buffer it is given, and never checks:
//! keys, tokens and lengths come from a parser or from our own code. Invariant: a frame written here from parts that a
//! `Request` was taken apart into is again one that every memcached answers with exactly one reply.

use super::Request;
use crate::Operation;

/// The end of a line.
pub const CRLF: &[u8] = b"\r\n";
/// Ends the reply to get and its kin, and a STAT list.
pub const END: &[u8] = b"END\r\n";
/// set and its kin: done.
pub const STORED: &[u8] = b"STORED\r\n";
/// add, replace, append, prepend: the condition did not hold.
pub const NOT_STORED: &[u8] = b"NOT_STORED\r\n";
/// cas: changed by somebody since.
pub const EXISTS: &[u8] = b"EXISTS\r\n";
/// No such key.
pub const NOT_FOUND: &[u8] = b"NOT_FOUND\r\n";
/// delete: done.
pub const DELETED: &[u8] = b"DELETED\r\n";
/// touch: done.
pub const TOUCHED: &[u8] = b"TOUCHED\r\n";
/// verbosity, flush_all: done.
pub const OK: &[u8] = b"OK\r\n";
/// stats reset: done.
pub const RESET: &[u8] = b"RESET\r\n";
/// A command nobody knows.
pub const ERROR: &[u8] = b"ERROR\r\n";
/// incr and decr of what is no number.
pub const NON_NUMERIC: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
/// Asks for the version: the cheapest request with an answer, used as a probe.
pub const VERSION_REQUEST: &[u8] = b"version\r\n";

/// A VALUE item of a reply; `END` is for the caller to add behind the last. With `cas` for gets and gats.
pub fn write_value(out: &mut Vec<u8>, key: &[u8], flags: u32, data: &[u8], cas: Option<u64>) {
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(key);
    out.push(b' ');
    write_decimal(out, u64::from(flags));
    out.push(b' ');
    write_decimal(out, data.len() as u64);
    if let Some(cas) = cas {
        out.push(b' ');
        write_decimal(out, cas);
    }
    out.extend_from_slice(CRLF);
    out.extend_from_slice(data);
    out.extend_from_slice(CRLF);
}

/// The answer of incr and decr.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    write_decimal(out, number);
    out.extend_from_slice(CRLF);
}

/// The answer of version.
pub fn write_version(out: &mut Vec<u8>, version: &str) {
    out.extend_from_slice(b"VERSION ");
    out.extend_from_slice(version.as_bytes());
    out.extend_from_slice(CRLF);
}

/// One line of a STAT list; `END` is for the caller to add behind the last.
pub fn write_stat(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(b"STAT ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    out.extend_from_slice(value);
    out.extend_from_slice(CRLF);
}

/// `SERVER_ERROR what`.
pub fn write_server_error(out: &mut Vec<u8>, what: &str) {
    out.extend_from_slice(b"SERVER_ERROR ");
    out.extend_from_slice(what.as_bytes());
    out.extend_from_slice(CRLF);
}

/// A get, gets, gat or gats line for some of a request's keys. `exptime` counts for gat and gats only.
///
/// Not longer than the line the keys were taken from, so what held for that line's length holds for this one.
pub fn write_multiget<'k>(
    out: &mut Vec<u8>,
    operation: Operation,
    exptime: &[u8],
    keys: impl IntoIterator<Item = &'k [u8]>,
) {
    out.extend_from_slice(operation.name().as_bytes());
    if matches!(operation, Operation::Gat | Operation::Gats) {
        out.push(b' ');
        out.extend_from_slice(exptime);
    }
    for key in keys {
        out.push(b' ');
        out.extend_from_slice(key);
    }
    out.extend_from_slice(CRLF);
}

/// A storage command with its data block. `cas` counts for cas only, and has to be there for it.
pub fn write_storage(
    out: &mut Vec<u8>,
    operation: Operation,
    key: &[u8],
    flags: u32,
    exptime: i32,
    data: &[u8],
    cas: Option<u64>,
) {
    write_command(out, operation, key);
    write_decimal(out, u64::from(flags));
    out.push(b' ');
    write_exptime(out, exptime);
    out.push(b' ');
    write_decimal(out, data.len() as u64);
    if operation == Operation::Cas {
        out.push(b' ');
        write_decimal(out, cas.unwrap_or(0));
    }
    out.extend_from_slice(CRLF);
    out.extend_from_slice(data);
    out.extend_from_slice(CRLF);
}

/// A delete line.
pub fn write_delete(out: &mut Vec<u8>, key: &[u8]) {
    out.extend_from_slice(b"delete ");
    out.extend_from_slice(key);
    out.extend_from_slice(CRLF);
}

/// A touch line.
pub fn write_touch(out: &mut Vec<u8>, key: &[u8], exptime: i32) {
    write_command(out, Operation::Touch, key);
    write_exptime(out, exptime);
    out.extend_from_slice(CRLF);
}

/// An incr or decr line.
pub fn write_arithmetic(out: &mut Vec<u8>, operation: Operation, key: &[u8], delta: u64) {
    write_command(out, operation, key);
    write_decimal(out, delta);
    out.extend_from_slice(CRLF);
}

/// A request's own frame, its noreply cut out: what a shared connection is sent.
pub fn write_forwarded(out: &mut Vec<u8>, request: &Request<'_>) {
    let (head, tail) = request.forwarded();
    out.extend_from_slice(head);
    out.extend_from_slice(tail);
}

/// `command key ` with the space behind.
fn write_command(out: &mut Vec<u8>, operation: Operation, key: &[u8]) {
    out.extend_from_slice(operation.name().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b' ');
}

fn write_exptime(out: &mut Vec<u8>, exptime: i32) {
    if exptime < 0 {
        out.push(b'-');
    }
    write_decimal(out, u64::from(exptime.unsigned_abs()));
}

/// A number in decimal, without passing through the formatting machinery.
pub fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl FnOnce(&mut Vec<u8>), written: &str) {
        let mut out = b"before ".to_vec();
        write(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), format!("before {written}"));
    }

    #[test]
    fn writes_what_memcached_writes() {
        check(|out| write_value(out, b"k", 0, b"", None), "VALUE k 0 0\r\n\r\n");
        check(|out| write_value(out, b"k", u32::MAX, b"ab", Some(7)), "VALUE k 4294967295 2 7\r\nab\r\n");
        check(|out| write_number(out, u64::MAX), "18446744073709551615\r\n");
        check(|out| write_number(out, 0), "0\r\n");
        check(|out| write_version(out, "1.2"), "VERSION 1.2\r\n");
        check(|out| write_stat(out, "pid", b"12"), "STAT pid 12\r\n");
        check(|out| write_server_error(out, "down"), "SERVER_ERROR down\r\n");
    }

    #[test]
    fn writes_what_memcached_reads() {
        let keys = || [b"a".as_slice(), b"bc"];
        check(|out| write_multiget(out, Operation::Get, b"9", keys()), "get a bc\r\n");
        check(|out| write_multiget(out, Operation::Gats, b"-1", keys()), "gats -1 a bc\r\n");
        check(|out| write_storage(out, Operation::Set, b"k", 1, -1, b"ab", Some(9)), "set k 1 -1 2\r\nab\r\n");
        check(
            |out| write_storage(out, Operation::Cas, b"k", 1, i32::MIN, b"", Some(9)),
            "cas k 1 -2147483648 0 9\r\n\r\n",
        );
        check(|out| write_delete(out, b"k"), "delete k\r\n");
        check(|out| write_touch(out, b"k", 60), "touch k 60\r\n");
        check(|out| write_arithmetic(out, Operation::Decr, b"k", 10), "decr k 10\r\n");
    }
}
