//! A memcached as small as its text protocol allows: what the fake servers keep, and what clients hold replies against.
//!
//! Deliberately not the router's own parser: it takes the frames a router may send, and panics over any other, which is
//! the router's fault. Nothing expires. A cas unique counts the changes of its key, so that it is the same on every
//! server that saw the same requests.

use std::collections::HashMap;

/// One stored item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) flags: String,
    pub(crate) data: Vec<u8>,
    pub(crate) cas: u64,
}

/// The items of one server.
#[derive(Debug, Default)]
pub(crate) struct Store {
    items: HashMap<Vec<u8>, Item>,
    /// Outlives the items: a deleted and stored key gets a unique of its own.
    changes: HashMap<Vec<u8>, u64>,
}

const STORAGE: [&[u8]; 6] = [b"set", b"add", b"replace", b"append", b"prepend", b"cas"];

/// The length of the frame at the start of `bytes`, once it is whole.
pub(crate) fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let line = line_bytes(bytes)?;
    let words = words(&bytes[..line]);
    if !STORAGE.contains(&words[0]) {
        return Some(line);
    }
    let whole = line + number(words[4]) as usize + 2;
    if bytes.len() < whole {
        return None;
    }
    assert!(bytes[..whole].ends_with(b"\r\n"), "a frame without its end: {}", bytes[..whole].escape_ascii());
    Some(whole)
}

/// The length of the line at the start of `bytes` with its end, once it is whole.
pub(crate) fn line_bytes(bytes: &[u8]) -> Option<usize> {
    let at = bytes.iter().position(|byte| *byte == b'\n')?;
    assert!(bytes[..=at].ends_with(b"\r\n"), "a line without CR: {}", bytes[..=at].escape_ascii());
    Some(at + 1)
}

/// The length of the value that the storage command at the start of `bytes` announces.
pub(crate) fn announced_bytes(bytes: &[u8]) -> Option<usize> {
    let words = words(&bytes[..line_bytes(bytes)?]);
    STORAGE.contains(&words[0]).then(|| number(words[4]) as usize)
}

/// The words of a line.
pub(crate) fn words(line: &[u8]) -> Vec<&[u8]> {
    line.trim_ascii_end().split(|byte| *byte == b' ').collect()
}

fn number(word: &[u8]) -> u64 {
    let text = std::str::from_utf8(word).ok().and_then(|text| text.parse().ok());
    text.unwrap_or_else(|| panic!("not a number: {}", word.escape_ascii()))
}

impl Store {
    /// The answer to one whole frame.
    pub(crate) fn execute(&mut self, frame: &[u8]) -> Vec<u8> {
        let line = line_bytes(frame).expect("a whole frame");
        let words = words(&frame[..line]);
        let data = frame.get(line..frame.len() - 2).unwrap_or_default();
        match (words[0], words.len()) {
            (b"get" | b"gets", 2..) => self.values(&words[1..], words[0] == b"gets"),
            (b"gat" | b"gats", 3..) => self.values(&words[2..], words[0] == b"gats"),
            (b"set" | b"add" | b"replace" | b"append" | b"prepend", 5) | (b"cas", 6) => {
                self.store(&words, data).to_vec()
            }
            (b"delete", 2) => match self.items.remove(words[1]) {
                Some(_) => b"DELETED\r\n".to_vec(),
                None => b"NOT_FOUND\r\n".to_vec(),
            },
            (b"touch", 3) => match self.items.contains_key(words[1]) {
                true => b"TOUCHED\r\n".to_vec(),
                false => b"NOT_FOUND\r\n".to_vec(),
            },
            (b"incr" | b"decr", 3) => self.count(words[1], words[0] == b"incr", number(words[2])),
            (b"flush_all", 1) => {
                self.items.clear();
                b"OK\r\n".to_vec()
            }
            (b"version", 1) => b"VERSION 1.6.0\r\n".to_vec(),
            _ => panic!("no request for a server: {}", frame.escape_ascii()),
        }
    }

    /// What is stored under a key.
    pub(crate) fn item(&self, key: &[u8]) -> Option<&Item> {
        self.items.get(key)
    }

    fn values(&self, keys: &[&[u8]], with_cas: bool) -> Vec<u8> {
        let mut reply = Vec::new();
        for key in keys {
            if let Some(item) = self.items.get(*key) {
                write_item(&mut reply, key, item, with_cas);
            }
        }
        reply.extend_from_slice(b"END\r\n");
        reply
    }

    fn store(&mut self, words: &[&[u8]], data: &[u8]) -> &'static [u8] {
        let key = words[1];
        let present = self.items.get(key);
        let data = match (words[0], present) {
            (b"set", _) | (b"add", None) | (b"replace", Some(_)) => data.to_vec(),
            (b"append", Some(item)) => [&item.data, data].concat(),
            (b"prepend", Some(item)) => [data, &item.data].concat(),
            (b"cas", Some(item)) if item.cas == number(words[5]) => data.to_vec(),
            (b"cas", Some(_)) => return b"EXISTS\r\n",
            (b"cas", None) => return b"NOT_FOUND\r\n",
            _ => return b"NOT_STORED\r\n",
        };
        let flags = match (words[0], present) {
            (b"append" | b"prepend", Some(item)) => item.flags.clone(),
            _ => String::from_utf8_lossy(words[2]).into_owned(),
        };
        let cas = self.change(key);
        self.items.insert(key.to_vec(), Item { flags, data, cas });
        b"STORED\r\n"
    }

    fn count(&mut self, key: &[u8], up: bool, by: u64) -> Vec<u8> {
        let Some(item) = self.items.get(key) else { return b"NOT_FOUND\r\n".to_vec() };
        let present = std::str::from_utf8(&item.data).ok().and_then(|text| text.parse::<u64>().ok());
        let Some(present) = present else {
            return b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n".to_vec();
        };
        let next = if up { present.wrapping_add(by) } else { present.saturating_sub(by) };
        let flags = item.flags.clone();
        let cas = self.change(key);
        self.items.insert(key.to_vec(), Item { flags, data: next.to_string().into_bytes(), cas });
        format!("{next}\r\n").into_bytes()
    }

    fn change(&mut self, key: &[u8]) -> u64 {
        let changes = self.changes.entry(key.to_vec()).or_default();
        *changes += 1;
        *changes
    }
}

/// One VALUE item, as a server writes it.
pub(crate) fn write_item(reply: &mut Vec<u8>, key: &[u8], item: &Item, with_cas: bool) {
    reply.extend_from_slice(b"VALUE ");
    reply.extend_from_slice(key);
    reply.extend_from_slice(format!(" {} {}", item.flags, item.data.len()).as_bytes());
    if with_cas {
        reply.extend_from_slice(format!(" {}", item.cas).as_bytes());
    }
    reply.extend_from_slice(b"\r\n");
    reply.extend_from_slice(&item.data);
    reply.extend_from_slice(b"\r\n");
}
