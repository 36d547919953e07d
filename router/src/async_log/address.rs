//! A destination's address in its three forms: as we say it (`host:port`), as lines write it (`[host]:port`), and as the
//! name of its folder.

use crate::config::ServerAddress;

/// Longest name a file may have.
const FILE_NAME_BYTES: usize = 255;

/// As `h` of a line: `[host]:port`, and a Unix socket as it is.
pub(super) fn bracketed(destination: &str) -> String {
    match destination.rsplit_once(':') {
        _ if destination.starts_with("unix:") || destination.starts_with('[') => destination.to_owned(),
        Some((host, port)) => format!("[{host}]:{port}"),
        None => destination.to_owned(),
    }
}

/// What `h` of a line means, in our form; `None` when that is no address.
pub(super) fn unbracketed(text: &str) -> Option<String> {
    if let Some((host, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        return of_host(host, port.parse().ok()?);
    }
    checked(text)
}

/// A host and a port, in our form; `None` when that is no address.
pub(super) fn of_host(host: &str, port: u16) -> Option<String> {
    match host.contains(':') && !host.starts_with('[') {
        true => checked(&format!("[{host}]:{port}")),
        false => checked(&format!("{host}:{port}")),
    }
}

/// An address in the one way we write it; `None` for what is none, what can't be written so, and servers inside a process.
pub(super) fn checked(text: &str) -> Option<String> {
    match ServerAddress::parse(text).ok()? {
        ServerAddress::Embedded(_) => None,
        address @ (ServerAddress::Ip(_) | ServerAddress::Name(..) | ServerAddress::Unix(_)) => {
            let written = address.to_string();
            (ServerAddress::parse(&written) == Ok(address)).then_some(written)
        }
    }
}

/// The name of a destination's folder: everything but letters, digits, `.`, `-` and `_` as `%XX`. Always begins with
/// something else than a dot. `None` when it is too long for a file's name.
pub(super) fn folder_name(destination: &str) -> Option<String> {
    let mut name = String::new();
    for (at, byte) in destination.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if at > 0 => name.push('.'),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    (!name.is_empty() && name.len() <= FILE_NAME_BYTES).then_some(name)
}

/// The destination a folder is for; `None` when `folder_name` doesn't make such a name.
pub(super) fn of_folder(name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    let destination = checked(&String::from_utf8(bytes).ok()?)?;
    (folder_name(&destination).as_deref() == Some(name)).then_some(destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_leads_back() {
        for destination in ["10.0.0.1:11211", "[::1]:11211", "cache-1.example:11211", "unix:/run/../a b%.sock", "_:1"] {
            let folder = folder_name(destination).expect("short enough");
            assert!(!folder.contains('/') && !folder.starts_with('.'), "{folder}");
            assert_eq!(of_folder(&folder).as_deref(), Some(destination));
            assert_eq!(unbracketed(&bracketed(destination)).as_deref(), Some(destination));
        }
        assert_eq!(bracketed("10.0.0.1:11211"), "[10.0.0.1]:11211");
        assert_eq!(of_host("::1", 5).as_deref(), Some("[::1]:5"));
        for wrong in [
            "",
            "lost+found",
            "10.0.0.1",
            "10.0.0.1:11211",
            "%",
            "%zz",
            "embedded%3Aa",
            "unix%3A%2F%2F%2F%2Fa",
            "10.0.0.1%3A011211",
        ] {
            assert_eq!(of_folder(wrong), None, "{wrong}");
        }
        assert_eq!(folder_name(&format!("unix:/{}", "é".repeat(50))), None);
    }
}
