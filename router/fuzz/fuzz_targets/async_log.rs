//! Any bytes as a file of an async log: no panic, every place within the file and further than the last, and only commands
//! that are safe to send, which come back the same when they are written.

#![no_main]

use keyway::async_log::{Entry, Found, Lines, MAX_KEY_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = Lines::new(bytes, 0);
    let mut before = 0;
    let mut is_torn = false;
    while let Some(found) = lines.next_line().expect("memory is always read") {
        assert!(!is_torn, "a torn line is the last");
        assert!(lines.offset() > before && lines.offset() <= bytes.len() as u64);
        before = lines.offset();
        match found {
            Found::Entry(entry) => {
                let frame = entry.command.frame();
                assert!((1..=MAX_KEY_BYTES).contains(&entry.command.key().len()));
                assert!(frame.ends_with(b"\r\n"));
                assert_eq!(frame.iter().filter(|byte| **byte < b' ').count(), 2, "one line");
                let mut line = Vec::new();
                entry.write(&mut line);
                assert_eq!(Entry::read(&line), Ok(entry));
            }
            Found::Unreadable(_) => {}
            Found::Torn => is_torn = true,
        }
    }
});
