//! One line of an async log, in mcrouter's two formats.
//!
//! ```text
//! ["AS1.0",1289416829.836,"C",["10.0.0.1",11302,"delete foo\r\n"]]
//! ["AS2.0",1289416829.836,"C",{"f":"keyway","h":"[10.0.0.1]:11302","p":"pool","k":"foo"}]
//! ```
//!
//! Both are read; the second is written. A command that is no plain delete stands in `c` beside the key, which mcrouter
//! doesn't have. Strings are bytes: what JSON must escape is escaped, bytes from 0x80 up stand as they are, as mcrouter
//! writes them too. So every key comes back byte for byte, and a line is proper JSON where its key is proper UTF-8.
//!
//! What a file says is not trusted: a line gives a command that may be sent more than once and draws one line of reply, or
//! it is refused.

use super::address;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, Visitor};
use std::fmt;
use std::ops::Range;

/// Longest key of memcached's text protocol.
pub const MAX_KEY_BYTES: usize = 250;
/// The flavour our lines name.
const FLAVOR: &str = "keyway";

/// One entry of an async log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was written, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who did not get it: `host:port`, `[v6]:port` or `unix:/path`.
    pub destination: String,
    /// The log's name: mcrouter's `asynclog_name`. Empty where the file has none.
    pub name: String,
    /// What is to be done.
    pub command: Command,
}

/// A command that may be sent more than once and draws one line of reply: `delete key` or `touch key exptime`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    frame: Vec<u8>,
    key: Range<usize>,
    is_delete: bool,
}

/// Why a line or a command can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It doesn't begin as a line of an async log does.
    NoLogLine,
    /// It begins so, and goes on otherwise.
    BadLine,
    /// The server's address is none.
    BadDestination,
    /// The command is none that may be replayed.
    BadCommand,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Unreadable::NoLogLine => "no line of an async log (AS1.0 or AS2.0)",
            Unreadable::BadLine => "a damaged line",
            Unreadable::BadDestination => "no address of a server",
            Unreadable::BadCommand => "no command that can be replayed",
        })
    }
}

impl Command {
    /// `delete key`.
    pub fn delete(key: &[u8]) -> Result<Command, Unreadable> {
        if !is_key(key) {
            return Err(Unreadable::BadCommand);
        }
        let frame = [b"delete ", key, b"\r\n"].concat();
        Ok(Command { key: 7..7 + key.len(), frame, is_delete: true })
    }

    /// Reads a whole command, its line end included, as a client may write it. `delete key 0` is a plain delete; ` noreply`
    /// would draw no reply, and what does something else when it is done twice can't be replayed.
    pub fn parse(frame: &[u8]) -> Result<Command, Unreadable> {
        let line = frame.strip_suffix(b"\n").ok_or(Unreadable::BadCommand)?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let words = [words.next(), words.next(), words.next(), words.next()];
        match words {
            [Some(b"delete"), Some(key), None | Some(b"0"), None] => Command::delete(key),
            [Some(b"touch"), Some(key), Some(exptime), None] if is_key(key) && is_exptime(exptime) => {
                let frame = [b"touch ", key, b" ", exptime, b"\r\n"].concat();
                Ok(Command { frame, key: 6..6 + key.len(), is_delete: false })
            }
            _ => Err(Unreadable::BadCommand),
        }
    }

    /// The whole command as it is sent, `\r\n` included.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// The key it is about.
    pub fn key(&self) -> &[u8] {
        &self.frame[self.key.clone()]
    }
}

impl Entry {
    /// Appends the line, its line end included.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (seconds, millis) = (self.at_ms / 1000, self.at_ms % 1000);
        out.extend_from_slice(format!("[\"AS2.0\",{seconds}.{millis:03},\"C\",{{\"f\":\"{FLAVOR}\",\"h\":").as_bytes());
        write_string(address::bracketed(&self.destination).as_bytes(), out);
        out.extend_from_slice(b",\"p\":");
        write_string(self.name.as_bytes(), out);
        out.extend_from_slice(b",\"k\":");
        write_string(self.command.key(), out);
        if !self.command.is_delete {
            out.extend_from_slice(b",\"c\":");
            write_string(self.command.frame(), out);
        }
        out.extend_from_slice(b"}]\n");
    }

    /// Reads a line of either format; its line end may be there or not.
    pub fn read(line: &[u8]) -> Result<Entry, Unreadable> {
        match magic(line) {
            Some(b"AS1.0") => Entry::read_first(line),
            Some(b"AS2.0") => Entry::read_second(line),
            Some(_) | None => Err(Unreadable::NoLogLine),
        }
    }

    fn read_first(line: &[u8]) -> Result<Entry, Unreadable> {
        type Line = (IgnoredAny, f64, IgnoredAny, (String, u16, Bytes));
        let (_, seconds, _, (host, port, command)): Line =
            serde_json::from_slice(line).map_err(|_| Unreadable::BadLine)?;
        let destination = address::of_host(&host, port).ok_or(Unreadable::BadDestination)?;
        let command = Command::parse(&command.0)?;
        Ok(Entry { at_ms: millis(seconds), destination, name: String::new(), command })
    }

    fn read_second(line: &[u8]) -> Result<Entry, Unreadable> {
        #[derive(Deserialize)]
        struct Fields {
            h: String,
            k: Bytes,
            #[serde(default)]
            p: Option<String>,
            #[serde(default)]
            c: Option<Bytes>,
        }
        let (_, seconds, _, fields): (IgnoredAny, f64, IgnoredAny, Fields) =
            serde_json::from_slice(line).map_err(|_| Unreadable::BadLine)?;
        let destination = address::unbracketed(&fields.h).ok_or(Unreadable::BadDestination)?;
        let command = match &fields.c {
            Some(command) => Command::parse(&command.0)?,
            // The comment in mcrouter's source shows a key with its line end, which its code doesn't write.
            None => Command::delete(fields.k.0.strip_suffix(b"\r\n").unwrap_or(&fields.k.0))?,
        };
        Ok(Entry { at_ms: millis(seconds), destination, name: fields.p.unwrap_or_default(), command })
    }
}

/// The first string of the line's array.
fn magic(line: &[u8]) -> Option<&[u8]> {
    line.trim_ascii_start().strip_prefix(b"[")?.trim_ascii_start().strip_prefix(b"\"")?.get(..5)
}

/// Times are kept between 1970 and 9999, where a float holds every millisecond.
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round().clamp(0.0, 253_402_300_799_000.0) as u64
}

fn is_key(key: &[u8]) -> bool {
    (1..=MAX_KEY_BYTES).contains(&key.len()) && key.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

fn is_exptime(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0..=0x1f | 0x7f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// A JSON string, UTF-8 or not.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a string")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes(bytes.to_vec()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        Ok(Bytes(text.as_bytes().to_vec()))
    }
}
